"""The event log on SQLite: append-only, idempotent, durable before it answers.

Facts are canonical JSON bytes and times are integer microseconds, so that another database gives back the same events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Column, Index, MetaData, Table, UniqueConstraint, bindparam, func, insert, select

from features.errors import StoreCorrupted
from features.event_log import Appended, LoggedEvent
from features.events import JourneyEvent, dump_facts, load_facts
from features.sql_text import BYTES, TEXT, WHOLE, ZERO, sqlite_text
from features.sqlite_files import Durability
from features.sqlite_store import SqliteStore

LAYOUT_VERSION: Final = 1

metadata = MetaData()
events_table = Table(
    "events",
    metadata,
    Column("position", WHOLE, primary_key=True, autoincrement=False),
    Column("source", TEXT, nullable=False),
    Column("event_id", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("channel", TEXT),
    Column("occurred_at", WHOLE, nullable=False),
    Column("arrived_at", WHOLE, nullable=False),
    Column("sequence", WHOLE, nullable=False),
    Column("day", WHOLE, nullable=False),
    Column("facts", BYTES, nullable=False),
    Column("text", TEXT),
    UniqueConstraint("source", "event_id", name="events_identity"),
)
Index(
    "events_of_customer",
    *(events_table.c[name] for name in ("customer_id", "occurred_at", "sequence", "source", "event_id")),
)

_t = events_table.c
_INSERT = sqlite_text(insert(events_table))
_HEAD = sqlite_text(select(func.coalesce(func.max(_t.position), ZERO)))
_KNOWN = sqlite_text(select(_t.position).where(_t.source == bindparam("source"), _t.event_id == bindparam("event_id")))
_OF_CUSTOMER = sqlite_text(
    select(events_table)
    .where(_t.customer_id == bindparam("customer_id"), _t.position > bindparam("after"))
    .order_by(_t.occurred_at, _t.sequence, _t.source, _t.event_id)
)
_LAST_OF_CUSTOMER = sqlite_text(
    select(func.coalesce(func.max(_t.position), ZERO)).where(_t.customer_id == bindparam("customer_id"))
)
_PAGE = sqlite_text(
    select(events_table)
    .where(_t.position > bindparam("after"), _t.position <= bindparam("until"))
    .order_by(_t.position)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)

_Row: TypeAlias = dict[str, Any]


class SqlEventLog:
    """The event log in one SQLite file; ``features.event_log.EventLog`` says what it promises.

    Args:
        path: the file; made with its folder where it is missing, unless ``readonly``.
        readonly: read what another process writes; takes no lock and cannot append.
        durability: ``NORMAL`` gives up answered events at a power loss, for speed.

    Raises:
        HomeLocked: if another process writes the file.
        UnknownObject: if there is no such file and it was opened read-only.
        StoreUnavailable: if the file cannot be opened.
        StoreCorrupted: if it is no event log of this layout.
    """

    def __init__(self, path: Path, *, readonly: bool = False, durability: Durability = "FULL") -> None:
        self._file = SqliteStore(path, metadata, LAYOUT_VERSION, readonly=readonly, durability=durability)

    def append(self, events: Sequence[JourneyEvent]) -> list[Appended]:
        """Append what is not there yet, in one commit; one answer per event, in order."""
        return self.submit_append(events).result()

    def submit_append(self, events: Sequence[JourneyEvent]) -> Future[list[Appended]]:
        """``append`` for callers that must not block: the future resolves once the events are on disk."""
        rows = [_row(event) for event in events]
        return self._file.submit(lambda connection: _append(connection, rows))

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past a position, in the order of ``JourneyEvent.order``."""
        with self._file.reading() as connection:
            rows = connection.execute(_OF_CUSTOMER, {"customer_id": customer_id, "after": after})
            return self._events(rows)

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""
        with self._file.reading() as connection:
            return int(connection.execute(_LAST_OF_CUSTOMER, {"customer_id": customer_id}).fetchone()[0])

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""
        with self._file.reading() as connection:
            return int(connection.execute(_HEAD).fetchone()[0])

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position, up to its head at the first page.

        Each page is a read of its own, so that a slow caller does not keep the writer from checkpointing.
        """
        until = self.head() if until is None else until
        while True:
            with self._file.reading() as connection:
                rows = connection.execute(_PAGE, {"after": after, "until": until, "page": page}).fetchall()
            if not rows:
                return
            events = self._events(rows)
            yield events
            after = events[-1].position

    def _events(self, rows: Iterable[tuple[Any, ...]]) -> list[LoggedEvent]:
        try:
            return [_logged(*row) for row in rows]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreCorrupted(
                f"{self._file.path} holds facts that are no JSON ({error}); expected those written: restore a backup"
            ) from error

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._file.close()


def _append(connection: sqlite3.Connection, rows: list[_Row]) -> list[Appended]:
    position = connection.execute(_HEAD).fetchone()[0]
    appended: list[Appended] = []
    new: list[_Row] = []
    fresh: dict[tuple[str, str], int] = {}
    for row in rows:
        identity = (row["source"], row["event_id"])
        known = fresh.get(identity)
        if known is None:
            found = connection.execute(_KNOWN, row).fetchone()
            known = found[0] if found else None
        if known is not None:
            appended.append(Appended(known, duplicate=True))
            continue
        position += 1
        fresh[identity] = position
        new.append({**row, "position": position})
        appended.append(Appended(position, duplicate=False))
    connection.executemany(_INSERT, new)
    return appended


def _row(event: JourneyEvent) -> _Row:
    return {
        "source": event.source,
        "event_id": event.event_id,
        "customer_id": event.customer_id,
        "kind": event.kind,
        "channel": event.channel,
        "occurred_at": event.occurred_at,
        "arrived_at": event.arrived_at,
        "sequence": event.sequence,
        "day": event.day,
        "facts": dump_facts(event.facts),
        "text": event.text,
    }


def _logged(
    position: int,
    source: str,
    event_id: str,
    customer_id: str,
    kind: str,
    channel: str | None,
    occurred_at: int,
    arrived_at: int,
    sequence: int,
    day: int,
    facts: bytes,
    text: str | None,
) -> LoggedEvent:
    event = JourneyEvent(
        source=source,
        event_id=event_id,
        customer_id=customer_id,
        kind=kind,
        channel=channel,
        occurred_at=occurred_at,
        arrived_at=arrived_at,
        sequence=sequence,
        day=day,
        facts=load_facts(facts),
        text=text,
    )
    return LoggedEvent(position, event)
