"""Durable jobs for callers: asked for, looked at, cancelled, and their results handed out.

A call that takes long is turned into a job by its own desk, which checks what is asked and submits it here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from features.errors import UnknownObject
from models.ids import is_job_id
from models.ids import job_id as new_job_id
from models.jobs import Job, Jobs, QueueFull, Submission, Submitted, job_hash, unknown_message
from serving.access import may_read, readable_source
from serving.auth import Principal
from serving.job_files import JobFiles, media_type
from serving.job_views import FoundJobs, JobView, job_view
from serving.problems import Forbidden, NoResult, ResultGone, TooManyRequests
from serving.queries import END_OF_TIME, SAME_QUERY, Cursor, Query, Words, cursor_of, dump_cursor, query_digest

PARAMETERS: Final = ("source", "limit", "cursor")
DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 200
QUEUE_SECONDS: Final = 60
"""After so long asking again is worth it where the queue is full: a job takes minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The file of a job, open to read.

    Attributes:
        size: bytes.
        name: for whoever saves it.
    """

    file: BinaryIO
    size: int
    media_type: str
    name: str


class JobDesk:
    """Takes jobs and tells of them.

    Args:
        jobs: where they are kept.
        files: where their results are.
        clock: now, microseconds since the epoch.
        randomness: so many random bytes.
        most_queued: so many may wait.
        kept_days: so long a finished one is kept.
        wake: called when there is something to do for whoever does jobs.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        files: JobFiles,
        clock: Callable[[], int],
        randomness: Callable[[int], bytes],
        most_queued: int,
        kept_days: int,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._jobs, self._files = jobs, files
        self._clock, self._randomness = clock, randomness
        self._most_queued, self._kept_days, self._wake = most_queued, kept_days, wake

    def submit(
        self,
        kind: str,
        spec: Mapping[str, Any],
        principal: Principal,
        *,
        request_id: str | None = None,
        asked_for: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """The job that holds for a request; it is on disk. It waits on a store: call it in a thread.

        Args:
            kind: one of ``serving.job_kinds``.
            spec: what is to be done, JSON values, checked.
            principal: who asks.
            request_id: the idempotency key; a new one where the caller gave none.
            asked_for: what the caller asked for, JSON values, where the spec says more than that, such as the moment:
                the same again under the same request id is the same job.

        Raises:
            Conflict: the request id was used for another job.
            TooManyRequests: so many jobs wait that no more are taken.
            StoreUnavailable: it is unknown whether it was stored: asking again with the same request id tells.
        """
        now = self._clock()
        new_id = new_job_id(at=now, randomness=self._randomness(10))
        asked = Submission(
            job_id=new_id,
            kind=kind,
            spec=msgspec.json.encode(spec),
            source=principal.source,
            key_id=principal.key_id,
            request_id=new_id if request_id is None else request_id,
            request_hash=job_hash(kind, spec if asked_for is None else asked_for),
        )
        try:
            submitted = self._jobs.submit(asked, most_queued=self._most_queued, now=now)
        except QueueFull as error:
            raise TooManyRequests(
                f"{error.queued} jobs are waiting, expected less than {self._most_queued}: ask again later",
                retry_after=QUEUE_SECONDS,
            ) from error
        self._wake()
        return submitted

    def view(self, job: Job) -> JobView:
        """A job as callers see it."""
        return job_view(job, kept_days=self._kept_days)

    def job(self, job_id: str, principal: Principal) -> JobView:
        """A job that a caller may see.

        Raises:
            UnknownObject: there is none, or it is another source's.
        """
        return self.view(self._visible(job_id, principal))

    def found(self, words: Words, principal: Principal) -> FoundJobs:
        """A page of jobs, newest first: all that a caller may see, or those of one source.

        Raises:
            InvalidInput: with every bad parameter.
            Forbidden: the jobs of another source are asked for.
        """
        query = Query.of_words(words, PARAMETERS)
        source = query.text("source")
        limit = query.whole("limit", 1, LARGEST_LIMIT, DEFAULT_LIMIT)
        digest = query_digest("jobs", source)
        cursor = cursor_of(query, digest)
        if cursor is not None and not is_job_id(cursor.id):
            query.add("cursor", words["cursor"][0], SAME_QUERY)
        query.refuse("the jobs cannot be listed")
        source = readable_source(principal, source, reads="sees jobs")
        rows = self._jobs.newest(rows=limit + 1, source=source, before=None if cursor is None else cursor.id)
        page = rows[:limit]
        goes_on = len(rows) > limit
        return FoundJobs(
            jobs=tuple(map(self.view, page)),
            next_cursor=dump_cursor(Cursor(digest, 0, END_OF_TIME, 0, page[-1].job_id)) if goes_on else None,
        )

    def cancel(self, job_id: str, principal: Principal) -> JobView:
        """A job that nobody does any more; again it changes nothing.

        Raises:
            UnknownObject: there is none, or the caller may not see it.
            Forbidden: it is another source's.
            JobOver: it has succeeded or failed.
        """
        cancelled = self._jobs.cancel(self._own(job_id, principal).job_id, now=self._clock())
        self._wake()
        return self.view(cancelled)

    def result(self, job_id: str, principal: Principal) -> JobResult:
        """The file of a job, which whoever asked has to close.

        Raises:
            UnknownObject: there is no such job, or the caller may not see it.
            Forbidden: it is another source's: the file was made for the eyes of who asked.
            NoResult: it has none, or none yet.
            ResultGone: it is not here any more.
        """
        job = self._own(job_id, principal)
        if job.file is None:
            why = "whose kind leaves no file" if job.state == "succeeded" else f"which is {job.state}"
            raise NoResult(f"job {job.job_id}, {why}, has no result; expected one that has succeeded with a file")
        file = self._files.open(job)
        if file is None:
            raise ResultGone(f"the result of job {job.job_id} is not here any more; expected to ask for the job again")
        return JobResult(
            file=file,
            size=os.fstat(file.fileno()).st_size,
            media_type=media_type(job.file),
            name=f"{job.kind}-{job.job_id}{Path(job.file).suffix}",
        )

    def _visible(self, job_id: str, principal: Principal) -> Job:
        job = self._jobs.job(job_id) if is_job_id(job_id) else None
        if job is None or not may_read(principal, job.source):
            # The same words for both: a foreign id must not be told from one that does not exist.
            raise UnknownObject(unknown_message(job_id))
        return job

    def _own(self, job_id: str, principal: Principal) -> Job:
        job = self._visible(job_id, principal)
        if job.source != principal.source and "admin" not in principal.roles:
            raise Forbidden(
                f"job {job.job_id} was asked for by the source {job.source}; expected a key of that source, or the "
                "role admin: you may see how it stands"
            )
        return job
