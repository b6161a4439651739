"""Events as rows of the event log: put there, and read back as they came.

Every function runs on its caller's connection. Facts are canonical JSON bytes and times are integer microseconds, so
that another database gives back the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, func, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import insert

from features.event_log import COLUMNS, Columns, LoggedEvent
from features.event_log_tables import events_table
from features.events import JourneyEvent, dump_facts, load_facts
from features.identity import Person, Span
from features.sql_text import (
    TEXT,
    TEXT_MARK,
    WHOLE,
    WHOLE_MARK,
    ZERO,
    Cursor,
    Row,
    SqlConnection,
    Statement,
    statement,
    written,
)
from features.taxonomy import IDENTITY_KINDS

IDS_PER_STATEMENT: Final = 250
"""Two parameters each, of which some databases take 500 a statement."""

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
LAST = select(func.coalesce(func.max(_t.position), ZERO)).where(_t.customer_id == bindparam("customer_id"))
"""The position of the event of ``customer_id`` that arrived last."""

_LAST_OF_CUSTOMER = statement(LAST)
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
_OF_CUSTOMERS = f"""
    WITH asked(place, customer_id, after) AS (VALUES {{asked}})
    SELECT asked.place, {", ".join(f"events.{column.name}" for column in _t)} FROM asked CROSS JOIN events
    WHERE events.customer_id = asked.customer_id AND events.position > asked.after
"""  # noqa: S608  # our own names
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
_FACTS_SINCE = statement(
    select(_t.position, _t.customer_id, _t.facts)
    .where(_t.position > bindparam("after"))
    .order_by(_t.position)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_OLD_TEXTS = (
    select(_t.position)
    .where(_t.text.is_not(None), _t.arrived_at < bindparam("before"))
    .limit(bindparam("most", type_=WHOLE))
    .offset(ZERO)
)
_FORGET_TEXTS = statement(update(events_table).where(_t.position.in_(_OLD_TEXTS)).values(text=null()))
_TEXTS_PER_COMMIT: Final = 1_000
_SKIM: Final = msgspec.json.Decoder(list[msgspec.Raw])


def event_row(event: JourneyEvent) -> Row:
    """An event as a row, but for its position."""
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


def insert_events(connection: SqlConnection, rows: Sequence[Row]) -> None:
    """Put rows there, which have positions and are not there yet."""
    connection.executemany(_INSERT, rows)


def forget_texts(connection: SqlConnection, *, arrived_before: int) -> int:
    """Forget some of the texts of events that arrived before a moment; how many, and 0 where none are left."""
    return connection.execute(_FORGET_TEXTS, {"before": arrived_before, "most": _TEXTS_PER_COMMIT}).rowcount


def known_positions(connection: SqlConnection, events: Sequence[JourneyEvent]) -> dict[tuple[str, str], int]:
    """The positions of those events that are in the log already, by identity."""
    positions: dict[tuple[str, str], int] = {}
    for start in range(0, len(events), IDS_PER_STATEMENT):
        part = events[start : start + IDS_PER_STATEMENT]
        values = [value for event in part for value in (event.source, event.event_id)]
        for source, event_id, position in connection.execute(_known(len(part)), values):
            positions[source, event_id] = position
    return positions


@lru_cache(maxsize=IDS_PER_STATEMENT)
def _known(count: int) -> Statement:
    return written(_KNOWN.format(identities=", ".join((f"({TEXT_MARK}, {TEXT_MARK})",) * count)))


def head(connection: SqlConnection) -> int:
    """The position of the last event; 0 where there is none."""
    return int(connection.execute(_HEAD).fetchone()[0])


def newest_arrival(connection: SqlConnection) -> int:
    """When the event of the last position arrived; 0 where there is none."""
    row = connection.execute(_NEWEST_ARRIVAL).fetchone()
    return 0 if row is None else int(row[0])


def last_position(connection: SqlConnection, customer_id: str) -> int:
    """The position of the customer's event that arrived last; 0 where there is none."""
    return int(connection.execute(_LAST_OF_CUSTOMER, {"customer_id": customer_id}).fetchone()[0])


