"""The Redis online store: whose rows it holds, what happens when it is emptied, taken, slow or gone."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from features.errors import HomeLocked, Refused, StoreCorrupted, StoreUnavailable
from features.feast_layout import STATE_VIEW
from features.feast_rows import profile_key, state_key
from features.feast_values import murmur3
from features.home import Home, lock_file, share_file
from features.online_location import RedisLocation, online_location
from features.online_stores import open_redis_store, take_over
from features.redis_client import EPOCH_KEY
from features.redis_online import PAUSE_SECONDS, RedisOnlineStore
from features.store import CustomerRow, ProfileRow
from tests.contract.test_feature_store import PROFILE, state
from tests.histories import FEATURE_SETS, TAXONOMY

RESET = CustomerRow(None, None, is_reset=True)


@contextmanager
def _opened(folder: Path, location: RedisLocation) -> Iterator[RedisOnlineStore]:
    with closing(open_redis_store(Home(folder).create(), location, FEATURE_SETS, TAXONOMY)) as store:
        yield store


def _process(home: Home, location: RedisLocation) -> RedisOnlineStore:
    """The online store as one of several processes of a home opens it."""
    return open_redis_store(home, location, FEATURE_SETS, TAXONOMY, lock=share_file)


@pytest.fixture
def server(redis_location: RedisLocation) -> Iterator[redis.Redis]:
    """The database itself, to be looked at and harmed."""
    with redis.Redis.from_url(redis_location.url) as client:
        yield client


def _position(store: RedisOnlineStore) -> int | None:
    found = store.read("c1", "application").state
    return None if found is None else found.log_position


def _waiting(listener: socket.socket) -> int:
    """How many have connected."""
    listener.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            count += 1
    return count


def test_a_closed_store_keeps_what_was_written(redis_location: RedisLocation, tmp_path: Path) -> None:
    """What one process of a home wrote, its next one reads."""
    with _opened(tmp_path, redis_location) as first:
        first.write([state(log_position=7)], [PROFILE])

    with _opened(tmp_path, redis_location) as second:
        row = second.read("c1", "application")

    assert row.state is not None
    assert (row.state.log_position, row.profile, row.is_reset) == (7, PROFILE, False)


def test_an_emptied_redis_is_said_and_heals_at_the_next_write(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """After a flush each read says that nothing was used; the first write makes the database this home's again."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=7)], [PROFILE])
        server.flushdb()
        read_after_flush = [store.read("c1", "application"), store.read("nobody", "short")]

        store.write([state("c2", log_position=8)], [])

        assert read_after_flush == [RESET, RESET]
        assert store.read("c1", "application") == CustomerRow(None, None)
        healed = store.read("c2", "application").state
    assert healed is not None
    assert healed.log_position == 8


def test_rows_without_an_epoch_are_nobodys(redis_location: RedisLocation, server: redis.Redis, tmp_path: Path) -> None:
    """A failover that lost the epoch but kept rows: they are not used, and gone once the database is taken again."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=7)], [PROFILE])
        server.delete(EPOCH_KEY)
        after_loss = store.read("c1", "application")

        store.write([state("c2")], [])

        assert after_loss == RESET
        assert store.read("c1", "application") == CustomerRow(None, None)


def test_a_copy_from_before_a_clearing_is_not_used(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """An old snapshot, restored, holds an earlier epoch of this home: nothing of it is read, and writing takes it."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=7)], [PROFILE])
        snapshot = {key: server.dump(key) for key in server.keys("*")}
        store.clear()
        store.write([state(log_position=8)], [])
        server.flushdb()
        for key, value in snapshot.items():
            server.restore(key, 0, value)
        restored = store.read("c1", "application")

        store.write([state("c2", log_position=9)], [])

        assert restored == RESET
        assert (_position(store), store.read("c1", "application").profile) == (None, None)


def test_a_home_made_anew_does_not_read_the_rows_of_the_old_one(redis_location: RedisLocation, tmp_path: Path) -> None:
    """Positions in one log say nothing about another log: a Redis that another home keeps is refused at the start."""
    with _opened(tmp_path / "old", redis_location) as old:
        old.write([state(log_position=1_000)], [PROFILE])

    with (
        pytest.raises(Refused, match=r"holds the states of another home .*`headway features backfill --take-over`"),
        _opened(tmp_path / "new", redis_location),
    ):
        pass


