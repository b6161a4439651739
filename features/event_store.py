"""The event log in SQL tables: append-only, idempotent, durable before it answers.

Its tables are in ``features.event_log_tables`` and what is written in one transaction in ``features.event_writes``. The
statements are in ``features.event_rows``, ``features.claim_rows`` (who is who) and ``features.identifier_index``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import msgspec

from features import claim_rows, event_rows, event_writes, identifier_index
from features.errors import StoreCorrupted
from features.event_log import Appended, Columns, LoggedEvent, Stamp, journey_events
from features.event_log_tables import LAYOUT
from features.event_rows import IDS_PER_STATEMENT
from features.events import JourneyEvent
from features.home import Home
from features.identity import Identities, Person
from features.sql_store import Place, open_store
from features.sqlite_files import Durability


class SqlEventLog:
    """The event log in one SQLite file or PostgreSQL database; ``features.event_log.EventLog`` says what it promises.

    Args:
        place: the file, made with its folder where it is missing, unless ``readonly``; or the database.
        readonly: read what another process writes; takes no lock and cannot append.
        durability: ``NORMAL`` gives up answered events at a power loss, for speed.
        identifiers: the attributes that customers can be looked up by; what came in while others were named, or none,
            is put into their index first.

    Raises:
        HomeLocked: if another process writes the file.
        UnknownObject: if there is no such file and it was opened read-only, or the database has no tables.
        StoreUnavailable: if file or database cannot be opened.
        StoreCorrupted: if it is no event log of this layout.
    """

    def __init__(
        self,
        place: Place,
        *,
        readonly: bool = False,
        durability: Durability = "FULL",
        identifiers: Iterable[str] = (),
    ) -> None:
        self._store = open_store(place, LAYOUT, readonly=readonly, durability=durability)
        self._identifiers = frozenset(identifiers)
        if self._identifiers and not readonly:
            # In parts, so that nobody who appends waits for long.
            while self._store.run(
                lambda connection: identifier_index.index_page(connection, self._identifiers),
                keys=event_writes.APPENDING,
            ):
                pass

    def append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> list[Appended]:
        """Append what is not there yet, in one commit; one answer per event, in order."""
        return self._store.run(event_writes.appending(events, stamp, self._identifiers), keys=event_writes.APPENDING)

    def submit_append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> Future[list[Appended]]:
        """``append`` for callers that must not block: the future resolves once the events are on disk."""
        return self._store.submit(event_writes.appending(events, stamp, self._identifiers), keys=event_writes.APPENDING)

    def newest_arrival(self) -> int:
        """When the newest event arrived, once all that is being appended is there; 0 where the log is empty."""
        self._store.wait_for(event_writes.APPENDING)
        with self._store.reading() as connection:
            return event_rows.newest_arrival(connection)

    def forget_texts(self, *, arrived_before: int) -> int:
        """Forget the raw texts of events that arrived before a moment, for good; how many there were."""
        forgotten = 0
        # In parts, so that nobody who appends waits for long.
        while n := self._store.run(
            lambda connection: event_rows.forget_texts(connection, arrived_before=arrived_before),
            keys=event_writes.FORGETTING,
        ):
            forgotten += n
        return forgotten

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past a position, in the order of ``JourneyEvent.order``."""
        with self._store.reading() as connection:
            return self._events(event_rows.of_customer(connection, customer_id, after=after))

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""
        with self._store.reading() as connection:
            return event_rows.last_position(connection, customer_id)

    def arrived_at(self, position: int) -> int:
        """When the event at a position arrived, microseconds since the epoch; 0 where there is none."""
        with self._store.reading() as connection:
            return event_rows.arrived_at(connection, position)

    def identities(self, customer_ids: Iterable[str]) -> Identities:
        """The part of the identity graph that bears on some ids; empty where none was ever linked."""
        with self._store.reading() as connection:
            return claim_rows.identities(connection, customer_ids)

    def person(self, customer_id: str, *, at: int, known_before: int | None = None) -> Person:
        """The person whom an event of ``customer_id`` at ``at`` belongs to, with what arrived last."""
        with self._store.reading() as connection:
            return claim_rows.person(connection, customer_id, at=at, known_before=known_before)

    def of_person(self, person: Person, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a person past a position, in order; those that only say who is who left out."""
        if person.is_unlinked:
            return self.of_customer(person.customer_id, after=after)
        found: list[LoggedEvent] = []
        with self._store.reading() as connection:
            for span in person.spans:
                found += self._events(event_rows.of_span(connection, span, after=after))
        return journey_events(sorted(found, key=lambda logged: logged.event.order))

    def of_people(self, asked: Sequence[tuple[Person, int]]) -> list[list[LoggedEvent]]:
        """The events of each person past a position of their own; only those who are linked cost a statement each."""
        plain = [(person.customer_id, after) for person, after in asked if person.is_unlinked]
        found = (
            events
            for start in range(0, len(plain), IDS_PER_STATEMENT)
            for events in self._of_customers(plain[start : start + IDS_PER_STATEMENT])
        )
        return [next(found) if one.is_unlinked else self.of_person(one, after=after) for one, after in asked]

    def _of_customers(self, asked: Sequence[tuple[str, int]]) -> list[list[LoggedEvent]]:
        with self._store.reading() as connection:
            rows = event_rows.of_customers(connection, asked)
        found: list[list[LoggedEvent]] = [[] for _ in asked]
        for row, logged in zip(rows, self._events(row[1:] for row in rows), strict=True):
            found[row[0]].append(logged)
        for events in found:
            events.sort(key=lambda logged: logged.event.order)
        return found

    def of_identifier(self, name: str, value: str) -> list[str]:
        """The customer ids, as sent, of events that ever told this value of an identifier."""
        if name not in self._identifiers:
            return []
        with self._store.reading() as connection:
            return identifier_index.customers_of(connection, name, value)

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""
        with self._store.reading() as connection:
            return event_rows.head(connection)

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position, up to its head at the first page.

        Each page is a read of its own, so that a slow caller does not keep the writer from checkpointing.
        """
        return map(self._events, self._pages(event_rows.page, after=after, until=until, page=page))

    def read_columns(self, *, after: int = 0, until: int | None = None, page: int = 2_000) -> Iterator[Columns]:
        """``read`` by column: what the file holds, without an event made of it."""
        return map(self._columns, self._pages(event_rows.page_of_columns, after=after, until=until, page=page))

    def _pages(
        self, found: Callable[..., list[tuple[Any, ...]]], *, after: int, until: int | None, page: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        until = self.head() if until is None else until
        while True:
            with self._store.reading() as connection:
                rows = found(connection, after=after, until=until, rows=page)
            if not rows:
                return
            yield rows
            after = rows[-1][0]

    def _events(self, rows: Iterable[tuple[Any, ...]]) -> list[LoggedEvent]:
        with self._sound_facts():
            return [event_rows.logged(*row) for row in rows]

    def _columns(self, rows: Iterable[tuple[Any, ...]]) -> Columns:
        with self._sound_facts():
            return event_rows.columns(rows)

    @contextmanager
    def _sound_facts(self) -> Iterator[None]:
        try:
            yield
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreCorrupted(
                f"{self._store.name} holds facts that are no JSON ({error}); expected those written: restore a backup"
            ) from error

    def check_writes(self) -> None:
        """Raise where the file cannot be written."""
        self._store.check_writes()

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._store.close()


def open_event_log(
    home: Home, *, readonly: bool = False, durability: Durability = "FULL", identifiers: Iterable[str] = ()
) -> SqlEventLog:
    """The event log of an installation; errors are those of ``SqlEventLog``."""
    return SqlEventLog(home.events_place, readonly=readonly, durability=durability, identifiers=identifiers)
