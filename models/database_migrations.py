"""Brings a PostgreSQL database to the layout of this release, and back; the one module that runs Alembic.

A migration is one transaction: it is done whole or not at all, and of two processes that begin it one waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, MetaData, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from features import event_log_tables
from features.database_location import DatabaseLocation
from features.errors import Refused
from features.postgres_store import RESTORING, check_encoding, connect, postgres_failure, restoring_message
from models import record_tables

EMPTY: Final = "base"
"""The revision of a database without our tables."""

HEAD: Final = "head"
"""The newest revision."""

_ONE_MOVE: Final = threading.Lock()
"""What Alembic runs looks up its connection in the whole process."""

_NO_HURRY: Final = b"SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
"""An index over many rows takes as long as it takes. Only for locks of tables, behind which all others wait, is there
an end to waiting."""


def all_tables() -> MetaData:
    """Every table of the event log and the record store."""
    together = MetaData()
    for metadata in (event_log_tables.metadata, record_tables.metadata):
        for table in metadata.sorted_tables:
            table.to_metadata(together)
    return together


def upgrade(location: DatabaseLocation, revision: str = HEAD) -> str | None:
    """Bring a database up to a revision; what it was at before, None where it was empty.

    Raises:
        StoreUnavailable: the database cannot be reached, or does not let us make tables.
        Refused: there is no such revision, the database is at one of another release, or it does not keep every text.
    """
    return _moved(location, lambda config: command.upgrade(config, _known(config, revision)))


def downgrade(location: DatabaseLocation, revision: str) -> str | None:
    """Bring a database down to a revision; what it was at before.

    Raises:
        StoreUnavailable: the database cannot be reached.
        Refused: there is no such revision, or the database is at one of another release.
    """
    return _moved(location, lambda config: command.downgrade(config, _known(config, revision)))


def current(location: DatabaseLocation) -> str | None:
    """The revision that a database is at; None where it is empty.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    with _connected(location) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def differences(location: DatabaseLocation) -> list[Any]:
    """What a database's tables differ in from those of this release, as Alembic tells it; empty where in nothing."""
    with _connected(location) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, all_tables()))


def revisions() -> list[str]:
    """All revisions there are, oldest first."""
    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return [one.revision for one in reversed(list(found))]


def _moved(location: DatabaseLocation, move: Callable[[Config], None]) -> str | None:
    with _connected(location) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        check_encoding(location, connection.execute(text("SHOW server_encoding")).scalar_one())
        connection.rollback()
        if before == RESTORING:
            raise Refused(restoring_message(location.masked))
        if before is not None and before not in revisions():
            raise Refused(
                f"{location} is at revision {before!r:.80}; expected one of {', '.join(revisions())}: "
                "use the release that wrote it, which can bring it down"
            )
        config = _config()
        config.attributes.update(connection=connection, metadata=all_tables())
        try:
            with _ONE_MOVE:
                move(config)
        except CommandError as error:
            raise Refused(f"{location}: {error}; expected a way from {before or EMPTY}: look at its status") from error
        connection.commit()
    return before


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _known(config: Config, revision: str) -> str:
    allowed = [EMPTY, *revisions()]
    if revision not in (*allowed, HEAD):
        raise Refused(f"revision {revision!r:.80}; expected one of {', '.join(allowed)}")
    return revision


@contextmanager
def _connected(location: DatabaseLocation) -> Iterator[Connection]:
    def connected() -> psycopg.Connection[tuple[Any, ...]]:
        connection = connect(location)
        connection.execute(_NO_HURRY)
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=connected, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    except psycopg.Error as error:
        raise postgres_failure(location.masked, error) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise postgres_failure(location.masked, error.orig) from error
        raise
    finally:
        engine.dispose()