def test_a_store_that_was_taken_neither_reads_nor_writes(redis_location: RedisLocation, tmp_path: Path) -> None:
    """While two homes run on one Redis, the one that lost it says so and leaves the other's rows alone."""
    with _opened(tmp_path / "a", redis_location) as a:
        a.write([state(log_position=1)], [PROFILE])
        take_over(Home(tmp_path / "b").create(), redis_location, FEATURE_SETS, TAXONOMY)
        with _opened(tmp_path / "b", redis_location) as b:
            b.write([state(log_position=2)], [])

            assert a.read("c1", "application") == RESET
            with pytest.raises(StoreUnavailable, match="the states of another home"):
                a.write([state(log_position=3)], [PROFILE])
            assert (_position(b), b.read("c1", "application").profile) == (2, None)


def test_clearing_leaves_what_is_not_ours(redis_location: RedisLocation, server: redis.Redis, tmp_path: Path) -> None:
    """Every row of the home is forgotten; keys of other programs and of other Feast projects stay."""
    others = {b"session:1": b"a", profile_key("c1") + b"other-headway": b"b", b"headway": b"c"}
    server.mset(others)
    with _opened(tmp_path, redis_location) as store:
        store.write([state(), state("c1", "short")], [PROFILE])

        store.clear()

        assert store.read("c1", "application") == CustomerRow(None, None)
    assert {key: server.get(key) for key in server.keys("*") if key != EPOCH_KEY} == others


def test_forgotten_customers_are_gone_in_every_journey(redis_location: RedisLocation, tmp_path: Path) -> None:
    """States and profile of those named are removed, the others stay; naming nobody changes nothing."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state("c1"), state("c1", "short"), state("c2")], [PROFILE, ProfileRow("c2")])

        store.forget([])
        store.forget(["c1", "nobody"])

        assert store.read("c1", "application") == store.read("c1", "short") == CustomerRow(None, None)
        kept = store.read("c2", "application")
    assert kept.state is not None
    assert kept.profile == ProfileRow("c2")


@pytest.mark.parametrize("journey_id", ["application", "short"])
def test_a_customer_never_goes_back_in_the_log(redis_location: RedisLocation, tmp_path: Path, journey_id: str) -> None:
    """Where any state is further, nothing of the customer is written; others in the same write are."""
    later = ProfileRow("c1", holdings=frozenset({"later"}))
    with _opened(tmp_path, redis_location) as store:
        store.write([state(journey_id=journey_id, log_position=300)], [later])

        both = [state(log_position=299), state(journey_id="short", log_position=299)]
        store.write([*both, state("c2", log_position=299)], [PROFILE, ProfileRow("c2")])

        rows = [store.read("c1", one) for one in ("application", "short")]
        other = store.read("c2", "application")
    assert [row.state.log_position for row in rows if row.state is not None] == [300]
    assert [row.profile for row in rows] == [later, later]
    assert other.state is not None
    assert other.profile == ProfileRow("c2")


@pytest.mark.parametrize("position", [1, 127, 128, 16_383, 16_384, 2**31, 2**32 + 1, 2**53 - 1])
def test_positions_of_any_size_are_compared(redis_location: RedisLocation, tmp_path: Path, position: int) -> None:
    """The script reads them from Feast's bytes as they are."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=position)], [])
        store.write([state(log_position=position - 1)], [])
        kept = _position(store)
        store.write([state(log_position=position)], [PROFILE])

        assert (kept, _position(store), store.read("c1", "application").profile) == (position, position, PROFILE)


def test_a_state_of_another_feature_set_is_written_over(redis_location: RedisLocation, tmp_path: Path) -> None:
    """However far it is: after a change of the configuration a rebuild may be of the same events, or of fewer."""
    with _opened(tmp_path, redis_location) as store:
        store.write([replace(state(log_position=9), version="before")], [])
        store.write([state(log_position=8)], [])

        assert _position(store) == 8


