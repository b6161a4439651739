"""The event log on SQLite: durable before it answers, one writer, readers that never wait."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from features.errors import HomeLocked, Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.event_store import SqlEventLog
from tests.histories import START_AT, event

_APPEND = """
import sys
from pathlib import Path
from features.event_store import SqlEventLog
from tests.histories import event
log = SqlEventLog(Path(sys.argv[1]))
for i in range(1000):
    log.append([event(f"e-{i}")])
    print(i, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "state" / "events.db"


def test_an_answered_event_survives_a_kill(path: Path) -> None:
    """What was answered before kill -9 is there, and the file can be written again at once."""
    child = subprocess.Popen([sys.executable, "-c", _APPEND, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(20)][-1]
    os.kill(child.pid, signal.SIGKILL)
    answered = max([answered, *(int(line) for line in child.stdout if line.endswith("\n"))])
    child.stdout.close()
    child.wait()

    log = SqlEventLog(path)
    kept = {logged.event.event_id for logged in log.of_customer("c1")}
    log.close()

    assert {f"e-{i}" for i in range(answered + 1)} <= kept


def test_a_second_writer_is_refused(path: Path) -> None:
    """One process writes; the next is told which."""
    log = SqlEventLog(path)
    with pytest.raises(HomeLocked, match=rf"events\.db is being written by process {os.getpid()} "):
        SqlEventLog(path)
    log.close()
    SqlEventLog(path).close()


def test_a_reader_sees_what_is_committed(path: Path) -> None:
    """A read-only log reads beside the writer and takes no lock."""
    log = SqlEventLog(path)
    reader = SqlEventLog(path, readonly=True)
    log.append([event("a")])
    assert [logged.event for logged in reader.of_customer("c1")] == [event("a")]
    reader.close()
    log.close()


def test_a_reader_cannot_append(path: Path) -> None:
    """Read-only means read-only."""
    SqlEventLog(path).close()
    reader = SqlEventLog(path, readonly=True)
    with pytest.raises(StoreUnavailable, match="opened read-only"):
        reader.append([event("a")])
    reader.close()


def test_a_reader_of_nothing_is_refused(path: Path) -> None:
    """Opening read-only makes no file."""
    with pytest.raises(UnknownObject, match=r"there is no file .*events\.db"):
        SqlEventLog(path, readonly=True)
    assert not path.exists()


def test_an_existing_log_is_opened_again(path: Path) -> None:
    """Positions go on where they ended."""
    log = SqlEventLog(path)
    log.append([event("a")])
    log.close()

    log = SqlEventLog(path)
    (appended,) = log.append([event("b")])
    log.close()

    assert appended.position == 2


def test_another_layout_is_refused(path: Path) -> None:
    """A file of another layout version is never written; the lock is given back."""
    SqlEventLog(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreCorrupted, match="layout version 7; expected 2"):
            SqlEventLog(path)


def _as_version_1(path: Path) -> None:
    connection = sqlite3.connect(path)
    for table in ("claims", "identifiers", "identifiers_indexed"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DROP INDEX events_with_text")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_file_of_the_first_layout_is_brought_up(path: Path) -> None:
    """It gets the tables that it lacks and keeps its events; a reader cannot do that, and says who can."""
    log = SqlEventLog(path)
    log.append([event("a", customer_id="cookie")])
    log.close()
    _as_version_1(path)

    with pytest.raises(StoreCorrupted, match="layout version 1; expected 2: run `headway serve` or `headway import`"):
        SqlEventLog(path, readonly=True)
    log = SqlEventLog(path)
    log.append([event("l", kind="identity_linked", facts={"alias": "cookie"})])

    assert [logged.event.event_id for logged in log.of_person(log.person("c1", at=START_AT))] == ["a"]
    log.close()


def test_identifiers_that_are_declared_later_are_found_too(path: Path) -> None:
    """Whatever came in while an identifier was not declared is put into the index when the log is opened with it."""
    for names, event_id in (((), "a"), (("email_hash",), "b"), ((), "c")):
        log = SqlEventLog(path, identifiers=names)
        log.append([event(event_id, customer_id=event_id, kind="profile_updated", facts={"email_hash": "h"})])
        log.close()

    log = SqlEventLog(path, identifiers=["email_hash"])
    assert log.of_identifier("email_hash", "h") == ["a", "b", "c"]
    log.close()


def test_identifiers_that_are_no_longer_declared_are_dropped(path: Path) -> None:
    """Nothing can be looked up by them, and their values are not kept twice."""
    log = SqlEventLog(path, identifiers=["email_hash"])
    log.append([event("a", kind="profile_updated", facts={"email_hash": "h"})])
    log.close()
    SqlEventLog(path, identifiers=["phone_hash"]).close()

    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM identifiers").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("facts", ["x''", "x'7b'", "x'7b22ff223a317d'", "x'7b7d2c7b7d'"])
def test_damaged_facts_are_said_to_be_damaged(path: Path, facts: str) -> None:
    """Bytes that are no facts are an error, never an event without facts."""
    log = SqlEventLog(path)
    log.append([event("a")])
    log.close()
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE events SET facts = {facts}")  # noqa: S608  # the test's own bytes
    connection.commit()
    connection.close()

    log = SqlEventLog(path, readonly=True)
    with pytest.raises(StoreCorrupted, match=r"events\.db holds facts that are no JSON"):
        log.of_customer("c1")
    with pytest.raises(StoreCorrupted, match=r"events\.db holds facts that are no JSON"):
        list(log.read_columns())
    log.close()


def test_a_closed_log_refuses(path: Path) -> None:
    """Nothing is appended or read after close; closing twice is harmless."""
    log = SqlEventLog(path)
    log.close()
    log.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        log.append([event("a")])
    with pytest.raises(StoreUnavailable, match="was closed"):
        log.head()


def test_a_closed_log_is_one_file(path: Path) -> None:
    """Nothing is left in a write-ahead log, so that the file alone can be copied; its head is beside it."""
    log = SqlEventLog(path)
    log.append([event("a")])
    assert log.head() == 1
    log.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["events.db", "events.db.lock", "events.head"]


def test_many_writers_lose_nothing(path: Path) -> None:
    """Threads that append the same and other events at once get each event stored once, at one position."""
    log = SqlEventLog(path)
    answers: list[tuple[str, int]] = []

    def append(worker: int) -> None:
        for i in range(20):
            for event_id in (f"shared-{i}", f"own-{worker}-{i}"):
                (appended,) = log.append([event(event_id)])
                answers.append((event_id, appended.position))

    threads = [threading.Thread(target=append, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    positions = {logged.event.event_id: logged.position for logged in log.of_customer("c1")}
    log.close()

    assert len(positions) == 20 + 8 * 20
    assert sorted(positions.values()) == list(range(1, 181))
    assert {positions[event_id] == position for event_id, position in answers} == {True}


def test_a_bad_row_keeps_nothing_of_its_batch(path: Path) -> None:
    """A batch is one commit: where it fails, nothing of it is there, and other batches are not touched."""
    log = SqlEventLog(path)
    with pytest.raises(Refused, match="integers of 64 bits"):
        log.append([event("a"), event("b", sequence=2**80)])
    log.append([event("c")])
    assert [logged.event.event_id for logged in log.of_customer("c1")] == ["c"]
    log.close()
