"""Events: take a batch in, and decide on its customer in the same call where that is asked for."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from litestar import Response, get, post

from features.errors import HeadwayError, InvalidInput, Problem
from features.events import shown
from serving.api.calls import (
    Call,
    admitted_body,
    arrival_of,
    as_json,
    principal_of,
    runtime_of,
    words_of,
)
from serving.api.decision_door import MAY_ASK
from serving.api.failures import failure_of
from serving.auth import Principal
from serving.outcomes import Report
from serving.problems import field_errors
from serving.queries import Query, Words
from serving.requests import decode_json, parse_batch
from serving.rights import forbidden_kinds
from serving.runtime import Runtime
from serving.telemetry import log_event
from serving.views import BatchAnswer, EventsAnswerOnWire, Rejection

_ROUTE = "/v1/events"
_WORDS = ("decide", "journey_id", "channel")


@get("/v1/events/recent")
async def recent_events(request: Call) -> Response[bytes]:
    """What came in lately, and what became of it."""
    runtime, principal, words = runtime_of(request), principal_of(request), words_of(request)
    now = runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.recent.found(words, principal, now=now)))


@post(_ROUTE, status_code=200)
async def take_events(request: Call) -> Response[bytes]:
    """Take a batch of events in; each is accepted, known already, or rejected by itself."""
    runtime, principal = runtime_of(request), principal_of(request)
    asked = _asked(words_of(request))
    if asked is not None:
        MAY_ASK.require(principal)
    body = await admitted_body(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    # In a thread from the first byte on: megabytes of events must not keep decisions waiting.
    answer, about = await runtime.workers.run(_taken, runtime, body, principal, asked is not None)
    if asked is None:
        return as_json(answer)
    question, taken = asked | about, msgspec.structs.asdict(answer)
    try:
        decision = await runtime.desk.answer(
            lambda: question, principal, idempotency_key=None, arrived=arrival_of(request)
        )
    except HeadwayError as error:
        problem = msgspec.Raw(failure_of(error, route=_ROUTE).body)
        return as_json(EventsAnswerOnWire(**taken, decision_problem=problem))
    return as_json(EventsAnswerOnWire(**taken, decision=msgspec.Raw(decision)))


def _asked(words: Words) -> dict[str, Any] | None:
    """What is to be decided of whoever the events are about; None where nothing is.

    Raises:
        InvalidInput: with every bad parameter.
    """
    query = Query.of_words(words, _WORDS)
    is_asked = query.yes_or_no("decide")
    # Whoever did something just now is here, and is answered rather than reached out to.
    asked = {"direction": "inbound", "journey_id": query.text("journey_id"), "channel": query.text("channel")}
    for name in ("journey_id", "channel"):
        if asked[name] is not None and not is_asked:
            query.add(name, asked[name], "no value without decide=true")
    query.refuse("the query is not one that this call takes")
    return asked if is_asked else None


def _about(documents: list[object]) -> dict[str, str]:
    """The one customer of a batch, and a request id that the same batch has again.

    Raises:
        InvalidInput: the batch is about several customers, or nobody.
    """
    named = [one.get("customer_id") if isinstance(one, dict) else None for one in documents]
    others = [(place, one) for place, one in enumerate(named) if one != named[0] or not isinstance(one, str)]
    if others:
        place, value = others[0]
        problem = Problem(f"events[{place}].customer_id", shown(value), "one customer in all events with decide=true")
        raise InvalidInput("a batch that is decided on is about one customer", [problem])
    ids = [str(one.get("event_id")) for one in documents if isinstance(one, dict)]
    digest = hashlib.blake2b("\n".join(ids).encode(errors="replace"), digest_size=16).hexdigest()
    return {"customer_id": str(named[0]), "request_id": f"events-{digest}"}


def _taken(runtime: Runtime, body: bytes, principal: Principal, is_asked: bool) -> tuple[BatchAnswer, dict[str, str]]:
    """What became of a batch, and whom a decision is asked about, if one is: a batch that it cannot be is not taken."""
    sent: dict[str, Any] = {"door": "events", "source": principal.source, "received_at": runtime.clock()}
    with runtime.recent.noting_body(**sent):
        documents = parse_batch(decode_json(body), key="events", limit=runtime.settings.max_batch_items)
        about = _about(documents) if is_asked else {}
    forbidden = forbidden_kinds(principal.rights, runtime.configurations.in_force.configuration.taxonomy)
    report = runtime.ingest.ingest(documents, source=principal.source, arrived_at=runtime.clock(), forbidden=forbidden)
    runtime.recent.note(documents, report.rejected, **sent)
    answer = batch_answer(report)
    runtime.metrics.count_events(accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    log_event("events_taken", accepted=answer.accepted, duplicate=answer.duplicate, rejected=answer.rejected)
    return answer, about


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
