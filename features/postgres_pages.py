"""All rows of a PostgreSQL database as pages of bytes, as of one moment; and an empty database filled with rows.

A database that is being filled is at the revision ``RESTORING``, which every release refuses, until ``finish_filling``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from features.backup_format import TableRows
from features.database_location import DatabaseLocation
from features.errors import Refused
from features.postgres_store import RESTORING, REVISION, check_database, connect, postgres_failure
from features.sql_store import Layout
from features.table_pages import pages_of, shape_of

IDLE_MINUTES: Final = 10
"""So long a disk may take between two pages."""

_TYPES: Final = {"integer": "int8", "text": "text", "bytes": "bytea"}
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'headway' AND pid <> pg_backend_pid()
"""
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.1
_SET_REVISION: Final = "UPDATE alembic_version SET version_num = %s"

Driver = psycopg.Connection[tuple[Any, ...]]


class PostgresMoment:
    """The tables of one store in a transaction that sees one moment of its database.

    Args:
        driver: the connection, from ``database_moment``.
        layout: of the store.
    """

    def __init__(self, driver: Driver, layout: Layout) -> None:
        self._driver = driver
        self.layout = layout.version
        self.tables = tuple(shape_of(table) for table in layout.metadata.sorted_tables)

    def pages(self, table: TableRows) -> Iterator[tuple[int, bytes]]:
        """Pages in the order in which the database finds the rows."""
        with self._driver.cursor(name=f"pages_{table.name}", binary=True) as rows:
            rows.execute(sql.SQL("SELECT {} FROM {}").format(_columns(table), sql.Identifier(table.name)))
            yield from pages_of(rows.fetchmany)

    def value(self, statement: str) -> Any:
        """The first value that a statement gives; None where it gives none."""
        row = self._driver.execute(statement.encode()).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Nothing: the moment is the transaction's."""


@contextmanager
def database_moment(location: DatabaseLocation) -> Iterator[Driver]:
    """A connection in a transaction that sees one moment of a database, whatever is written meanwhile.

    Raises:
        UnknownObject: the database has no tables.
        StoreUnavailable: it does not answer.
        StoreCorrupted: it has the layout of another release.
    """
    check_database(location)
    with _failures(location), connect(location, readonly=True) as driver:
        _be_patient(driver)
        driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        driver.execute("SELECT version_num FROM alembic_version")  # the first statement is the moment
        yield driver


def check_empty(location: DatabaseLocation, tables: Sequence[str]) -> None:
    """Nothing, where a database has the tables of this release and no rows, or those of a restore that was killed.

    Raises:
        Refused: it holds something, or processes use it.
        StoreUnavailable: it does not answer.
    """
    with _failures(location), connect(location, readonly=True) as driver:
        _check_empty(driver, location, tables)


def fill_database(
    location: DatabaseLocation,
    tables: Sequence[TableRows],
    rows: Callable[[TableRows], Iterable[Sequence[tuple[Any, ...]]]],
) -> None:
    """Fill the tables of an empty database in one transaction, which leaves it at ``RESTORING``.

    Raises:
        Refused: it holds something, processes use it, or it cannot keep a value.
        StoreUnavailable: it does not answer.
    """
    names = [table.name for table in tables]
    with _failures(location), connect(location) as driver:
        _be_patient(driver)
        driver.execute("BEGIN")
        every = sql.SQL(", ").join(map(sql.Identifier, names))
        driver.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(every))
        _check_empty(driver, location, names)
        driver.execute(sql.SQL("TRUNCATE {}").format(every))
        for table in tables:
            _fill(driver, table, rows(table))
        driver.execute(_SET_REVISION, (RESTORING,))
        driver.execute("COMMIT")
        driver.execute("ANALYZE")


def finish_filling(location: DatabaseLocation) -> None:
    """Give a database that was filled the revision of this release: from now on it may be opened.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with _failures(location), connect(location) as driver:
        driver.execute(_SET_REVISION, (REVISION,))


def _fill(driver: Driver, table: TableRows, pages: Iterable[Sequence[tuple[Any, ...]]]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)")
    with driver.cursor() as cursor, cursor.copy(statement.format(sql.Identifier(table.name), _columns(table))) as copy:
        copy.set_types([_TYPES[column.kind] for column in table.columns])
        for page in pages:
            for row in page:
                copy.write_row(row)


def _others(driver: Driver) -> int:
    """Connections of headway that stay: the server lists one for a moment longer than its process held it."""
    others = 0
    for _ in range(_LOOKS):
        driver.execute("SELECT pg_stat_clear_snapshot()")
        ((others,),) = driver.execute(_OTHERS).fetchall()
        if not others:
            break
        time.sleep(_LOOK_SECONDS)
    return int(others)


def _check_empty(driver: Driver, location: DatabaseLocation, tables: Sequence[str]) -> None:
    if others := _others(driver):
        raise Refused(f"{location} is used by {others} connections of headway; expected none: stop what runs on it")
    found = driver.execute("SELECT version_num FROM alembic_version").fetchone()
    if found == (RESTORING,):
        return
    held = [
        name
        for name in tables
        if driver.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(name))).fetchone() is not None
    ]
    if held:
        raise Refused(
            f"{location} holds rows in {', '.join(held)}; expected an empty database: make another one, and name it "
            f"in HEADWAY_DATABASE"
        )


def _columns(table: TableRows) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.names))


def _be_patient(driver: Driver) -> None:
    """A whole table takes longer than a request may."""
    driver.execute("SET statement_timeout = 0")
    driver.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_MINUTES}min'".encode())


@contextmanager
def _failures(location: DatabaseLocation) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise postgres_failure(location.masked, error) from error
