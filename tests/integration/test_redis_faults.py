"""A Redis that fails as servers do: nothing is lost, answers stay those of the log and say why, and it heals."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from features.home import Home, lock_file
from features.online_location import RedisLocation
from features.redis_online import RedisOnlineStore
from models.configuration import built_in_configuration
from models.rulebooks import feature_sets_of
from tests.doors import Client, World, event
from tests.redis_servers import RedisServer, redis_server

DOWN, RESET, REBUILT = "feature_store_unavailable", "feature_store_reset", "features_rebuilt"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, without anything in it."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server


@contextmanager
def _world(root: Path, location: RedisLocation) -> Iterator[World]:
    """An installation on a Redis; its pauses after a failure pass at once."""
    home, configuration = Home(root).create(), built_in_configuration()
    store = RedisOnlineStore(
        location,
        epoch_file=home.online_epoch,
        lock=lambda: lock_file(home.online_db),
        feature_sets=feature_sets_of(configuration),
        taxonomy=configuration.taxonomy,
        timer=itertools.count().__next__,
    )
    with closing(store):
        yield World(root, features=store)


def _sent(client: Client, event_id: str, hours_ago: int, customer_id: str = "c-1") -> list[str]:
    answer = client.post(
        "/v1/events", {"events": [event(event_id, hours_ago=hours_ago) | {"customer_id": customer_id}]}
    )
    assert answer.json()["accepted"] == 1, answer.text
    degraded: list[str] = answer.json()["degraded"]
    return degraded


def _seen(client: Client, customer_id: str = "c-1") -> tuple[int, list[str]]:
    """Hours since the newest event, and what was degraded about features."""
    answer: dict[str, Any] = client.post("/v1/decisions", {"customer_id": customer_id, "mode": "dry_run"}).json()
    return round(answer["features"]["age_seconds"] / 3600), [one for one in answer["degraded"] if "feature" in one]


def _restarted(server: RedisServer) -> None:
    server.kill()
    server.start()


def _set_back(server: RedisServer) -> None:
    """Restarted with the dump of before the last event, as a replica that lagged is promoted."""
    server.kill()
    shutil.copy(server.folder / "old.rdb", server.folder / "dump.rdb")
    server.start()


@pytest.mark.parametrize(
    ("harm", "degraded"),
    [
        (lambda server: server.client().flushall(), RESET),
        pytest.param(_restarted, RESET, marks=pytest.mark.slow),
        pytest.param(_set_back, REBUILT, marks=pytest.mark.slow),
    ],
    ids=["flushed", "restarted empty", "restarted with an old dump"],
)
def test_what_was_in_a_redis_is_lost(
    server: RedisServer, tmp_path: Path, harm: Callable[[RedisServer], object], degraded: str
) -> None:
    """The next decision is right and says so, the one after it finds the state again; so does an event that comes."""
    with _world(tmp_path / "home", server.location) as world:
        with world.client() as client:
            _sent(client, "e-1", 72)
            server.client().save()
            shutil.copy(server.folder / "dump.rdb", server.folder / "old.rdb")
            (server.folder / "dump.rdb").unlink()
            _sent(client, "e-2", 48)
            whole = _seen(client)

            harm(server)
            lost = _seen(client)
        with world.client() as client:  # the workers were closed, so what could wait is done
            healed = _seen(client)
            harm(server)
            told = _sent(client, "e-3", 24)
            newest = _seen(client)

    assert (whole, lost, healed) == ((48, []), (48, [degraded]), (48, []))
    assert (told, newest) == ([], (24, []))


@pytest.mark.slow
def test_a_redis_that_is_slow(server: RedisServer, tmp_path: Path) -> None:
    """Nobody waits for it longer than its timeout; then it is used again."""
    with _world(tmp_path / "home", server.location) as world, world.client() as client:
        _sent(client, "e-1", 72)
        server.client().client_pause(1_500, all=True)
        told, slow = _sent(client, "e-2", 48), _seen(client)
        server.wait_until_answering()
        behind = _seen(client)
        after = _sent(client, "e-3", 24)

        assert (told, slow) == ([DOWN], (48, [DOWN]))
        assert behind == (48, [REBUILT])
        assert (after, _seen(client)) == ([], (24, []))


@pytest.mark.slow
def test_a_redis_that_lets_nobody_in(server: RedisServer, tmp_path: Path) -> None:
    """A password that was changed is as a Redis that is down, and what it says names none."""
    with _world(tmp_path / "home", server.location) as world, world.client() as client:
        _sent(client, "e-1", 72)
        with server.client() as known:
            known.config_set("requirepass", "s3cret")
            known.client_kill_filter(_type="normal", skipme=True)
        told, refused = _sent(client, "e-2", 48), _seen(client)

    wrong = RedisLocation.of(f"redis://:wrong-one@127.0.0.1:{server.port}/0")
    with _world(tmp_path / "other", wrong) as world, world.client() as client:
        assert (_sent(client, "e-1", 72), _seen(client)) == ([DOWN], (72, [DOWN]))
    assert (told, refused) == ([DOWN], (48, [DOWN]))


@pytest.mark.slow
def test_a_redis_that_is_full(server: RedisServer, tmp_path: Path) -> None:
    """Without room, `noeviction`: events say so, decisions rebuild; with room again it heals."""
    with _world(tmp_path / "home", server.location) as world:
        with world.client() as client:
            _sent(client, "e-1", 72)
            server.client().config_set("maxmemory", "1")
            told, full = _sent(client, "e-2", 48), _seen(client)
            server.client().config_set("maxmemory", "0")
            _seen(client)
        with world.client() as client:
            healed = _seen(client)

    assert (told, full) == ([DOWN], (48, [REBUILT]))
    assert healed == (48, [])


@pytest.mark.slow
def test_a_redis_that_evicts(server: RedisServer, tmp_path: Path) -> None:
    """Under `allkeys-lru` rows go, perhaps the epoch: every answer stays that of the log, and all events are kept."""
    ids = [f"c-{number}" for number in range(60)]
    with _world(tmp_path / "home", server.location) as world, world.client() as client:
        server.client().config_set("maxmemory-policy", "allkeys-lru")
        used = int(server.client().info("memory")["used_memory"])
        server.client().config_set("maxmemory", str(used + 150_000))
        told = [_sent(client, f"e-{one}", 24 + number, one) for number, one in enumerate(ids)]
        seen = [_seen(client, one) for one in ids]
        evicted = int(server.client().info("stats")["evicted_keys"])

    assert evicted > 0
    assert {reason for reasons in told for reason in reasons} <= {DOWN}
    assert [hours for hours, _ in seen] == [24 + number for number in range(60)]
    assert {reason for _, reasons in seen for reason in reasons} <= {REBUILT, RESET, DOWN}


@pytest.mark.slow
def test_a_replica_that_lagged_is_promoted(server: RedisServer, tmp_path: Path) -> None:
    """It has the epoch and older rows: what is behind is seen by its position, and written anew."""
    folder = tmp_path / "replica"
    folder.mkdir()
    with redis_server(folder, "--replicaof", f"127.0.0.1 {server.port}") as replica:
        with _world(tmp_path / "home", server.location) as world, world.client() as client:
            _sent(client, "e-1", 72)
            for _ in range(500):
                if replica.client().exists("headway:epoch") and replica.client().dbsize() == server.client().dbsize():
                    break
                time.sleep(0.01)  # another process is waited for: there is nothing else to wait on
            replica.client().replicaof("NO", "ONE")
            _sent(client, "e-2", 48)
        server.kill()
        with _world(tmp_path / "home", replica.location) as promoted:
            promoted = World(tmp_path / "home", log=world.log, features=promoted.features)
            with promoted.client() as client:
                lagging = _seen(client)
            with promoted.client() as client:
                healed = _seen(client)

    assert (lagging, healed) == ((48, [REBUILT]), (48, []))
