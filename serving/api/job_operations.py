"""The calls on durable jobs, as the description of the API has them."""

from __future__ import annotations

from typing import Final

from serving import problems
from serving.api.operation import KEYED, READING, WRITING, Json, Operation
from serving.job_files import MEDIA_TYPES
from serving.job_views import FoundJobs, JobView
from serving.jobs import DEFAULT_LIMIT, LARGEST_LIMIT

_JOB_ID: Final[Json] = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "description": "The id of a job.",
    "schema": {"type": "string"},
}
_LISTING: Final[tuple[Json, ...]] = (
    {
        "name": "source",
        "in": "query",
        "required": False,
        "description": "Only jobs that this source asked for; your own, unless you may see all.",
        "schema": {"type": "string"},
    },
    {
        "name": "limit",
        "in": "query",
        "required": False,
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
    },
    {
        "name": "cursor",
        "in": "query",
        "required": False,
        "description": "Where to go on: `next_cursor` of an answer to the same query.",
        "schema": {"type": "string"},
    },
)

JOB_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/jobs",
        operation_id="list_jobs",
        summary="The jobs that were asked for",
        description="Newest first: your own source's, or, for the roles admin and analyst, everybody's. Finished jobs "
        "are removed when their `kept_until` has passed.",
        answer=FoundJobs,
        parameters=_LISTING,
        failures=(*KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}",
        operation_id="read_job",
        summary="A job as it stands",
        description="How far it has come; once it has ended, what it came to or why it failed. Ask again every few "
        "seconds. It goes on whatever becomes of who asked, and of the service's process.",
        answer=JobView,
        parameters=(_JOB_ID,),
        failures=(*KEYED, *READING),
    ),
    Operation(
        method="post",
        path="/v1/jobs/{job_id}/cancel",
        operation_id="cancel_job",
        summary="Cancel a job",
        description="From then on it is cancelled, for good: what it has done so far is thrown away. Cancelling again "
        "changes nothing. A job that has succeeded or failed stays as it is.",
        answer=JobView,
        parameters=(_JOB_ID,),
        failures=(*KEYED, problems.NOT_FOUND, problems.JOB_OVER, *WRITING),
    ),
    Operation(
        method="get",
        path="/v1/jobs/{job_id}/result",
        operation_id="job_result",
        summary="The file that a job came to",
        description="As CSV, Parquet, JSON or JSON lines, by its `Content-Type`. It may be fetched any number of times "
        "until the job is removed.",
        answer=tuple(MEDIA_TYPES.values()),
        parameters=(_JOB_ID,),
        failures=(*KEYED, problems.NO_RESULT, problems.RESULT_GONE, *READING),
    ),
)
"""Every documented call on jobs."""
