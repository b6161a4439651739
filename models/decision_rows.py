"""Decisions as rows of the record store: put there, found, paged through, searched and forgotten.

Every function runs on its caller's connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, bindparam, delete, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert

from features.events import day_of
from features.sql_text import TEXT, WHOLE, ZERO, Row, SqlConnection, statement
from models.decision import DecisionRecord, dump_record, load_record
from models.ids import first_id_at
from models.record_tables import decisions_table
from models.records import Stretch

_d = decisions_table.c
_INSERT_DECISION = statement(insert(decisions_table))
_INSERT_IMPORTED = statement(insert(decisions_table).on_conflict_do_nothing())
_OF_REQUEST = and_(_d.source == bindparam("source"), _d.request_id == bindparam("request_id"))
_ANSWERED = statement(select(_d.request_hash, _d.answer).where(_OF_REQUEST))
_BY_REQUEST = statement(select(_d.record, _d.answer).where(_OF_REQUEST))
_BY_ID = statement(select(_d.record, _d.answer).where(_d.decision_id == bindparam("decision_id")))
_PAGE = statement(
    select(_d.decision_id, _d.record)
    .where(_d.decision_id > bindparam("after"))
    .order_by(_d.decision_id)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_PAGE_BACK = statement(
    select(_d.decision_id, _d.record)
    .where(_d.decision_id < bindparam("before"))
    .order_by(_d.decision_id.desc())
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_PAGE_OF_IDS = statement(
    select(_d.decision_id)
    .where(_d.decision_id > bindparam("after"))
    .order_by(_d.decision_id)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_RECORD = statement(select(_d.record).where(_d.decision_id == bindparam("decision_id")))
_NEWEST = statement(select(_d.record).order_by(_d.decision_id.desc()).limit(literal_column("1", WHOLE)).offset(ZERO))
_SINCE_ID = statement(select(_d.record).where(_d.decision_id >= bindparam("first")))
_WITHIN = and_(_d.decided_at >= bindparam("since"), _d.decided_at < bindparam("until"))
_NEWEST_OF_ALL = statement(
    select(_d.record)
    .where(_d.decision_id >= bindparam("first"), _d.decision_id < bindparam("end"), _WITHIN)
    .order_by(_d.decision_id.desc())
    .limit(bindparam("rows", type_=WHOLE))
    .offset(ZERO)
)
_before_at, _before_id = bindparam("before_at", type_=WHOLE), bindparam("before_id", type_=TEXT)
_NEWEST_OF_CUSTOMER = statement(
    select(_d.record)
    .where(
        _d.customer_id == bindparam("customer_id"),
        _WITHIN,
        _d.decided_at <= _before_at,
        or_(_d.decided_at < _before_at, _d.decision_id < _before_id),
    )
    .order_by(_d.decided_at.desc(), _d.decision_id.desc())
    .limit(bindparam("rows", type_=WHOLE))
    .offset(ZERO)
)
_OLDEST = statement(
    select(_d.decision_id, _d.customer_id)
    .where(_d.decision_id < bindparam("end"))
    .order_by(_d.decision_id)
    .limit(bindparam("most", type_=WHOLE))
    .offset(ZERO)
)
_DELETE_DECISION = statement(delete(decisions_table).where(_d.decision_id == bindparam("decision_id")))
AFTER_ALL: Final = "\U0010ffff"
"""Sorts behind every id."""


def decision_row(record: DecisionRecord, answer: bytes) -> Row:
    """A decision and its answer as a row."""
    return {
        "decision_id": record.decision_id,
        "source": record.source,
        "request_id": record.request_id,
        "request_hash": record.request_hash,
        "customer_id": record.customer_id,
        "decided_at": record.decided_at,
        "day": day_of(record.decided_at),
        "record": dump_record(record),
        "answer": answer,
    }


def insert_decision(connection: SqlConnection, row: Row) -> None:
    """Put the row of a decision there that is not there yet."""
    connection.execute(_INSERT_DECISION, row)


def insert_imported(connection: SqlConnection, rows: Sequence[Row]) -> int:
    """Put rows of decisions there, but those whose request is there; how many were new."""
    return connection.executemany(_INSERT_IMPORTED, rows).rowcount


def answered(connection: SqlConnection, source: str, request_id: str) -> tuple[str, bytes] | None:
    """The request's hash and the answer of the decision that a request led to; None where there is none."""
    found: tuple[str, bytes] | None = connection.execute(
        _ANSWERED, {"source": source, "request_id": request_id}
    ).fetchone()
    return found


