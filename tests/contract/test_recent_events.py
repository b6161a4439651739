"""The newest events of a log, read back from its end: the same over every adapter, and no further than asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from features.event_log import EventLog, MemoryEventLog
from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.refused_events import MemoryRefusedEvents
from features.sql_store import Place
from serving.auth import Principal
from serving.recent_events import RecentEvents, RecentEventsDesk
from tests.histories import START_AT, event

ADMIN = Principal("k", "any", frozenset({"admin"}))
N_EVENTS = 2_500


@pytest.fixture
def log(place: Place | None) -> Iterator[EventLog]:
    """A log of every adapter with more events than are read at once, of two sources."""
    log: EventLog = MemoryEventLog() if place is None else SqlEventLog(place)
    log.append(
        [
            event(f"e-{number}", source="mail" if number % 10 == 0 else "shop", arrived_at=START_AT + number)
            for number in range(N_EVENTS)
        ]
    )
    yield log
    log.close()


def _found(log: EventLog, **words: str) -> RecentEvents:
    desk = RecentEventsDesk(log=log, refused=MemoryRefusedEvents(), count_lost=lambda _: None)
    return desk.found({name: [value] for name, value in words.items()}, ADMIN, now=START_AT)


def test_the_newest_stand_first(log: EventLog) -> None:
    """Over the bounds of what is read at once."""
    arrivals = [one.received_at for one in _found(log, source="mail", limit="200").events]

    assert arrivals == [dump_timestamp(START_AT + number) for number in range(2_490, 490, -10)]


def test_nothing_older_than_asked(log: EventLog) -> None:
    """And the answer says from when on it looked."""
    since = dump_timestamp(START_AT + N_EVENTS - 3)
    found = _found(log, since=since, limit="200")

    assert [one.received_at for one in found.events] == [
        dump_timestamp(START_AT + number) for number in (2_499, 2_498, 2_497)
    ]
    assert found.looked_back_to == since


def test_a_whole_log_that_was_looked_at(log: EventLog) -> None:
    """Says so by null."""
    found = _found(log, source="nobody")

    assert (found.events, found.looked_back_to) == ((), None)
