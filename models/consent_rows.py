"""Consents and objections as rows of the record store: every change, as of its moment.

Every function runs on its caller's connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert

from features.identity import Span
from features.sql_text import Row, SqlConnection, statement
from models.record_tables import consents_table
from models.records import ConsentChange

_consent = insert(consents_table)
_SET_CONSENT = statement(
    _consent.on_conflict_do_update(
        index_elements=[consents_table.c.customer_id, consents_table.c.consent, consents_table.c.at],
        set_={"state": _consent.excluded.state},
    )
)
_CONSENTS = statement(
    select(consents_table.c.consent, consents_table.c.state, consents_table.c.at).where(
        consents_table.c.customer_id == bindparam("customer_id"),
        consents_table.c.at >= bindparam("valid_from"),
        consents_table.c.at < bindparam("valid_until"),
    )
)


def change_row(change: ConsentChange) -> Row:
    """A change as a row."""
    return {"customer_id": change.customer_id, "consent": change.consent, "state": change.state, "at": change.at}


def put_changes(connection: SqlConnection, rows: Sequence[Row]) -> None:
    """Remember rows of changes; of two of one moment the last."""
    connection.executemany(_SET_CONSENT, rows)


def told(connection: SqlConnection, spans: Sequence[Span]) -> list[tuple[str, str, int]]:
    """Consent, state and moment of every change within some spans, in no order."""
    return [row for span in spans for row in connection.execute(_CONSENTS, _span_key(span)).fetchall()]


def _span_key(span: Span) -> Row:
    return {"customer_id": span.customer_id, "valid_from": span.valid_from, "valid_until": span.valid_until}
