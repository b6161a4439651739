"""Feast and our own code keep the same bytes, and read the same history."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis

from features.backfill import Backfilled, backfill
from features.errors import Refused
from features.event_log import MemoryEventLog
from features.event_tables import whole_table
from features.events import JourneyEvent
from features.feast_layout import CREATED_TIME, PROFILE_VIEW, PROJECT, STATE_VIEW, layout
from features.feast_repo import offline_file
from features.feast_rows import state_key
from features.feast_store import FeastStore, apply, historical_reads
from features.feast_values import encode_value, murmur3
from features.history import reads_at
from features.home import Home
from features.ingest import Ingestor
from features.online import PROFILE_TABLE, STATE_TABLE, SqliteOnlineStore
from features.online_location import RedisLocation
from features.online_stores import open_online_store, open_redis_store
from features.redis_client import EPOCH_KEY
from features.schema import feature_set
from features.store import CustomerRow, FeatureStore, ProfileRow, StateRow
from tests.contract.test_feature_store import PROFILE, feast_store, state
from tests.histories import (
    FEATURE_SETS,
    FEATURES,
    MINUTE_US,
    START_AT,
    TAXONOMY,
    arrow_events,
    event,
    journey,
    random_history,
)

# Feast's reader of Parquet, ibis, calls a method that this DuckDB renames.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis")

EVENTS = [*random_history(11, n_customers=6, n_events=199), event("lone", customer_id="lone")]
CUSTOMERS = sorted({one.customer_id for one in EVENTS})
STATES = [state("c1"), state("c1", "short"), state("c2é", log_position=2**40)]
PROFILES = [PROFILE, ProfileRow("c2é"), ProfileRow("c3", attributes={"tier": "gold"}, updated_at=START_AT)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose history and online store were filled from ``EVENTS``."""
    home = Home(tmp_path_factory.mktemp("filled")).create()
    _backfill(home)
    return home


@pytest.fixture(scope="module")
def feast_of_filled(filled: Home) -> Any:
    """Feast over that home."""
    return apply(filled, FEATURE_SETS.values(), TAXONOMY)


def _backfill(home: Home, events: pa.Table | None = None) -> Backfilled:
    store = SqliteOnlineStore(home.online_db, FEATURE_SETS, TAXONOMY)
    try:
        return backfill(
            arrow_events(EVENTS) if events is None else events,
            home=home,
            store=store,
            feature_sets=FEATURE_SETS,
            taxonomy=TAXONOMY,
        )
    finally:
        store.close()


def _sqlite(home: Home) -> FeatureStore:
    return SqliteOnlineStore(home.online_db, FEATURE_SETS, TAXONOMY)


def _feast(home: Home) -> FeatureStore:
    return FeastStore(home, FEATURE_SETS, TAXONOMY)


def _rows(home: Home) -> list[list[tuple[object, ...]]]:
    """Both tables without the times, which Feast shifts by the time zone of the process and nobody reads."""
    with closing(sqlite3.connect(home.online_db)) as connection:
        return [
            sorted(connection.execute(f'SELECT entity_key, feature_name, value, value_text FROM "{table}"'))  # noqa: S608
            for table in (STATE_TABLE, PROFILE_TABLE)
        ]


def _written(home: Home, open_store: Callable[[Home], FeatureStore]) -> Home:
    store = open_store(home.create())
    store.write(STATES, PROFILES)
    store.close()
    return home


def _plain(row: CustomerRow) -> tuple[object, ...]:
    """A row as plain values, comparable bit for bit."""
    if row.state is None:
        return (None, row.profile)
    rest = [getattr(row.state, name) for name in StateRow.__slots__ if name != "vector"]
    return (rest, row.state.vector.tobytes(), row.profile)


def test_both_write_the_same_bytes(tmp_path: Path) -> None:
    """Every key, value and text that Feast writes is what our store writes, and the other way round."""
    ours, feasts = _written(Home(tmp_path / "ours"), _sqlite), _written(Home(tmp_path / "feast"), _feast)

    assert _rows(ours) == _rows(feasts)
    assert [len(rows) for rows in _rows(ours)] == [3 * 16, 3 * 7]


