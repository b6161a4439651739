"""What Alembic runs for every command: the migrations on the connection that it was given, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('headway migrations'))")

_connection = context.config.attributes["connection"]
context.configure(connection=_connection, target_metadata=context.config.attributes["metadata"], compare_type=True)
with context.begin_transaction():
    _connection.execute(text("SET LOCAL lock_timeout = 0"))  # another process may be at it for long
    _connection.execute(_LOCK)
    _connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    context.run_migrations()
