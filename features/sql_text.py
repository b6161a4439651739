"""Statements and tables declared once with SQLAlchemy, as the text that a driver runs.

Compiling and executing through SQLAlchemy's engine costs some 60 us a statement, more than SQLite needs to answer it:
statements are compiled once for each database, and stores run the text on the driver's own connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Dialect, Integer, LargeBinary, MetaData, Text, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import CompilerElement

from features.sqlite_files import Durability, check_version, connect_writer, store_errors

WHOLE = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit integer. SQLite must see the word INTEGER to make a primary key its row id."""

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that orders by code point in every database, as it does here."""

BYTES = LargeBinary()

ZERO: ColumnElement[int] = literal_column("0", WHOLE)

Compile: TypeAlias = Callable[[CompilerElement], str]
Row: TypeAlias = dict[str, Any]
"""Values by the names of columns, or of what a statement takes."""

Values: TypeAlias = Mapping[str, Any] | Sequence[Any]

TEXT_MARK = "?t"
"""Where a statement written by hand takes a text."""

WHOLE_MARK = "?w"
"""Likewise a 64-bit integer."""


class Statement:
    """A statement as each database runs it, with its bound values by name, or by place where it is written by hand.

    Args:
        build: the text, given what compiles a part of it for the database.
    """

    def __init__(self, build: Callable[[Compile], str]) -> None:
        self._build = build

    @cached_property
    def sqlite(self) -> str:
        """For SQLite."""
        text = self._build(lambda part: _compiled(part, sqlite.dialect(paramstyle="named")))
        return text.replace(TEXT_MARK, "?").replace(WHOLE_MARK, "?")

    @cached_property
    def postgres(self) -> str:
        """For PostgreSQL, which must be told the types of bare values."""
        from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

        dialect: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # of SQLAlchemy's
        text = self._build(lambda part: _compiled(part, dialect))
        return text.replace(TEXT_MARK, '%s::text COLLATE "C"').replace(WHOLE_MARK, "%s::bigint")


def statement(element: CompilerElement) -> Statement:
    """A statement of SQLAlchemy's.

    Raises:
        ValueError: when it is run, if it holds constants: they would be missing. Write them with ``ZERO`` or bind them.
    """
    return Statement(lambda compiled: compiled(element))


def written(text: str) -> Statement:
    """A statement written by hand, alike for every database but for ``TEXT_MARK`` and ``WHOLE_MARK``."""
    return Statement(lambda compiled: text)


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed; of many runs, all together."""

    def fetchone(self) -> Any:
        """The next row as a tuple; None after the last."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Likewise, one by one."""


class SqlConnection(Protocol):
    """A connection to either database, as jobs and readers use it."""

    def execute(self, statement: Statement, values: Values = ()) -> Cursor:
        """Run a statement."""

    def executemany(self, statement: Statement, rows: Iterable[Values]) -> Cursor:
        """Run a statement once for each of some rows, which may be none."""


class SqliteConnection:
    """A connection of SQLite's driver."""

    __slots__ = ("driver",)

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver

    def execute(self, statement: Statement, values: Values = ()) -> Cursor:
        """Run a statement."""
        return self.driver.execute(statement.sqlite, values)

    def executemany(self, statement: Statement, rows: Iterable[Values]) -> Cursor:
        """Run a statement once for each of some rows."""
        return self.driver.executemany(statement.sqlite, rows)


def _compiled(element: CompilerElement, dialect: Dialect) -> str:
    compiled = element.compile(dialect=dialect)
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    if constants:
        raise ValueError(f"statement with constants {constants}; expected bound parameters only")
    return str(compiled)


def sqlite_layout(metadata: MetaData) -> list[str]:
    """The statements that create every table and index of ``metadata``."""
    return [statement for _, statement in _named_layout(metadata)]


def _named_layout(metadata: MetaData) -> list[tuple[str, str]]:
    dialect = sqlite.dialect()
    statements: list[tuple[str, str]] = []
    for table in metadata.sorted_tables:
        statements.append((table.name, str(CreateTable(table).compile(dialect=dialect))))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend((str(index.name), str(CreateIndex(index).compile(dialect=dialect))) for index in indexes)
    return statements


def open_layout(
    path: Path, metadata: MetaData, version: int, *, durability: Durability, upgrades: Mapping[int, Sequence[str]]
) -> sqlite3.Connection:
    """The writing connection to ``path``, with the tables of ``metadata`` made where the file is new or older.

    A file of a version in ``upgrades`` gets the tables that it lacks, then runs that version's statements.

    Raises:
        StoreUnavailable: if the file cannot be opened.
        StoreCorrupted: if it is no SQLite file, or another version of the layout wrote it.
    """
    connection = connect_writer(path, durability=durability)
    with store_errors(path):
        found = check_version(connection, path, version, upgraded=tuple(upgrades))
        if found != version:
            connection.execute("BEGIN IMMEDIATE")
            there = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
            lacking = [statement for name, statement in _named_layout(metadata) if name not in there]
            for statement in (*lacking, *upgrades.get(found, ())):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
    return connection
