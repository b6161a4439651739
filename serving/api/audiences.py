"""Audiences and screened lists."""

from __future__ import annotations

from typing import Final

from litestar import Response, post

from serving.api.calls import Call, admitted_body, as_json, body_of, principal_of, refuse_query, runtime_of, words_of
from serving.audience_requests import sent_document, sent_table
from serving.job_views import JobView
from serving.requests import decode_json

CSV: Final = "text/csv"
_IDEMPOTENCY_KEY: Final = "idempotency-key"


@post("/v1/audiences", status_code=202)
async def make_audience(request: Call) -> Response[bytes]:
    """Have an audience made."""
    runtime, principal = runtime_of(request), principal_of(request)
    body = await body_of(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    key = request.headers.get(_IDEMPOTENCY_KEY)
    job = await runtime.workers.run(lambda: runtime.audiences.make(decode_json(body), principal, idempotency_key=key))
    return _taken(job)


@post("/v1/audiences/estimate", status_code=200)
async def estimate_audience(request: Call) -> Response[bytes]:
    """What an audience would come to."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.errands.run(lambda: runtime.audiences.estimate(decode_json(body))))


@post("/v1/audiences/screen", status_code=200)
async def screen_list(request: Call) -> Response[bytes]:
    """What becomes of the rows of a list."""
    runtime, principal = runtime_of(request), principal_of(request)
    words, key = words_of(request), request.headers.get(_IDEMPOTENCY_KEY)
    is_table = request.headers.get("content-type", "").partition(";")[0].strip().lower() == CSV
    if not is_table:
        refuse_query(request.query_params)
    body = await admitted_body(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)

    def screened() -> object:
        sent = sent_table(body, words) if is_table else sent_document(decode_json(body))
        return runtime.audiences.screen(sent, principal, idempotency_key=key)

    found = await runtime.errands.run(screened)
    return _taken(found) if isinstance(found, JobView) else as_json(found)


def _taken(job: JobView) -> Response[bytes]:
    """A job that was taken on, and where to ask for it."""
    response = as_json(job, status=202)
    response.headers["location"] = job.links.self
    return response
