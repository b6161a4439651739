"""Disks that are full, read-only or broken, and a file that somebody else holds: refused, said, and healed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from features.errors import HeadwayError, StoreUnavailable
from features.event_store import SqlEventLog
from features.store_head import verify_head
from models.record_store import SqlRecordStore
from serving.bootstrap import open_runtime
from serving.runtime import Runtime
from tests.decision_records import contact, record, reservation
from tests.faults.failing_calls import failing_statements
from tests.faults.load import decision, events, journey
from tests.faults.small_disk import small_disk
from tests.histories import event

_LOOKED_AFRESH_SECONDS = 1.05
"""A look at the stores holds for a second."""


def _running(home: Path, use: Callable[[Runtime], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_runtime({"HEADWAY_HOME": str(home), "HEADWAY_LOG_LEVEL": "error"}) as runtime:
            await use(runtime)

    asyncio.run(run())


async def _is_ready(runtime: Runtime) -> bool:
    await asyncio.sleep(_LOOKED_AFRESH_SECONDS)
    return await runtime.readiness.is_ready()


def test_a_disk_without_a_byte_left(tmp_path: Path) -> None:
    """Nothing is half kept: what was refused is not there, what was answered is, and with room again all goes on."""
    found: list[object] = []

    async def use(runtime: Runtime) -> None:
        found.append(await events(runtime, journey("c-1", own="1")))
        answer = await decision(runtime, {"customer_id": "c-1", "request_id": "r-1"})
        disk.fill()
        found.append(await _is_ready(runtime))
        for refused in (events(runtime, journey("c-2", own="2")), decision(runtime, {"customer_id": "c-1"})):
            with pytest.raises(StoreUnavailable):
                await refused
        found.append(await decision(runtime, {"customer_id": "c-1", "request_id": "r-1"}) == answer)
        disk.empty()
        found.append(await _is_ready(runtime))
        found.append(await events(runtime, journey("c-2", own="2")))
        found.append(json.loads(await decision(runtime, {"customer_id": "c-2", "request_id": "r-2"}))["degraded"])

    with small_disk(tmp_path / "disk") as disk:
        _running(disk.root, use)
        problems = [verify_head(disk.root / "state" / name).problem for name in ("events.db", "records.db")]

    assert found == [5, False, True, True, 5, ["model_missing"]]
    assert problems == ["", ""]


def test_a_home_on_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """With what is wrong; once it can be written, everything is there."""

    async def answer(runtime: Runtime) -> None:
        answers.append(await decision(runtime, {"customer_id": "c-1", "request_id": "r-1"}))

    answers: list[bytes] = []
    with small_disk(tmp_path / "disk") as disk:
        _running(disk.root, answer)
        disk.remount("ro")
        with pytest.raises(HeadwayError, match="Read-only file system"):
            _running(disk.root, answer)
        disk.remount("rw")
        _running(disk.root, answer)

    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "statement", ["BEGIN", "INSERT INTO contacts", "INSERT INTO decisions", "UPDATE head", "COMMIT"]
)
def test_an_io_error_keeps_nothing_and_answers_nothing(tmp_path: Path, statement: str) -> None:
    """Whatever step it meets; the same request later is decided as if nothing had been."""
    made = record(1)
    is_due = False

    def fails(number: int) -> Exception | None:
        return sqlite3.OperationalError("disk I/O error") if is_due else None

    with (
        failing_statements("records.db", statement, fails),
        closing(SqlRecordStore(tmp_path / "records.db")) as store,
    ):
        is_due = True
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            store.commit(made, b"answer", reservation(contact(made)))
        is_due = False
        lost = store.decision(made.decision_id)
        counted = store.customer("c1", since=0, now=made.decided_at + 1).contacts
        committed = store.commit(made, b"answer", reservation(contact(made)))

    assert (lost, counted) == (None, ())
    assert (committed.answer, committed.was_stored_before) == (b"answer", False)
    assert verify_head(tmp_path / "records.db").problem == ""


_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_file_that_another_program_holds_is_waited_for_and_then_said(tmp_path: Path) -> None:
    """A program that is none of ours, and knows nothing of our lock; reads go on, and nothing is lost."""
    path = tmp_path / "events.db"
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            with pytest.raises(StoreUnavailable, match="locked"):
                log.append([event("e-2")])
            read = log.head()
        finally:
            holder.communicate()
        log.append([event("e-2")])

        assert (read, log.head()) == (1, 2)
