"""What every feature store must do, run over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from features import kernel
from features.home import Home
from features.online import SqliteOnlineStore
from features.store import FeatureStore, MemoryStore, ProfileRow, StateRow
from tests.histories import FEATURE_SETS, START_AT, TAXONOMY, event


def _feast_store(folder: Path) -> FeatureStore:
    from features.feast_store import FeastStore  # takes seconds to import

    return FeastStore(Home(folder).create(), FEATURE_SETS, TAXONOMY)


_STORES: dict[str, Callable[[Path], FeatureStore]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteOnlineStore(folder / "online.db", FEATURE_SETS, TAXONOMY),
    "feast": _feast_store,
}


@pytest.fixture(params=_STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    """Each store, empty."""
    opened = _STORES[request.param](tmp_path)
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
    """The last write of a key counts, also where it knows less or is of an older event."""
    store.write([state(log_position=2)], [PROFILE])

    store.write([state(log_position=1)], [ProfileRow("c1", attributes={"age": 1.0})])

    row = store.read("c1", "application")
    _assert_same(row.state, state(log_position=1))
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
