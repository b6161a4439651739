"""Jobs in memory, for tests and trials."""

from __future__ import annotations

import threading

from features.errors import Conflict, UnknownObject
from models.jobs import (
    Claim,
    ClaimLost,
    Ending,
    Job,
    JobProgress,
    QueueFull,
    Submission,
    Submitted,
    cancelled,
    claimed,
    ended,
    kept,
    reuse_message,
    submitted,
    taken_over,
    unknown_message,
)


class MemoryJobs:
    """Keeps what ``models.jobs.Jobs`` says in a dictionary; safe to call from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._specs: dict[str, bytes] = {}

    def submit(self, asked: Submission, *, most_queued: int, now: int) -> Submitted:
        """A new job in the queue, or the one that was asked for before."""
        with self._guard:
            for job in self._jobs.values():
                if (job.source, job.request_id) == (asked.source, asked.request_id):
                    if job.request_hash != asked.request_hash:
                        raise Conflict(reuse_message(asked))
                    return Submitted(job, was_there_before=True)
            queued = sum(job.state == "queued" for job in self._jobs.values())
            if queued >= most_queued:
                raise QueueFull(queued)
            self._specs[asked.job_id] = asked.spec
            return Submitted(self._put(submitted(asked, now=now)), was_there_before=False)

    def job(self, job_id: str) -> Job | None:
        """A job by its id."""
        with self._guard:
            return self._jobs.get(job_id)

    def spec(self, job_id: str) -> bytes | None:
        """What is to be done."""
        with self._guard:
            return self._specs.get(job_id)

    def newest(self, *, rows: int, source: str | None = None, before: str | None = None) -> list[Job]:
        """Jobs, the newest by their ids first."""
        with self._guard:
            found = [
                job
                for job in self._jobs.values()
                if source in (None, job.source) and (before is None or job.job_id < before)
            ]
        return sorted(found, key=lambda job: job.job_id, reverse=True)[:rows]

    def claim(self, claim: Claim, *, now: int) -> Job | None:
        """The job that was asked for first of those that may be claimed, now the caller's."""
        with self._guard:
            changed = [self._put(job) for job in claimed(self._unfinished(), claim, now=now)]
        return changed[-1] if changed and changed[-1].state == "running" else None

    def keep(self, job_id: str, token: int, progress: JobProgress, *, lease_us: int, now: int) -> None:
        """A heartbeat."""
        with self._guard:
            self._put(kept(self._claimed(job_id, token), token, progress, lease_us=lease_us, now=now))

    def end(self, job_id: str, token: int, ending: Ending, *, now: int) -> Job:
        """The job after an attempt has ended."""
        with self._guard:
            return self._put(ended(self._claimed(job_id, token), token, ending, now=now))

    def cancel(self, job_id: str, *, now: int) -> Job:
        """A job that nobody does any more."""
        with self._guard:
            if job_id not in self._jobs:
                raise UnknownObject(unknown_message(job_id))
            return self._put(cancelled(self._jobs[job_id], now=now))

    def take_over(self, *, now: int) -> int:
        """Put back all running jobs."""
        with self._guard:
            running = [job for job in self._jobs.values() if job.state == "running"]
            return len([self._put(taken_over(job, now=now)) for job in running])

    def forget(self, *, kept_us: int, most: int, now: int) -> list[str]:
        """Delete the oldest jobs that ended long ago."""
        with self._guard:
            over = sorted(
                (job.finished_at, job.job_id)
                for job in self._jobs.values()
                if job.finished_at is not None and job.finished_at < now - kept_us
            )
            gone = [job_id for _, job_id in over[:most]]
            for job_id in gone:
                del self._jobs[job_id], self._specs[job_id]
        return gone

    def _put(self, job: Job) -> Job:
        self._jobs[job.job_id] = job
        return job

    def _claimed(self, job_id: str, token: int) -> Job:
        if job_id not in self._jobs:
            raise ClaimLost(job_id, token)
        return self._jobs[job_id]

    def _unfinished(self) -> list[Job]:
        return sorted(
            (job for job in self._jobs.values() if not job.is_finished), key=lambda job: (job.created_at, job.job_id)
        )
