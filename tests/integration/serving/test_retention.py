"""The service deletes old decisions in small steps, and deletes for good."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

import features
from features.errors import StoreUnavailable
from features.home import Home
from models.decision import DecisionRecord
from models.ids import decision_id
from models.jobs import Failed, JobError
from models.memory_jobs import MemoryJobs
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.records import RecordStore
from serving.bootstrap import open_runtime
from serving.job_files import JobFiles
from serving.retention import BATCH, forget_decisions, forget_jobs, in_one_process
from tests.decision_records import DAY_US, DECIDED_AT, contact, record, reservation
from tests.job_records import ASKED_AT, claim, submission

DEFAULTS = Path(features.__file__).parent / "defaults"


def _made(number: int, at: int, customer_id: str = "c1") -> DecisionRecord:
    new_id = decision_id(at=at, customer_id=customer_id, randomness=number.to_bytes(9, "big"))
    return record(number, decision_id=new_id, decided_at=at, customer_id=customer_id)


class _Stumbling(MemoryRecordStore):
    """Does not answer when it is asked first."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forget_decisions(self, *, decided_before: int, most: int) -> int:
        self.batches.append(0)
        if len(self.batches) == 1:
            raise StoreUnavailable("down")
        self.batches[-1] = super().forget_decisions(decided_before=decided_before, most=most)
        return self.batches[-1]


def _forgotten_for(store: RecordStore, kept_for: int | None, *, rounds: int = 3) -> None:
    """A few rounds, one right after the other."""
    told = iter(range(rounds))

    def kept() -> int | None:
        if next(told, None) is None:
            raise asyncio.CancelledError
        return kept_for

    async def until_enough() -> None:
        await forget_decisions(store, lambda: DECIDED_AT + 2 * DAY_US, kept, pause_seconds=0.0, between_seconds=0.0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(until_enough())


def test_old_decisions_go_batch_by_batch_and_young_ones_stay() -> None:
    """Also after a store that did not answer."""
    store = _Stumbling()
    store.append_imported([_made(number, DECIDED_AT + number * 1_000) for number in range(BATCH + 20)])
    store.append_imported([_made(9_999, DECIDED_AT + 2 * DAY_US)])

    _forgotten_for(store, DAY_US)

    assert store.batches == [0, BATCH, 20, 0]
    assert [one.request_id for page in store.read() for one in page] == ["r-9999"]


def test_without_a_time_decisions_are_kept_for_ever() -> None:
    """The default."""
    store = _Stumbling()
    store.append_imported([_made(1, 0)])

    _forgotten_for(store, None)

    assert store.batches == []


def test_what_was_deleted_leaves_no_byte(tmp_path: Path) -> None:
    """Neither record nor answer nor contact, in the file once it is closed."""
    path = tmp_path / "records.db"
    with closing(SqlRecordStore(path)) as store:
        for number, customer_id in ((1, "somebody-old"), (2, "somebody-new")):
            made = _made(number, DECIDED_AT + (number - 1) * 3 * DAY_US, customer_id)
            store.commit(made, f"answer for {customer_id}".encode(), reservation(contact(made)))
        assert store.forget_decisions(decided_before=DECIDED_AT + DAY_US, most=10) == 1

    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert (kept.count(b"somebody-old"), kept.count(b"somebody-new") > 0) == (0, True)


def test_a_running_service_keeps_to_its_policy(tmp_path: Path) -> None:
    """As ``headway serve`` opens it: from the start on what is older goes, and the rest answers."""
    config = tmp_path / "config"
    shutil.copytree(DEFAULTS, config)
    policy = config / "policy.yaml"
    policy.write_text(policy.read_text() + "\ndecisions_kept: 200d\n")
    home = Home(tmp_path / "home").create()
    now = time.time_ns() // 1000
    old, young = _made(1, now - 201 * DAY_US), _made(2, now - 199 * DAY_US)
    with closing(SqlRecordStore(home.records_db)) as store:
        store.append_imported([old, young])
    env = {"HEADWAY_HOME": str(home.root), "HEADWAY_CONFIG": str(config), "HEADWAY_LOG_LEVEL": "error"}

    async def kept() -> list[bool]:
        async with open_runtime(env) as runtime:
            while runtime.records.decision(old.decision_id) is not None:
                await asyncio.sleep(0.01)  # another task deletes it: there is nothing else to wait on
            return [runtime.records.decision(one.decision_id) is not None for one in (old, young)]

    assert asyncio.run(asyncio.wait_for(kept(), timeout=120)) == [False, True]


def test_one_process_at_a_time_does_it(tmp_path: Path) -> None:
    """The other one goes on once the first has ended, and not before."""
    begun: list[str] = []

    async def both() -> None:
        async def work(name: str) -> None:
            begun.append(name)
            await asyncio.Event().wait()

        path = tmp_path / "retention"
        first, second = (
            asyncio.create_task(in_one_process(path, partial(work, name), pause_seconds=0.0)) for name in ("a", "b")
        )
        for _ in range(20):
            await asyncio.sleep(0)
        assert begun == ["a"]
        first.cancel()
        while len(begun) < 2:
            await asyncio.sleep(0)
        second.cancel()

    asyncio.run(asyncio.wait_for(both(), timeout=20))

    assert begun == ["a", "b"]


class _StumblingJobs(MemoryJobs):
    """Does not answer when it is asked first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forget(self, *, kept_us: int, most: int, now: int) -> list[str]:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable("down")
        return super().forget(kept_us=kept_us, most=most, now=now)


def test_finished_jobs_go_with_their_files(tmp_path: Path) -> None:
    """Once their days are over, however many they are, and what was left by others; what runs stays as it is."""
    jobs, files = _StumblingJobs(), JobFiles(tmp_path)
    folders = []
    for number in range(BATCH + 20):
        jobs.submit(submission(number), most_queued=999, now=ASKED_AT)
        job = jobs.claim(claim(), now=ASKED_AT)
        assert job is not None
        folders.append(files.prepared(job).results.parent)
        if number:
            jobs.end(job.job_id, job.token, Failed(JobError("Refused", "no")), now=ASKED_AT + number)
    (tmp_path / "j-00000000000000000000000000").mkdir()
    moments = iter([ASKED_AT + 2 * DAY_US] * 2 + [ASKED_AT + DAY_US + BATCH + 11])

    def clock() -> int:
        if (now := next(moments, None)) is None:
            raise asyncio.CancelledError
        return now

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(forget_jobs(jobs, files, clock, 2, pause_seconds=0.0))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [folders[0].name]
    assert len(jobs.newest(rows=999)) == BATCH + 20

    moments = iter([ASKED_AT + DAY_US + BATCH + 11])
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(forget_jobs(jobs, files, clock, 1, pause_seconds=0.0))

    assert [job.finished_at for job in jobs.newest(rows=999)] == [
        *(ASKED_AT + number for number in range(BATCH + 19, BATCH + 10, -1)),
        None,
    ]
    assert [path.name for path in sorted((tmp_path / folders[0].name).iterdir())] == ["1", "checkpoints"]
