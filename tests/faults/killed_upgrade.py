"""A process that dies in the middle of an upgrade of its database."""

from __future__ import annotations

import os
import signal
from typing import Any

import psycopg

from features.database_location import DatabaseLocation
from models.database_migrations import upgrade


def upgrade_and_die(url: str, statement: str) -> None:
    """Bring a database up, and be killed once a statement is done that begins so."""
    run = psycopg.Cursor.execute

    def execute(cursor: Any, query: Any, *args: Any, **more: Any) -> Any:
        done = run(cursor, query, *args, **more)
        if str(query).lstrip().startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]  # on purpose
    upgrade(DatabaseLocation.of(url))
