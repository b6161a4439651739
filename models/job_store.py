"""Jobs in a table of the record store, by one code for SQLite and PostgreSQL.

Every write is one job of the store's writer under one key: jobs change a few times a minute, and so no two processes
ever look at the queue at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from features.errors import Conflict, UnknownObject
from features.sql_store import SqlStore
from features.sql_text import BYTES, TEXT, WHOLE, ZERO, SqlConnection, Statement, statement
from features.store_time import store_time
from models.jobs import (
    Claim,
    ClaimLost,
    Ending,
    Job,
    JobError,
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

T = TypeVar("T")

metadata = MetaData()
jobs_table = Table(
    "jobs",
    metadata,
    Column("job_id", TEXT, primary_key=True),
    Column("kind", TEXT, nullable=False),
    Column("spec", BYTES, nullable=False),
    Column("source", TEXT, nullable=False),
    Column("key_id", TEXT, nullable=False),
    Column("request_id", TEXT, nullable=False),
    Column("request_hash", TEXT, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Column("ready_at", WHOLE, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("step", TEXT, nullable=False),
    Column("done", WHOLE, nullable=False),
    Column("total", WHOLE),
    Column("owner", TEXT, nullable=False),
    Column("token", WHOLE, nullable=False),
    Column("attempts", WHOLE, nullable=False),
    Column("lease_until", WHOLE, nullable=False),
    Column("heartbeat_at", WHOLE, nullable=False),
    Column("started_at", WHOLE),
    Column("finished_at", WHOLE),
    Column("summary", BYTES),
    Column("file", TEXT),
    Column("error", BYTES),
    UniqueConstraint("source", "request_id", name="jobs_request"),
)
Index("jobs_of_source", jobs_table.c.source, jobs_table.c.job_id)
Index("jobs_of_state", jobs_table.c.state, jobs_table.c.created_at)
Index("jobs_finished", jobs_table.c.finished_at)

_j = jobs_table.c
_LIGHT: Final = tuple(column for column in jobs_table.columns if column.name != "spec")
_CHANGING: Final = tuple(
    column.name
    for column in jobs_table.columns
    if column.name not in ("job_id", "kind", "spec", "source", "key_id", "request_id", "request_hash", "created_at")
)
_QUEUED, _RUNNING = (literal_column(f"'{state}'", TEXT) for state in ("queued", "running"))
_ID: Final = _j.job_id == bindparam("id")
_ROWS: Final = bindparam("rows", type_=WHOLE)

_INSERT = statement(insert(jobs_table))
_UPDATE = statement(update(jobs_table).where(_ID).values({name: bindparam(name) for name in _CHANGING}))
_BY_ID = statement(select(*_LIGHT).where(_ID))
_SPEC = statement(select(_j.spec).where(_ID))
_BY_REQUEST = statement(select(*_LIGHT).where(_j.source == bindparam("asker"), _j.request_id == bindparam("request")))
_COUNT_QUEUED = statement(select(func.count()).select_from(jobs_table).where(_j.state == _QUEUED))
_CLAIMABLE = statement(
    select(_j.job_id)
    .where(
        or_(
            and_(_j.state == _QUEUED, _j.ready_at <= bindparam("now")),
            and_(_j.state == _RUNNING, _j.lease_until <= bindparam("now")),
        )
    )
    .order_by(_j.created_at, _j.job_id)
)
_ALL_RUNNING = statement(select(*_LIGHT).where(_j.state == _RUNNING).order_by(_j.created_at))
_NEWEST = statement(
    select(*_LIGHT).where(_j.job_id < bindparam("before")).order_by(_j.job_id.desc()).limit(_ROWS).offset(ZERO)
)
_NEWEST_OF_SOURCE = statement(
    select(*_LIGHT)
    .where(_j.source == bindparam("asker"), _j.job_id < bindparam("before"))
    .order_by(_j.job_id.desc())
    .limit(_ROWS)
    .offset(ZERO)
)
_LONG_OVER = statement(
    select(_j.job_id).where(_j.finished_at < bindparam("end")).order_by(_j.finished_at).limit(_ROWS).offset(ZERO)
)
_DELETE = statement(delete(jobs_table).where(_ID))
_AFTER_ALL: Final = "\U0010ffff"
"""Sorts behind every id."""

_QUEUE: Final = ("jobs",)
"""The key of every write."""


class SqlJobs:
    """The jobs of an installation in its record store; ``models.jobs.Jobs`` says what it promises.

    Args:
        store: where the table is; it is closed by whoever opened it.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def submit(self, asked: Submission, *, most_queued: int, now: int) -> Submitted:
        """A new job in the queue, or the one that was asked for before."""
        return self._write(lambda connection, at: _submit(connection, asked, most_queued, at), now)

    def job(self, job_id: str) -> Job | None:
        """A job by its id."""
        with self._store.reading() as connection:
            return _job(connection, _BY_ID, {"id": job_id})

    def spec(self, job_id: str) -> bytes | None:
        """What is to be done."""
        with self._store.reading() as connection:
            row = connection.execute(_SPEC, {"id": job_id}).fetchone()
        return None if row is None else bytes(row[0])

    def newest(self, *, rows: int, source: str | None = None, before: str | None = None) -> list[Job]:
        """Jobs, the newest by their ids first."""
        key = {"rows": rows, "before": _AFTER_ALL if before is None else before}
        with self._store.reading() as connection:
            if source is None:
                found = connection.execute(_NEWEST, key).fetchall()
            else:
                found = connection.execute(_NEWEST_OF_SOURCE, key | {"asker": source}).fetchall()
        return [_loaded(row) for row in found]

    def claim(self, claim: Claim, *, now: int) -> Job | None:
        """The job that was asked for first of those that may be claimed, now the caller's."""
        with self._store.reading() as connection:  # so that a process with nothing to do writes nothing
            key = {"now": store_time(connection, now=now)}
            if connection.execute(_CLAIMABLE, key).fetchone() is None:
                return None
        return self._write(lambda connection, at: _claim(connection, claim, at), now)

    def keep(self, job_id: str, token: int, progress: JobProgress, *, lease_us: int, now: int) -> None:
        """A heartbeat."""

        def kept_job(connection: SqlConnection, at: int) -> None:
            job = _claimed(connection, job_id, token)
            _put(connection, kept(job, token, progress, lease_us=lease_us, now=at))

        self._write(kept_job, now)

    def end(self, job_id: str, token: int, ending: Ending, *, now: int) -> Job:
        """The job after an attempt has ended."""

        def end_job(connection: SqlConnection, at: int) -> Job:
            return _put(connection, ended(_claimed(connection, job_id, token), token, ending, now=at))

        return self._write(end_job, now)

    def cancel(self, job_id: str, *, now: int) -> Job:
        """A job that nobody does any more."""

        def cancel_job(connection: SqlConnection, at: int) -> Job:
            job = _job(connection, _BY_ID, {"id": job_id})
            if job is None:
                raise UnknownObject(unknown_message(job_id))
            return _put(connection, cancelled(job, now=at))

        return self._write(cancel_job, now)

    def take_over(self, *, now: int) -> int:
        """Put back all running jobs."""

        def put_back(connection: SqlConnection, at: int) -> int:
            running = [_loaded(row) for row in connection.execute(_ALL_RUNNING).fetchall()]
            return len([_put(connection, taken_over(job, now=at)) for job in running])

        return self._write(put_back, now)

    def forget(self, *, kept_us: int, most: int, now: int) -> list[str]:
        """Delete the oldest jobs that ended long ago."""

        def forget_jobs(connection: SqlConnection, at: int) -> list[str]:
            key = {"end": at - kept_us, "rows": most}
            gone = [row[0] for row in connection.execute(_LONG_OVER, key).fetchall()]
            connection.executemany(_DELETE, [{"id": job_id} for job_id in gone])
            return gone

        return self._write(forget_jobs, now)

    def _write(self, change: Callable[[SqlConnection, int], T], now: int) -> T:
        return self._store.run(lambda connection: change(connection, store_time(connection, now=now)), keys=_QUEUE)


