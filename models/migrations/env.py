"""What Alembic runs for every command: the migrations on the connection that it was given, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('headway migrations'))")

_connection = context.config.attributes["connection"]
context.configure(connection=_connection, target_metadata=context.config.attributes["metadata"], compare_type=True)
with context.begin_transaction():
    _connection.execute(_LOCK)
    context.run_migrations()
