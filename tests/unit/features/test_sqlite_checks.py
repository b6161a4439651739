"""Checks of SQLite files: damage and second writers are found, and nothing is left beside a file that was looked at."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from features.event_log_tables import LAYOUT
from features.event_store import SqlEventLog
from features.sqlite_checks import layout, one_writer, pages, sqlite_version

WRITE = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """The file of an event log that was closed."""
    path = tmp_path / "events.db"
    SqlEventLog(path).close()
    return path


@contextmanager
def second_writer(path: Path) -> Iterator[int]:
    """Another process that has a file open for writing, as somebody's shell does; its id."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def set_version(path: Path, version: int) -> None:
    """Give a file another layout version."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


def flip_page(path: Path) -> None:
    """Turn the header of the last page of a file over."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[-size] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(("version", "status"), [((3, 23, 1), "failed"), ((3, 40, 1), "ok"), ((3, 51, 3), "ok")])
def test_an_old_sqlite_is_told(version: tuple[int, ...], status: str) -> None:
    """Below the mended one the finding says why there is one writer."""
    finding = sqlite_version(version)

    assert finding.status == status
    assert ("two writers" in finding.found) == (version == (3, 40, 1))


def test_a_store_that_nobody_has_open_is_well(events: Path) -> None:
    """Its layout and pages are, and looking leaves no file beside it."""
    before = sorted(events.parent.iterdir())

    findings = [
        one_writer("events", events),
        layout("events", events, LAYOUT.version),
        pages("events", events, remedy=""),
    ]

    assert [finding.status for finding in findings] == ["ok", "ok", "ok"]
    assert sorted(events.parent.iterdir()) == before


def test_a_store_is_checked_while_it_is_written(events: Path) -> None:
    """The finding names the writer; the lock stays where it is."""
    with closing(SqlEventLog(events)) as log:
        finding = one_writer("events", events)
        sound = pages("events", events, remedy="")
        log.check_writes()

    assert (finding.status, sound.status) == ("ok", "ok")
    assert f"process {os.getpid()} (" in finding.found


def test_a_second_writer_fails(events: Path) -> None:
    """Both are named, though the second took no lock."""
    with closing(SqlEventLog(events)), second_writer(events) as stranger:
        finding = one_writer("events", events)

    assert finding.status == "failed"
    assert f"process {os.getpid()} (" in finding.found
    assert f"process {stranger} (python" in finding.found


def test_a_writer_without_the_lock_is_told(events: Path) -> None:
    """The service could start beside it."""
    with second_writer(events) as stranger:
        finding = one_writer("events", events)

    assert (finding.status, finding.expected) == ("warning", "nobody who writes past the lock")
    assert finding.remedy == f"end process {stranger}: a second writer can damage the file"


def test_a_writer_of_another_user_is_told_by_its_lock(events: Path, tmp_path: Path) -> None:
    """Where this user cannot look into the process; one that was killed is not taken for it."""
    events.with_name("events.db.lock").write_text("4242\nheadway serve\n")
    processes = tmp_path / "proc"
    (processes / "self").mkdir(parents=True)
    gone = one_writer("events", events, processes=processes)
    (processes / "4242").mkdir()  # without a folder that could be listed
    hidden = one_writer("events", events, processes=processes)

    assert gone.found == "nobody writes it"
    assert (hidden.status, hidden.found.partition(",")[0]) == ("ok", "written by process 4242 (headway serve)")


def test_where_processes_cannot_be_seen_writers_are_not_guessed(events: Path, tmp_path: Path) -> None:
    """Not every system has /proc."""
    assert one_writer("events", events, processes=tmp_path).status == "not_applicable"


def test_another_layout_is_told(events: Path) -> None:
    """An older one is brought up to date by the next start, a newer one cannot be read."""
    set_version(events, LAYOUT.version - 1)
    older = layout("events", events, LAYOUT.version)
    set_version(events, LAYOUT.version + 1)
    newer = layout("events", events, LAYOUT.version)

    assert (older.status, older.expected) == ("warning", str(LAYOUT.version))
    assert (newer.status, newer.remedy) == ("failed", "use the release that wrote it, or a newer one")


def test_a_flipped_byte_fails(events: Path) -> None:
    """With the advice of whoever knows the store."""
    flip_page(events)

    finding = pages("events", events, remedy="restore it")

    assert (finding.status, finding.remedy) == ("failed", "restore it")


def test_a_file_that_is_no_database_fails(events: Path) -> None:
    """Both looks say so."""
    events.write_bytes(b"x" * 4096)

    assert layout("events", events, LAYOUT.version).status == "failed"
    assert pages("events", events, remedy="").status == "failed"


def test_what_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    """A home before its first start."""
    path = tmp_path / "events.db"

    assert layout("events", path, 1).status == "not_applicable"
    assert pages("events", path, remedy="").status == "not_applicable"
    assert one_writer("events", path).status == "ok"
