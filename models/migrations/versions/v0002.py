"""Durable jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of jobs."""
    op.create_table(
        "jobs",
        _text("job_id"),
        _text("kind"),
        _bytes("spec"),
        _text("source"),
        _text("key_id"),
        _text("request_id"),
        _text("request_hash"),
        _whole("created_at"),
        _whole("ready_at"),
        _text("state"),
        _text("step"),
        _whole("done"),
        _whole("total", nullable=True),
        _text("owner"),
        _whole("token"),
        _whole("attempts"),
        _whole("lease_until"),
        _whole("heartbeat_at"),
        _whole("started_at", nullable=True),
        _whole("finished_at", nullable=True),
        _bytes("summary", nullable=True),
        _text("file", nullable=True),
        _bytes("error", nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
        sa.UniqueConstraint("source", "request_id", name="jobs_request"),
    )
    op.create_index("jobs_of_source", "jobs", ["source", "job_id"])
    op.create_index("jobs_of_state", "jobs", ["state", "created_at"])
    op.create_index("jobs_finished", "jobs", ["finished_at"])


def downgrade() -> None:
    """Remove it, with every job."""
    op.drop_table("jobs")


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _bytes(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=nullable)
