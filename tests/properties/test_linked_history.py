"""Histories with links: the batch reads what was known then, and ends in the very states that ingest wrote."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.backfill import state_rows
from features.event_tables import event_tables, identities_of, whole_table
from features.events import JourneyEvent
from features.history import final_states, profiles, profiles_at, reads_at, states_per_arrival
from features.identity import claim_of
from features.kernel import Floats, new_state
from features.profile import fold_profile
from features.store import ProfileRow
from tests.histories import FEATURE_SETS, FEATURES, MINUTE_US, TAXONOMY, arrow_events, event, random_history
from tests.properties.test_identity import HISTORIES, IDS, TIMES, moment, slow_owner
from tests.unit.features.test_ingest import NOW, World, document

SEEDS = st.integers(0, 2**32 - 1)
_EXACT = settings(max_examples=25, deadline=None)


def histories(seed: int) -> list[JourneyEvent]:
    """Events of the four ids at the times of the claims and between them, some late."""
    rng = np.random.default_rng(seed)
    events = []
    for one in random_history(seed, n_customers=4, n_events=24, minutes=120):
        at = moment(float(rng.choice([*TIMES, 0.5, 4.5])))
        delay = int(rng.integers(0, 8)) * MINUTE_US if rng.random() < 0.3 else 0
        changes = {"customer_id": str(rng.choice(IDS)), "kind": one.kind, "facts": dict(one.facts)}
        events.append(
            event(
                f"h-{one.event_id}", at=at, arrived_at=at + delay, sequence=one.sequence, channel=one.channel, **changes
            )
        )
    return events


def _believed(events: list[JourneyEvent], customer_id: str, m: int) -> list[JourneyEvent]:
    """The events that were believed to be a customer's at a moment, in order; read out slowly."""
    claims = [claim for i, one in enumerate(events) if (claim := claim_of(one, i)) is not None]
    then = [claim for claim in claims if claim.arrived_at < m]
    return sorted(
        (
            one
            for one in events
            if claim_of(one, 0) is None
            and one.occurred_at < m
            and one.arrived_at < m
            and slow_owner(then, one.customer_id, one.occurred_at) == customer_id
        ),
        key=lambda one: one.order,
    )


def _folded(events: list[JourneyEvent]) -> Floats:
    state = new_state(FEATURES.plan)
    for one in events:
        FEATURES.fold(state, one)
    return state


def _profile(customer_id: str, events: list[JourneyEvent]) -> ProfileRow:
    return fold_profile(ProfileRow(customer_id), events, TAXONOMY)


@given(seed=SEEDS, claims=HISTORIES)
@_EXACT
def test_reads_see_the_links_that_were_known_then(seed: int, claims: list[JourneyEvent]) -> None:
    """At every moment a customer's features come from the events that were believed to be theirs, and no others."""
    events = [*histories(seed), *claims]
    customers = [one for one in IDS for _ in range(-1, 21)]
    moments = np.array([moment(minutes) + 1 for _ in IDS for minutes in range(-1, 21)])

    features = reads_at(whole_table(arrow_events(events), TAXONOMY), FEATURES, customers, moments)

    for row, customer_id, m in zip(features, customers, moments.tolist(), strict=True):
        known = _believed(events, customer_id, m)
        expected = FEATURES.vector(_folded(known), _profile(customer_id, known).attributes, m)
        np.testing.assert_array_equal(row, expected)


