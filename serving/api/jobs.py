"""Durable jobs: looked at, listed, cancelled, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from serving.api.calls import Call, as_json, body_of, principal_of, refuse_query, runtime_of, words_of
from serving.requests import Fields, decode_json

_CHUNK: Final = 256 << 10


@get("/v1/jobs")
async def list_jobs(request: Call) -> Response[bytes]:
    """Jobs, newest first, a page at a time."""
    runtime, principal, words = runtime_of(request), principal_of(request), words_of(request)
    return as_json(await runtime.workers.run(runtime.jobs.found, words, principal))


@get("/v1/jobs/{job_id:str}")
async def read_job(request: Call, job_id: FromPath[str]) -> Response[bytes]:
    """One job as it stands."""
    refuse_query(request.query_params)
    runtime = runtime_of(request)
    return as_json(await runtime.workers.run(runtime.jobs.job, job_id, principal_of(request)))


@post("/v1/jobs/{job_id:str}/cancel", status_code=200)
async def cancel_job(request: Call, job_id: FromPath[str]) -> Response[bytes]:
    """Have nobody do a job any more."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    Fields.of(decode_json(body) if body else {}, ()).refuse("the job is cancelled without a body")
    return as_json(await runtime.workers.run(runtime.jobs.cancel, job_id, principal_of(request)))


@get("/v1/jobs/{job_id:str}/result")
async def job_result(request: Call, job_id: FromPath[str]) -> Stream:
    """The file that a job came to."""
    refuse_query(request.query_params)
    runtime = runtime_of(request)
    found = await runtime.workers.run(runtime.jobs.result, job_id, principal_of(request))
    told = {
        "Content-Length": str(found.size),
        "Content-Disposition": f'attachment; filename="{found.name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(_chunks(found.file), media_type=found.media_type, headers=told)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file in pieces; read in a thread, so that a slow disk stops nobody else."""
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
