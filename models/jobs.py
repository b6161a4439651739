"""Durable jobs: what is asked of the service that takes longer than a request, and the port that keeps it.

A job is queued, claimed by one process at a time, and ends once: succeeded, failed or cancelled. Whoever claims it gets
a lease, which it keeps by its heartbeat, and a token, which grows with each claim and which every write of its names:
who has lost a job cannot write to it any more. How a job moves from state to state stands here, as functions of it;
adapters look up and store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

import msgspec

from features.errors import Problem, Refused
from features.events import shown

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: Final[frozenset[JobState]] = frozenset(("succeeded", "failed", "cancelled"))
"""States that no job leaves."""

MOST_ATTEMPTS: Final = 3
"""So often a job is begun: one that ends the process that does it would else end it for ever."""

WORKER_LOST: Final = "WorkerLost"
"""Name of the error of a job whose last attempt ended without a word."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, as commands say their errors: the type's name, the message, and every bad field."""

    error: str
    message: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job has come.

    Attributes:
        step: what is being done.
        done: of ``total``, in the step's own unit.
        total: None where it is not known.
    """

    step: str = ""
    done: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody asks for.

    Attributes:
        job_id: for the job, if it is a new one.
        spec: what is to be done, a JSON object.
        source: who asks.
        key_id: with which key.
        request_id: the idempotency key.
        request_hash: of what is asked: the same request id must come with the same.
    """

    job_id: str
    kind: str
    spec: bytes
    source: str
    key_id: str
    request_id: str
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands, without its spec, which may be large. Moments are microseconds since the epoch.

    Attributes:
        owner: who has it; empty where nobody has.
        token: of the newest claim; 0 before the first.
        attempts: how often it was begun.
        lease_until: nobody else claims it before.
        heartbeat_at: the newest word of its owner.
        ready_at: nobody claims it before.
        started_at: when it was first begun.
        summary: what a succeeded job came to, a JSON object.
        file: of its result, below the job's folder; None where it has none.
    """

    job_id: str
    kind: str
    source: str
    key_id: str
    request_id: str
    request_hash: str
    created_at: int
    ready_at: int
    state: JobState = "queued"
    progress: JobProgress = field(default_factory=JobProgress)
    owner: str = ""
    token: int = 0
    attempts: int = 0
    lease_until: int = 0
    heartbeat_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    summary: bytes | None = None
    file: str | None = None
    error: JobError | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, for good."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who would do a job, and which.

    Attributes:
        owner: names the process, for people.
        kinds: that it can do.
        lease_us: so long it has the job without a further word.
        most_attempts: a job that was begun so often fails instead.
    """

    owner: str
    kinds: Collection[str]
    lease_us: int
    most_attempts: int = MOST_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A job is done: its summary, a JSON object, and its file, if it has one."""

    summary: bytes
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A job cannot be done."""

    error: JobError


@dataclass(frozen=True, slots=True)
class PutBack:
    """A job is to be tried again.

    Attributes:
        delay_us: so long later at the earliest.
        error: why; it fails with that where it has no attempt left. None where the attempt was ended for reasons that
            are not the job's own, and counts as none.
        most_attempts: as ``Claim`` has it.
    """

    delay_us: int = 0
    error: JobError | None = None
    most_attempts: int = MOST_ATTEMPTS


Ending = Succeeded | Failed | PutBack
"""How an attempt ends."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that holds: a new one, or the one that was asked for before under the same request id."""

    job: Job
    was_there_before: bool


def job_hash(kind: str, spec: Mapping[str, Any]) -> str:
    """Hash of what is asked for, whatever the order of its fields: of two requests with one id it must be the same."""
    return hashlib.blake2b(msgspec.json.encode([kind, spec], order="deterministic"), digest_size=16).hexdigest()


class ClaimLost(Exception):
    """A claim of a job is not the current one any more: it was claimed again, put back, ended or deleted meanwhile."""

    def __init__(self, job_id: str, token: int) -> None:
        super().__init__(f"claim {token} of job {job_id} is not the current one")


class QueueFull(Exception):
    """So many jobs are queued that no more are taken.

    Attributes:
        queued: how many.
    """

    def __init__(self, queued: int) -> None:
        self.queued = queued
        super().__init__(f"{queued} jobs are queued")


class JobOver(Refused):
    """A job that is to be cancelled has ended otherwise."""