def test_both_make_the_same_tables(tmp_path: Path) -> None:
    """Tables and indices are those that Feast creates, so that either may come first."""
    ours, feasts = _written(Home(tmp_path / "ours"), _sqlite), _written(Home(tmp_path / "feast"), _feast)

    def made(home: Home) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(home.online_db)) as connection:
            return sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))

    assert made(ours) == made(feasts)


@pytest.mark.parametrize(("writer", "reader"), [(_sqlite, _feast), (_feast, _sqlite)])
def test_what_one_writes_the_other_reads(
    tmp_path: Path, writer: Callable[[Home], FeatureStore], reader: Callable[[Home], FeatureStore]
) -> None:
    """States with NaN, empty text, unknown attributes and empty profiles come out as they went in; nobody as nobody."""
    home = _written(Home(tmp_path), writer)

    store = reader(home)
    rows = {key: store.read(*key) for key in [("c1", "application"), ("c1", "short"), ("c2é", "application")]}
    lone, nobody = store.read("c3", "short"), store.read("nobody", "short")
    store.close()

    profile = {row.customer_id: row for row in PROFILES}
    for expected in STATES:
        key = (expected.customer_id, expected.journey_id)
        assert _plain(rows[key]) == _plain(CustomerRow(expected, profile[expected.customer_id]))
    assert _plain(lone) == (None, profile["c3"])
    assert _plain(nobody) == (None, None)


def _hashes(server: redis.Redis) -> dict[bytes, dict[bytes, bytes]]:
    """Every hash of a Redis, times included: there Feast keeps them exactly."""
    return {key: server.hgetall(key) for key in server.keys("*") if key != EPOCH_KEY}


def _redis(home: Home, location: RedisLocation) -> FeatureStore:
    return open_online_store(home, location, FEATURE_SETS, TAXONOMY)


def test_both_write_the_same_hashes(redis_location: RedisLocation, tmp_path: Path) -> None:
    """In a Redis every key, field, value and time that Feast writes is what our store writes."""
    found = []
    with redis.Redis.from_url(redis_location.url) as server:
        for name, open_store in (("ours", _redis), ("feasts", feast_store)):
            server.flushdb()
            with closing(open_store(Home(tmp_path / name).create(), redis_location)) as store:
                store.write(STATES, PROFILES)
                found.append(_hashes(server))

    assert found[0] == found[1]
    widths = sorted(len(fields) for fields in found[0].values())
    assert widths == [8, 8, 8, *[len(layout(FEATURE_SETS.values(), TAXONOMY).state) + 1] * 3]


@pytest.mark.parametrize(("writer", "reader"), [(_redis, feast_store), (feast_store, _redis)])
def test_what_one_writes_to_a_redis_the_other_reads(
    redis_location: RedisLocation,
    tmp_path: Path,
    writer: Callable[[Home, RedisLocation], FeatureStore],
    reader: Callable[[Home, RedisLocation], FeatureStore],
) -> None:
    """States with NaN, empty text, unknown attributes and empty profiles come out as they went in; nobody as nobody."""
    home = Home(tmp_path).create()
    with closing(writer(home, redis_location)) as store:
        store.write(STATES, PROFILES)

    with closing(reader(home, redis_location)) as store:
        rows = [store.read(one.customer_id, one.journey_id) for one in STATES]
        lone, nobody = store.read("c3", "short"), store.read("nobody", "short")

    profile = {row.customer_id: row for row in PROFILES}
    assert [_plain(row) for row in rows] == [_plain(CustomerRow(one, profile[one.customer_id])) for one in STATES]
    assert (_plain(lone), _plain(nobody)) == ((None, profile["c3"]), (None, None))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda server, key, field: server.delete(key), id="missing row"),
        pytest.param(lambda server, key, field: server.hdel(key, field), id="missing column"),
        pytest.param(lambda server, key, field: server.hset(key, field, b""), id="empty column"),
        pytest.param(lambda server, key, field: server.hset(key, b"\0\0\0\0", b"\x20\x07"), id="further column"),
        pytest.param(lambda server, key, field: server.hdel(key, f"_ts:{STATE_VIEW}"), id="no time"),
        pytest.param(
            lambda server, key, field: server.hset(key, field, encode_value(np.zeros(2), "floats")[0]),
            id="length",
        ),
    ],
)
def test_both_read_a_harmed_row_alike(
    redis_location: RedisLocation, tmp_path: Path, harm: Callable[[redis.Redis, bytes, bytes], object]
) -> None:
    """A row that is torn, or of another layout, is to our reader exactly what it is to Feast's."""
    home = Home(tmp_path).create()
    field = murmur3(f"{STATE_VIEW}:{FEATURES.fields[0].name}")
    with closing(_redis(home, redis_location)) as ours, redis.Redis.from_url(redis_location.url) as server:
        ours.write(STATES, PROFILES)
        harm(server, state_key("c1", "application") + PROJECT.encode(), field)
        read_by_us = ours.read("c1", "application")
    with closing(feast_store(home, redis_location)) as feasts:
        read_by_feast = feasts.read("c1", "application")

    assert _plain(read_by_us) == _plain(read_by_feast)
    assert read_by_us.profile == PROFILE


