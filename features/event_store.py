"""The event log in SQL tables: append-only, idempotent, durable before it answers.

Facts are canonical JSON bytes and times are integer microseconds, so that another database gives back the same events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import (
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from features.errors import StoreCorrupted
from features.event_log import COLUMNS, Appended, Columns, LoggedEvent, Stamp, journey_events
from features.events import FactValue, JourneyEvent, dump_facts, load_facts
from features.home import Home
from features.identity import Claim, Identities, Person, Span, claim_of, unlinked
from features.sql_store import Layout, Place, open_store
from features.sql_text import (
    BYTES,
    TEXT,
    TEXT_MARK,
    WHOLE,
    WHOLE_MARK,
    ZERO,
    SqlConnection,
    Statement,
    statement,
    written,
)
from features.sqlite_files import Durability
from features.taxonomy import IDENTITY_KINDS

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
# Few events have texts, and those that outlived their time must be found without reading the others.
_HAS_TEXT = events_table.c.text.is_not(None)
Index("events_with_text", events_table.c.arrived_at, sqlite_where=_HAS_TEXT, postgresql_where=_HAS_TEXT)

claims_table = Table(
    "claims",
    metadata,
    Column("position", WHOLE, primary_key=True, autoincrement=False),
    Column("alias", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("is_link", WHOLE, nullable=False),
    Column("boundary", WHOLE),
    Column("occurred_at", WHOLE, nullable=False),
    Column("sequence", WHOLE, nullable=False),
    Column("source", TEXT, nullable=False),
    Column("event_id", TEXT, nullable=False),
    Column("arrived_at", WHOLE, nullable=False),
)
Index("claims_of_alias", claims_table.c.alias)
Index("claims_of_customer", claims_table.c.customer_id)
identifiers_table = Table(
    "identifiers",
    metadata,
    Column("name", TEXT, nullable=False),
    Column("value", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    PrimaryKeyConstraint("name", "value", "customer_id", name="identifiers_told"),
)
indexed_table = Table(
    "identifiers_indexed",
    metadata,
    Column("name", TEXT, primary_key=True),
    Column("position", WHOLE, nullable=False),
)

LAYOUT: Final = Layout(metadata, version=2, facts=("events",), upgrades={1: ()})
"""Version 1 lacks the tables of claims and identifiers, and holds no event that would be in the first."""

_t = events_table.c
_ONE = literal_column("1", WHOLE)
_INSERT = statement(insert(events_table))
_HEAD = statement(select(func.coalesce(func.max(_t.position), ZERO)))
# Joined in this order: for `(source, event_id) IN (...)` SQLite walks the whole index.
_KNOWN: Final = """
    WITH asked(source, event_id) AS (VALUES {identities})
    SELECT events.source, events.event_id, events.position FROM asked CROSS JOIN events
    WHERE events.source = asked.source AND events.event_id = asked.event_id
"""
_OF_CUSTOMER = statement(
    select(events_table)
    .where(_t.customer_id == bindparam("customer_id"), _t.position > bindparam("after"))
    .order_by(_t.occurred_at, _t.sequence, _t.source, _t.event_id)
)
_LAST = select(func.coalesce(func.max(_t.position), ZERO)).where(_t.customer_id == bindparam("customer_id"))
_LAST_OF_CUSTOMER = statement(_LAST)
_ARRIVED_AT = statement(select(_t.arrived_at).where(_t.position == bindparam("position")))
_NEWEST_ARRIVAL = statement(select(_t.arrived_at).order_by(_t.position.desc()).limit(_ONE).offset(ZERO))
_PAGE, _PAGE_OF_COLUMNS = (
    statement(
        chosen.where(_t.position > bindparam("after"), _t.position <= bindparam("until"))
        .order_by(_t.position)
        .limit(bindparam("page", type_=WHOLE))
        .offset(ZERO)
    )
    for chosen in (select(events_table), select(*(_t[name] for name in COLUMNS)))
)

_CLAIMS = (
    *("alias", "customer_id", "is_link", "boundary", "occurred_at", "sequence", "source", "event_id", "arrived_at"),
    "position",
)
_INSERT_CLAIM = statement(insert(claims_table))
_IS_ALIAS, _HAS_ALIAS = (
    select(claims_table.c.position).where(claims_table.c[name] == bindparam("id")) for name in ("alias", "customer_id")
)
_FIRST_LOOK = Statement(
    lambda compiled: f"SELECT ({compiled(_LAST)}), EXISTS ({compiled(union_all(_IS_ALIAS, _HAS_ALIAS))})"
)
# Up: all that the id was ever said to belong to. Near: all that were ever said to belong to one of those.
_CLAIMS_NEAR = f"""
    WITH RECURSIVE
    up(id) AS (VALUES {{ids}} UNION SELECT claims.customer_id FROM claims JOIN up ON claims.alias = up.id),
    near(id) AS (SELECT id FROM up UNION SELECT claims.alias FROM claims JOIN near ON claims.customer_id = near.id)
    SELECT {", ".join(f"claims.{name}" for name in _CLAIMS)} FROM claims JOIN near ON claims.alias = near.id