@given(seed=SEEDS, claims=HISTORIES)
@_EXACT
def test_the_history_holds_what_was_known_at_each_moment(seed: int, claims: list[JourneyEvent]) -> None:
    """The last state and profile before a moment are the fold of what was believed then, also where events left."""
    events = [*histories(seed), *claims]
    table = whole_table(arrow_events(events), TAXONOMY)

    states, known_profiles = states_per_arrival(table, FEATURES), list(profiles(table, TAXONOMY))

    names = states.customers.to_pylist()
    for customer_id in IDS:
        rows = [i for i, name in enumerate(names) if name == customer_id]
        assert (np.diff(states.known_at[rows]) > 0).all()
        assert (np.diff(states.newest_at[rows]) >= 0).all()
        for minutes in range(-1, 21):
            m = moment(minutes) + 1
            known = _believed(events, customer_id, m)
            before = [i for i in rows if states.known_at[i] < m]
            assert (states.vectors[before[-1]].tobytes() if before else _folded([]).tobytes()) == _folded(
                known
            ).tobytes()
            if before:
                assert states.last_event_at[before[-1]] == (known[-1].occurred_at if known else 0)
            told = [profile for profile, at in known_profiles if profile.customer_id == customer_id and at < m]
            assert (told[-1] if told else ProfileRow(customer_id)) == _profile(customer_id, known)
            assert profiles_at(table, TAXONOMY, m).get(customer_id) == (_profile(customer_id, known) if known else None)


@given(seed=SEEDS, claims=HISTORIES, order=st.randoms(use_true_random=False), outage=st.sets(st.integers(0, 40)))
@settings(max_examples=40, deadline=None)
def test_any_arrival_of_links_and_events_ends_in_the_backfill(
    seed: int, claims: list[JourneyEvent], order: object, outage: set[int]
) -> None:
    """In any order, repeated, and with the feature store down now and then: byte for byte, and nobody who is gone."""
    world, arrivals = World(), [*histories(seed), *claims]
    arrivals = [*arrivals, *arrivals[::3]]
    order.shuffle(arrivals)  # type: ignore[attr-defined]

    for i, one in enumerate(arrivals):
        world.store.is_down = i in outage
        world.ingestor.ingest([document(one)], source=one.source, arrived_at=NOW + 10 * MINUTE_US + i)
    world.store.is_down = False
    world.ingestor.refresh(IDS)

    logged = [each.event for page in world.log.read() for each in page]
    table = whole_table(arrow_events(logged), TAXONOMY)
    for journey_id, feature_set in FEATURE_SETS.items():
        finals = {row.customer_id: row for row in state_rows(final_states(table, feature_set), feature_set)}
        for customer_id in IDS:
            stored = world.store.read(customer_id, journey_id).state
            if stored is None:
                assert customer_id not in finals
                continue
            final = finals[customer_id]
            assert stored.vector.tobytes() == final.vector.tobytes()
            assert (stored.order, stored.log_position) == (final.order, final.log_position)
            assert stored.log_position == world.log.person(customer_id, at=moment(5)).last_position or (
                world.log.person(customer_id, at=moment(5)).customer_id != customer_id
            )
    last = {profile.customer_id: profile for profile, _ in profiles(table, TAXONOMY)}
    for customer_id in table.lasting.customers.to_pylist():
        assert world.store.read(customer_id, "application").profile == last[customer_id]


@given(seed=SEEDS, claims=HISTORIES, events_per_table=st.integers(1, 40))
@_EXACT
def test_small_tables_say_the_same(seed: int, claims: list[JourneyEvent], events_per_table: int) -> None:
    """However the rows are cut into tables, no person is split."""
    source = arrow_events([*histories(seed), *claims])

    tables = list(event_tables(source, TAXONOMY, events_per_table=events_per_table))

    whole = final_states(whole_table(source, TAXONOMY), FEATURES)
    names = [name for table in tables for name in final_states(table, FEATURES).customers.to_pylist()]
    assert names == whole.customers.to_pylist()
    vectors = np.concatenate([final_states(table, FEATURES).vectors for table in tables])
    np.testing.assert_array_equal(vectors, whole.vectors)


@given(claims=HISTORIES)
@_EXACT
def test_the_graph_of_an_export_is_the_logs(claims: list[JourneyEvent]) -> None:
    """Training and serving have one graph."""
    world = World()
    world.log.append(claims)

    assert identities_of(arrow_events(claims)).claims == world.log.identities(IDS).claims