def test_feast_materialises_into_a_redis_what_the_backfill_wrote(
    filled: Home, redis_location: RedisLocation, tmp_path: Path
) -> None:
    """The history, brought online by Feast itself, is hash for hash what a backfill writes there."""
    other, found = Home(tmp_path).create(), []
    with redis.Redis.from_url(redis_location.url) as server:
        with closing(open_redis_store(other, redis_location, FEATURE_SETS, TAXONOMY)) as store:
            backfill(arrow_events(EVENTS), home=other, store=store, feature_sets=FEATURE_SETS, taxonomy=TAXONOMY)
            found.append(_hashes(server))
        server.flushdb()
        feast = apply(other, FEATURE_SETS.values(), TAXONOMY, online_store=redis_location.feast_config)
        feast.materialize(datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
        found.append(_hashes(server))

    assert found[0] == found[1]
    assert len(found[0]) == 3 * len(CUSTOMERS)


def test_feast_materialises_what_the_backfill_wrote(filled: Home, feast_of_filled: Any, tmp_path: Path) -> None:
    """The history, brought online by Feast itself, is byte for byte the online store that the backfill wrote."""
    other = Home(tmp_path).create()
    for view in (STATE_VIEW, PROFILE_VIEW):
        offline_file(other, view).write_bytes(offline_file(filled, view).read_bytes())
    feast = apply(other, FEATURE_SETS.values(), TAXONOMY)

    feast.materialize(datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))

    assert _rows(other) == _rows(filled)
    assert len({key for key, *_ in _rows(filled)[0]}) == 2 * len(CUSTOMERS)


@pytest.mark.parametrize("journey_id", list(FEATURE_SETS))
def test_history_by_feast_equals_the_kernel_over_events(feast_of_filled: Any, journey_id: str) -> None:
    """At moments on, just before and just after events and arrivals, both give the same features to the last bit."""
    rng = np.random.default_rng(5)
    times = np.array([(one.occurred_at, one.arrived_at) for one in EVENTS]).ravel()
    at = np.concatenate([rng.choice(times, 300) + rng.integers(-1, 2, 300), [START_AT - 1, START_AT - 1]])
    customers = [str(each) for each in rng.choice([*CUSTOMERS, "nobody"], 302)]

    by_feast = historical_reads(feast_of_filled, FEATURE_SETS[journey_id], customers, at)

    table = whole_table(arrow_events(EVENTS), TAXONOMY)
    np.testing.assert_array_equal(by_feast, reads_at(table, FEATURE_SETS[journey_id], customers, at))
    assert by_feast.shape == (302, len(FEATURE_SETS[journey_id].names))


def test_history_by_feast_honours_links_when_they_were_known(tmp_path: Path) -> None:
    """Also where events left again: a withdrawn link, a shared device, a merge of two known customers."""
    ids = sorted({one.customer_id for one in EVENTS})
    day = 24 * 60 * MINUTE_US

    def claim(name: str, kind: str, alias: str, customer_id: str, days: float) -> JourneyEvent:
        at = START_AT + int(days * day)
        return event(name, customer_id=customer_id, kind=f"identity_{kind}", at=at, facts={"alias": alias})

    claims = [
        claim("l1", "linked", ids[0], ids[1], 1.0),
        claim("l2", "linked", ids[0], ids[2], 2.0),
        claim("u2", "unlinked", ids[0], ids[2], 3.0),
        claim("l3", "linked", ids[1], ids[3], 3.5),
    ]
    source = arrow_events([*EVENTS, *claims])
    home = Home(tmp_path).create()
    feast = apply(home, FEATURE_SETS.values(), TAXONOMY)
    _backfill(home, source)
    moments = np.array(
        [START_AT + int(days * day) + nudge for days in (0.5, 1, 1.5, 2, 2.5, 3, 3.2, 3.5, 9) for nudge in (0, 1)]
    )
    customers, at = np.repeat(ids, len(moments)).tolist(), np.tile(moments, len(ids))

    features = historical_reads(feast, FEATURES, customers, at)

    np.testing.assert_array_equal(features, reads_at(whole_table(source, TAXONOMY), FEATURES, customers, at))


