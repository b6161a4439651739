"""The port of the event log: append-only, idempotent, the one truth from which every state can be rebuilt."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.events import JourneyEvent


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one event.

    Attributes:
        position: its position in the log; positions of a customer's events grow in order of arrival.
        duplicate: it was there already, and nothing changed.
    """

    position: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and its position in the log."""

    position: int
    event: JourneyEvent


class EventLog(Protocol):
    """Append-only log of events. Everything it answered is durable."""

    def append(self, events: Sequence[JourneyEvent]) -> list[Appended]:
        """Append what is not there yet, in one commit; one answer per event, in order.

        Raises:
            StoreUnavailable: nothing of the batch was kept.
        """

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past position ``after``, in the order of ``JourneyEvent.order``."""

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position: those with ``after < position <= until``."""

    def close(self) -> None:
        """Finish what is under way and release the store."""


class MemoryEventLog:
    """An event log in memory, for tests and trials."""

    def __init__(self) -> None:
        self._log: list[LoggedEvent] = []
        self._known: dict[tuple[str, str], int] = {}
        self._by_customer: dict[str, list[LoggedEvent]] = {}

    def append(self, events: Sequence[JourneyEvent]) -> list[Appended]:
        """Append what is not there yet."""
        return [self._append_one(event) for event in events]

    def _append_one(self, event: JourneyEvent) -> Appended:
        known = self._known.get((event.source, event.event_id))
        if known is not None:
            return Appended(known, duplicate=True)
        logged = LoggedEvent(len(self._log) + 1, event)
        self._log.append(logged)
        self._known[event.source, event.event_id] = logged.position
        bisect.insort(self._by_customer.setdefault(event.customer_id, []), logged, key=lambda item: item.event.order)
        return Appended(logged.position, duplicate=False)

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past a position, in their order."""
        return [logged for logged in self._by_customer.get(customer_id, ()) if logged.position > after]

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""
        return max((logged.position for logged in self._by_customer.get(customer_id, ())), default=0)

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""
        return len(self._log)

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position."""
        chosen = self._log[after : len(self._log) if until is None else until]
        for start in range(0, len(chosen), page):
            yield chosen[start : start + page]

    def close(self) -> None:
        """Nothing to release."""
