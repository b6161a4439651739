"""The event log: what every adapter of ``features.event_log.EventLog`` promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.event_log import Appended, EventLog, MemoryEventLog
from features.event_store import SqlEventLog
from features.events import JourneyEvent
from tests.histories import START_AT, event, random_history


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    """An empty log of every adapter."""
    log: EventLog = MemoryEventLog() if request.param == "memory" else SqlEventLog(tmp_path / "events.db")
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
    assert list(log.read()) == []


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


def test_reading_ends_at_the_head_where_it_began(log: EventLog) -> None:
    """A reader that is slower than the arrivals still comes to an end."""
    log.append([event("a"), event("b")])
    seen: list[str] = []
    for page in log.read(page=1):
        seen.extend(logged.event.event_id for logged in page)
        log.append([event(f"later-{len(seen)}")])
    assert seen == ["a", "b"]
