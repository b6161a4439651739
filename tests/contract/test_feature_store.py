"""What every feature store must do, run over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from features import kernel
from features.home import Home
from features.online_location import RedisLocation
from features.online_stores import open_online_store, open_redis_store
from features.store import FeatureStore, MemoryStore, ProfileRow, StateRow
from tests.histories import FEATURE_SETS, START_AT, TAXONOMY, event


def feast_store(home: Home, location: RedisLocation | None = None) -> FeatureStore:
    """The feature store by way of Feast, over the home's SQLite file or a Redis."""
    from features.feast_store import FeastStore  # takes seconds to import

    if location is None:
        return FeastStore(home.create(), FEATURE_SETS, TAXONOMY)
    keeper = open_redis_store(home.create(), location, FEATURE_SETS, TAXONOMY)
    return FeastStore(home, FEATURE_SETS, TAXONOMY, online_store=location.feast_config, keeper=keeper)


_STORES: dict[str, Callable[[Home], FeatureStore]] = {
    "memory": lambda home: MemoryStore(),
    "sqlite": lambda home: open_online_store(home, None, FEATURE_SETS, TAXONOMY),
    "feast": feast_store,
}
_REDIS_STORES: dict[str, Callable[[Home, RedisLocation], FeatureStore]] = {
    "redis": lambda home, location: open_online_store(home, location, FEATURE_SETS, TAXONOMY),
    "feast_redis": feast_store,
}


@pytest.fixture(params=(*_STORES, *_REDIS_STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    """Each store, empty."""
    if request.param in _STORES:
        opened = _STORES[request.param](Home(tmp_path))
    else:
        opened = _REDIS_STORES[request.param](Home(tmp_path), request.getfixturevalue("redis_location"))
    yield opened
    opened.close()


def state(customer_id: str = "c1", journey_id: str = "application", *, log_position: int = 1) -> StateRow:
    """A state with numbers, NaN and zeros in it."""
    features = FEATURE_SETS[journey_id]
    vector = kernel.new_state(features.plan)
    features.fold(vector, event("e1"))
    return StateRow(
        customer_id=customer_id,
        journey_id=journey_id,
        version=features.version,
        vector=vector,
        last_event_at=START_AT,
        last_sequence=-3,
        last_source="",
        last_event_id="é:1",
        log_position=log_position,
    )


PROFILE = ProfileRow(
    "c1",
    attributes={"age": 41.5, "member": False, "state": ""},
    consents={"e:mail": "granted", "sms": "objected"},
    holdings=frozenset({"card", "loan"}),
    updated_at=START_AT + 1,
)


def _assert_same(read: StateRow | None, expected: StateRow) -> None:
    assert read is not None
    np.testing.assert_array_equal(read.vector, expected.vector)
    names = [name for name in StateRow.__slots__ if name != "vector"]
    assert [getattr(read, name) for name in names] == [getattr(expected, name) for name in names]


def test_an_unknown_customer_has_neither_state_nor_profile(store: FeatureStore) -> None:
    """Nothing was written, so nothing is there."""
    row = store.read("c1", "application")

    assert (row.state, row.profile) == (None, None)


def test_what_was_written_is_read(store: FeatureStore) -> None:
    """State and profile come back exactly: NaN, empty text, an unknown attribute, no loss in time."""
    store.write([state()], [PROFILE])

    row = store.read("c1", "application")

    _assert_same(row.state, state())
    assert row.profile == PROFILE


def test_an_empty_profile_is_read(store: FeatureStore) -> None:
    """A profile of which nothing is known is one, with no attribute, consent or holding."""
    store.write([], [ProfileRow("c1")])

    row = store.read("c1", "application")

    assert (row.state, row.profile) == (None, ProfileRow("c1"))


def test_a_later_write_replaces_the_earlier_one(store: FeatureStore) -> None:
    """The last write of a key counts, also where it knows less and where it is of the same position in the log."""
    store.write([state(log_position=2)], [PROFILE])

    store.write([state(log_position=2)], [ProfileRow("c1", attributes={"age": 1.0})])

    row = store.read("c1", "application")
    _assert_same(row.state, state(log_position=2))
    assert row.profile == ProfileRow("c1", attributes={"age": 1.0})


def test_journeys_and_customers_are_kept_apart(store: FeatureStore) -> None:
    """Each customer has a state of its own in every journey, of that journey's length, and one profile."""
    states = [state("c1"), state("c1", "short"), state("c2", "short")]
    store.write(states, [PROFILE])

    for each in states:
        _assert_same(store.read(each.customer_id, each.journey_id).state, each)
    assert store.read("c2", "application").state is None
    assert store.read("c1", "short").profile == PROFILE
    assert store.read("c2", "short").profile is None


def test_many_customers_are_read_as_each_alone(store: FeatureStore) -> None:
    """In the order asked for, over several round trips, those unknown and asked for twice too."""
    ids = [f"c{i}" for i in range(450)]
    known = [one for one in ids if not one.endswith("3")]
    store.write([state(one) for one in known], [ProfileRow(one, attributes={"age": 1.0}) for one in known[:-1]])
    asked = [*reversed(ids), "c1"]

    rows = store.read_many(asked, "application")

    for customer_id, row in zip(asked, rows, strict=True):
        if customer_id in known:
            _assert_same(row.state, state(customer_id))
        else:
            assert row.state is None
    has_profile = set(known[:-1])
    assert [row.profile for row in rows] == [
        ProfileRow(one, attributes={"age": 1.0}) if one in has_profile else None for one in asked
    ]
    assert store.read_many([], "application") == []


def test_forgotten_customers_are_gone_and_no_others(store: FeatureStore) -> None:
    """States of every journey and the profile are removed; others stay, and the forgotten may come again."""
    store.write([state(), state(journey_id="short"), state("c2")], [PROFILE, ProfileRow("c2")])

    store.forget(["c1", "nobody"])

    gone = [store.read("c1", journey_id) for journey_id in FEATURE_SETS]
    assert [(row.state, row.profile) for row in gone] == [(None, None), (None, None)]
    _assert_same(store.read("c2", "application").state, state("c2"))
    store.write([state()], [PROFILE])
    assert store.read("c1", "application").profile == PROFILE


def test_a_state_that_was_further_may_be_written_after_it_was_forgotten(store: FeatureStore) -> None:
    """As after a log that was set back: what is forgotten whatever there is keeps nobody from writing less."""
    store.write([state(log_position=9)], [PROFILE])

    store.forget(["c1"])
    store.write([state(log_position=4)], [PROFILE])

    _assert_same(store.read("c1", "application").state, state(log_position=4))


def test_those_who_are_gone_come_back_with_later_events(store: FeatureStore) -> None:
    """Gone as of one position, a customer is written as of the next."""
    store.write([state(log_position=4), state(journey_id="short", log_position=4)], [PROFILE])

    store.forget(["c1"], gone_at=5)
    gone = store.read("c1", "application")
    store.write([state(log_position=6), state(journey_id="short", log_position=6)], [PROFILE])

    row = store.read("c1", "application")
    assert (gone.state, gone.profile) == (None, None)
    _assert_same(row.state, state(log_position=6))
    assert row.profile == PROFILE
