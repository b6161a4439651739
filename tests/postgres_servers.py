"""PostgreSQL for tests: a database of a server that runs already, made for whoever asks and dropped at the end."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from psycopg import sql

from features.database_location import DatabaseLocation
from models.database_migrations import all_tables, upgrade

SERVER = os.environ.get("HEADWAY_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")
"""Without the database; whoever logs in may make databases."""

_numbers = itertools.count()


@contextmanager
def postgres_database(*, tables: bool = True) -> Iterator[DatabaseLocation]:
    """A database of its own at ``SERVER``, with our tables or none; dropped at the end, whoever is still in it.

    The test is skipped where no server answers, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """
    name = f"headway_test_{os.getpid()}_{next(_numbers)}"
    try:
        server = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        reason = f"no PostgreSQL answers at {SERVER}: start one, or name another in HEADWAY_TEST_POSTGRES ({error})"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with server:
        make = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
        server.execute(sql.SQL(make).format(sql.Identifier(name)))
    location = DatabaseLocation.of(f"{SERVER}/{name}")
    try:
        if tables:
            upgrade(location)
        yield location
    finally:
        with suppress(psycopg.OperationalError), psycopg.connect(f"{SERVER}/postgres", autocommit=True) as again:
            again.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def empty(location: DatabaseLocation) -> None:
    """Remove every row."""
    names = sql.SQL(", ").join(sql.Identifier(table.name) for table in all_tables().sorted_tables)
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute(sql.SQL("TRUNCATE {}").format(names))


def drop_connections(location: DatabaseLocation) -> None:
    """End every connection to a database from the server's side, as it does for a process that was killed."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 5000) {others}".encode())
