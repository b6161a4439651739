"""All rows of a store's tables as pages of bytes, which say nothing of the database that they were read from.

A page is one MessagePack array of rows, each an array of integers, texts, bytes and nils in the order of its table's
columns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec
from sqlalchemy import Column as SqlColumn
from sqlalchemy import LargeBinary, MetaData, PrimaryKeyConstraint, Table, Text, UniqueConstraint
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

from features.backup_format import Column, ColumnKind, StoreRows, TableRows, row_decoder
from features.errors import Refused, StoreCorrupted
from features.sql_text import BYTES, TEXT, WHOLE
from features.sqlite_files import connect_reader, store_errors
from features.store_head import HEAD_TABLE

PAGE_BYTES: Final = 4 << 20
_FIRST_PAGE: Final = 200
_ROWS_AT_ONCE: Final = 2_000
_MOST_ROWS: Final = 50_000
_KINDS: Final[dict[str, ColumnKind]] = {"INTEGER": "integer", "TEXT": "text", "BLOB": "bytes"}
_TYPES: Final[dict[ColumnKind, Any]] = {"integer": WHOLE, "text": TEXT, "bytes": BYTES}
_CACHE_KIB: Final = 64 << 10

FetchMany: TypeAlias = Callable[[int], "list[tuple[Any, ...]]"]


class StoreMoment(Protocol):
    """A store as of one moment, until ``close``."""

    @property
    def layout(self) -> int:
        """Version of the layout of its tables."""
        ...

    @property
    def tables(self) -> tuple[TableRows, ...]:
        """Its tables, with no rows counted."""
        ...

    def pages(self, table: TableRows) -> Iterator[tuple[int, bytes]]:
        """How many rows each page of a table has, and the page."""
        ...

    def value(self, statement: str) -> Any:
        """The first value that a statement gives; None where it gives none."""
        ...

    def close(self) -> None:
        """Let the moment go."""
        ...


class SqliteMoment:
    """What one SQLite file held when this was made, whatever its writer does meanwhile.

    Raises:
        UnknownObject: there is no such file.
        StoreUnavailable: it cannot be read.
        StoreCorrupted: it is no SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect_reader(path)
        try:
            with store_errors(path):
                self._connection.execute("BEGIN")
                self.layout = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
                self.tables = tuple(_tables(self._connection, path))
        except BaseException:
            self._connection.close()
            raise

    def pages(self, table: TableRows) -> Iterator[tuple[int, bytes]]:
        """Pages in the order in which the rows were first written."""
        statement = f"SELECT {', '.join(table.names)} FROM {table.name}"  # noqa: S608  # names of its own, checked
        with store_errors(self._path):
            yield from pages_of(self._connection.execute(statement).fetchmany)

    def rows(self, table: TableRows) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a table, some at a time."""
        statement = f"SELECT {', '.join(table.names)} FROM {table.name}"  # noqa: S608  # likewise
        with store_errors(self._path):
            found = self._connection.execute(statement)
            while some := found.fetchmany(_ROWS_AT_ONCE):
                yield some

    def value(self, statement: str) -> Any:
        """The first value that a statement gives; None where it gives none."""
        with store_errors(self._path):
            row = self._connection.execute(statement).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        """Let the moment go, so that the writer can shorten its log again."""
        self._connection.close()


def pages_of(fetch: FetchMany) -> Iterator[tuple[int, bytes]]:
    """Rows as pages of about ``PAGE_BYTES``: how many, and the page."""
    encode = msgspec.msgpack.Encoder().encode
    count = _FIRST_PAGE
    while rows := fetch(count):
        page = encode(rows)
        yield len(rows), page
        count = max(1, min(_MOST_ROWS, len(rows) * PAGE_BYTES // len(page)))


def shape_of(table: Table) -> TableRows:
    """A declared table as a backup tells of it, with no rows counted."""
    unique = [one for one in table.constraints if isinstance(one, UniqueConstraint)]
    return TableRows(
        name=str(table.name),  # plain text, which SQLAlchemy's names are not
        columns=tuple(Column(str(one.name), _kind(one), bool(one.nullable)) for one in table.columns),
        key=tuple(str(one.name) for one in table.primary_key.columns),
        unique=tuple(sorted(tuple(str(column.name) for column in one.columns) for one in unique)),
        rows=0,
    )


def check_layout(rows: StoreRows, metadata: MetaData, *, where: str) -> None:
    """Raise unless the tables of a backup are those that this release declares.

    Raises:
        Refused: they are others.
    """
    declared = {table.name: _plain(shape_of(table)) for table in metadata.sorted_tables}
    found = {table.name: _plain(table) for table in rows.tables}
    if found != declared:
        other = sorted(name for name in {*found, *declared} if found.get(name) != declared.get(name))
        raise Refused(
            f"{where}: layout {rows.layout} has other tables than this release declares ({', '.join(other)}); "
            f"expected those of a backup"
        )


def write_tables(
    path: Path, rows: StoreRows, metadata: MetaData | None, pages: Callable[[str], Iterable[bytes]]
) -> None:
    """Make an SQLite file with the rows of a backup, without indexes; opening the store makes them.

    Args:
        path: the file, which is not there yet.
        rows: its tables.
        metadata: as this release declares them; None for those of an older layout.
        pages: the pages of each table.

    Raises:
        Refused: pages are no rows of their table.
        StoreUnavailable: the file cannot be written.
    """
    with store_errors(path):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            # Whatever is lost with the power is lost with the folder that it stands in, which is nobody's home yet.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("BEGIN IMMEDIATE")
            for table in rows.tables:
                declared = _declared(table) if metadata is None else metadata.tables[table.name]
                connection.execute(str(CreateTable(declared).compile(dialect=sqlite.dialect())))
                _fill(connection, table, pages(table.name), path)
            if metadata is None:
                connection.execute(f"PRAGMA user_version = {rows.layout}")
            connection.execute("COMMIT")
        finally:
            connection.close()


def decoded_pages(table: TableRows, pages: Iterable[bytes]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of each page.

    Raises:
        Refused: they are none of the table, or not as many as it has.
    """
    decode = row_decoder(table.columns).decode
    left = table.rows
    for page in pages:
        try:
            found = decode(page)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"a page of {table.name} is damaged: {error}; expected rows of a sound backup") from error
        left -= len(found)
        yield found
    if left:
        raise Refused(f"the pages of {table.name} hold {table.rows - left:,} rows, expected {table.rows:,}")