def test_history_of_another_feature_set_is_refused(feast_of_filled: Any) -> None:
    """States folded by another declaration of the journey are not read as if they were this one's."""
    changed = feature_set(TAXONOMY, journey(stages=("applied",)))

    with pytest.raises(Refused, match=f"expected {changed.version}: run `headway features backfill` again"):
        historical_reads(feast_of_filled, changed, CUSTOMERS, np.full(len(CUSTOMERS), START_AT * 2))


def test_a_backfill_says_what_it_wrote(tmp_path: Path) -> None:
    """The counts are those of the files and of the store."""
    home = Home(tmp_path).create()

    done = _backfill(home)

    assert (done.events, done.customers, done.states) == (200, len(CUSTOMERS), 2 * len(CUSTOMERS))
    assert done.history_states == pq.read_metadata(offline_file(home, STATE_VIEW)).num_rows
    assert done.history_profiles == pq.read_metadata(offline_file(home, PROFILE_VIEW)).num_rows
    assert done.profiles == len({key for key, *_ in _rows(home)[1]}) == len(CUSTOMERS)


def test_a_backfill_equals_folding_as_events_arrive(tmp_path: Path) -> None:
    """What an ingestor keeps, arrival by arrival, is byte for byte what a backfill of the same log writes."""
    live, rebuilt = Home(tmp_path / "live").create(), Home(tmp_path / "rebuilt").create()
    log, store = MemoryEventLog(), _sqlite(live)
    ingestor = Ingestor(log, store, FEATURE_SETS, TAXONOMY, lambda customer_id, consents, *, at: None, [].extend)
    for one in EVENTS:
        log.append([one])
        ingestor.refresh([one.customer_id])
    store.close()

    _backfill(rebuilt)

    assert _rows(live) == _rows(rebuilt)


def test_a_second_backfill_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    """Customers that the log no longer holds are gone from the online store and from the history."""
    home = Home(tmp_path).create()
    _backfill(home)
    fewer = arrow_events(one for one in EVENTS if one.customer_id == CUSTOMERS[0])

    done = _backfill(home, fewer)

    history = pq.read_table(offline_file(home, STATE_VIEW))
    assert pc.unique(history["customer_id"]).to_pylist() == [CUSTOMERS[0]]
    assert (done.customers, len({key for key, *_ in _rows(home)[0]})) == (1, 2)


def test_a_failing_backfill_keeps_the_history(tmp_path: Path) -> None:
    """Where an event is refused the history stays as it was, with nothing half-written beside it."""
    home = Home(tmp_path).create()
    _backfill(home)
    before = offline_file(home, STATE_VIEW).read_bytes()
    unknown = arrow_events(EVENTS).set_column(4, "kind", pa.array(["signed"] * len(EVENTS)))

    with pytest.raises(Refused, match="the kind 'signed'"):
        _backfill(home, unknown)

    assert offline_file(home, STATE_VIEW).read_bytes() == before
    assert sorted(path.name for path in home.offline.iterdir()) == [f"{STATE_VIEW}.parquet", f"{PROFILE_VIEW}.parquet"]


def test_the_history_knows_when_each_state_was_known(filled: Home) -> None:
    """A state is known no earlier than its newest event occurred, in UTC microseconds."""
    history = pq.read_table(offline_file(filled, STATE_VIEW))

    assert history.schema.field(CREATED_TIME).type == pa.timestamp("us", "UTC")
    assert pc.all(pc.greater_equal(history[CREATED_TIME], history["event_timestamp"])).as_py()
    assert pc.unique(history["version"]).to_pylist() == [FEATURES.version, FEATURE_SETS["short"].version]
