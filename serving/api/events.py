"""Events: take a batch in."""

from __future__ import annotations

from litestar import Response, post

from serving.api.calls import Call, allowed, as_json, body_of, principal_of, runtime_of
from serving.auth import Principal
from serving.outcomes import Report
from serving.problems import field_errors
from serving.requests import decode_json, parse_batch
from serving.runtime import Runtime
from serving.telemetry import log_event
from serving.views import BatchAnswer, Rejection


@post("/v1/events", guards=[allowed("caller", "agent", "marketer")], status_code=200)
async def take_events(request: Call) -> Response[bytes]:
    """Take a batch of events in; each is accepted, known already, or rejected by itself."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.workers.run(_taken, runtime, body, principal_of(request)))


def _taken(runtime: Runtime, body: bytes, principal: Principal) -> BatchAnswer:
    documents = parse_batch(decode_json(body), key="events", limit=runtime.settings.max_batch_items)
    report = runtime.ingest.ingest(documents, source=principal.source, arrived_at=runtime.clock())
    answer = batch_answer(report)
    runtime.metrics.count_events(accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    log_event("events_taken", accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    return answer


def batch_answer(report: Report) -> BatchAnswer:
    """What became of a batch, as it leaves."""
    return BatchAnswer(
        accepted=report.accepted,
        duplicate=report.duplicates,
        rejected=len(report.rejected),
        rejections=tuple(
            Rejection(index=index, errors=field_errors(tuple(problems))) for index, problems in report.rejected
        ),
        degraded=report.degraded,
    )
