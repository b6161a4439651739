"""The event log: what every adapter of ``features.event_log.EventLog`` promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from features.event_log import COLUMNS, Appended, EventLog, MemoryEventLog
from features.event_store import SqlEventLog
from features.events import JourneyEvent, dump_facts
from features.identity import Span, unlinked
from features.sql_store import Place
from tests.histories import MINUTE_US, START_AT, event, random_history


@pytest.fixture
def log(place: Place | None) -> Iterator[EventLog]:
    """An empty log of every adapter."""
    log: EventLog
    if place is None:
        log = MemoryEventLog(identifiers=["email_hash"])
    else:
        log = SqlEventLog(place, identifiers=["email_hash"])
    yield log
    log.close()


def _events(log: EventLog, customer_id: str = "c1", *, after: int = 0) -> list[JourneyEvent]:
    return [logged.event for logged in log.of_customer(customer_id, after=after)]


def test_an_empty_log_answers(log: EventLog) -> None:
    """Nothing is known of anyone, and nothing fails."""
    assert log.append([]) == []
    assert log.head() == 0
    assert log.of_customer("c1") == []
    assert log.last_position("c1") == 0
    assert log.arrived_at(1) == 0
    assert list(log.read()) == []


def test_an_arrival_is_found_by_its_position(log: EventLog) -> None:
    """The moment that it was stamped with."""
    log.append([event("a", arrived_at=START_AT + 5), event("b", arrived_at=START_AT + 7)])

    assert [log.arrived_at(position) for position in (0, 1, 2, 3)] == [0, START_AT + 5, START_AT + 7, 0]


def test_a_stamp_moves_arrivals_behind_all_that_is_there(log: EventLog) -> None:
    """It is told when the newest event arrived; what arrives later stays, what was known is not touched."""
    asked: list[int] = []

    def stamp(newest: int) -> int:
        asked.append(newest)
        return newest + 1

    log.append([event("a", arrived_at=START_AT)], stamp=stamp)
    link = event("link", customer_id="c2", kind="identity_linked", facts={"alias": "c1"}, arrived_at=START_AT - 9)
    log.append([event("a", arrived_at=7), event("b", arrived_at=START_AT + 50), link], stamp=stamp)

    assert asked == [0, START_AT]
    assert [log.arrived_at(position) for position in (1, 2, 3)] == [START_AT, START_AT + 50, START_AT + 1]
    assert [claim.arrived_at for claim in log.identities(["c1"]).claims] == [START_AT + 1]
    assert log.newest_arrival() == START_AT + 1


def test_texts_are_forgotten_and_nothing_else(log: EventLog) -> None:
    """Those that arrived before the moment, once; events, their order and later texts stay."""
    texts = [(0, "old"), (1, None), (2, "new")]
    events = [replace(event(f"e{i}", arrived_at=START_AT + i, facts={"n": 1.0}), text=text) for i, text in texts]
    log.append(events)

    assert log.forget_texts(arrived_before=START_AT) == 0
    assert log.forget_texts(arrived_before=START_AT + 2) == 1
    assert log.forget_texts(arrived_before=START_AT + 2) == 0

    assert _events(log) == [replace(events[0], text=None), *events[1:]]
    assert [each.event for page in log.read() for each in page] == _events(log)


def test_positions_grow_in_order_of_arrival(log: EventLog) -> None:
    """Each new event gets the next position, whenever it occurred."""
    late = event("b", at=START_AT - 5)
    assert log.append([event("a"), late]) == [Appended(1, duplicate=False), Appended(2, duplicate=False)]
    assert log.append([event("c", customer_id="c2")]) == [Appended(3, duplicate=False)]
    assert (log.head(), log.last_position("c1"), log.last_position("c2")) == (3, 2, 3)


def test_a_known_event_is_counted_not_kept(log: EventLog) -> None:
    """Duplicates across batches and inside one answer the position of the first, and change nothing."""
    log.append([event("a")])
    changed = event("a", at=START_AT + 1, customer_id="c2")

    answer = log.append([changed, event("b"), event("b")])

    assert answer == [Appended(1, duplicate=True), Appended(2, duplicate=False), Appended(2, duplicate=True)]
    assert _events(log) == [event("a"), event("b")]
    assert _events(log, "c2") == []


def test_identity_is_source_and_id(log: EventLog) -> None:
    """The same id from two sources is two events."""
    log.append([event("a", source="crm"), event("a", source="web")])
    assert [one.source for one in _events(log)] == ["crm", "web"]


def test_a_customer_comes_in_order(log: EventLog) -> None:
    """Time, then sequence, then source, then id; text orders by code point."""
    ordered = [
        event("z", at=START_AT - 1),
        event("y", sequence=-(2**53)),
        event("x", sequence=0, source="A"),
        event("B", sequence=0, source="a"),
        event("a", sequence=0, source="a"),
        event("é", sequence=0, source="a"),
        event("\U0001f600", sequence=0, source="a"),
        event("w", sequence=2**53, source="a"),
    ]
    log.append(ordered[::-1])
    assert _events(log) == ordered


def test_a_customer_past_a_position(log: EventLog) -> None:
    """``after`` gives what a reader that had folded up to there has missed, in order."""
    log.append([event("a", at=START_AT + 9), event("b", at=START_AT + 5), event("c", customer_id="c2")])
    log.append([event("d", at=START_AT + 1), event("e", at=START_AT + 7)])

    assert [one.event_id for one in _events(log, after=1)] == ["d", "b", "e"]
    assert _events(log, after=5) == []


def test_what_comes_out_is_what_went_in(log: EventLog) -> None:
    """Every field survives, among them late arrival, no channel, every type of fact, and raw text."""
    rich = JourneyEvent(
        source="crm",
        event_id="e-1",
        customer_id="Zoë",
        kind="surveyed",
        channel=None,
        occurred_at=START_AT + 1,
        arrived_at=START_AT + 2,
        sequence=-3,
        day=19_675,
        facts={"nps": 9.0, "note": "naïve \u2028 \U0001f600", "ok": False, "tiny": 5e-324, "big": -1.5e300},
        text="line one\nline two",
    )
    log.append([rich])
    (logged,) = log.of_customer("Zoë")
    assert logged.event == rich
    assert {n: type(v) for n, v in logged.event.facts.items()} == {n: type(v) for n, v in rich.facts.items()}


def test_pages_cover_the_log_once(log: EventLog) -> None:
    """Pages hold ``after < position <= until`` in order, each at most as long as asked."""
    events = random_history(1, n_events=25)
    log.append(events)

    pages = list(log.read(after=3, until=20, page=7))

    assert [len(page) for page in pages] == [7, 7, 3]
    assert [logged.position for page in pages for logged in page] == list(range(4, 21))
    assert [logged.event for page in pages for logged in page] == events[3:20]


def test_pages_by_column_are_the_pages(log: EventLog) -> None:
    """Column by column what ``read`` gives, facts as their canonical bytes, and never what a customer wrote."""
    events = [*random_history(2, n_events=24), replace(event("last", facts={"b": 1.0, "a": "é"}), text="private")]
    log.append(events)

    pages = list(log.read_columns(after=3, until=25, page=9))

    assert [len(page[0]) for page in pages] == [9, 9, 4]
    rows = [row for page in pages for row in zip(*page, strict=True)]
    assert rows == [
        (position, *(getattr(one, name) for name in COLUMNS[1:-1]), dump_facts(one.facts))
        for position, one in enumerate(events[3:], start=4)
    ]
    assert rows[-1][-1] == '{"a":"é","b":1.0}'.encode()
    assert "private" not in rows[-1]
    assert list(log.read_columns(after=25)) == []


def test_reading_ends_at_the_head_where_it_began(log: EventLog) -> None:
    """A reader that is slower than the arrivals still comes to an end."""
    log.append([event("a"), event("b")])
    seen: list[str] = []
    for page in log.read(page=1):
        seen.extend(logged.event.event_id for logged in page)
        log.append([event(f"later-{len(seen)}")])
    assert seen == ["a", "b"]


# ---- who is who


def _linked(event_id: str, alias: str, customer_id: str, *, at: int = START_AT) -> JourneyEvent:
    return event(event_id, customer_id=customer_id, kind="identity_linked", at=at, facts={"alias": alias})


def _unlinked(event_id: str, alias: str, customer_id: str, *, at: int = START_AT) -> JourneyEvent:
    return event(event_id, customer_id=customer_id, kind="identity_unlinked", at=at, facts={"alias": alias})


def test_nobody_is_linked_in_a_log_without_links(log: EventLog) -> None:
    """An id is its own person, and its last position its own last event's."""
    log.append([event("a"), event("b", customer_id="c2"), event("c")])

    assert log.person("c1", at=START_AT) == unlinked("c1", last_position=3)
    assert log.person("nobody", at=START_AT) == unlinked("nobody")
    assert log.identities(["c1", "c2"]).claims == frozenset()
    assert log.of_person(unlinked("c1"), after=1) == log.of_customer("c1", after=1)