"""  # noqa: S608  # our own names
_NAMED = """
    SELECT alias FROM claims WHERE alias IN ({ids}) UNION SELECT customer_id FROM claims WHERE customer_id IN ({ids})
"""
_OF_CUSTOMERS = f"""
    WITH asked(place, customer_id, after) AS (VALUES {{asked}})
    SELECT asked.place, {", ".join(f"events.{column.name}" for column in _t)} FROM asked CROSS JOIN events
    WHERE events.customer_id = asked.customer_id AND events.position > asked.after
"""  # noqa: S608  # our own names
_IDS_PER_STATEMENT: Final = 250
"""Two parameters each, of which some databases take 500 a statement."""
_IN_SPAN = (
    _t.customer_id == bindparam("customer_id"),
    _t.occurred_at >= bindparam("valid_from"),
    _t.occurred_at < bindparam("valid_until"),
)
_OF_SPAN = statement(select(events_table).where(*_IN_SPAN, _t.position > bindparam("after")))
_LAST_OF_SPAN = statement(select(func.coalesce(func.max(_t.position), ZERO)).where(*_IN_SPAN))
_ANY_OF_SPAN = statement(
    select(_t.position)
    .where(*_IN_SPAN, _t.kind.not_in([literal_column(f"'{kind}'", TEXT) for kind in IDENTITY_KINDS]))
    .limit(_ONE)
    .offset(ZERO)
)
_INSERT_IDENTIFIER = statement(insert(identifiers_table).on_conflict_do_nothing())
_OF_IDENTIFIER = statement(
    select(identifiers_table.c.customer_id)
    .where(identifiers_table.c.name == bindparam("name"), identifiers_table.c.value == bindparam("value"))
    .order_by(identifiers_table.c.customer_id)
)
_FACTS_SINCE = statement(
    select(_t.position, _t.customer_id, _t.facts)
    .where(_t.position > bindparam("after"))
    .order_by(_t.position)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_INDEXED = statement(select(indexed_table.c.name, indexed_table.c.position))
_indexed = insert(indexed_table)
_SET_INDEXED = statement(
    _indexed.on_conflict_do_update(index_elements=[indexed_table.c.name], set_={"position": _indexed.excluded.position})
)
_MOVE_INDEXED = statement(
    update(indexed_table)
    .where(indexed_table.c.name == bindparam("identifier"), indexed_table.c.position == bindparam("before"))
    .values(position=bindparam("head"))
)
_FORGET_INDEXED = statement(delete(indexed_table).where(indexed_table.c.name == bindparam("name")))
_FORGET_IDENTIFIER = statement(delete(identifiers_table).where(identifiers_table.c.name == bindparam("name")))
_PAGE_OF_INDEX: Final = 10_000
_SKIM: Final = msgspec.json.Decoder(list[msgspec.Raw])

_TEXTS_PER_COMMIT: Final = 1_000
_OLD_TEXTS = (
    select(_t.position)
    .where(_t.text.is_not(None), _t.arrived_at < bindparam("before"))
    .limit(bindparam("most", type_=WHOLE))
    .offset(ZERO)
)
_FORGET_TEXTS = statement(update(events_table).where(_t.position.in_(_OLD_TEXTS)).values(text=null()))
_APPENDING: Final = ("events",)
"""Whoever appends keeps others from it until the commit: so positions have no gaps, and come to be seen in order."""

_FORGETTING: Final = ("texts",)
"""Of two processes one forgets, and the other finds nothing left."""

_Row: TypeAlias = dict[str, Any]


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
            while self._store.run(lambda connection: _index_page(connection, self._identifiers), keys=_APPENDING):
                pass

    def append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> list[Appended]:
        """Append what is not there yet, in one commit; one answer per event, in order."""
        return self._store.run(self._appending(events, stamp), keys=_APPENDING)

    def submit_append(self, events: Sequence[JourneyEvent], *, stamp: Stamp | None = None) -> Future[list[Appended]]:
        """``append`` for callers that must not block: the future resolves once the events are on disk."""
        return self._store.submit(self._appending(events, stamp), keys=_APPENDING)

    def _appending(
        self, events: Sequence[JourneyEvent], stamp: Stamp | None
    ) -> Callable[[SqlConnection], list[Appended]]:
        rows = [_row(event) for event in events]
        if stamp is None:
            return lambda connection: _append(connection, rows, events, self._identifiers)

        def job(connection: SqlConnection) -> list[Appended]:
            at = stamp(_newest_arrival(connection))
            late = [replace(event, arrived_at=max(at, event.arrived_at)) for event in events]
            stamped = [{**row, "arrived_at": event.arrived_at} for row, event in zip(rows, late, strict=True)]
            return _append(connection, stamped, late, self._identifiers)

        return job

    def newest_arrival(self) -> int:
        """When the newest event arrived, once all that is being appended is there; 0 where the log is empty."""
        self._store.wait_for(_APPENDING)
        with self._store.reading() as connection:
            return _newest_arrival(connection)

    def forget_texts(self, *, arrived_before: int) -> int:
        """Forget the raw texts of events that arrived before a moment, for good; how many there were."""
        forgotten = 0
        # In parts, so that nobody who appends waits for long.
        while n := self._store.run(lambda connection: _forget_texts(connection, arrived_before), keys=_FORGETTING):
            forgotten += n
        return forgotten

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a customer past a position, in the order of ``JourneyEvent.order``."""
        with self._store.reading() as connection:
            rows = connection.execute(_OF_CUSTOMER, {"customer_id": customer_id, "after": after})
            return self._events(rows)

    def last_position(self, customer_id: str) -> int:
        """The position of the customer's event that arrived last; 0 where there is none."""
        with self._store.reading() as connection:
            return int(connection.execute(_LAST_OF_CUSTOMER, {"customer_id": customer_id}).fetchone()[0])

    def arrived_at(self, position: int) -> int:
        """When the event at a position arrived, microseconds since the epoch; 0 where there is none."""
        with self._store.reading() as connection:
            row = connection.execute(_ARRIVED_AT, {"position": position}).fetchone()
        return 0 if row is None else int(row[0])

    def identities(self, customer_ids: Iterable[str]) -> Identities:
        """The part of the identity graph that bears on some ids; empty where none was ever linked."""
        ids = list(customer_ids)
        parts = (ids[start : start + _IDS_PER_STATEMENT] for start in range(0, len(ids), _IDS_PER_STATEMENT))
        with self._store.reading() as connection:
            named = [row[0] for part in parts for row in connection.execute(_named(len(part)), (*part, *part))]
            near = (named[start : start + _IDS_PER_STATEMENT] for start in range(0, len(named), _IDS_PER_STATEMENT))
            return Identities(frozenset(claim for part in near for claim in _claims_near(connection, part)))

    def person(self, customer_id: str, *, at: int, known_before: int | None = None) -> Person:
        """The person whom an event of ``customer_id`` at ``at`` belongs to, with what arrived last."""
        with self._store.reading() as connection:
            # Of almost everybody there is no claim, and looking for one takes a fifth of the walk.
            key = {"id": customer_id, "customer_id": customer_id}
            last, is_linked = connection.execute(_FIRST_LOOK, key).fetchone()
            claims = _claims_near(connection, [customer_id]) if is_linked else []
            if not claims:
                return unlinked(customer_id, last_position=int(last))
            graph = Identities(frozenset(claims))
            graph = graph if known_before is None else graph.known_before(known_before)
            person = graph.person(graph.owner(customer_id, at=at))
            return replace(person, last_position=_last_of_spans(connection, person))

    def of_person(self, person: Person, *, after: int = 0) -> list[LoggedEvent]:
        """The events of a person past a position, in order; those that only say who is who left out."""
        if person.is_unlinked:
            return self.of_customer(person.customer_id, after=after)
        found: list[LoggedEvent] = []
        with self._store.reading() as connection:
            for span in person.spans:
                found += self._events(connection.execute(_OF_SPAN, {**_span_key(span), "after": after}))
        return journey_events(sorted(found, key=lambda logged: logged.event.order))

    def of_people(self, asked: Sequence[tuple[Person, int]]) -> list[list[LoggedEvent]]:
        """The events of each person past a position of their own; only those who are linked cost a statement each."""
        plain = [(person.customer_id, after) for person, after in asked if person.is_unlinked]
        found = (
            events
            for start in range(0, len(plain), _IDS_PER_STATEMENT)
            for events in self._of_customers(plain[start : start + _IDS_PER_STATEMENT])
        )
        return [next(found) if one.is_unlinked else self.of_person(one, after=after) for one, after in asked]

    def _of_customers(self, asked: Sequence[tuple[str, int]]) -> list[list[LoggedEvent]]:
        with self._store.reading() as connection:
            values = [value for pair in asked for value in pair]
            rows = connection.execute(_of_customers(len(asked)), values).fetchall()
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
            return [str(row[0]) for row in connection.execute(_OF_IDENTIFIER, {"name": name, "value": value})]

    def head(self) -> int:
        """The position of the last event in the log; 0 where it is empty."""
        with self._store.reading() as connection:
            return int(connection.execute(_HEAD).fetchone()[0])

    def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
        """Pages of the log in order of position, up to its head at the first page.

        Each page is a read of its own, so that a slow caller does not keep the writer from checkpointing.
        """
        return map(self._events, self._pages(_PAGE, after=after, until=until, page=page))

    def read_columns(self, *, after: int = 0, until: int | None = None, page: int = 2_000) -> Iterator[Columns]:
        """``read`` by column: what the file holds, without an event made of it."""
        return map(self._columns, self._pages(_PAGE_OF_COLUMNS, after=after, until=until, page=page))

    def _pages(
        self, statement: Statement, *, after: int, until: int | None, page: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        until = self.head() if until is None else until
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(statement, {"after": after, "until": until, "page": page}).fetchall()
            if not rows:
                return
            yield rows
            after = rows[-1][0]

    def _events(self, rows: Iterable[tuple[Any, ...]]) -> list[LoggedEvent]:
        with self._sound_facts():
            return [_logged(*row) for row in rows]

    def _columns(self, rows: Iterable[tuple[Any, ...]]) -> Columns:
        columns = list(zip(*rows, strict=True))
        with self._sound_facts():
            _check_facts(columns[-1])
        return columns

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


def _append(
    connection: SqlConnection, rows: list[_Row], events: Sequence[JourneyEvent], identifiers: frozenset[str]
) -> list[Appended]:
    position = head = connection.execute(_HEAD).fetchone()[0]
    appended: list[Appended] = []
    new: list[_Row] = []
    claims: list[_Row] = []
    told: list[_Row] = []
    positions = _known_positions(connection, events)
    for row, event in zip(rows, events, strict=True):
        identity = (event.source, event.event_id)
        if (known := positions.get(identity)) is not None:
            appended.append(Appended(known, duplicate=True))
            continue
        position += 1
        positions[identity] = position
        new.append({**row, "position": position})
        appended.append(Appended(position, duplicate=False))
        if (claim := claim_of(event, position)) is not None:
            claims.append(_claim_row(claim))
        told.extend(_told(event.customer_id, event.facts, identifiers))
    connection.executemany(_INSERT, new)
    if claims:
        connection.executemany(_INSERT_CLAIM, claims)
    if told:
        connection.executemany(_INSERT_IDENTIFIER, told)
    if new:
        # Not past what a process appended that does not declare the identifier: it is indexed on the next opening.
        for name in sorted(identifiers):
            connection.execute(_MOVE_INDEXED, {"identifier": name, "before": head, "head": position})
    return appended


def _newest_arrival(connection: SqlConnection) -> int:
    row = connection.execute(_NEWEST_ARRIVAL).fetchone()
    return 0 if row is None else int(row[0])


def _known_positions(connection: SqlConnection, events: Sequence[JourneyEvent]) -> dict[tuple[str, str], int]:
    """The positions of those events that are in the log already, by identity."""
    positions: dict[tuple[str, str], int] = {}
    for start in range(0, len(events), _IDS_PER_STATEMENT):
        part = events[start : start + _IDS_PER_STATEMENT]
        values = [value for event in part for value in (event.source, event.event_id)]
        for source, event_id, position in connection.execute(_known(len(part)), values):
            positions[source, event_id] = position
    return positions


@lru_cache(maxsize=_IDS_PER_STATEMENT)
def _known(count: int) -> Statement:
    return written(_KNOWN.format(identities=", ".join((f"({TEXT_MARK}, {TEXT_MARK})",) * count)))


def _told(customer_id: str, facts: Mapping[str, FactValue], identifiers: frozenset[str]) -> Iterator[_Row]:
    for name in identifiers & facts.keys():
        if isinstance(value := facts[name], str):
            yield {"name": name, "value": value, "customer_id": customer_id}


def _index_page(connection: SqlConnection, identifiers: frozenset[str]) -> bool:
    """Bring the index of identifiers a page nearer to the head, and drop those that are no longer declared.

    Returns:
        Whether it is not there yet.
    """
    indexed = dict(connection.execute(_INDEXED).fetchall())
    for name in indexed.keys() - identifiers:
        connection.execute(_FORGET_IDENTIFIER, {"name": name})
        connection.execute(_FORGET_INDEXED, {"name": name})
    head = int(connection.execute(_HEAD).fetchone()[0])
    reached = {name: int(indexed.get(name, 0)) for name in sorted(identifiers)}
    page = connection.execute(_FACTS_SINCE, {"after": min(reached.values()), "page": _PAGE_OF_INDEX}).fetchall()
    told = [
        one
        for position, who, facts in page
        for one in _told_raw(who, facts, {name for name, until in reached.items() if until < position})
    ]
    connection.executemany(_INSERT_IDENTIFIER, told)
    until = page[-1][0] if page else head
    rows = [{"name": name, "position": max(until, position)} for name, position in reached.items()]
    connection.executemany(_SET_INDEXED, rows)
    return bool(until < head)


def _told_raw(customer_id: str, facts: bytes, names: Collection[str]) -> Iterator[_Row]:
    """``_told`` of facts as they are kept, which are read only where a name is in them."""
    if any(f'"{name}"'.encode() in facts for name in names):
        yield from _told(customer_id, load_facts(facts), frozenset(names))


def _last_of_spans(connection: SqlConnection, person: Person) -> int:
    spans = [_span_key(span) for span in person.spans]
    last = max((int(connection.execute(_LAST_OF_SPAN, span).fetchone()[0]) for span in spans), default=0)
    if last > person.linked_at:
        return last
    # What the index alone counts may all be claims, which bear on a person but are no events of theirs.
    is_known = any(connection.execute(_ANY_OF_SPAN, span).fetchone() for span in spans)
    return person.linked_at if is_known else 0


@lru_cache(maxsize=_IDS_PER_STATEMENT)
def _named(count: int) -> Statement:
    return written(_NAMED.format(ids=", ".join((TEXT_MARK,) * count)))


@lru_cache(maxsize=_IDS_PER_STATEMENT)
def _of_customers(count: int) -> Statement:
    asked = (f"({place}, {TEXT_MARK}, {WHOLE_MARK})" for place in range(count))
    return written(_OF_CUSTOMERS.format(asked=", ".join(asked)))


def _claims_near(connection: SqlConnection, customer_ids: Sequence[str]) -> list[Claim]:
    """The claims that bear on some ids, each once: many of them may share what bears on them."""
    return [_claim(*row) for row in connection.execute(_claims_near_ids(len(customer_ids)), customer_ids).fetchall()]


@lru_cache(maxsize=_IDS_PER_STATEMENT)
def _claims_near_ids(count: int) -> Statement:
    return written(_CLAIMS_NEAR.format(ids=", ".join((f"({TEXT_MARK})",) * count)))


def _claim(
    alias: str,
    customer_id: str,
    is_link: int,
    boundary: int | None,
    occurred_at: int,
    sequence: int,
    source: str,
    event_id: str,
    arrived_at: int,
    position: int,
) -> Claim:
    return Claim(
        alias=alias,
        customer_id=customer_id,
        is_link=bool(is_link),
        boundary=boundary,
        order=(occurred_at, sequence, source, event_id),
        arrived_at=arrived_at,
        position=position,
    )


def _claim_row(claim: Claim) -> _Row:
    occurred_at, sequence, source, event_id = claim.order
    return {
        "position": claim.position,
        "alias": claim.alias,
        "customer_id": claim.customer_id,
        "is_link": int(claim.is_link),
        "boundary": claim.boundary,
        "occurred_at": occurred_at,
        "sequence": sequence,
        "source": source,
        "event_id": event_id,
        "arrived_at": claim.arrived_at,
    }


def _span_key(span: Span) -> _Row:
    return {"customer_id": span.customer_id, "valid_from": span.valid_from, "valid_until": span.valid_until}


def _forget_texts(connection: SqlConnection, arrived_before: int) -> int:
    return connection.execute(_FORGET_TEXTS, {"before": arrived_before, "most": _TEXTS_PER_COMMIT}).rowcount


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


def _check_facts(facts: Sequence[bytes]) -> None:
    """Nothing, unless some are no JSON; all at once and without making values of them, ten times as fast.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: some are none.
    """
    together = b"[" + b",".join(facts) + b"]"
    together.decode()  # what skips a value does not look at its bytes
    if len(_SKIM.decode(together)) != len(facts):
        raise msgspec.DecodeError("several values in place of one")


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
