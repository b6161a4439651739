"""However events arrive, features end equal to a fold of the sorted log: any order, batches, duplicates, outages."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import FactValue, JourneyEvent
from features.kernel import new_state
from features.profile import fold_profile
from features.store import ProfileRow
from tests.histories import FEATURE_SETS, MINUTE_US, START_AT, TAXONOMY, event
from tests.unit.features.test_ingest import NOW, World, document

_FACTS: dict[str, st.SearchStrategy[dict[str, FactValue]]] = {
    "paid": st.fixed_dictionaries({"amount": st.floats(-1e6, 1e6)}),
    "surveyed": st.fixed_dictionaries({}, optional={"nps": st.floats(0, 10), "sentiment": st.floats(-1, 1)}),
    "profile_updated": st.fixed_dictionaries(
        {},
        optional={
            "age": st.floats(18, 90),
            "tier": st.sampled_from(["basic", "gold"]),
            "holding:card": st.booleans(),
            "holding:loan": st.booleans(),
        },
    ),
    "consent_changed": st.fixed_dictionaries(
        {
            "consent": st.sampled_from(["marketing", "sms"]),
            "state": st.sampled_from(["granted", "withdrawn", "objected"]),
        }
    ),
}
_KINDS = ("visited", "applied", "uploaded", "checked", "paid", "called", "surveyed", "declined", *_FACTS)


@st.composite
def _event(draw: st.DrawFn) -> JourneyEvent:
    kind = draw(st.sampled_from(_KINDS))
    return event(
        draw(st.sampled_from("abcdefghijklmnop")),
        customer_id=draw(st.sampled_from(["c1", "c2"])),
        kind=kind,
        at=START_AT + MINUTE_US * draw(st.integers(-6_000, 4)) // draw(st.sampled_from([1, 7])),
        sequence=draw(st.integers(0, 2)),
        channel=None if kind == "called" else draw(st.sampled_from([None, "web", "phone"])),
        facts=draw(_FACTS.get(kind, st.just({}))),
        source=draw(st.sampled_from(["crm", "web"])),
    )


_ARRIVALS = st.lists(st.tuples(_event(), st.booleans()), min_size=1, max_size=30)
"""Events in order of arrival, some the same by identity; and whether the feature store is down as each arrives."""


def _sent(world: World, one: JourneyEvent) -> None:
    world.ingestor.ingest([document(one)], source=one.source, arrived_at=NOW)


def _is_folded(world: World, customer_id: str) -> None:
    events = [logged.event for logged in world.log.of_customer(customer_id)]
    assert events == sorted(events, key=lambda each: each.order)
    for journey_id, feature_set in FEATURE_SETS.items():
        expected = new_state(feature_set.plan)
        for each in events:
            feature_set.fold(expected, each)
        assert world.state(customer_id, journey_id).vector.tobytes() == expected.tobytes()
        assert world.state(customer_id, journey_id).order == events[-1].order
        assert world.state(customer_id, journey_id).log_position == world.log.last_position(customer_id)
    assert world.profile(customer_id) == fold_profile(ProfileRow(customer_id), events, TAXONOMY)
    consents = {consent: state for (whose, consent), (_, state) in world.consents.known.items() if whose == customer_id}
    assert consents == world.profile(customer_id).consents


@given(arrivals=_ARRIVALS)
@settings(deadline=None)
def test_any_arrival_ends_in_the_fold_of_the_sorted_log(arrivals: list[tuple[JourneyEvent, bool]]) -> None:
    """One by one, with late ones, ties and duplicates, states are equal to the byte, profiles and consents in value."""
    world = World()
    for one, _ in arrivals:
        _sent(world, one)
    for customer_id in {one.customer_id for one, _ in arrivals if world.log.last_position(one.customer_id)}:
        _is_folded(world, customer_id)


@given(arrivals=_ARRIVALS)
@settings(deadline=None)
def test_outages_of_the_feature_store_heal(arrivals: list[tuple[JourneyEvent, bool]]) -> None:
    """Whenever the feature store was down, once it is up and refreshed it is equal to the fold of the sorted log."""
    world = World()
    for one, is_down in arrivals:
        world.store.is_down = is_down
        _sent(world, one)
    world.store.is_down = False
    customers = {one.customer_id for one, _ in arrivals if world.log.last_position(one.customer_id)}
    world.ingestor.refresh(customers)
    for customer_id in customers:
        _is_folded(world, customer_id)


@given(arrivals=_ARRIVALS, cut=st.integers(0, 30))
@settings(deadline=None)
def test_two_sittings_equal_one(arrivals: list[tuple[JourneyEvent, bool]], cut: int) -> None:
    """A batch sent whole, or in two parts, ends the same."""
    events = list({(one.source, one.event_id): one for one, _ in arrivals}.values())
    whole, parts = World(), World()
    for world, batches in ((whole, [events]), (parts, [events[:cut], events[cut:]])):
        for batch in batches:
            for source in ("crm", "web"):
                documents = [document(one) for one in batch if one.source == source]
                world.ingestor.ingest(documents, source=source, arrived_at=NOW)
    for customer_id in {one.customer_id for one in events}:
        for journey_id in FEATURE_SETS:
            one, other = whole.state(customer_id, journey_id), parts.state(customer_id, journey_id)
            assert (one.vector.tobytes(), one.order) == (other.vector.tobytes(), other.order)
        assert whole.profile(customer_id) == parts.profile(customer_id)


@given(arrivals=_ARRIVALS, minutes=st.integers(-6_001, 5))
@settings(deadline=None)
def test_a_rebuild_is_the_fold_of_what_was_before(arrivals: list[tuple[JourneyEvent, bool]], minutes: int) -> None:
    """As of any moment, state and profile come from exactly the events that occurred strictly before it."""
    world = World()
    before = START_AT + MINUTE_US * minutes
    for one, _ in arrivals:
        _sent(world, one)
    events = [logged.event for logged in world.log.of_customer("c1") if logged.event.occurred_at < before]

    state, profile = world.ingestor.rebuild("c1", "application", before=before)

    assert (state is None) == (not events)
    assert profile == fold_profile(ProfileRow("c1"), events, TAXONOMY)
    if state is not None:
        expected = new_state(FEATURE_SETS["application"].plan)
        for each in events:
            FEATURE_SETS["application"].fold(expected, each)
        assert state.vector.tobytes() == expected.tobytes()
