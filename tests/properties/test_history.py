"""The kernel over tables equals folding event by event, for random histories with ties and late arrivals."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import kernel
from features.errors import Refused
from features.event_tables import EventTable, event_tables, whole_table
from features.events import JourneyEvent
from features.history import (
    final_states,
    profiles,
    reads_at,
    states_per_arrival,
    transitions,
)
from features.kernel import Floats
from features.profile import fold_profile
from features.schema import FeatureSet, feature_set
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from tests.histories import FEATURES, MINUTE_US, START_AT, TAXONOMY, arrow_events, event, journey, random_history

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
_EXACT = settings(max_examples=25, deadline=None)


def _folded(events: list[JourneyEvent], features: FeatureSet = FEATURES) -> Floats:
    state = kernel.new_state(features.plan)
    for one in sorted(events, key=lambda one: one.order):
        features.fold(state, one)
    return state


def _profile(events: list[JourneyEvent], customer_id: str) -> ProfileRow:
    return fold_profile(ProfileRow(customer_id), sorted(events, key=lambda one: one.order), TAXONOMY)


def _known(events: list[JourneyEvent], customer_id: str, at: int) -> list[JourneyEvent]:
    return [one for one in events if one.customer_id == customer_id and one.occurred_at < at and one.arrived_at < at]


def _table(events: list[JourneyEvent]) -> EventTable:
    return whole_table(arrow_events(events), TAXONOMY)


@given(seed=SEEDS)
@_EXACT
def test_reads_equal_folding_what_was_known(seed: int) -> None:
    """A read at a moment is the fold of exactly the events that occurred and arrived strictly before it."""
    events = random_history(seed)
    rng = np.random.default_rng(seed)
    customers = [f"c{i}é" for i in rng.integers(0, 7, 40)]  # two of them have no event
    moments = [
        *rng.choice([one.occurred_at for one in events], 20),
        *rng.choice([one.arrived_at for one in events], 20),
    ]
    moments = [int(at) + int(nudge) for at, nudge in zip(moments, rng.integers(-1, 2, 40), strict=True)]

    features = reads_at(_table(events), FEATURES, customers, np.array(moments))

    for row, customer_id, at in zip(features, customers, moments, strict=True):
        known = _known(events, customer_id, at)
        expected = FEATURES.vector(_folded(known), _profile(known, customer_id).attributes, at)
        np.testing.assert_array_equal(row, expected)


@given(seed=SEEDS)
@_EXACT
def test_final_states_equal_folding_everything(seed: int) -> None:
    """The final state of a customer is the fold of its sorted events, with the order key of the last one."""
    events = random_history(seed)

    states = final_states(_table(events), FEATURES)

    assert states.customers.to_pylist() == sorted({one.customer_id for one in events})
    for i, customer_id in enumerate(states.customers.to_pylist()):
        own = [one for one in events if one.customer_id == customer_id]
        np.testing.assert_array_equal(states.vectors[i], _folded(own))
        order = (
            states.last_event_at[i],
            states.last_sequence[i],
            states.last_sources[i].as_py(),
            states.last_event_ids[i].as_py(),
        )
        assert order == max(one.order for one in own)
        assert states.log_positions[i] == max(events.index(one) + 1 for one in own)


@given(seed=SEEDS)
@_EXACT
def test_the_last_arrival_before_a_moment_is_what_was_known_then(seed: int) -> None:
    """Of the states per arrival, the last one known strictly before t is the fold of what was known at t."""
    events = random_history(seed, n_customers=3)

    states = states_per_arrival(_table(events), FEATURES)

    customers = np.array(states.customers.to_pylist())
    for customer_id in set(customers):
        rows = np.flatnonzero(customers == customer_id)
        assert (np.diff(states.known_at[rows]) > 0).all()
        assert (np.diff(states.last_event_at[rows]) >= 0).all()
        assert (states.last_event_at[rows] <= states.known_at[rows]).all()
        for row, following in zip(rows, [*states.known_at[rows][1:], START_AT * 2], strict=True):
            known = _known(events, customer_id, int(following))
            np.testing.assert_array_equal(states.vectors[row], _folded(known))
            assert states.last_event_at[row] == max(one.occurred_at for one in known)
            assert states.log_positions[row] == max(events.index(one) + 1 for one in known)


@given(seed=SEEDS)
@_EXACT
def test_profiles_are_what_was_known_of_each_customer(seed: int) -> None:
    """The last profile known before t is the fold of the profile events known at t; the last of all is today's."""
    events = random_history(seed, n_customers=40, n_events=120)
    told = [one for one in events if TAXONOMY.all_kinds[one.kind].role in ("profile", "consent")]

    known_profiles = list(profiles(_table(events), TAXONOMY))

    assert [profile.customer_id for profile, _ in known_profiles] == sorted(p.customer_id for p, _ in known_profiles)
    for profile, known_at in known_profiles:
        assert profile == _profile(_known(told, profile.customer_id, known_at + 1), profile.customer_id)
    last = {profile.customer_id: profile for profile, _ in known_profiles}
    everyone = {one.customer_id for one in events}
    assert last == {c: _profile([one for one in told if one.customer_id == c], c) for c in everyone}