def test_a_damaged_position_is_written_over(redis_location: RedisLocation, server: redis.Redis, tmp_path: Path) -> None:
    """Bytes that are no integer are ahead of nothing."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=9)], [])
        key, field = state_key("c1", "application") + b"headway", murmur3(f"{STATE_VIEW}:log_position")
        for damage in (b"", b"\x7a\x09", b" "):
            server.hset(key, field, damage)
            store.write([state(log_position=8)], [])

            assert _position(store) == 8


def test_whoever_is_gone_stays_gone_for_who_did_not_know_it(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """A write of what was known before is not taken, for longer than it can be under way; then nothing is left."""
    with _opened(tmp_path, redis_location) as store:
        store.forget(["c1"], gone_at=5)
        late = [state(log_position=5 - 1), state(journey_id="short", log_position=4)]
        store.write(late, [PROFILE])

        assert store.read("c1", "application") == store.read("c1", "short") == CustomerRow(None, None)
        lives = [server.ttl(key) for key in server.keys("*") if key != EPOCH_KEY]
        assert len(lives) == 2
        assert all(3_000 < seconds <= 3_600 for seconds in lives)
        store.write([state(log_position=6), state(journey_id="short", log_position=6)], [PROFILE])
        assert [server.ttl(key) for key in server.keys("*")] == [-1] * 4


def test_a_state_that_is_further_is_not_forgotten(redis_location: RedisLocation, tmp_path: Path) -> None:
    """Another process knew of events that came after the link by which the customer was gone."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=6)], [PROFILE])

        store.forget(["c1", "c2"], gone_at=5)

        assert (_position(store), store.read("c1", "application").profile) == (6, PROFILE)


def test_processes_of_one_home_agree_on_a_new_epoch(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """After a flush one of them takes the Redis; the other goes by it, and what was written stays."""
    home = Home(tmp_path).create()
    with closing(_process(home, redis_location)) as one, closing(_process(home, redis_location)) as other:
        one.write([state(log_position=7)], [PROFILE])
        assert _position(other) == 7
        server.flushdb()

        one.write([state(log_position=8)], [PROFILE])
        other.write([state("c2", log_position=8)], [])
        other.forget(["nobody"], gone_at=8)

        assert (_position(one), _position(other)) == (8, 8)
        assert one.read("c2", "application").state is not None
        assert (one.holds(), other.holds()) == (True, True)
        other.clear()
        assert (_position(one), one.holds()) == (None, True)


def test_processes_that_start_at_once_make_one_epoch(redis_location: RedisLocation, tmp_path: Path) -> None:
    """The file of the home is made by one of them, and all go by it."""
    code = (
        "import sys; from pathlib import Path; from features.redis_epoch import _kept; print(_kept(Path(sys.argv[1])))"
    )
    path = Home(tmp_path).create().online_epoch
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]

    answers = {one.communicate()[0] for one in started}

    assert len(answers) == 1
    assert [one.returncode for one in started] == [0] * 4
    assert list(path.parent.glob("*.new")) == []


def test_while_another_process_clears_nothing_is_written(redis_location: RedisLocation, tmp_path: Path) -> None:
    """It says so, and is asked again; nobody clears twice."""
    home = Home(tmp_path).create()
    with closing(_process(home, redis_location)) as store:
        with lock_file(home.online_epoch), pytest.raises(StoreUnavailable, match="being cleared by another process"):
            store.claim()
        store.claim()

        assert store.holds()


def test_a_clearing_cut_short_is_finished(redis_location: RedisLocation, server: redis.Redis, tmp_path: Path) -> None:
    """A process that died while it cleared leaves an epoch that nobody trusts; the next start clears again."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state()], [PROFILE])
    server.set(EPOCH_KEY, bytes(server.get(EPOCH_KEY)) + b":clearing")

    with _opened(tmp_path, redis_location) as store:
        row = store.read("c1", "application")

    assert row == CustomerRow(None, None)


def test_many_rows_are_written_whole(redis_location: RedisLocation, tmp_path: Path) -> None:
    """More rows than fit one step all arrive, each state with its profile."""
    ids = [f"c{number}" for number in range(230)]
    with _opened(tmp_path, redis_location) as store:
        store.write([state(each) for each in ids], [ProfileRow(each, holdings=frozenset({each})) for each in ids])

        rows = [store.read(each, "application") for each in ids]

    assert [row.state.customer_id for row in rows if row.state is not None] == ids
    assert [row.profile.holdings for row in rows if row.profile is not None] == [{each} for each in ids]


def test_a_state_of_another_layout_counts_as_none(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """Where a column of the layout is missing there is no state, so that the caller rebuilds it."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state()], [PROFILE])
        server.hdel(state_key("c1", "application") + b"headway", murmur3(f"{STATE_VIEW}:flow"))

        row = store.read("c1", "application")

    assert row == CustomerRow(None, PROFILE)


