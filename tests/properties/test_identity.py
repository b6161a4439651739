"""The identity graph equals a slow reading of its rules, time by time, in any order and repetition of arrivals."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from features.event_log import MemoryEventLog
from features.events import JourneyEvent, dump_timestamp
from features.identity import EARLIEST, LATEST, Claim, Identities, circular, claim_of
from tests.histories import MINUTE_US, START_AT, event

IDS = ("a", "b", "c", "d")
TIMES = range(0, 12)
"""In minutes after the start; claims and events fall on them and between them."""


def moment(minutes: float) -> int:
    """So many minutes after the start."""
    return START_AT + int(minutes * MINUTE_US)


@st.composite
def claims_in_events(draw: st.DrawFn) -> JourneyEvent:
    """A link or an unlink of two different ids, with or without a moment of its own, late or not."""
    alias, customer_id = draw(st.permutations(IDS))[:2]
    kind = draw(st.sampled_from(["identity_linked", "identity_linked", "identity_unlinked"]))
    boundary = draw(st.none() | st.sampled_from(TIMES))
    name = "valid_from" if kind == "identity_linked" else "valid_until"
    at = moment(draw(st.sampled_from(TIMES)))
    facts: dict[str, str | float | bool] = {"alias": alias}
    if boundary is not None:
        facts[name] = dump_timestamp(moment(boundary))
    return event(
        draw(st.sampled_from("klmnopqrstuvwxyz")),
        customer_id=customer_id,
        kind=kind,
        at=at,
        arrived_at=at + MINUTE_US * draw(st.integers(0, 8)),
        sequence=draw(st.integers(0, 1)),
        facts=facts,
    )


HISTORIES = st.lists(claims_in_events(), max_size=12, unique_by=lambda one: one.event_id)


def slow_step(claims: list[Claim], alias: str, at: int) -> str:
    """Whom an alias belongs to at a time: the rules, read out one after the other."""
    ordered = sorted((one for one in claims if one.alias == alias), key=lambda one: one.order)
    owner, has_link = alias, False
    for i, claim in enumerate(ordered):
        if claim.is_link:
            later = [one for one in ordered[i + 1 :] if not one.is_link and one.boundary is None]
            if claim.customer_id in [one.customer_id for one in later]:
                continue  # it was withdrawn
            since = claim.boundary if claim.boundary is not None else claim.order[0] if has_link else EARLIEST
            has_link = True
            if at >= since:
                owner = claim.customer_id
        elif claim.boundary is not None and at >= claim.boundary and owner == claim.customer_id:
            owner = alias
    return owner


def slow_owner(claims: list[Claim], customer_id: str, at: int) -> str:
    """The end of the chain; the smallest id of a circle."""
    chain = [customer_id]
    for _ in range(2 * len(IDS)):
        chain.append(slow_step(claims, chain[-1], at))
    return min(chain[len(IDS) :])


def claims_of(events: list[JourneyEvent]) -> list[Claim]:
    """The claims of events at the positions that they have in the list."""
    return [claim for position, one in enumerate(events, start=1) if (claim := claim_of(one, position)) is not None]


@given(events=HISTORIES)
@settings(deadline=None)
def test_owners_are_those_of_the_rules(events: list[JourneyEvent]) -> None:
    """At every time of events, and between them, an id belongs to whom the rules say."""
    claims = claims_of(events)
    graph = Identities(frozenset(claims))
    for customer_id in IDS:
        for minutes in (*TIMES, -5, 0.5, 3.5, 50):
            at = moment(minutes)
            assert graph.owner(customer_id, at=at) == slow_owner(claims, customer_id, at)


@given(events=HISTORIES, order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_any_order_and_repetition_of_arrivals_makes_one_graph(events: list[JourneyEvent], order: object) -> None:
    """The log answers the same of everybody, however the same claims came in, and however often."""
    shuffled = [*events, *events]
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = MemoryEventLog(), MemoryEventLog()
    one.append(events)
    for each in shuffled:
        other.append([each])
    for customer_id in IDS:
        for minutes in TIMES:
            people = [log.person(customer_id, at=moment(minutes)) for log in (one, other)]
            assert people[0].customer_id == people[1].customer_id
            assert people[0].spans == people[1].spans


@given(events=HISTORIES)
@settings(deadline=None)
def test_every_event_is_exactly_one_persons(events: list[JourneyEvent]) -> None:
    """At each time, an id lies in the spans of its owner and of nobody else."""
    graph = Identities(frozenset(claims_of(events)))
    people = [graph.person(customer_id) for customer_id in IDS]
    for customer_id in IDS:
        for minutes in TIMES:
            at = moment(minutes)
            holders = [
                person.customer_id
                for person in people
                if any(span.customer_id == customer_id and span.holds(at) for span in person.spans)
            ]
            assert holders == [graph.owner(customer_id, at=at)]


@given(events=HISTORIES)
@settings(deadline=None)
def test_spells_are_what_was_believed_at_each_moment(events: list[JourneyEvent]) -> None:
    """Of each alias, at each time of events and each later moment, one spell holds and names the owner then."""
    claims = claims_of(events)
    spells = list(Identities(frozenset(claims)).spells())
    for alias in {claim.alias for claim in claims}:
        for minutes in TIMES:
            for known in range(-1, 21):
                at, m = moment(minutes), moment(known) + 1
                if m <= at:
                    continue  # what is still to come is nobody's yet
                then = [claim for claim in claims if claim.arrived_at < m]
                owners = [
                    spell.owner
                    for spell in spells
                    if spell.alias == alias
                    and spell.valid_from <= at < spell.valid_until
                    and spell.known_from < m <= spell.known_until
                ]
                assert owners == [slow_owner(then, alias, at)]
    assert all(EARLIEST <= spell.known_from < spell.known_until <= LATEST for spell in spells)


@given(events=HISTORIES, last=claims_in_events())
@settings(deadline=None)
def test_a_circle_is_noticed_before_it_is_made(events: list[JourneyEvent], last: JourneyEvent) -> None:
    """A link is said to make a circle exactly where somebody would come back to themselves by it at some time."""
    claims = claims_of(events)
    claim = claim_of(replace(last, event_id="last"), 100)
    assert claim is not None

    def comes_back(at: int) -> bool:
        here = slow_step([*claims, claim], claim.alias, at)
        for _ in IDS:
            if here == claim.alias:
                return slow_step([*claims, claim], claim.alias, at) != claim.alias
            here = slow_step([*claims, claim], here, at)
        return False

    found = any(comes_back(moment(minutes)) for minutes in (-1000, *TIMES))
    assert Identities(frozenset(claims)).makes_circle(claim) == found


@given(events=HISTORIES, n_known=st.integers(0, 4))
@settings(deadline=None)
def test_the_circles_of_a_batch_are_those_of_its_links_one_by_one(events: list[JourneyEvent], n_known: int) -> None:
    """A batch refuses the links that close a circle if each came alone, after those that were not refused.

    One that leads out of a circle, which an import can have made, closes none.
    """
    claims = claims_of(events)
    known, added = claims[:n_known], claims[n_known:]

    found = circular(known, added)

    expected: list[int] = []
    for place, claim in enumerate(added):
        graph = Identities(frozenset(known))
        if claim.is_link and claim.alias in graph.above(claim.customer_id) and graph.makes_circle(claim):
            expected.append(place)
        else:
            known.append(claim)
    assert found == expected
