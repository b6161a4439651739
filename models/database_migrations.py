"""Brings a PostgreSQL database to the layout of this release, and back; the one module that runs Alembic.

A migration is one transaction: it is done whole or not at all, and of two processes that begin it one waits.
"""

from __future__ import annotations

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
from sqlalchemy import Connection, MetaData, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from features import event_store
from features.database_location import DatabaseLocation
from features.errors import Refused
from features.postgres_store import RESTORING, connect, postgres_failure, restoring_message
from models import record_store

EMPTY: Final = "base"
"""The revision of a database without our tables."""

HEAD: Final = "head"
"""The newest revision."""


def all_tables() -> MetaData:
    """Every table of the event log and the record store."""
    together = MetaData()
    for metadata in (event_store.metadata, record_store.metadata):
        for table in metadata.sorted_tables:
            table.to_metadata(together)
    return together


def upgrade(location: DatabaseLocation, revision: str = HEAD) -> str | None:
    """Bring a database up to a revision; what it was at before, None where it was empty.

    Raises:
        StoreUnavailable: the database cannot be reached, or does not let us make tables.
        Refused: there is no such revision.
    """
    return _moved(location, lambda config: command.upgrade(config, _known(config, revision)))


def downgrade(location: DatabaseLocation, revision: str) -> str | None:
    """Bring a database down to a revision; what it was at before.

    Raises:
        StoreUnavailable: the database cannot be reached.
        Refused: there is no such revision.
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
        connection.rollback()
        if before == RESTORING:
            raise Refused(restoring_message(location.masked))
        config = _config()
        config.attributes.update(connection=connection, metadata=all_tables())
        move(config)
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