def _submit(connection: SqlConnection, asked: Submission, most_queued: int, at: int) -> Submitted:
    known = _job(connection, _BY_REQUEST, {"asker": asked.source, "request": asked.request_id})
    if known is not None:
        if known.request_hash != asked.request_hash:
            raise Conflict(reuse_message(asked))
        return Submitted(known, was_there_before=True)
    (queued,) = connection.execute(_COUNT_QUEUED).fetchone()
    if queued >= most_queued:
        raise QueueFull(queued)
    job = submitted(asked, now=at)
    connection.execute(_INSERT, _row(job) | {"spec": asked.spec})
    return Submitted(job, was_there_before=False)


def _claim(connection: SqlConnection, claim: Claim, at: int) -> Job | None:
    ids = [row[0] for row in connection.execute(_CLAIMABLE, {"now": at}).fetchall()]
    changed = [_put(connection, job) for job in claimed(_jobs(connection, ids), claim, now=at)]
    return changed[-1] if changed and changed[-1].state == "running" else None


def _jobs(connection: SqlConnection, ids: list[str]) -> Iterator[Job]:
    for job_id in ids:
        if (job := _job(connection, _BY_ID, {"id": job_id})) is not None:
            yield job


def _claimed(connection: SqlConnection, job_id: str, token: int) -> Job:
    job = _job(connection, _BY_ID, {"id": job_id})
    if job is None:
        raise ClaimLost(job_id, token)
    return job


def _job(connection: SqlConnection, by: Statement, key: dict[str, Any]) -> Job | None:
    row = connection.execute(by, key).fetchone()
    return None if row is None else _loaded(row)


def _put(connection: SqlConnection, job: Job) -> Job:
    row = _row(job)
    connection.execute(_UPDATE, {"id": job.job_id, **{name: row[name] for name in _CHANGING}})
    return job


def _row(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "source": job.source,
        "key_id": job.key_id,
        "request_id": job.request_id,
        "request_hash": job.request_hash,
        "created_at": job.created_at,
        "ready_at": job.ready_at,
        "state": job.state,
        "step": job.progress.step,
        "done": job.progress.done,
        "total": job.progress.total,
        "owner": job.owner,
        "token": job.token,
        "attempts": job.attempts,
        "lease_until": job.lease_until,
        "heartbeat_at": job.heartbeat_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "summary": job.summary,
        "file": job.file,
        "error": None if job.error is None else msgspec.json.encode(job.error),
    }


_NAMES: Final = tuple(column.name for column in _LIGHT)


def _loaded(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_NAMES, row, strict=True))
    error = values.pop("error")
    return Job(
        progress=JobProgress(values.pop("step"), values.pop("done"), values.pop("total")),
        error=None if error is None else msgspec.json.decode(error, type=JobError),
        **values,
    )
