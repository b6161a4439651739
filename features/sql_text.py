"""Statements and tables declared once with SQLAlchemy, as the text that a driver runs.

Compiling and executing through SQLAlchemy's engine costs some 60 us a statement, more than SQLite needs to answer it:
statements are compiled once, and stores run the text on the driver's own connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import BigInteger, ColumnElement, Integer, LargeBinary, MetaData, Text, literal_column
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


def sqlite_text(statement: CompilerElement) -> str:
    """The statement as SQLite runs it, with its bound values as ``:name``.

    Raises:
        ValueError: if it holds constants: they would be missing when it runs. Write them with ``ZERO`` or bind them.
    """
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
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
