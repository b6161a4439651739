"""The port of the event log: append-only, idempotent, the one truth from which every state can be rebuilt."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeAlias

from features.events import JourneyEvent, dump_facts
from features.identity import Claim, Identities, Person, claim_of, unlinked
from features.taxonomy import IDENTITY_KINDS

COLUMNS: Final = (
    *("position", "source", "event_id", "customer_id", "kind", "channel"),
    *("occurred_at", "arrived_at", "sequence", "day", "facts"),
)
"""What ``read_columns`` gives of an event, in order: everything but its raw text, which never leaves the log."""

Columns: TypeAlias = Sequence[Sequence[Any]]
"""Events by column: a sequence for each of ``COLUMNS``, all of one length; facts are the bytes of canonical JSON."""


Stamp: TypeAlias = Callable[[int], int]
"""Given when the newest event in a log arrived, when the next ones do."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one event.

    Attributes:
        position: its position in the log; of two batches that arrive at once either may be written first.
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

    def append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> list[Appended]:
        """Append what is not there yet, in one commit; one answer per event, in order.

        Args:
            events: the events.
            stamp: of a log that several processes append to: asked while none of the others does, it lets what says
                that it arrived earlier arrive then.

        Raises:
            StoreUnavailable: nothing of the batch was kept.
        """

    def newest_arrival(self) -> int:
        """When the newest event arrived, once all that another process is appending is there; 0 where there is none.

        Raises:
            StoreUnavailable: the log does not answer, or takes too long.
        """

    def forget_texts(self, *, arrived_before: int) -> int:
        """Forget the raw texts of events that arrived before a moment, for good; how many there were.

        Nothing else of the events changes.

        Raises:
            StoreUnavailable: the store does not answer; some may be forgotten.
        """

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past position ``after``, in the order of ``JourneyEvent.order``."""

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""

    def arrived_at(self, position: int) -> int:
        """When the event at a position arrived, microseconds since the epoch; 0 where there is none."""

    def identities(self, customer_ids: Iterable[str]) -> Identities:
        """The part of the identity graph that bears on some ids; empty where none was ever linked."""

    def person(self, customer_id: str, *, at: int, known_before: int | None = None) -> Person:
        """The person whom an event of ``customer_id`` at ``at`` belongs to, with what arrived last.

        Args:
            customer_id: any id of theirs.
            at: a time of events, microseconds since the epoch.
            known_before: by the graph as it was known strictly before this moment; None for as it is known now.
        """

    def of_person(self, person: Person, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a person past position ``after``, in order; those that only say who is who left out."""

    def of_people(self, asked: Sequence[tuple[Person, int]]) -> list[list[LoggedEvent]]:
        """``of_person`` past a position each, in order; of many people in far fewer statements than people."""

    def of_identifier(self, name: str, value: str) -> list[str]:
        """The customer ids, as sent, of events that ever told this value of an attribute that ``identifiers`` names."""

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position: those with ``after < position <= until``."""

    def read_columns(self, *, after: int = 0, until: int | None = None, page: int = 2_000) -> Iterator[Columns]:
        """``read`` by column, for whoever takes many events and looks into none: five times as fast."""

    def check_writes(self) -> None:
        """Write something that changes nothing.

        Raises:
            StoreUnavailable: the log does not take writes.
        """

    def close(self) -> None:
        """Finish what is under way and release the store."""


def journey_events(events: Iterable[LoggedEvent]) -> list[LoggedEvent]:
    """Events without those that only say who is who."""
    return [logged for logged in events if logged.event.kind not in IDENTITY_KINDS]


def columns_of(events: Sequence[LoggedEvent]) -> Columns:
    """Events by column, as ``EventLog.read_columns`` gives them."""
    return [
        [logged.position for logged in events],
        *([getattr(logged.event, name) for logged in events] for name in COLUMNS[1:-1]),
        [dump_facts(logged.event.facts) for logged in events],
    ]


class MemoryEventLog:
    """An event log in memory, for tests and trials.

    Args:
        identifiers: the attributes that customers can be looked up by.
    """

    def __init__(self, *, identifiers: Iterable[str] = ()) -> None:
        self._identifiers = frozenset(identifiers)
        self._log: list[LoggedEvent] = []
        self._known: dict[tuple[str, str], int] = {}
        self._by_customer: dict[str, list[LoggedEvent]] = {}
        self._claims: set[Claim] = set()

    def append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> list[Appended]:
        """Append what is not there yet."""
        at = 0 if stamp is None else stamp(self.newest_arrival())
        return [self._append_one(replace(event, arrived_at=max(at, event.arrived_at))) for event in events]

    def newest_arrival(self) -> int:
        """When the newest event arrived."""
        return self.arrived_at(self.head())

    def _append_one(self, event: JourneyEvent) -> Appended:
        known = self._known.get((event.source, event.event_id))
        if known is not None:
            return Appended(known, duplicate=True)
        logged = LoggedEvent(len(self._log) + 1, event)
        self._log.append(logged)
        self._known[event.source, event.event_id] = logged.position
        bisect.insort(self._by_customer.setdefault(event.customer_id, []), logged, key=lambda item: item.event.order)
        if (claim := claim_of(event, logged.position)) is not None:
            self._claims.add(claim)
        return Appended(logged.position, duplicate=False)

    def forget_texts(self, *, arrived_before: int) -> int:
        """Forget the raw texts of events that arrived before a moment; how many there were."""
        old = [one for one in self._log if one.event.text is not None and one.event.arrived_at < arrived_before]
        for logged in old:
            silent = replace(logged, event=replace(logged.event, text=None))
            self._log[logged.position - 1] = silent
            own = self._by_customer[logged.event.customer_id]
            own[own.index(logged)] = silent
        return len(old)

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past a position, in their order."""
        return [logged for logged in self._by_customer.get(customer_id, ()) if logged.position > after]

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""
        return max((logged.position for logged in self._by_customer.get(customer_id, ())), default=0)

    def arrived_at(self, position: int) -> int:
        """When the event at a position arrived; 0 where there is none."""
        return self._log[position - 1].event.arrived_at if 0 < position <= len(self._log) else 0

    def identities(self, customer_ids: Iterable[str]) -> Identities:
        """The identity graph."""
        return Identities(frozenset(self._claims))

    def person(self, customer_id: str, *, at: int, known_before: int | None = None) -> Person:
        """The person whom an event of an id at a time belongs to."""
        if not self._claims:
            return unlinked(customer_id, last_position=self.last_position(customer_id))
        graph = self.identities([customer_id])
        graph = graph if known_before is None else graph.known_before(known_before)
        person = graph.person(graph.owner(customer_id, at=at))
        last = max((logged.position for logged in self.of_person(person)), default=0)
        return replace(person, last_position=max(last, person.linked_at) if last else 0)

    def of_person(self, person: Person, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a person past a position, in order."""
        if person.is_unlinked:
            return self.of_customer(person.customer_id, after=after)
        found = (
            logged
            for span in person.spans
            for logged in self.of_customer(span.customer_id, after=after)
            if span.holds(logged.event.occurred_at)
        )
        return journey_events(sorted(found, key=lambda logged: logged.event.order))

    def of_people(self, asked: Sequence[tuple[Person, int]]) -> list[list[LoggedEvent]]:
        """The events of each person past a position of their own."""
        return [self.of_person(person, after=after) for person, after in asked]

    def of_identifier(self, name: str, value: str) -> list[str]:
        """The customer ids of events that told this value of an identifier."""
        if name not in self._identifiers:
            return []
        return sorted({logged.event.customer_id for logged in self._log if logged.event.facts.get(name) == value})

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""
        return len(self._log)

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position."""
        chosen = self._log[after : len(self._log) if until is None else until]
        for start in range(0, len(chosen), page):
            yield chosen[start : start + page]

    def read_columns(self, *, after: int = 0, until: int | None = None, page: int = 2_000) -> Iterator[Columns]:
        """Pages of the log by column, in order of position."""
        return map(columns_of, self.read(after=after, until=until, page=page))

    def check_writes(self) -> None:
        """It can always be written."""

    def close(self) -> None:
        """Nothing to release."""