def check_file(path: Path, rows: StoreRows) -> None:
    """Raise unless an SQLite file is sound.

    Raises:
        StoreCorrupted: it is not.
    """
    with store_errors(path):
        connection = sqlite3.connect(path)  # one that may write is the last to close, and leaves one whole file
    try:
        with store_errors(path):
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    finally:
        connection.close()
    if found != ["ok"]:
        raise StoreCorrupted(f"{path}, made of layout {rows.layout}: {'; '.join(found)}; expected a sound file")


def _fill(connection: sqlite3.Connection, table: TableRows, pages: Iterable[bytes], path: Path) -> None:
    places = ", ".join("?" * len(table.columns))
    statement = f"INSERT INTO {table.name} ({', '.join(table.names)}) VALUES ({places})"  # noqa: S608  # checked names
    try:
        for found in decoded_pages(table, pages):
            connection.executemany(statement, found)
    except (sqlite3.IntegrityError, OverflowError) as error:
        raise Refused(f"rows of {table.name} cannot be in {path.name}: {error}; expected a sound backup") from error


def _tables(connection: sqlite3.Connection, path: Path) -> Iterator[TableRows]:
    names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    for (name,) in connection.execute(names).fetchall():
        if name == HEAD_TABLE:  # of the file itself: another file with these rows has its own
            continue
        columns, key = [], []
        for _, column, kind, is_required, _, place in connection.execute(f"PRAGMA table_info({name})").fetchall():
            if kind not in _KINDS:
                raise StoreCorrupted(f"{path}: {name}.{column} has type {kind!r}; expected one of {', '.join(_KINDS)}")
            columns.append(Column(column, _KINDS[kind], not is_required))
            key += [(place, column)] if place else []
        unique = [
            tuple(row[2] for row in connection.execute(f"PRAGMA index_info({index})"))
            for _, index, _, origin, _ in connection.execute(f"PRAGMA index_list({name})").fetchall()
            if origin == "u"
        ]
        yield TableRows(
            name=name,
            columns=tuple(columns),
            key=tuple(column for _, column in sorted(key)),
            unique=tuple(sorted(unique)),
            rows=0,
        )


def _declared(table: TableRows) -> Table:
    """The table of an older layout, of which there is only what the backup says."""
    return Table(
        table.name,
        MetaData(),
        *(SqlColumn(one.name, _TYPES[one.kind], nullable=one.is_nullable) for one in table.columns),
        PrimaryKeyConstraint(*table.key),
        *(UniqueConstraint(*one) for one in table.unique),
    )


def _kind(column: SqlColumn[Any]) -> ColumnKind:
    if isinstance(column.type, LargeBinary):
        return "bytes"
    return "text" if isinstance(column.type, Text) else "integer"


def _plain(table: TableRows) -> tuple[Any, ...]:
    """What must agree: SQLite lets a key of one integer be told as nullable."""
    kinds = {one.name: (one.kind, one.is_nullable and one.name not in table.key) for one in table.columns}
    return kinds, table.key, table.unique
