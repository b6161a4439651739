"""Exposures and outcomes: take a batch of what came back for decisions."""

from __future__ import annotations

import msgspec
from litestar import Response, post

from serving.api.calls import Call, as_json, body_of, principal_of, runtime_of
from serving.api.events import batch_answer
from serving.auth import Principal
from serving.requests import decode_json, parse_batch
from serving.runtime import Runtime
from serving.telemetry import log_event
from serving.views import OutcomesAnswer


@post("/v1/outcomes", status_code=200)
async def take_outcomes(request: Call) -> Response[bytes]:
    """Take exposures and outcomes in by decision id; each is accepted, known already, or rejected by itself."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.workers.run(_taken, runtime, body, principal_of(request)))


def _taken(runtime: Runtime, body: bytes, principal: Principal) -> OutcomesAnswer:
    items = parse_batch(decode_json(body), key="outcomes", limit=runtime.settings.max_batch_items)
    report = runtime.outcomes.record(items, source=principal.source, arrived_at=runtime.clock())
    told = batch_answer(report)
    answer = OutcomesAnswer(**msgspec.structs.asdict(told), late=report.late)
    runtime.metrics.count_outcomes(accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    log_event("outcomes_taken", accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    return answer
