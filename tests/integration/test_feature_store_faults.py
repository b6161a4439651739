"""A feature store that fails: no event is lost, answers stay right and say what was missing, and it heals by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from features.errors import StoreUnavailable
from features.event_log import MemoryEventLog
from features.feast_parity import differences
from features.home import Home, lock_file
from features.ingest import STORE_DOWN, Ingestor
from features.moments import Moments
from features.online_location import RedisLocation
from features.online_stores import open_online_store
from features.redis_online import RedisOnlineStore
from features.store import CustomerRow
from models.configuration import built_in_configuration
from serving.bootstrap import feature_sets_of
from tests.doors import Client, World, event
from tests.faults.failing_store import FailingStore
from tests.faults.proxy import Proxy
from tests.histories import FEATURE_SETS, MINUTE_US, START_AT, TAXONOMY
from tests.histories import event as journey_event
from tests.redis_servers import ADDRESS
from tests.unit.features.test_ingest import document

CUSTOMERS = ("c1", "c2")


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the real Redis."""
    host, _, port = ADDRESS.partition(":")
    with closing(Proxy(host, int(port))) as proxy:
        yield proxy


@pytest.fixture
def cut_world(redis_location: RedisLocation, proxy: Proxy, tmp_path: Path) -> Iterator[World]:
    """An installation whose Redis is behind the proxy. Its pauses after a failure pass at once."""
    database = redis_location.url.rpartition("/")[2]
    home, configuration = Home(tmp_path).create(), built_in_configuration()
    store = RedisOnlineStore(
        RedisLocation.of(f"redis://127.0.0.1:{proxy.port}/{database}"),
        epoch_file=home.online_epoch,
        lock=lambda: lock_file(home.online_db),
        feature_sets=feature_sets_of(configuration),
        taxonomy=configuration.taxonomy,
        timer=itertools.count().__next__,
    )
    with closing(store):
        yield World(tmp_path, features=store)


