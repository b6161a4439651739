"""The life of jobs, in any order of steps: one owner at a time, ends that hold, and nothing from who has lost a job."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from models.jobs import (
    FINISHED,
    MOST_ATTEMPTS,
    ClaimLost,
    Ending,
    Failed,
    Job,
    JobError,
    JobOver,
    JobProgress,
    Jobs,
    PutBack,
    QueueFull,
    Succeeded,
)
from models.memory_jobs import MemoryJobs
from models.record_store import SqlRecordStore
from tests.job_records import ASKED_AT, claim, submission

LEASE_US = 100
MOST_QUEUED = 4
ENDINGS: tuple[Ending, ...] = (
    Succeeded(b"{}", "1/a.csv"),
    Failed(JobError("Refused", "no")),
    PutBack(0, JobError("StoreUnavailable", "away")),
    PutBack(60, JobError("StoreUnavailable", "away")),
    PutBack(30),
)
whichever = st.integers(0, 1_000)


class _Lives(RuleBasedStateMachine):
    """Jobs that several processes claim, keep, lose and end while time passes.

    What is expected is kept apart: for each job the token whose holder may write, when its lease is over, and how it
    ended.
    """

    open_jobs: Callable[[Path], tuple[Jobs, Callable[[], None]]]

    @initialize()
    def open(self) -> None:
        """No jobs."""
        self.folder = tempfile.TemporaryDirectory()
        self.jobs, self.close = self.open_jobs(Path(self.folder.name) / "records.db")
        self.now = ASKED_AT
        self.ids: list[str] = []
        self.claims: list[tuple[str, int]] = []
        self.current: dict[str, int] = {}
        self.lease: dict[str, int] = {}
        self.over: dict[str, Job] = {}

    def _job(self, job_id: str) -> Job:
        job = self.jobs.job(job_id)
        assert job is not None
        return job

    def _ended(self, job: Job) -> None:
        self.current.pop(job.job_id, None)
        if job.state in FINISHED:
            self.over[job.job_id] = job

    @rule()
    def ask(self) -> None:
        """Ask for one more; it is refused exactly where the queue is full."""
        queued = len([one for one in self.ids if self._job(one).state == "queued"])
        try:
            job = self.jobs.submit(submission(len(self.ids)), most_queued=MOST_QUEUED, now=self.now).job
        except QueueFull:
            assert queued >= MOST_QUEUED
        else:
            assert queued < MOST_QUEUED
            self.ids.append(job.job_id)

    @rule(owner=st.sampled_from(["w-1", "w-2"]))
    def begin(self, owner: str) -> None:
        """Claim one: never one that somebody has, nor one that has ended; nor before its time."""
        before = {one: self._job(one) for one in self.ids}

        job = self.jobs.claim(claim(owner, lease_us=LEASE_US), now=self.now)

        free = [one for one in self.ids if self._is_free(before[one])]
        for one in free:
            if before[one].attempts >= MOST_ATTEMPTS and self._job(one).state == "failed":
                self._ended(self._job(one))
        if job is None:
            assert all(before[one].attempts >= MOST_ATTEMPTS for one in free)
            return
        assert job.job_id in free
        assert job.token > max((token for one, token in self.claims if one == job.job_id), default=0)
        assert job.attempts <= MOST_ATTEMPTS
        self.claims.append((job.job_id, job.token))
        self.current[job.job_id], self.lease[job.job_id] = job.token, self.now + LEASE_US

    def _is_free(self, job: Job) -> bool:
        if job.state == "running":
            return self.lease[job.job_id] <= self.now
        return job.state == "queued" and job.ready_at <= self.now

    @rule(which=whichever, done=st.integers(0, 9))
    def keep(self, which: int, done: int) -> None:
        """A heartbeat of any claim that there ever was: taken exactly from who has the job."""
        if not self.claims:
            return
        job_id, token = self.claims[which % len(self.claims)]
        before = self._job(job_id)
        try:
            self.jobs.keep(job_id, token, JobProgress("counting", done, 9), lease_us=LEASE_US, now=self.now)
        except ClaimLost:
            assert self.current.get(job_id) != token
            assert self._job(job_id) == before
        else:
            assert self.current.get(job_id) == token
            assert self._job(job_id).progress.done == done
            self.lease[job_id] = self.now + LEASE_US

    @rule(which=whichever, ending=st.sampled_from(ENDINGS))
    def end(self, which: int, ending: Ending) -> None:
        """Likewise of the end of an attempt."""
        if not self.claims:
            return
        job_id, token = self.claims[which % len(self.claims)]
        before = self._job(job_id)
        try:
            job = self.jobs.end(job_id, token, ending, now=self.now)
        except ClaimLost:
            assert self.current.get(job_id) != token
            assert self._job(job_id) == before
        else:
            assert self.current.get(job_id) == token
            self._ended(job)

    @rule(which=whichever)
    def cancel(self, which: int) -> None:
        """It holds for all but what has ended otherwise."""
        if not self.ids:
            return
        job_id = self.ids[which % len(self.ids)]
        try:
            job = self.jobs.cancel(job_id, now=self.now)
        except JobOver:
            assert self.over[job_id].state in ("succeeded", "failed")
        else:
            assert job.state == "cancelled"
            self._ended(job)

    @rule()
    def restart(self) -> None:
        """All processes are gone, and one begins anew."""
        running = [one for one in self.ids if self._job(one).state == "running"]
        assert self.jobs.take_over(now=self.now) == len(running)
        for one in running:
            self._ended(self._job(one))

    @rule(passed=st.sampled_from([1, 40, 100]))
    def wait(self, passed: int) -> None:
        """Let time pass."""
        self.now += passed

    @invariant()
    def what_has_ended_stays(self) -> None:
        """To the last field."""
        for job_id, job in self.over.items():
            assert self._job(job_id) == job

    @invariant()
    def who_has_a_job_is_who_was_given_it(self) -> None:
        """A running job has the token that was given last, and no other has an owner."""
        for job_id in self.ids:
            job = self._job(job_id)
            assert (job.state == "running") == (job_id in self.current) == bool(job.owner)
            assert job.state != "running" or job.token == self.current[job_id]
            assert job.attempts <= MOST_ATTEMPTS

    def teardown(self) -> None:
        """Close the store."""
        self.close()
        self.folder.cleanup()


def _memory(_: Path) -> tuple[Jobs, Callable[[], None]]:
    return MemoryJobs(), lambda: None


def _sqlite(path: Path) -> tuple[Jobs, Callable[[], None]]:
    store = SqlRecordStore(path, durability="NORMAL")
    return store.jobs, store.close


@pytest.mark.parametrize(("opened", "examples"), [(_memory, 150), (_sqlite, 15)], ids=["memory", "sqlite"])
def test_a_job_has_one_owner_and_one_end(
    opened: Callable[[Path], tuple[Jobs, Callable[[], None]]], examples: int
) -> None:
    """Whatever happens, in whatever order."""

    class Lives(_Lives):
        open_jobs = staticmethod(opened)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # untyped there
        Lives,
        settings=settings(
            max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
