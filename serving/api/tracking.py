"""Calls of tracking SDKs, in a batch or one by one: whoever sends to Segment sends here with the host changed."""

from __future__ import annotations

from typing import Any, Final

from litestar import Response, post

from features.errors import InvalidInput
from features.tracked_calls import CALL_TYPES, CallType, Envelope, inside
from serving.api.calls import Call, as_json, as_problem, body_of, principal_of, runtime_of
from serving.api.failures import tracking_failure_of
from serving.auth import Principal
from serving.problems import field_errors, pointer
from serving.requests import Fields, batch_items, decode_json
from serving.runtime import Runtime
from serving.telemetry import log_event
from serving.tracking_shapes import (
    MAX_BATCH_BYTES,
    MAX_CALL_BYTES,
    MAX_LISTED_DROPS,
    DropView,
    TrackingAnswer,
    TrackingReport,
)
from serving.views import Rejection

_BATCH: Final = "batch"
_ALL_AT_ONCE: Final = "/v1/batch"
_ONE_BY_ONE: Final[dict[str, CallType]] = {f"/v1/{call_type}": call_type for call_type in CALL_TYPES}


def _failed(request: Call, error: Exception) -> Response[bytes]:
    return as_problem(tracking_failure_of(error, route=str(request.scope.get("path_template"))))


@post(
    _ALL_AT_ONCE,
    exception_handlers={Exception: _failed},
    status_code=200,
)
async def take_batch(request: Call) -> Response[bytes]:
    """Take a batch of calls; each is accepted, known already, rejected or dropped by itself."""
    runtime = runtime_of(request)
    limit = min(MAX_BATCH_BYTES, runtime.settings.max_batch_bytes)
    body = await body_of(request, limit, pace=runtime.workers.pace)
    return as_json(await runtime.workers.run(_batch_taken, runtime, body, principal_of(request)))


@post(
    list(_ONE_BY_ONE),
    exception_handlers={Exception: _failed},
    status_code=200,
)
async def take_call(request: Call) -> Response[bytes]:
    """Take one call, whose type the path says."""
    runtime = runtime_of(request)
    call_type = _ONE_BY_ONE[str(request.scope.get("path_template"))]
    body = await body_of(request, MAX_CALL_BYTES, pace=runtime.workers.pace)
    return as_json(await runtime.workers.run(_call_taken, runtime, body, principal_of(request), call_type))


TRACKING_ROUTES: Final = (take_batch, take_call)


def _batch_taken(runtime: Runtime, body: bytes, principal: Principal) -> TrackingAnswer:
    with runtime.recent.noting_body(**_sent(runtime, principal)):
        calls, envelope = _batch_of(decode_json(body), runtime.settings.max_batch_items)
    return _taken(runtime, calls, envelope, principal, at=f"{_BATCH}[{{}}]")


def _call_taken(runtime: Runtime, body: bytes, principal: Principal, call_type: CallType) -> TrackingAnswer:
    with runtime.recent.noting_body(**_sent(runtime, principal)):
        call = decode_json(body)
    return _taken(runtime, [call], Envelope(call_type=call_type), principal, at="")


def _sent(runtime: Runtime, principal: Principal) -> dict[str, Any]:
    """What is remembered of everything that is refused of a request."""
    return {"door": "tracking", "source": principal.source, "received_at": runtime.clock()}


def _taken(
    runtime: Runtime, calls: list[object], envelope: Envelope, principal: Principal, *, at: str
) -> TrackingAnswer:
    """What became of some calls; ``at`` is where each stands in the body, by its index, empty for the body itself.

    Raises:
        InvalidInput: the only call, which is the body, cannot be.
    """
    paths = [at.format(index) for index in range(len(calls))]
    report = runtime.tracking.take(
        calls,
        envelope,
        source=principal.source,
        received_at=runtime.clock(),
        paths=paths,
        rights=principal.rights,
    )
    runtime.recent.note(calls, report.rejected, drops=report.drops, paths=paths, **_sent(runtime, principal))
    answer = _answer(report, paths)
    runtime.metrics.count_calls(
        accepted=answer.accepted,
        duplicate=answer.duplicate,
        rejected=answer.rejected,
        dropped=answer.dropped,
        drops=answer.drops_by_reason,
    )
    log_event(
        "calls_taken",
        accepted=answer.accepted,
        duplicate=answer.duplicate,
        rejected=answer.rejected,
        dropped=answer.dropped,
    )
    if not at and report.rejected:
        raise InvalidInput("the call has invalid fields", report.rejected[0][1])
    return answer


def _answer(report: TrackingReport, paths: list[str]) -> TrackingAnswer:
    return TrackingAnswer(
        accepted=report.accepted,
        duplicate=report.duplicates,
        rejected=len(report.rejected),
        dropped=report.dropped,
        rejections=tuple(Rejection(index=index, errors=field_errors(problems)) for index, problems in report.rejected),
        drops_by_reason=report.drops_by_reason,
        drops=tuple(
            DropView(index=index, pointer=pointer(inside(paths[index], drop.path)), reason=drop.reason)
            for index, drop in report.drops[:MAX_LISTED_DROPS]
        ),
        late=report.late,
        degraded=report.degraded,
    )


def _batch_of(document: object, limit: int) -> tuple[list[object], Envelope]:
    """The calls of a batch, and what it says of all of them; fields that no SDK we know sends say nothing.

    Raises:
        InvalidInput: it is no batch, or holds no call or more than ``limit``.
    """
    fields = Fields.of(document, document if isinstance(document, dict) else ())
    calls = batch_items(fields, _BATCH, limit)
    context, integrations = fields.mapping("context"), fields.mapping("integrations")
    fields.refuse("the body is not a batch of calls")
    return calls, Envelope(sent_at=fields.value("sentAt"), context=context, integrations=integrations)
