"""Does the jobs that were asked for: one at a time in each process of the service, each attempt in a child process.

A process has a job while its lease lasts, and tells its child so with every heartbeat; the child ends itself where that
word does not come (``models.job_work``). The word is only given where the heartbeat was quick, so that the child has
ended before anybody else can have the job: by the clock of the store the lease outlasts it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from features.errors import HomeLocked, Refused, StoreError, StoreUnavailable
from models.job_work import MOST_SUMMARY_BYTES, SILENCE_SECONDS
from models.jobs import Claim, ClaimLost, Ending, Failed, Job, JobError, JobProgress, Jobs, PutBack, Succeeded
from serving.child_commands import CHILD, SECRETS, last_line, told_error
from serving.job_child import JobChild
from serving.job_files import AttemptFolders, JobFiles
from serving.job_kinds import JobKind
from serving.telemetry import log_event

COMMAND_FAILED: Final = "CommandFailed"
"""Name of the error of a job whose command ended without one of ours."""

_PASSING: Final = (StoreUnavailable.__name__, HomeLocked.__name__)
"""Errors that may not be there the next time."""

_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPace:
    """How often and how long, in seconds.

    Attributes:
        beat: between two heartbeats, which tell progress too.
        lease: so long a process has a job after its last heartbeat. It is longer than a child goes on without a word
            (``SILENCE_SECONDS``) and a heartbeat may take (``slow``) together.
        slow: a heartbeat that takes longer gives the child no word.
        poll: between two looks at whether a job waits; jobs that this very process was asked for are done at once.
        ending: so long a child that is told to end may take; then it is killed.
        again: so long later a job is tried again at the earliest; four times as long after each further attempt.
    """

    beat: float = 2.0
    lease: float = SILENCE_SECONDS + 10.0
    slow: float = 5.0
    poll: float = 2.0
    ending: float = 5.0
    again: float = 5.0


class JobRunner:
    """Does jobs until it is closed.

    Args:
        jobs: where they are kept.
        files: where they work.
        kinds: what can be done.
        env: the environment, which names the home.
        clock: now, microseconds since the epoch.
        is_alone: no other process can have a job: what runs in the store was another process's that is gone.
        command: what the words of a kind are given to.
        pace: how often and how long.
        timer: a monotonic clock, seconds.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        files: JobFiles,
        kinds: Sequence[JobKind],
        env: Mapping[str, str],
        clock: Callable[[], int],
        is_alone: bool,
        command: Sequence[str] = CHILD,
        pace: JobPace | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs, self._files, self._clock, self._timer = jobs, files, clock, timer
        self._kinds = {kind.name: kind for kind in kinds}
        kept = {name: value for name, value in env.items() if name not in SECRETS}
        self._env, self._command = {**kept, "HEADWAY_ERRORS": "json"}, tuple(command)
        self._pace = pace or JobPace()
        self._must_take_over = is_alone
        self._claim = Claim(
            owner=f"{socket.gethostname()}/{os.getpid()}",
            kinds=frozenset(self._kinds),
            lease_us=round(self._pace.lease * _SECOND_US),
        )
        self._woken, self._is_closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="headway-jobs")

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: a job was asked for, or cancelled."""
        self._woken.set()

    def close(self) -> None:
        """End what runs, which goes back into the queue, and do no more; closing twice is harmless."""
        self._is_closed.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._is_closed.is_set():
            self._woken.clear()
            try:
                if not self._did_one():
                    self._woken.wait(self._pace.poll)
            except StoreError as error:  # it is said elsewhere that a store is down
                log_event("jobs_not_looked_at", error=error)
                self._is_closed.wait(self._pace.poll)
            except Exception as error:  # the job is tried again when its lease is over, and so often at most
                log_event("job_runner_failed", level=logging.ERROR, error=error)
                self._is_closed.wait(self._pace.poll)

    def _did_one(self) -> bool:
        if self._must_take_over:
            taken = self._jobs.take_over(now=self._clock())
            self._must_take_over = False
            if taken:
                log_event("jobs_taken_over", jobs=taken)
        began = self._timer()
        job = self._jobs.claim(self._claim, now=self._clock())
        if job is None:
            return False
        log_event("job_begun", job_id=job.job_id, kind=job.kind, attempt=job.attempts)
        self._attempt(job, began)
        return True

    def _attempt(self, job: Job, began: float) -> None:
        kind = self._kinds[job.kind]
        try:
            folders = self._files.prepared(job)
        except StoreError as error:  # a full disk, say: that is not the job's fault
            log_event("job_not_begun", job_id=job.job_id, error=error)
            self._end(job, PutBack(round(self._pace.again * _SECOND_US)))
            return
        spec = self._jobs.spec(job.job_id)
        told = _told(job, b"{}" if spec is None else spec, folders)
        child = JobChild([*self._command, *kind.words], self._env, told, changed=self._woken.set)
        try:
            ending = self._watched(job, kind, child, began)
        finally:
            if not child.is_over():
                child.end(self._pace.ending)
        if ending is None:
            self._tidy(job.job_id)
        else:
            self._end(job, ending)

    def _watched(self, job: Job, kind: JobKind, child: JobChild, began: float) -> Ending | None:
        """How an attempt ends; None where the job is not ours any more."""
        held_until, told = began + self._pace.lease, JobProgress()
        try:
            while not child.is_over():
                self._woken.wait(self._pace.beat)
                self._woken.clear()
                if child.is_over():
                    break
                if self._is_closed.is_set():
                    return PutBack()
                if self._timer() - began > kind.seconds:
                    return Failed(JobError(COMMAND_FAILED, f"it took longer than {kind.seconds:g} s; ask for less"))
                at, told = self._timer(), child.progress or told
                if self._was_kept(job, told):
                    held_until = at + self._pace.lease
                    if self._timer() - at <= self._pace.slow:
                        child.word()
                elif self._timer() >= held_until:
                    return None
            if child.progress not in (None, told):
                self._was_kept(job, child.progress or told)
        except ClaimLost:
            log_event("job_lost", job_id=job.job_id, kind=job.kind)
            return None
        return self._ending(job, child)

    def _was_kept(self, job: Job, progress: JobProgress) -> bool:
        """A heartbeat; whether the store took it.

        Raises:
            ClaimLost: the job is not ours any more.
        """
        try:
            self._jobs.keep(job.job_id, job.token, progress, lease_us=self._claim.lease_us, now=self._clock())
        except StoreError as error:
            log_event("job_heartbeat_failed", job_id=job.job_id, error=error)
            return False
        return True

    def _ending(self, job: Job, child: JobChild) -> Ending:
        """What an attempt came to whose process is over."""
        if child.code == 0:
            return self._result(job, child)
        error, later = told_error(child.said), round(self._pace.again * 4 ** (job.attempts - 1) * _SECOND_US)
        if error is None:
            said = last_line(child.said)  # for the operator: it may name places of this machine
            log_event("job_process_failed", job_id=job.job_id, kind=job.kind, code=child.code, said=said)
            failed = JobError(COMMAND_FAILED, f"its process ended with {_exit_of(child.code)}")
            return Failed(failed) if child.code == Refused.exit_code else PutBack(later, failed)
        failed = JobError(error.error, error.message, error.problems)
        return PutBack(later, failed) if error.error in _PASSING else Failed(failed)

    def _result(self, job: Job, child: JobChild) -> Ending:
        if child.result is None:
            return Failed(JobError(COMMAND_FAILED, "it ended without a result; expected one: look into the log"))
        summary, name = child.result
        encoded = msgspec.json.encode(summary)
        if len(encoded) > MOST_SUMMARY_BYTES:
            return Failed(JobError(COMMAND_FAILED, f"its summary has {len(encoded):,} bytes, more than are kept"))
        file = None if name is None else self._files.result_of(job, name)
        if name is not None and file is None:
            return Failed(JobError(COMMAND_FAILED, f"it named {name!r:.80} as its result, and left no such file"))
        return Succeeded(encoded, file)

    def _end(self, job: Job, ending: Ending) -> None:
        """Write how an attempt ended; where the store does not answer, again until the lease is over."""
        until = self._timer() + self._pace.lease
        while True:
            try:
                over = self._jobs.end(job.job_id, job.token, ending, now=self._clock())
            except ClaimLost:
                log_event("job_lost", job_id=job.job_id, kind=job.kind)
                break
            except StoreError:
                if self._timer() >= until or self._is_closed.wait(self._pace.beat):
                    raise
            else:
                log_event("job_ended", job_id=job.job_id, kind=job.kind, state=over.state)
                break
        self._tidy(job.job_id)

    def _tidy(self, job_id: str) -> None:
        """Remove what nobody needs of a job that is over, or was deleted; what is missed here is swept later."""
        job = self._jobs.job(job_id)
        if job is None:
            self._files.remove(job_id)
        elif job.is_finished:
            self._files.tidy(job)


def _told(job: Job, spec: bytes, folders: AttemptFolders) -> bytes:
    document: dict[str, Any] = {
        "job": job.job_id,
        "kind": job.kind,
        "attempt": job.attempts,
        "checkpoints": str(folders.checkpoints),
        "results": str(folders.results),
        "spec": msgspec.Raw(spec),
    }
    return msgspec.json.encode(document)


def _exit_of(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