def _decided(client: Client) -> dict[str, Any]:
    answer = client.post("/v1/decisions", {"customer_id": "c-1", "mode": "dry_run"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _seen(answer: dict[str, Any]) -> tuple[str, int, list[str]]:
    return (
        answer["journey"]["stage"],
        round(answer["features"]["age_seconds"]),
        [reason for reason in answer["degraded"] if reason.startswith("feature")],
    )


def test_a_redis_that_goes_and_comes_back(cut_world: World, proxy: Proxy) -> None:
    """Before, during and after: every event is accepted and every decision sees all of them."""
    with cut_world.client() as client:
        before_cut = client.post("/v1/events", {"events": [event("e-1", hours_ago=72)]}).json()
        whole = _seen(_decided(client))

        proxy.cut()
        while_cut = client.post("/v1/events", {"events": [event("e-2", hours_ago=48)]}).json()
        without = _seen(_decided(client))

        proxy.mend()
        behind = _seen(_decided(client))
    with cut_world.client() as client:  # the workers were closed, so what could wait is done
        healed = _seen(_decided(client))
        after = client.post("/v1/events", {"events": [event("e-3", hours_ago=24)]}).json()
        newest = _seen(_decided(client))

    assert [(one["accepted"], one["degraded"]) for one in (before_cut, while_cut, after)] == [
        (1, []),
        (1, ["feature_store_unavailable"]),
        (1, []),
    ]
    assert whole == ("applied", 72 * 3600, [])
    assert without == ("applied", 48 * 3600, ["feature_store_unavailable"])
    assert behind == ("applied", 48 * 3600, ["features_rebuilt"])
    assert healed == ("applied", 48 * 3600, [])
    assert newest == ("applied", 24 * 3600, [])


def test_an_emptied_redis_is_said_and_heals(cut_world: World, redis_location: RedisLocation) -> None:
    """After a flush the answer is the same, says so, and the next one finds the state again."""
    with cut_world.client() as client:
        client.post("/v1/events", {"events": [event("e-1", hours_ago=72)]})
        with redis.Redis.from_url(redis_location.url) as server:
            server.flushdb()
        reset = _seen(_decided(client))
    with cut_world.client() as client:
        healed = _seen(_decided(client))

    assert reset == ("applied", 72 * 3600, ["feature_store_reset"])
    assert healed == ("applied", 72 * 3600, [])


def test_damaged_rows_are_said_and_written_over(cut_world: World, redis_location: RedisLocation) -> None:
    """Bytes that are no values do not stop a decision about the customer, nor the customer's events."""
    with cut_world.client() as client, redis.Redis.from_url(redis_location.url) as server:
        client.post("/v1/events", {"events": [event("e-1", hours_ago=72)]})
        _damage(server)
        damaged = _seen(_decided(client))
    with cut_world.client() as client, redis.Redis.from_url(redis_location.url) as server:
        healed = _seen(_decided(client))
        _damage(server)
        taken = client.post("/v1/events", {"events": [event("e-2", hours_ago=24)]}).json()
        newest = _seen(_decided(client))

    assert damaged == ("applied", 72 * 3600, ["feature_store_damaged"])
    assert healed == ("applied", 72 * 3600, [])
    assert (taken["accepted"], taken["degraded"]) == (1, [])
    assert newest == ("applied", 24 * 3600, [])


def _damage(server: redis.Redis) -> None:
    rows = [key for key in server.keys("*") if server.type(key) == b"hash"]
    assert len(rows) == 2
    for row in rows:
        for name in server.hkeys(row):
            server.hset(row, name, b"\x7a\x09")


class _SilentLog(MemoryEventLog):
    """An event log that stops answering."""

    is_down = False

    def person(self, *arguments: Any, **named: Any) -> Any:
        """Who it is."""
        if self.is_down:
            raise StoreUnavailable("the log is down")
        return super().person(*arguments, **named)


def test_without_the_log_there_is_no_answer(tmp_path: Path) -> None:
    """The store has a state, but nothing says whether it is whole: 503 and not a guess, until the log is back."""
    log = _SilentLog()
    world = World(tmp_path, log=log)
    with world.client() as client:
        client.post("/v1/events", {"events": [event("e-1", hours_ago=72)]})
        log.is_down = True
        refused = client.post("/v1/decisions", {"customer_id": "c-1"})
        log.is_down = False
        answered = _decided(client)

    assert (refused.status_code, refused.json()["title"]) == (503, "A store does not answer")
    assert "retry-after" in refused.headers
    assert _seen(answered) == ("applied", 72 * 3600, [])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_store_that_fails_on_any_one_call_loses_nothing(
    kind: str, when: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whichever call fails, also one whose work was done: all events are in the log, and the next event heals it."""
    location = request.getfixturevalue("redis_location") if kind == "redis" else None
    batches = [
        [document(journey_event(f"e{i}-{one}", customer_id=one, at=START_AT + i * MINUTE_US)) for one in CUSTOMERS]
        for i in range(3)
    ]
    failing = -1
    with closing(open_online_store(Home(tmp_path).create(), location, FEATURE_SETS, TAXONOMY)) as inner:
        for failing in range(30):
            log, store = MemoryEventLog(), FailingStore(inner, _on_call(failing, when))
            inner.forget(CUSTOMERS)
            ingestor = Ingestor(log, store, FEATURE_SETS, TAXONOMY, _no_consents, [].extend, Moments())
            reports = [ingestor.ingest(batch, source="web", arrived_at=START_AT * 2) for batch in batches]

            assert [report.accepted for report in reports] == [2, 2, 2]
            if store.calls <= failing:
                break
            assert [report.degraded for report in reports].count((STORE_DOWN,)) == 1
            ingestor.refresh(CUSTOMERS)
            for customer_id, journey_id in itertools.product(CUSTOMERS, FEATURE_SETS):
                rebuilt = CustomerRow(*ingestor.rebuild(customer_id, journey_id))
                assert differences(inner.read(customer_id, journey_id), rebuilt) == []
    assert failing == 3 * (len(FEATURE_SETS) + 1)  # every call of the three batches has failed once


def _on_call(chosen: int, when: str) -> Callable[[int], str]:
    return lambda number: when if number == chosen else ""


def _no_consents(*_: Any, **__: Any) -> None: ...