@given(seed=SEEDS, events_per_table=st.integers(1, 40))
@_EXACT
def test_tables_hold_whole_customers_and_everything_once(seed: int, events_per_table: int) -> None:
    """However small the tables, no customer is split and together they say what one table says."""
    source = arrow_events(random_history(seed))

    tables = list(event_tables(source, TAXONOMY, events_per_table=events_per_table))

    whole = whole_table(source, TAXONOMY)
    assert list(itertools.chain(*(t.customers.to_pylist() for t in tables))) == whole.customers.to_pylist()
    np.testing.assert_array_equal(np.concatenate([t.positions for t in tables]), whole.positions)
    vectors = np.concatenate([final_states(t, FEATURES).vectors for t in tables])
    np.testing.assert_array_equal(vectors, final_states(whole, FEATURES).vectors)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200))
@_EXACT
def test_numbers_come_out_of_the_facts_exactly(values: list[float]) -> None:
    """A fact is the same double after its way through JSON and SQL."""
    paid = [event(f"e{i}", kind="paid", sequence=i, facts={"amount": value}) for i, value in enumerate(values)]

    table = _table(paid)

    assert table.events.value.tolist() == values


def test_nothing_told_is_an_empty_profile_since_the_first_event() -> None:
    """A customer with events but none that concerns the profile has an empty one, known when the first was."""
    events = [
        event("e1", at=START_AT, arrived_at=START_AT + 9),
        event("e2", at=START_AT + 5),
        event("e3", at=START_AT + 7),
    ]

    assert list(profiles(_table(events), TAXONOMY)) == [(ProfileRow("c1"), START_AT + 5)]


def test_transitions_say_what_each_event_did() -> None:
    """Entering, progressing, looping and reaching the goal are told apart, with the stage after each."""
    kinds = ["called", "visited", "applied", "visited", "uploaded", "paid", "visited", "declined"]
    events = [event(f"e{i}", kind=kind, at=START_AT + i * MINUTE_US) for i, kind in enumerate(kinds)]

    codes, stages = transitions(_table(events), FEATURES)

    assert codes.tolist() == [
        kernel.NOTHING,
        kernel.ENTERED,
        kernel.PROGRESSED,
        kernel.LOOPED,
        kernel.PROGRESSED,
        kernel.GOAL_REACHED,
        kernel.ENTERED,
        kernel.LEFT,
    ]
    assert stages.tolist() == [-1, 0, 1, 1, 2, -1, 0, -1]


