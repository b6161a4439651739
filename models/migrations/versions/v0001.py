"""The first layout: events with claims and identifiers; decisions, contacts, consents, capacities and people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    "capacity_counters",
    "capacity_holds",
    "claims",
    "consent_changes",
    "contacts",
    "decisions",
    "events",
    "identifiers",
    "identifiers_indexed",
    "persons",
)


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "capacity_counters",
        _text("limit_id"),
        _whole("window_start"),
        _whole("used"),
        sa.PrimaryKeyConstraint("limit_id", "window_start", name="capacity_counters_identity"),
    )
    op.create_table(
        "capacity_holds",
        _text("decision_id"),
        _text("action_id"),
        _text("limit_id"),
        _whole("window_start"),
        _text("customer_id"),
        _text("send_id", nullable=True),
        _whole("need"),
        _whole("expires_at"),
        _whole("is_released"),
        sa.PrimaryKeyConstraint("decision_id", "action_id", "limit_id", "window_start", name="capacity_holds_identity"),
    )
    op.create_index(
        "capacity_holds_ending", "capacity_holds", ["limit_id", "window_start", "is_released", "expires_at"]
    )
    op.create_index("capacity_holds_of_send", "capacity_holds", ["customer_id", "send_id"])
    op.create_table(
        "claims",
        _whole("position"),
        _text("alias"),
        _text("customer_id"),
        _whole("is_link"),
        _whole("boundary", nullable=True),
        _whole("occurred_at"),
        _whole("sequence"),
        _text("source"),
        _text("event_id"),
        _whole("arrived_at"),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index("claims_of_alias", "claims", ["alias"])
    op.create_index("claims_of_customer", "claims", ["customer_id"])
    op.create_table(
        "consent_changes",
        _text("customer_id"),
        _text("consent"),
        _text("state"),
        _whole("at"),
        sa.PrimaryKeyConstraint("customer_id", "consent", "at", name="consent_changes_identity"),
    )
    op.create_table(
        "contacts",
        _text("decision_id"),
        _text("customer_id"),
        _text("action_id"),
        _text("channel"),
        _whole("at"),
        _text("status"),
        _whole("expires_at"),
        _text("send_id", nullable=True),
        _whole("occasion"),
        _text("response", server_default=sa.text("''")),
        _whole("response_at", server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("customer_id", "decision_id", "action_id", "occasion", name="contacts_identity"),
    )
    op.create_index("contacts_of_customer", "contacts", ["customer_id", "at"])
    op.create_table(
        "decisions",
        _text("decision_id"),
        _text("source"),
        _text("request_id"),
        _text("request_hash"),
        _text("customer_id"),
        _whole("decided_at"),
        _whole("day"),
        _bytes("record"),
        _bytes("answer"),
        sa.PrimaryKeyConstraint("decision_id"),
        sa.UniqueConstraint("source", "request_id", name="decisions_request"),
    )
    op.create_index("decisions_of_customer", "decisions", ["customer_id", "decided_at"])
    op.create_index("decisions_of_day", "decisions", ["day"])
    op.create_table(
        "events",
        _whole("position"),
        _text("source"),
        _text("event_id"),
        _text("customer_id"),
        _text("kind"),
        _text("channel", nullable=True),
        _whole("occurred_at"),
        _whole("arrived_at"),
        _whole("sequence"),
        _whole("day"),
        _bytes("facts"),
        _text("text", nullable=True),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("source", "event_id", name="events_identity"),
    )
    op.create_index("events_of_customer", "events", ["customer_id", "occurred_at", "sequence", "source", "event_id"])
    op.create_index("events_with_text", "events", ["arrived_at"], postgresql_where=sa.text("text IS NOT NULL"))
    op.create_table(
        "identifiers",
        _text("name"),
        _text("value"),
        _text("customer_id"),
        sa.PrimaryKeyConstraint("name", "value", "customer_id", name="identifiers_told"),
    )
    op.create_table(
        "identifiers_indexed",
        _text("name"),
        _whole("position"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "persons",
        _text("person_id"),
        _bytes("person"),
        _whole("open_work"),
        sa.PrimaryKeyConstraint("person_id"),
    )


def downgrade() -> None:
    """Remove every table, with what it holds."""
    for name in reversed(_TABLES):
        op.drop_table(name)


def _text(name: str, *, nullable: bool = False, **more: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable, **more)


def _whole(name: str, *, nullable: bool = False, **more: Any) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable, autoincrement=False, **more)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)
