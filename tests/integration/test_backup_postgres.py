"""Backups of a home whose events and records are in PostgreSQL, and the way from SQLite's files to it and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from features.database_location import DatabaseLocation
from features.errors import Refused, StoreCorrupted
from features.event_store import SqlEventLog, open_event_log
from features.home import Home
from models.backup import LAYOUTS
from models.database_migrations import upgrade
from models.record_store import SqlRecordStore, open_record_store
from models.restore import restore_backup
from tests.backups import backed_up, killed_at, lived_in, rows, small_home
from tests.doors import NOW
from tests.histories import event
from tests.postgres_servers import postgres_database
from tests.recorded import live, recorded_world


@pytest.fixture
def location() -> Iterator[DatabaseLocation]:
    """A database without tables."""
    with postgres_database(tables=False) as location:
        yield location


def _rows(location: DatabaseLocation) -> dict[str, list[tuple[Any, ...]]]:
    tables = [table for layout in LAYOUTS.values() for table in layout.metadata.sorted_tables]
    with psycopg.connect(location.url) as connection:
        found = {}
        for table in tables:
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            statement = f"SELECT {columns} FROM {table.name}"  # noqa: S608
            found[table.name] = sorted(connection.execute(statement.encode(), binary=True).fetchall(), key=repr)
    return found


def _both(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    return rows(home.events_db) | rows(home.records_db)


def test_a_home_moves_to_postgres_and_back(location: DatabaseLocation, tmp_path: Path) -> None:
    """With every row of every table; its files are where they were, without databases."""
    first = lived_in(tmp_path / "first", decisions=20)
    second, third = Home(tmp_path / "second", location), Home(tmp_path / "third")

    restore_backup(backed_up(first, tmp_path / "1.zip").path, second, at=NOW)
    assert _rows(location) == _both(first)
    assert [path for kind in ("*.db*", "*.head") for path in second.state.glob(kind)] == []
    assert (second.champion_file).read_bytes() == first.champion_file.read_bytes()

    restore_backup(backed_up(second, tmp_path / "2.zip").path, third, at=NOW)
    assert _both(third) == _both(first)


def test_a_database_is_backed_up_while_it_is_written(location: DatabaseLocation, tmp_path: Path) -> None:
    """As of one moment of both stores; what is written meanwhile is not in it, and goes on."""
    home = Home(tmp_path / "home", location)
    restore_backup(backed_up(small_home(tmp_path / "small"), tmp_path / "1.zip").path, home, at=NOW)
    with closing(open_event_log(home)) as log, closing(open_record_store(home)) as records:
        world = recorded_world(home.root, log=log, records=records)
        with world.client() as client:
            live(world, client, decisions=8, customers=4, seed=1)
        before = _rows(location)
        written: list[int] = []

        def write(count: int) -> None:
            if not written:
                written.extend(one.position for one in log.append([event("meanwhile", customer_id="c-1")]))

        made = backed_up(home, tmp_path / "2.zip", progress=write)

    restored = Home(tmp_path / "restored")
    restore_backup(made.path, restored, at=NOW)
    assert written == [len(before["events"]) + 1]
    assert _both(restored)["events"] == before["events"]
    assert _both(restored)["decisions"] == before["decisions"]
    assert _both(restored)["capacity_counters"] == before["capacity_counters"]


def test_a_database_that_holds_something_is_refused(location: DatabaseLocation, tmp_path: Path) -> None:
    """By the names of its tables, also with ``--force``: a database cannot be renamed from within."""
    backup = backed_up(small_home(tmp_path / "small"), tmp_path / "1.zip").path
    restore_backup(backup, Home(tmp_path / "first", location), at=NOW)
    before = _rows(location)

    with pytest.raises(Refused, match="holds rows in events; expected an empty database: make another one"):
        restore_backup(backup, Home(tmp_path / "second", location), at=NOW, move_aside=True)

    assert _rows(location) == before
    assert not (tmp_path / "second").exists()


def test_a_database_in_use_is_refused(location: DatabaseLocation, tmp_path: Path) -> None:
    """A service that runs on it would go on writing."""
    backup = backed_up(small_home(tmp_path / "small"), tmp_path / "1.zip").path
    restore_backup(backup, Home(tmp_path / "first", location), at=NOW)

    with (
        closing(SqlEventLog(location)),
        pytest.raises(Refused, match="is used by 1 connections of headway; expected none: stop what runs on it"),
    ):
        restore_backup(backup, Home(tmp_path / "second", location), at=NOW)


@pytest.mark.parametrize("step", [61, pytest.param(3, marks=pytest.mark.slow)])
def test_a_restore_that_is_killed_leaves_no_database_that_opens(
    location: DatabaseLocation, tmp_path: Path, step: int
) -> None:
    """Until the home is in its place nobody can open the database, and the next restore goes through."""
    backup = backed_up(small_home(tmp_path / "small"), tmp_path / "1.zip").path
    home = Home(tmp_path / "home", location)
    stop = 1

    while killed_at(stop, lambda: restore_backup(backup, home, at=NOW)):
        if home.root.exists():
            home.root.rename(tmp_path / f"found-{stop}")
        else:
            assert _is_empty_or_refused(location)
        stop += step

    with closing(SqlEventLog(location, readonly=True)) as log:
        assert log.head() == 3


def _is_empty_or_refused(location: DatabaseLocation) -> bool:
    try:
        with closing(SqlEventLog(location, readonly=True)) as log:
            return log.head() == 0
    except StoreCorrupted as error:
        return "the restore did not end" in str(error)
    except Refused as error:  # without tables
        return "has no tables" in str(error)


def test_a_database_whose_restore_did_not_end_is_not_upgraded(location: DatabaseLocation) -> None:
    """It is said what to do."""
    upgrade(location)
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'restoring'")

    with pytest.raises(Refused, match="the restore did not end; expected it to: run `headway restore` again"):
        upgrade(location)


def test_what_postgres_cannot_keep_is_refused(location: DatabaseLocation, tmp_path: Path) -> None:
    """And nothing is kept then."""
    small = small_home(tmp_path / "small")
    with closing(SqlRecordStore(small.records_db)) as records:
        records.set_consents("c\x00", {"sms": "granted"}, at=1)

    with pytest.raises(Refused, match="expected text that is valid Unicode"):
        restore_backup(backed_up(small, tmp_path / "1.zip").path, Home(tmp_path / "home", location), at=NOW)

    assert not (tmp_path / "home").exists()
    with closing(SqlEventLog(location, readonly=True)) as log:
        assert log.head() == 0
