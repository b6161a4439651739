"""A process that dies while it brings an older store up to date: whoever opens it next finishes what it began."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from features.store_head import verify_head
from models.record_store import SqlRecordStore
from models.records import ContactResponse
from tests.decision_records import DECIDED_AT
from tests.faults.kill_points import AtCall, AtStatement, KillPoint, arm

GOLDEN = Path(__file__).parents[1] / "golden"

STEPS: dict[str, KillPoint] = {
    "before anything": AtStatement(file="records.db", statement="BEGIN IMMEDIATE", when="before"),
    "within the new tables": AtStatement(file="records.db", statement="CREATE TABLE", when="after", count=2),
    "between two new columns": AtStatement(file="records.db", statement="ALTER TABLE contacts", when="after"),
    "before the new version": AtStatement(file="records.db", statement="PRAGMA user_version =", when="before"),
    "before the commit": AtStatement(file="records.db", statement="COMMIT", when="before"),
    "while it is committed": AtStatement(file="records.db", statement="COMMIT", when="during", delay_seconds=0.0002),
    "after the commit, before the head": AtStatement(file="records.db", statement="COMMIT", when="after"),
    "head in the file, none beside it": AtStatement(file="records.db", statement="COMMIT", when="after", count=2),
    "head beside it": AtCall(target="features.store_head:write_head", when="after"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Records of the second layout, with a contact."""
    path = tmp_path / "records.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / "records_layout_v2.sql").read_text().replace("\nCREATE", ";\nCREATE"))
        connection.execute(
            "INSERT INTO contacts VALUES ('d-1', 'c1', 'nudge', 'sms', ?, 'confirmed', 0, NULL, 0)", (DECIDED_AT,)
        )
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    return path


def _open(path: str, point: KillPoint) -> None:
    arm(point)
    SqlRecordStore(Path(path)).close()


@pytest.mark.parametrize("point", STEPS.values(), ids=STEPS)
def test_an_upgrade_that_was_cut_short_is_finished(path: Path, point: KillPoint) -> None:
    """All of it is there, or nothing yet; what the store held is kept either way."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_open, args=(str(path), point), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -9

    with closing(SqlRecordStore(path)) as store:
        store.note_responses([ContactResponse("d-1", "c1", "negative", DECIDED_AT + 5)])
        found = store.customer("c1", since=0, now=DECIDED_AT).contacts

    assert [(one.action_id, one.response) for one in found] == [("nudge", "negative")]
    assert verify_head(path).problem == ""