def test_damage_is_said(redis_location: RedisLocation, server: redis.Redis, tmp_path: Path) -> None:
    """Bytes that are no value are an error that says how to rebuild, never a number."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state()], [])
        key = state_key("c1", "application") + b"headway"
        server.hset(key, murmur3(f"{STATE_VIEW}:flow"), b"\x7a\x09")

        with pytest.raises(StoreCorrupted, match="headway features backfill"):
            store.read("c1", "application")


def test_scripts_that_the_server_forgot_are_sent_again(
    redis_location: RedisLocation, server: redis.Redis, tmp_path: Path
) -> None:
    """A server that was restarted knows no scripts; nobody notices."""
    with _opened(tmp_path, redis_location) as store:
        store.write([state(log_position=1)], [])
        server.script_flush()
        first = _position(store)
        server.script_flush()
        store.write([state(log_position=2)], [])

        assert (first, _position(store)) == (1, 2)


def test_a_second_process_of_a_home_is_refused(redis_location: RedisLocation, tmp_path: Path) -> None:
    """A home has one writer of its online store, whichever kind that is."""
    with (
        _opened(tmp_path, redis_location),
        pytest.raises(HomeLocked, match=r"online\.db is being written by process"),
        _opened(tmp_path, redis_location),
    ):
        pass


def test_a_redis_that_is_down_is_opened_all_the_same(tmp_path: Path) -> None:
    """It is a cache: opening does not need it, and every use is an error of the store without the password."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    location = RedisLocation.of(f"redis://user:very-secret@127.0.0.1:{port}/3")

    with _opened(tmp_path, location) as store, pytest.raises(StoreUnavailable) as failure:
        store.read("c1", "application")

    assert f"redis://***@127.0.0.1:{port}/3" in str(failure.value)
    assert "very-secret" not in str(failure.value) + str(failure.value.__cause__)


def test_a_redis_that_hangs_is_asked_once_in_a_while(tmp_path: Path) -> None:
    """One caller waits out the timeout; the next are told at once, until the pause is over."""
    now = 0.0
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        home = Home(tmp_path).create()
        store = RedisOnlineStore(
            RedisLocation.of(f"redis://127.0.0.1:{silent.getsockname()[1]}"),
            epoch_file=home.online_epoch,
            lock=lambda: lock_file(home.online_db),
            feature_sets=FEATURE_SETS,
            taxonomy=TAXONOMY,
            timer=lambda: now,
        )
        with closing(store):
            with pytest.raises(StoreUnavailable, match=r"answers within 0\.25 s"):
                store.read("c1", "application")
            with pytest.raises(StoreUnavailable, match="failed a moment ago"):
                store.read("c1", "application")
            now = PAUSE_SECONDS
            with pytest.raises(StoreUnavailable, match=r"answers within 0\.25 s"):
                store.read("c1", "application")
        connections = _waiting(silent)
    assert connections == 2


def test_a_closed_store_refuses(redis_location: RedisLocation, tmp_path: Path) -> None:
    """Reading or writing after closing is an error of the store."""
    with _opened(tmp_path, redis_location) as store:
        pass
    store.close()

    with pytest.raises(StoreUnavailable, match="was closed"):
        store.read("c1", "application")
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.write([state()], [])


def test_an_epoch_file_that_is_none_is_refused(redis_location: RedisLocation, tmp_path: Path) -> None:
    """A damaged file is said by name, and the home is not left locked."""
    home = Home(tmp_path).create()
    home.online_epoch.write_text("yesterday")
    with pytest.raises(Refused, match="online-epoch holds 'yesterday', expected an epoch: remove the file"):
        open_redis_store(home, redis_location, FEATURE_SETS, TAXONOMY)

    home.online_epoch.unlink()
    open_redis_store(home, redis_location, FEATURE_SETS, TAXONOMY).close()


def test_neither_redis_nor_feast_is_imported_before_it_is_asked_for() -> None:
    """Serving on SQLite does not need the package ``redis``."""
    check = (
        "import sys, features.online_stores; "
        "print([name for name in ('redis', 'feast', 'pandas', 'pyarrow', 'google.protobuf') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"


def test_the_environment_names_the_store() -> None:
    """The home's own file unless a Redis is named."""
    assert online_location({}) is None
    assert online_location({"HEADWAY_ONLINE_STORE": ""}) is None
    assert online_location({"HEADWAY_ONLINE_STORE": "sqlite"}) is None
    assert online_location({"HEADWAY_ONLINE_STORE": "redis://host"}) == RedisLocation("redis://host")
