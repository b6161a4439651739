"""The write-ahead log of a store is cut once nobody reads from it, and grows no longer than a reader stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from features.sqlite_files import BUSY_TIMEOUT_MS, connect_reader, connect_writer
from features.write_ahead import WriteAheadLog, write_ahead_bytes

_ROW = b"x" * 100_000
_CUT_ABOVE = 500_000


class _Clock:
    """A timer that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store goes."""
    return tmp_path / "store.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """The connection that writes it."""
    with closing(connect_writer(path)) as connection:
        connection.execute("CREATE TABLE rows (row BLOB)")
        connection.execute("INSERT INTO rows VALUES (x'00')")
        yield connection


def _write(writer: sqlite3.Connection, rows: int) -> None:
    for _ in range(rows):
        writer.execute("INSERT INTO rows VALUES (?)", (_ROW,))


def test_it_is_cut_once_the_reader_is_gone(path: Path, writer: sqlite3.Connection) -> None:
    """While somebody reads, it is let grow, and nobody waits; at the next look after that it is cut."""
    clock = _Clock()
    log = WriteAheadLog(path, writer, busy_timeout_ms=BUSY_TIMEOUT_MS, cut_above=_CUT_ABOVE, timer=clock)
    with closing(connect_reader(path)) as reader:
        rows = reader.execute("SELECT * FROM rows")
        rows.fetchone()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM rows").fetchone()
        _write(writer, 60)
        log.look()
        while_read = write_ahead_bytes(path)

    log.look()
    within_a_second = write_ahead_bytes(path)
    clock.now += 1.0
    log.look()

    assert while_read > 60 * len(_ROW)
    assert within_a_second == while_read
    assert write_ahead_bytes(path) == 0
    assert writer.execute("SELECT count(*) FROM rows").fetchone() == (61,)
    assert writer.execute("PRAGMA busy_timeout").fetchone() == (BUSY_TIMEOUT_MS,)


def test_a_short_one_is_left_alone(path: Path, writer: sqlite3.Connection) -> None:
    """Cutting it after each commit would cost more than it is worth."""
    log = WriteAheadLog(path, writer, busy_timeout_ms=BUSY_TIMEOUT_MS, cut_above=_CUT_ABOVE, timer=_Clock())
    _write(writer, 2)
    before = write_ahead_bytes(path)

    log.look()

    assert write_ahead_bytes(path) == before > 0


def test_a_file_without_one_has_none(tmp_path: Path) -> None:
    """Closed, or never opened."""
    assert write_ahead_bytes(tmp_path / "none.db") == 0
