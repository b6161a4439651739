"""Journeys: the report on one."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from serving.api.calls import JSON, Call, runtime_of


@get("/v1/journeys/{journey_id:str}/report")
async def report_journey(request: Call, journey_id: FromPath[str]) -> Response[bytes]:
    """How customers really go through a journey."""
    runtime = runtime_of(request)
    words = {name: request.query_params.getall(name) for name in request.query_params}
    return Response(await runtime.workers.run(runtime.reports.report, journey_id, words), media_type=JSON)
