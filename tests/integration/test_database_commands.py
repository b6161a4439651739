"""`headway database` and the migrations behind it: up, down and up again, one at a time, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import entry_points
from typing import Any

import psycopg
import pytest

from features.cli import COMMAND_GROUP, run
from features.database_location import VARIABLE, DatabaseLocation
from features.errors import Refused, StoreCorrupted, StoreUnavailable
from features.event_store import SqlEventLog
from features.postgres_store import REVISION
from models.database_migrations import EMPTY, current, differences, downgrade, revisions, upgrade
from models.record_store import SqlRecordStore
from tests.decision_records import record
from tests.faults.killed_upgrade import upgrade_and_die
from tests.histories import event
from tests.job_records import ASKED_AT, submission
from tests.postgres_servers import SERVER, postgres_database


@pytest.fixture(scope="module")
def made() -> Iterator[DatabaseLocation]:
    """A database that is emptied for each test rather than made anew."""
    with postgres_database(tables=False) as location:
        yield location


@pytest.fixture
def location(made: DatabaseLocation) -> DatabaseLocation:
    """A database without tables."""
    with psycopg.connect(made.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return made


def _tables(location: DatabaseLocation) -> list[str]:
    with psycopg.connect(location.url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [name for (name,) in rows]


def test_the_newest_migration_makes_the_tables_of_this_release(location: DatabaseLocation) -> None:
    """No more and no fewer, as they are declared; up, down and up again."""
    assert revisions()[-1] == REVISION
    for _ in range(2):
        assert upgrade(location) is None
        assert current(location) == REVISION
        assert differences(location) == []
        assert downgrade(location, EMPTY) == REVISION
        assert _tables(location) == ["alembic_version"]
        assert current(location) is None


def test_what_tables_hold_stays(location: DatabaseLocation) -> None:
    """An upgrade of what is up to date changes nothing."""
    upgrade(location)
    with closing(SqlEventLog(location)) as log, closing(SqlRecordStore(location)) as records:
        log.append([event("a")])
        records.commit(record(1), b"answer", None)
        assert upgrade(location) == REVISION

        assert log.append([event("a")])[0].duplicate
        assert records.decision_of_request("crm", "r-1").answer == b"answer"  # type: ignore[union-attr]  # not None


@pytest.mark.parametrize("revision", revisions())
def test_every_released_layout_goes_up_and_comes_back(location: DatabaseLocation, revision: str) -> None:
    """With what it holds."""
    upgrade(location, revision)
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("INSERT INTO consent_changes VALUES ('c1', 'sms', 'granted', 5)")
        before = _columns(location)

        assert upgrade(location) == revision
        assert differences(location) == []
        with closing(SqlRecordStore(location)) as records:
            assert records.customer("c1", since=0, now=9).consents == {"sms": "granted"}
            records.jobs.submit(submission(), most_queued=1, now=ASKED_AT)
        downgrade(location, revision)

        assert _columns(location) == before
        assert connection.execute("SELECT customer_id, state FROM consent_changes").fetchall() == [("c1", "granted")]


def _columns(location: DatabaseLocation) -> list[tuple[Any, ...]]:
    columns = "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
    with psycopg.connect(location.url) as connection:
        return connection.execute(f"{columns} WHERE table_schema = 'public' ORDER BY 1, 2".encode()).fetchall()


def test_differences_are_told(location: DatabaseLocation) -> None:
    """A column of another type, and a table that nobody declared."""
    upgrade(location)
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE events ALTER COLUMN sequence TYPE int; CREATE TABLE stray (n int)")

    told = str(differences(location))

    assert "stray" in told
    assert "modify_type" in told


def test_a_revision_of_another_release_is_left_alone(location: DatabaseLocation) -> None:
    """With the next step, by every command and by the stores."""
    with pytest.raises(Refused, match="revision '0007'; expected one of base, 0001"):
        upgrade(location, "0007")
    upgrade(location)
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for move in (lambda: upgrade(location), lambda: downgrade(location, EMPTY)):
        with pytest.raises(Refused, match="at revision '9999'; expected one of 0001, 0002: use the release that wrote"):
            move()
    with pytest.raises(StoreCorrupted, match=f"at revision 9999; expected {REVISION}"):
        SqlRecordStore(location)


def test_an_upgrade_waits_for_another(location: DatabaseLocation) -> None:
    """Of another process, for as long as it takes; then it goes by what that one left."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    with psycopg.connect(location.url) as other, psycopg.connect(location.url, autocommit=True) as watching:
        other.execute("SELECT pg_advisory_xact_lock(hashtext('headway migrations'))")
        moving = threading.Thread(target=upgrade, args=(location,))
        moving.start()
        while watching.execute(waiting).fetchone() != (1,):
            pass
        assert _tables(location) == []
        other.commit()
        moving.join(60)
    assert differences(location) == []


