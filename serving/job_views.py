"""Durable jobs as callers see them: shapes on the wire."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from features.errors import (
    ConfigurationError,
    HomeLocked,
    InvalidInput,
    MappingError,
    NotEnoughData,
    Refused,
    StoreCorrupted,
    StoreUnavailable,
    UnknownObject,
)
from features.events import dump_timestamp, dump_timestamp_or_none
from models.jobs import Job, JobError, JobState
from serving.problems import (
    INTERNAL,
    INVALID,
    NOT_ENOUGH_DATA,
    NOT_FOUND,
    UNAVAILABLE,
    ProblemDetails,
    ProblemType,
    details,
    field_errors,
)
from serving.schemas import Timestamp

STATES: Final[tuple[str, ...]] = get_args(JobState)

_DAY_US: Final = 86_400_000_000
_KINDS: Final[dict[str, ProblemType]] = {
    **dict.fromkeys((one.__name__ for one in (InvalidInput, ConfigurationError, MappingError, Refused)), INVALID),
    UnknownObject.__name__: NOT_FOUND,
    NotEnoughData.__name__: NOT_ENOUGH_DATA,
    **dict.fromkeys((one.__name__ for one in (StoreUnavailable, StoreCorrupted, HomeLocked)), UNAVAILABLE),
}
"""Types of problems by the names of the errors of commands; any other is an internal error."""

_AWAY: Final = (
    "A store that the job needs did not answer, or another process was writing it, each time that the job was tried. "
    "Ask for the job again, with a new request id."
)
"""A store's own words name its place, which is no business of callers."""


class JobProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come.

    Attributes:
        step: what is being done; empty before anything was said.
        done: of `total`, in the step's own unit.
        total: null where it is not known.
    """

    step: str
    done: int
    total: int | None


class JobLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where to go on from a job.

    Attributes:
        cancel: null where it has ended.
        result: its file; null where there is none.
    """

    self: str
    cancel: str | None
    result: str | None


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """One durable job.

    Attributes:
        kind: what is done.
        state: `queued`, `running`, `succeeded`, `failed` or `cancelled`; the last three are for good.
        source: who asked for it.
        request_id: its idempotency key.
        attempts: how often it was begun; a process that dies is followed by another, three times at most.
        heartbeat_at: the newest word of who does it; null before the first attempt.
        finished_at: null before it has ended.
        kept_until: the job and its result are removed after; null before it has ended.
        result: what it came to, in short; null where it has not succeeded.
        error: why it failed, as a problem; null where it has not.
    """

    job_id: str
    kind: str
    state: str
    source: str
    request_id: str
    progress: JobProgressView
    attempts: int
    created_at: Timestamp
    started_at: Timestamp | None
    heartbeat_at: Timestamp | None
    finished_at: Timestamp | None
    kept_until: Timestamp | None
    result: msgspec.Raw | None
    error: ProblemDetails | None
    links: JobLinks


class FoundJobs(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first.

    Attributes:
        next_cursor: where to go on; null at the end.
    """

    jobs: tuple[JobView, ...]
    next_cursor: str | None


def job_view(job: Job, *, kept_days: int) -> JobView:
    """A job as it stands.

    Args:
        job: as it is kept.
        kept_days: so long a finished one is.
    """
    path = f"/v1/jobs/{job.job_id}"
    over = job.finished_at
    return JobView(
        job_id=job.job_id,
        kind=job.kind,
        state=job.state,
        source=job.source,
        request_id=job.request_id,
        progress=JobProgressView(step=job.progress.step, done=job.progress.done, total=job.progress.total),
        attempts=job.attempts,
        created_at=dump_timestamp(job.created_at),
        started_at=dump_timestamp_or_none(job.started_at),
        heartbeat_at=dump_timestamp_or_none(job.heartbeat_at or None),
        finished_at=dump_timestamp_or_none(over),
        kept_until=None if over is None else dump_timestamp(over + kept_days * _DAY_US),
        result=None if job.summary is None else msgspec.Raw(job.summary),
        error=None if job.error is None else problem_of(job.error),
        links=JobLinks(
            self=path,
            cancel=None if job.is_finished else f"{path}/cancel",
            result=None if job.file is None else f"{path}/result",
        ),
    )


def problem_of(error: JobError) -> ProblemDetails:
    """Why a job failed, as the problem that a call would have answered."""
    kind = _KINDS.get(error.error, INTERNAL)
    return details(kind, _AWAY if kind is UNAVAILABLE else error.message, errors=field_errors(error.problems))