def test_a_consent_is_not_taken_for_an_attribute_of_the_same_name() -> None:
    """What ``consent_changed`` says under ``state`` is not the customer's attribute ``state``."""
    declared = TAXONOMY.model_dump() | {
        "attributes": {"state": {"dtype": "category", "values": ["granted", "Bavaria"], "feature": True}}
    }
    taxonomy = Taxonomy.model_validate(declared)
    told = event("e1", kind="profile_updated", facts={"state": "Bavaria"})
    consent = event("e2", kind="consent_changed", at=START_AT + 1, facts={"consent": "sms", "state": "granted"})

    table = whole_table(arrow_events([told, consent]), taxonomy)
    features = reads_at(table, feature_set(taxonomy, journey()), ["c1"], np.array([START_AT + 2]))

    assert features[0, -1] == 1.0


def test_a_parquet_file_and_its_table_say_the_same(tmp_path: Path) -> None:
    """The events Parquet is read like the same columns in memory."""
    source = arrow_events(random_history(3))
    pq.write_table(source, tmp_path / "events.parquet")

    from_file = whole_table(tmp_path / "events.parquet", TAXONOMY)

    assert from_file.event_ids.to_pylist() == whole_table(source, TAXONOMY).event_ids.to_pylist()
    assert from_file.event_ids.to_pylist()[:1] != []


def test_no_events_make_an_empty_table() -> None:
    """An empty log has no states, and every customer is one of whom nothing is known."""
    table = _table([])

    features = reads_at(table, FEATURES, ["c1"], np.array([START_AT]))

    np.testing.assert_array_equal(features[0], FEATURES.vector(kernel.new_state(FEATURES.plan), {}, START_AT))
    assert final_states(table, FEATURES).vectors.shape[0] == 0
    assert states_per_arrival(table, FEATURES).vectors.shape[0] == 0


def test_an_unknown_kind_is_refused_by_name() -> None:
    """Events of another configuration are refused, naming the kind and the kinds there are."""
    with pytest.raises(Refused, match=r"the kind 'signed', expected one of the taxonomy: visited, applied"):
        _table([event("e1", kind="signed")])


def test_moments_must_match_customers() -> None:
    """A moment too few is refused."""
    with pytest.raises(ValueError, match="2 customers and 1 moments"):
        reads_at(_table([]), FEATURES, ["c1", "c2"], np.array([START_AT]))


@pytest.mark.parametrize("late", [0.02, 0.5])
def test_a_long_history_is_folded_anew_from_the_right_row(late: float) -> None:
    """Late rows, and rows that cease to count, among thousands of one customer: every read is of those that count."""
    rng = np.random.default_rng(7)
    table = _table(random_history(3, n_customers=1, n_events=2_000, late=late, minutes=60_000))
    until = np.where(rng.random(2_000) < 0.05, table.events.arrived + rng.integers(0, 10**10, 2_000), np.inf)
    events = table.events._replace(until=until)
    moments = np.sort(rng.choice(table.events.at, 60) + rng.integers(-1, 2, 60))
    spans = np.array([0, 60])

    out = np.empty((60, FEATURES.n_state_features))
    kernel.reads_at(FEATURES.plan, events, table.starts, spans, moments, out)

    for moment, row in zip(moments, out, strict=True):
        counting = (events.at < moment) & (events.arrived < moment) & (moment <= events.until)
        chosen = kernel.Events(*(column[counting] for column in events))
        state = np.empty((1, kernel.new_state(FEATURES.plan).size))
        kernel.final_states(FEATURES.plan, chosen, np.array([0, int(counting.sum())]), state)
        expected = np.empty(FEATURES.n_state_features)
        kernel.read(state[0], FEATURES.plan, moment, expected)
        np.testing.assert_array_equal(row, expected)


def test_every_arrival_of_a_long_history_has_its_state() -> None:
    """The state after each arrival is the fold of what had arrived by then, however late it was."""
    events = random_history(5, n_customers=1, n_events=1_200, late=0.3, minutes=60_000)
    table = _table(events)

    states = states_per_arrival(table, FEATURES)

    for i in range(0, len(states.known_at), 97):
        known = [one for one in events if max(one.occurred_at, one.arrived_at) <= states.known_at[i]]
        np.testing.assert_array_equal(states.vectors[i], _folded(known))