class Jobs(Protocol):
    """Jobs, kept durably. Each call is whole or nothing, and of two processes that want the same one gets it.

    ``now`` is the caller's clock, microseconds since the epoch; a store on a server goes by the server's own.
    """

    def submit(self, asked: Submission, *, most_queued: int, now: int) -> Submitted:
        """A new job in the queue, or the one that this source asked for before with the same request id and hash.

        Raises:
            Conflict: the request id was used for something else.
            QueueFull: ``most_queued`` jobs or more are queued.
            StoreUnavailable: nothing was stored, or it is unknown whether it was: a retry tells.
        """

    def job(self, job_id: str) -> Job | None:
        """A job by its id."""

    def spec(self, job_id: str) -> bytes | None:
        """What is to be done, a JSON object."""

    def newest(self, *, rows: int, source: str | None = None, before: str | None = None) -> list[Job]:
        """Jobs, the newest by their ids first: of one source or of all, those before an id or from the newest on."""

    def claim(self, claim: Claim, *, now: int) -> Job | None:
        """The job that was asked for first of those that wait or whose lease is over, now the caller's; None for none.

        Jobs whose lease is over and that have no attempt left fail.
        """

    def keep(self, job_id: str, token: int, progress: JobProgress, *, lease_us: int, now: int) -> None:
        """A heartbeat: how far a job has come, and a lease from now on.

        Raises:
            ClaimLost: the token is not the current one.
        """

    def end(self, job_id: str, token: int, ending: Ending, *, now: int) -> Job:
        """The job after an attempt has ended.

        Raises:
            ClaimLost: the token is not the current one.
        """

    def cancel(self, job_id: str, *, now: int) -> Job:
        """A job that nobody does any more; one that was cancelled before as it is.

        Raises:
            UnknownObject: there is no such job.
            JobOver: it has ended otherwise.
        """

    def take_over(self, *, now: int) -> int:
        """Put back all running jobs, whose processes are known to be gone; how many there were."""

    def forget(self, *, kept_us: int, most: int, now: int) -> list[str]:
        """Delete the oldest jobs that ended longer ago than ``kept_us``; their ids."""


def submitted(asked: Submission, *, now: int) -> Job:
    """A new job."""
    return Job(
        job_id=asked.job_id,
        kind=asked.kind,
        source=asked.source,
        key_id=asked.key_id,
        request_id=asked.request_id,
        request_hash=asked.request_hash,
        created_at=now,
        ready_at=now,
    )


def claimed(candidates: Iterable[Job], claim: Claim, *, now: int) -> list[Job]:
    """What changes by a claim, the claimed job last if there is one.

    Args:
        candidates: all that wait or run, in the order in which they were asked for.
        claim: who would do one.
        now: microseconds since the epoch.
    """
    changed = []
    for job in candidates:
        is_lost = job.state == "running" and job.lease_until <= now
        if is_lost and job.attempts >= claim.most_attempts:
            changed.append(_lost(job, now=now))
        elif job.kind in claim.kinds and (is_lost or (job.state == "queued" and job.ready_at <= now)):
            changed.append(
                replace(
                    job,
                    state="running",
                    owner=claim.owner,
                    token=job.token + 1,
                    attempts=job.attempts + 1,
                    lease_until=now + claim.lease_us,
                    heartbeat_at=now,
                    started_at=now if job.started_at is None else job.started_at,
                )
            )
            break
    return changed


def kept(job: Job, token: int, progress: JobProgress, *, lease_us: int, now: int) -> Job:
    """A job after a heartbeat.

    Raises:
        ClaimLost: the token is not the current one.
    """
    _check_claim(job, token)
    return replace(job, progress=progress, heartbeat_at=now, lease_until=now + lease_us)


def ended(job: Job, token: int, ending: Ending, *, now: int) -> Job:
    """A job after an attempt has ended.

    Raises:
        ClaimLost: the token is not the current one.
    """
    _check_claim(job, token)
    match ending:
        case Succeeded(summary, file):
            return replace(_over(job, "succeeded", now=now), summary=summary, file=file)
        case Failed(error):
            return replace(_over(job, "failed", now=now), error=error)
        case PutBack(delay_us, None):
            return replace(_waiting(job, ready_at=now + delay_us), attempts=job.attempts - 1)
        case PutBack(delay_us, error, most_attempts):
            if job.attempts >= most_attempts:
                return replace(_over(job, "failed", now=now), error=error)
            return _waiting(job, ready_at=now + delay_us)


def cancelled(job: Job, *, now: int) -> Job:
    """A job that nobody does any more.

    Raises:
        JobOver: it has ended otherwise.
    """
    if job.state == "cancelled":
        return job
    if job.is_finished:
        raise JobOver(f"job {job.job_id} has {job.state}; expected one that is queued or running: its result stays")
    return _over(job, "cancelled", now=now)


def taken_over(job: Job, *, now: int, most_attempts: int = MOST_ATTEMPTS) -> Job:
    """A job whose process is gone, in the queue again; failed where it has no attempt left."""
    return _lost(job, now=now) if job.attempts >= most_attempts else _waiting(job, ready_at=now)


def reuse_message(asked: Submission) -> str:
    """What is wrong with a request id that was used for another job."""
    return (
        f"request_id {shown(asked.request_id)} of source {shown(asked.source)} was used for another job, "
        f"expected the same body: use a new request_id for a new job"
    )


def unknown_message(job_id: str) -> str:
    """What is wrong with an id that names no job, or none that whoever asks may see."""
    return f"no job {shown(job_id)}; expected the id of one that this key may see: finished jobs are deleted in time"


def _check_claim(job: Job, token: int) -> None:
    if job.state != "running" or job.token != token:
        raise ClaimLost(job.job_id, token)


def _lost(job: Job, *, now: int) -> Job:
    message = f"each of {job.attempts} attempts ended the process that made it; ask for less, or look into the log"
    return replace(_over(job, "failed", now=now), error=JobError(WORKER_LOST, message))


def _over(job: Job, state: JobState, *, now: int) -> Job:
    return replace(job, state=state, owner="", lease_until=0, finished_at=now)


def _waiting(job: Job, *, ready_at: int) -> Job:
    return replace(job, state="queued", owner="", lease_until=0, ready_at=ready_at)
