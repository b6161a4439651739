"""The tables of the event log, and the versions that they had before."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint

from features.sql_store import Layout
from features.sql_text import BYTES, TEXT, WHOLE

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