def by_id(connection: SqlConnection, decision_id: str) -> tuple[bytes, bytes] | None:
    """Record and answer of a decision; None where there is none."""
    found: tuple[bytes, bytes] | None = connection.execute(_BY_ID, {"decision_id": decision_id}).fetchone()
    return found


def by_request(connection: SqlConnection, source: str, request_id: str) -> tuple[bytes, bytes] | None:
    """Likewise, of the decision that a request led to."""
    found: tuple[bytes, bytes] | None = connection.execute(
        _BY_REQUEST, {"source": source, "request_id": request_id}
    ).fetchone()
    return found


def newest(connection: SqlConnection, stretch: Stretch) -> list[DecisionRecord]:
    """Decisions of a stretch, newest first; of several spans in their order, up to so many of each."""
    bounds: Row = {"since": stretch.since, "until": stretch.until, "rows": stretch.rows}
    if not stretch.spans:
        end = first_id_at(stretch.until + 999)
        before = end if stretch.before is None else min(end, stretch.before[1])
        key = {**bounds, "first": first_id_at(stretch.since), "end": before}
        return [load_record(row[0]) for row in connection.execute(_NEWEST_OF_ALL, key)]
    at, decision_id = stretch.before or (stretch.until, "")
    found = []
    for span in stretch.spans:
        within = {"since": max(stretch.since, span.valid_from), "until": min(stretch.until, span.valid_until)}
        key = {**bounds, **within, "customer_id": span.customer_id, "before_at": at, "before_id": decision_id}
        found += [load_record(row[0]) for row in connection.execute(_NEWEST_OF_CUSTOMER, key)]
    return sorted(found, key=lambda one: (one.decided_at, one.decision_id), reverse=True)[: stretch.rows]


def newest_as_of(connection: SqlConnection) -> int:
    """The newest moment that the decisions of the newest millisecond, by their ids, were made as of; 0 for none."""
    row = connection.execute(_NEWEST).fetchone()
    if row is None:
        return 0
    newest = load_record(row[0])
    together = connection.execute(_SINCE_ID, {"first": first_id_at(newest.decided_at)}).fetchall()
    return max([newest.as_of, *(load_record(record).as_of for (record,) in together)])


def page(connection: SqlConnection, after: str, rows: int) -> list[tuple[str, bytes]]:
    """Ids and records of so many decisions past an id, in order of their ids."""
    return connection.execute(_PAGE, {"after": after, "page": rows}).fetchall()


def page_back(connection: SqlConnection, before: str, rows: int) -> list[tuple[str, bytes]]:
    """Ids and records of so many decisions before an id, the newest by its id first."""
    return connection.execute(_PAGE_BACK, {"before": before, "page": rows}).fetchall()


def page_of_ids(connection: SqlConnection, after: str, rows: int) -> list[tuple[str]]:
    """So many ids past an id, in order; a read of the index alone."""
    return connection.execute(_PAGE_OF_IDS, {"after": after, "page": rows}).fetchall()


def records(connection: SqlConnection, decision_ids: Sequence[str]) -> list[bytes]:
    """The records of those of some decisions that are there, in the order asked."""
    rows = [connection.execute(_RECORD, {"decision_id": one}).fetchone() for one in decision_ids]
    return [row[0] for row in rows if row is not None]


def oldest(connection: SqlConnection, *, decided_before: int, most: int) -> list[tuple[str, str]]:
    """Ids and customers of the oldest decisions made before a moment."""
    return connection.execute(_OLDEST, {"end": first_id_at(decided_before), "most": most}).fetchall()


def forget(connection: SqlConnection, decision_ids: Sequence[str]) -> None:
    """Delete decisions."""
    connection.executemany(_DELETE_DECISION, [{"decision_id": one} for one in decision_ids])