def arrived_at(connection: SqlConnection, position: int) -> int:
    """When the event at a position arrived; 0 where there is none."""
    row = connection.execute(_ARRIVED_AT, {"position": position}).fetchone()
    return 0 if row is None else int(row[0])


def of_customer(connection: SqlConnection, customer_id: str, *, after: int) -> Cursor:
    """The rows of a customer past a position, in the order of ``JourneyEvent.order``."""
    return connection.execute(_OF_CUSTOMER, {"customer_id": customer_id, "after": after})


def of_customers(connection: SqlConnection, asked: Sequence[tuple[str, int]]) -> list[tuple[Any, ...]]:
    """The rows of customers, each past a position, in no order; behind the place of the customer among those asked.

    Args:
        connection: to the log.
        asked: customers and positions, at most ``IDS_PER_STATEMENT``.
    """
    values = [value for pair in asked for value in pair]
    return connection.execute(_of_customers(len(asked)), values).fetchall()


@lru_cache(maxsize=IDS_PER_STATEMENT)
def _of_customers(count: int) -> Statement:
    asked = (f"({place}, {TEXT_MARK}, {WHOLE_MARK})" for place in range(count))
    return written(_OF_CUSTOMERS.format(asked=", ".join(asked)))


def of_span(connection: SqlConnection, span: Span, *, after: int) -> Cursor:
    """The rows of an id within a span and past a position, in no order."""
    return connection.execute(_OF_SPAN, {**_span_key(span), "after": after})


def last_of_person(connection: SqlConnection, person: Person) -> int:
    """The position of what arrived last of a linked person, links included; 0 where they alone are there."""
    spans = [_span_key(span) for span in person.spans]
    last = max((int(connection.execute(_LAST_OF_SPAN, span).fetchone()[0]) for span in spans), default=0)
    if last > person.linked_at:
        return last
    # What the index alone counts may all be claims, which bear on a person but are no events of theirs.
    is_known = any(connection.execute(_ANY_OF_SPAN, span).fetchone() for span in spans)
    return person.linked_at if is_known else 0


def _span_key(span: Span) -> Row:
    return {"customer_id": span.customer_id, "valid_from": span.valid_from, "valid_until": span.valid_until}


def page(connection: SqlConnection, *, after: int, until: int, rows: int) -> list[tuple[Any, ...]]:
    """So many rows past a position, up to another one, in order of position."""
    return connection.execute(_PAGE, {"after": after, "until": until, "page": rows}).fetchall()


def page_of_columns(connection: SqlConnection, *, after: int, until: int, rows: int) -> list[tuple[Any, ...]]:
    """``page`` of what ``COLUMNS`` names."""
    return connection.execute(_PAGE_OF_COLUMNS, {"after": after, "until": until, "page": rows}).fetchall()


def page_of_facts(connection: SqlConnection, *, after: int, rows: int) -> list[tuple[int, str, bytes]]:
    """Position, customer and facts of so many events past a position, in order of position."""
    return connection.execute(_FACTS_SINCE, {"after": after, "page": rows}).fetchall()


def logged(
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
    """The event of a row.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: its facts are no JSON.
    """
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


def columns(rows: Iterable[tuple[Any, ...]]) -> Columns:
    """Rows of ``page_of_columns`` by column.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: some facts are no JSON.
    """
    found = list(zip(*rows, strict=True))
    _check_facts(found[-1])
    return found


def _check_facts(facts: Sequence[bytes]) -> None:
    """Nothing, unless some are no JSON; all at once and without making values of them, ten times as fast.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: some are none.
    """
    together = b"[" + b",".join(facts) + b"]"
    together.decode()  # what skips a value does not look at its bytes
    if len(_SKIM.decode(together)) != len(facts):
        raise msgspec.DecodeError("several values in place of one")
