"""The record store on SQLite: durable before it answers, one writer, readers beside it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from features.errors import HomeLocked, StoreCorrupted, StoreUnavailable
from models.record_store import SqlRecordStore
from models.records import CapacityNeed, CapacityWindow, ContactResponse
from models.workforce import Person, ToldPerson
from tests.decision_records import DAY_US, DECIDED_AT, contact, record, reservation
from tests.job_records import ASKED_AT, submission

GOLDEN = Path(__file__).parents[2] / "golden"

_COMMIT = """
import sys
from pathlib import Path
from models.record_store import SqlRecordStore
from tests.decision_records import contact, record, reservation
from tests.job_records import ASKED_AT, submission
store = SqlRecordStore(Path(sys.argv[1]))
for i in range(1000):
    made = record(i)
    store.commit(made, b"answer %d" % i, reservation(contact(made)))
    print(i, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the records go."""
    return tmp_path / "state" / "records.db"


def test_an_answered_decision_survives_a_kill(path: Path) -> None:
    """What was answered before kill -9 is there with its contact, and a retry gets the same bytes."""
    child = subprocess.Popen([sys.executable, "-c", _COMMIT, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answered = [int(child.stdout.readline()) for _ in range(20)][-1]
    os.kill(child.pid, signal.SIGKILL)
    answered = max([answered, *(int(line) for line in child.stdout if line.endswith("\n"))])
    child.stdout.close()
    child.wait()

    store = SqlRecordStore(path)
    counted = {each.decision_id for each in store.customer("c1", since=0, now=DECIDED_AT).contacts}
    retried = [store.commit(record(10_000 + i, request_id=f"r-{i}"), b"other", None) for i in range(answered + 1)]
    store.close()

    assert {f"d-{i:06d}" for i in range(answered + 1)} <= counted
    assert [committed.answer for committed in retried] == [b"answer %d" % i for i in range(answered + 1)]


def test_a_second_writer_is_refused(path: Path) -> None:
    """One process writes; the next is told which."""
    store = SqlRecordStore(path)
    with pytest.raises(HomeLocked, match=rf"records\.db is being written by process {os.getpid()} "):
        SqlRecordStore(path)
    store.close()
    SqlRecordStore(path).close()


def test_a_reader_reads_beside_the_writer(path: Path) -> None:
    """A read-only store sees what is committed, and cannot write."""
    store = SqlRecordStore(path)
    reader = SqlRecordStore(path, readonly=True)
    store.commit(record(), b"", None)

    assert [each.decision_id for page in reader.read() for each in page] == ["d-000001"]
    with pytest.raises(StoreUnavailable, match="opened read-only"):
        reader.commit(record(2), b"", None)
    reader.close()
    store.close()


def test_a_commit_need_not_block(path: Path) -> None:
    """``submit_commit`` gives a future of the same answer."""
    store = SqlRecordStore(path)
    futures = [store.submit_commit(record(i), b"%d" % i, None) for i in range(10)]
    assert [future.result(10).answer for future in futures] == [b"%d" % i for i in range(10)]
    store.close()


def test_records_are_kept_by_day(path: Path) -> None:
    """The UTC day of a decision stands beside it, so that whole days can be let go."""
    store = SqlRecordStore(path)
    for number, decided_at in ((1, 86_400_000_000 * 20_000 - 1), (2, 86_400_000_000 * 20_000)):
        store.commit(record(number, decided_at=decided_at), b"", None)
    store.close()

    connection = sqlite3.connect(path)
    days = connection.execute("SELECT decision_id, day FROM decisions ORDER BY decision_id").fetchall()
    connection.close()
    assert days == [("d-000001", 19_999), ("d-000002", 20_000)]


def test_a_damaged_record_is_said_to_be_damaged(path: Path) -> None:
    """Bytes that are no record are an error, never an empty answer."""
    store = SqlRecordStore(path)
    store.commit(record(), b"", reservation(contact(record())))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE decisions SET record = x'00'")
    connection.commit()
    connection.close()

    store = SqlRecordStore(path, readonly=True)
    with pytest.raises(StoreCorrupted, match="no decision record of version 1"):
        store.decision("d-000001")
    store.close()


def test_contacts_of_the_second_layout_are_kept(path: Path) -> None:
    """It kept nothing of what came back, of capacities and of people; what comes from now on is noted."""
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "records_layout_v2.sql").read_text().replace("\nCREATE", ";\nCREATE"))
    connection.execute(
        "INSERT INTO contacts VALUES ('d-1', 'c1', 'nudge', 'sms', ?, 'confirmed', 0, NULL, 0)", (DECIDED_AT,)
    )
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()

    store = SqlRecordStore(path)
    before = store.customer("c1", since=0, now=DECIDED_AT).contacts
    store.note_responses([ContactResponse("d-1", "c1", "negative", DECIDED_AT + 5)])
    after = store.customer("c1", since=0, now=DECIDED_AT).contacts
    used = store.capacity_used([CapacityWindow("calls", 7)], now=DECIDED_AT)
    store.put_persons([ToldPerson(Person(person_id="p1", queues=("desk",)), open_work=1)])
    people = [(one.person.person_id, one.open_work) for one in store.workforce(now=DECIDED_AT)]
    store.close()

    assert [(one.action_id, one.response, one.response_at) for one in before] == [("nudge", "", 0)]
    assert [(one.response, one.response_at) for one in after] == [("negative", DECIDED_AT + 5)]
    assert used == {}
    assert people == [("p1", 1)]


def test_the_third_layout_gets_jobs(path: Path) -> None:
    """It kept none; what it holds stays."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / "records_layout_v3.sql").read_text().replace("\nCREATE", ";\nCREATE"))
        connection.execute("INSERT INTO consent_changes VALUES ('c1', 'sms', 'objected', 5)")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()

    with closing(SqlRecordStore(path)) as store:
        asked = store.jobs.submit(submission(), most_queued=1, now=ASKED_AT).job
        assert store.customer("c1", since=0, now=9).consents == {"sms": "objected"}
    with closing(SqlRecordStore(path)) as store:
        assert store.jobs.job(asked.job_id) == asked


def test_periods_that_are_over_are_forgotten(path: Path) -> None:
    """All but the last before the present one, and what leases held of them, so that the file does not grow by them."""
    store = SqlRecordStore(path)
    for day in range(1, 6):
        made = record(day)
        need = CapacityNeed(0, CapacityWindow("calls", day * DAY_US), 1, 9)
        lease = contact(made, status="lease")
        store.commit(made, b"", replace(reservation(lease), needs=(need,)))
    store.close()

    connection = sqlite3.connect(path)
    left = [
        connection.execute("SELECT window_start FROM capacity_counters ORDER BY window_start").fetchall(),
        connection.execute("SELECT window_start FROM capacity_holds ORDER BY window_start").fetchall(),
    ]
    connection.close()
    assert left == [[(4 * DAY_US,), (5 * DAY_US,)]] * 2


def test_consents_of_the_first_layout_are_kept(path: Path) -> None:
    """It kept the newest state of each consent, which is the newest still."""
    SqlRecordStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE consent_changes")
    for column in ("response", "response_at"):
        connection.execute(f"ALTER TABLE contacts DROP COLUMN {column}")
    connection.execute("CREATE TABLE consents (customer_id TEXT, consent TEXT, state TEXT, at INTEGER)")
    connection.execute("INSERT INTO consents VALUES ('c1', 'marketing', 'objected', 7)")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("DROP TABLE head")  # nothing kept one then
    connection.commit()
    connection.close()
    path.with_suffix(".head").unlink()

    store = SqlRecordStore(path)
    store.set_consents("c1", {"marketing": "granted"}, at=6)

    assert store.customer("c1", since=0, now=DECIDED_AT).consents == {"marketing": "objected"}
    store.close()


def test_no_read_goes_through_all_decisions(path: Path) -> None:
    """Searches and deletions are bounded by an index: the plans name one, and sort nothing but ties."""
    from models import contact_rows, decision_rows, job_store

    SqlRecordStore(path).close()
    statements = (
        *(decision_rows._NEWEST_OF_ALL, decision_rows._NEWEST_OF_CUSTOMER, contact_rows._OF_DECISION),
        *(decision_rows._OLDEST, decision_rows._DELETE_DECISION, contact_rows._DELETE_CONTACTS),
        *(job_store._NEWEST, job_store._NEWEST_OF_SOURCE, job_store._BY_REQUEST, job_store._COUNT_QUEUED),
        *(job_store._ALL_RUNNING, job_store._LONG_OVER),
    )
    with closing(sqlite3.connect(path)) as connection:
        for statement in (one.sqlite for one in statements):
            names = set(re.findall(r":(\w+)", statement))
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(names, 1))]
            assert plan[0].startswith("SEARCH"), (statement, plan)
            assert not any(line.startswith("SCAN") or line == "USE TEMP B-TREE FOR ORDER BY" for line in plan), plan