def test_a_link_brings_two_histories_together(log: EventLog) -> None:
    """Events of the alias are the person's, in one order; what only says who is who is left out."""
    log.append([event("b", at=START_AT + 2), event("a", customer_id="cookie", at=START_AT + 1)])
    log.append([_linked("l", "cookie", "c1", at=START_AT + 3), event("c", customer_id="cookie", at=START_AT + 4)])

    person = log.person("cookie", at=START_AT)

    assert (person.customer_id, person.linked_ids) == ("c1", ("cookie",))
    assert (person.linked_at, person.last_position) == (3, 4)
    assert person == log.person("c1", at=START_AT + 9)
    assert [logged.event.event_id for logged in log.of_person(person)] == ["a", "b", "c"]
    assert [logged.event.event_id for logged in log.of_person(person, after=1)] == ["a", "c"]


def test_many_people_come_as_each_alone(log: EventLog) -> None:
    """Each past a position of their own, in order, linked or not, unknown, and asked for twice."""
    log.append(random_history(6, n_customers=600, n_events=1_500))
    log.append([event("t", customer_id="tablet"), _linked("l", "tablet", "c7é")])
    ids = [f"c{i}é" for i in range(600)]
    people = [log.identities([one]).person(one) for one in [*ids, "nobody", "tablet", "c3é"]]
    asked = [(person, place * 17 % 1_000) for place, person in enumerate(people)]

    found = log.of_people(asked)

    assert found == [log.of_person(person, after=after) for person, after in asked]
    assert sum(map(len, found)) > 500
    assert [logged.event.customer_id for logged in found[7]][-1:] == ["tablet"] or "tablet" in people[7].linked_ids
    assert log.of_people([]) == []