def test_two_upgrades_at_once_are_one(location: DatabaseLocation) -> None:
    """One waits for the other and finds nothing left to do."""
    errors: list[BaseException] = []

    def move() -> None:
        try:
            upgrade(location)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=move) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert differences(location) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement", ["CREATE TABLE decisions", "CREATE INDEX events_of_customer", "CREATE TABLE persons"]
)
def test_an_upgrade_that_is_killed_leaves_what_was(location: DatabaseLocation, statement: str) -> None:
    """Nothing of it, however far it came; and it can be done again."""
    process = multiprocessing.get_context("spawn").Process(target=upgrade_and_die, args=(location.url, statement))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL

    assert upgrade(location) is None
    assert differences(location) == []


def test_an_encoding_that_loses_texts_is_refused() -> None:
    """Before anything is made."""
    name = f"headway_test_latin_{os.getpid()}"
    with postgres_database(tables=False), psycopg.connect(f"{SERVER}/postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".encode())
        try:
            location = DatabaseLocation.of(f"{SERVER}/{name}")
            with pytest.raises(Refused, match="has the encoding LATIN1; expected UTF8: make another database"):
                upgrade(location)
            assert _tables(location) == []
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _headway(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(list(words), os.environ, commands=entry_points(group=COMMAND_GROUP))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_line_goes_up_and_down(
    location: DatabaseLocation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says from where to where, asks before it goes down, and status fails where the layouts differ."""
    monkeypatch.setenv(VARIABLE, location.url)
    said: list[Any] = [
        _headway(capsys, *words.split())
        for words in (
            "database status",
            "database upgrade",
            "database upgrade",
            "database status --json",
            "database downgrade base",
            "database downgrade base --yes",
        )
    ]

    assert [code for code, _, _ in said] == [1, 0, 0, 0, 2, 0]
    assert said[0][1] == f"{location}: no tables; this release needs {REVISION}\n"
    assert said[1][1] == f"{location}: no tables -> {REVISION}\n"
    assert said[2][1] == f"{location}: {REVISION}, as it was\n"
    assert f'"revision": "{REVISION}", "expected": "{REVISION}"' in said[3][1]
    assert "may lose data; expected a backup, then --yes" in said[4][2]
    assert said[5][1] == f"{location}: {REVISION} -> no tables\n"


def test_the_command_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable, or the server."""
    monkeypatch.delenv(VARIABLE, raising=False)
    _, _, unnamed = _headway(capsys, "database", "status")
    monkeypatch.setenv(VARIABLE, "postgresql://someone:secret@127.0.0.1:1/headway")
    code, _, away = _headway(capsys, "database", "status")

    assert f"{VARIABLE} names no PostgreSQL database; expected postgresql://user@host/database" in unnamed
    assert code != 0
    assert "postgresql://***@127.0.0.1:1/headway" in away
    assert "secret" not in away


def test_an_upgrade_without_a_server_says_so() -> None:
    """As every store does."""
    with pytest.raises(StoreUnavailable, match="expected a PostgreSQL that answers"):
        upgrade(DatabaseLocation.of("postgresql://nobody@127.0.0.1:1/headway"))
