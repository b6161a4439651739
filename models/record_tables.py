"""The tables of the record store, and the versions that they had before.

Records are kept as the canonical bytes of ``models.decision``; the columns beside them only find them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint, text

from features.sql_store import Layout
from features.sql_text import BYTES, TEXT, WHOLE
from models import capacity_tables, job_store

_RESPONSES: Final = (
    "ALTER TABLE contacts ADD COLUMN response TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE contacts ADD COLUMN response_at INTEGER NOT NULL DEFAULT 0",
)
_UPGRADES: Final = {
    1: (
        "INSERT INTO consent_changes (customer_id, consent, state, at) "
        "SELECT customer_id, consent, state, at FROM consents",
        "DROP TABLE consents",
        *_RESPONSES,
    ),
    2: _RESPONSES,
    3: (),
}
"""Version 1 kept only the newest state of each consent, version 2 nothing of what came back for a contact,
of capacities and of people, version 3 no jobs."""

metadata = MetaData()
for _table in (*capacity_tables.metadata.sorted_tables, *job_store.metadata.sorted_tables):
    _table.to_metadata(metadata)
decisions_table = Table(
    "decisions",
    metadata,
    Column("decision_id", TEXT, primary_key=True),
    Column("source", TEXT, nullable=False),
    Column("request_id", TEXT, nullable=False),
    Column("request_hash", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("decided_at", WHOLE, nullable=False),
    Column("day", WHOLE, nullable=False),
    Column("record", BYTES, nullable=False),
    Column("answer", BYTES, nullable=False),
    UniqueConstraint("source", "request_id", name="decisions_request"),
)
Index("decisions_of_customer", decisions_table.c.customer_id, decisions_table.c.decided_at)
Index("decisions_of_day", decisions_table.c.day)
contacts_table = Table(
    "contacts",
    metadata,
    Column("decision_id", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("action_id", TEXT, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("at", WHOLE, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("expires_at", WHOLE, nullable=False),
    Column("send_id", TEXT),
    Column("occasion", WHOLE, nullable=False),
    Column("response", TEXT, nullable=False, server_default=""),
    Column("response_at", WHOLE, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("customer_id", "decision_id", "action_id", "occasion", name="contacts_identity"),
)
Index("contacts_of_customer", contacts_table.c.customer_id, contacts_table.c.at)
consents_table = Table(
    "consent_changes",
    metadata,
    Column("customer_id", TEXT, nullable=False),
    Column("consent", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("at", WHOLE, nullable=False),
    PrimaryKeyConstraint("customer_id", "consent", "at", name="consent_changes_identity"),
)

LAYOUT: Final = Layout(metadata, version=4, facts=("decisions", "contacts", "consent_changes"), upgrades=_UPGRADES)