def test_the_graph_of_many_is_that_of_each(log: EventLog) -> None:
    """Every claim that bears on any of them, over more ids than a statement takes."""
    links = [_linked(f"l{i}", f"a{i}", f"c{i}") for i in range(0, 600, 100)]
    log.append([*links, _linked("far", "c0", "c-far")])
    ids = [f"c{i}" for i in range(600)]

    graph = log.identities([*ids, "nobody"])

    assert {claim.alias for claim in graph.claims} == {*(f"a{i}" for i in range(0, 600, 100)), "c0"}
    assert [graph.person(one) for one in ids] == [log.identities([one]).person(one) for one in ids]


def test_a_withdrawn_link_moves_both_sides(log: EventLog) -> None:
    """The alias has its own events back, and both are behind a state that was folded before."""
    log.append([event("a"), event("b", customer_id="cookie"), _linked("l", "cookie", "c1")])
    log.append([_unlinked("u", "cookie", "c1", at=START_AT + 1)])

    people = [log.person(one, at=START_AT) for one in ("c1", "cookie")]

    assert [person.customer_id for person in people] == ["c1", "cookie"]
    assert [person.last_position for person in people] == [4, 4]
    assert [[logged.event.event_id for logged in log.of_person(person)] for person in people] == [["a"], ["b"]]


def test_who_somebody_was_as_known_before_a_moment(log: EventLog) -> None:
    """A link that arrived later was not known."""
    log.append([event("a", customer_id="cookie"), _linked("l", "cookie", "c1", at=START_AT + 5)])

    assert log.person("cookie", at=START_AT, known_before=START_AT + 5).customer_id == "cookie"
    assert log.person("cookie", at=START_AT, known_before=START_AT + 6).customer_id == "c1"


def test_on_a_shared_device_each_has_their_own_time(log: EventLog) -> None:
    """Events belong to whoever was logged in when they occurred."""
    minutes = [START_AT + i * MINUTE_US for i in range(4)]
    log.append([event(f"e{i}", customer_id="tablet", at=at) for i, at in enumerate(minutes)])
    log.append([_linked("l1", "tablet", "c1"), _linked("l2", "tablet", "c2", at=minutes[2])])

    first, second = (log.person("tablet", at=at) for at in (minutes[1], minutes[2]))

    assert [logged.event.event_id for logged in log.of_person(first)] == ["e0", "e1"]
    assert [logged.event.event_id for logged in log.of_person(second)] == ["e2", "e3"]
    assert Span("tablet", first.spans[1].valid_from, minutes[2]) == first.spans[1]


def test_somebody_of_whom_nothing_but_links_is_known_has_no_position(log: EventLog) -> None:
    """Claims alone fold into no state, so there is none to be behind."""
    log.append([_linked("l", "cookie", "c1")])

    assert log.person("cookie", at=START_AT).last_position == 0
    assert log.of_person(log.person("c1", at=START_AT)) == []


def test_a_link_that_is_known_is_kept_once(log: EventLog) -> None:
    """A repeated claim is a duplicate like any other event."""
    log.append([_linked("l", "cookie", "c1")])
    (again,) = log.append([_linked("l", "cookie", "c2")])

    assert again.duplicate
    assert log.person("cookie", at=START_AT).customer_id == "c1"


def test_identifiers_find_whoever_told_them(log: EventLog) -> None:
    """Every id that ever told the value, as sent; other attributes and other kinds of value find nobody."""
    told = {"email_hash": "h1", "state": "Bavaria"}
    log.append([event("a", kind="profile_updated", facts=told), event("b", kind="profile_updated", facts=told)])
    log.append([event("c", customer_id="c0", kind="profile_updated", facts={"email_hash": "h1"})])
    log.append([event("d", customer_id="c3", kind="profile_updated", facts={"email_hash": "h2"})])

    assert log.of_identifier("email_hash", "h1") == ["c0", "c1"]
    assert log.of_identifier("email_hash", "h3") == []
    assert log.of_identifier("state", "Bavaria") == []
