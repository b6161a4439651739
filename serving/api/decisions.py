"""Decisions: ask for one, find them, read one back, activate one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import Response, get, post
from litestar.params import FromPath

from features.errors import StoreError, UnknownObject
from features.events import LARGEST_INTEGER, shown
from models.records import Stored
from serving.access import may_read
from serving.api.calls import (
    JSON,
    Call,
    arrival_of,
    as_json,
    body_of,
    principal_of,
    refuse_query,
    runtime_of,
    words_of,
)
from serving.auth import Principal
from serving.customer_views import OutcomeView
from serving.governing_views import ReplayRequest, replay_answer
from serving.masking import Sight, masked_decision
from serving.requests import Fields, decode_json
from serving.runtime import Runtime
from serving.telemetry import log_event
from serving.views import Activation, decision_view

if TYPE_CHECKING:  # it knows jitted code, for which the composition root chooses the folder first
    from serving.replays import ReplayedAnswer


@post("/v1/decisions", status_code=200)
async def decide(request: Call) -> Response[bytes]:
    """The ranked next best action."""
    runtime, principal = runtime_of(request), principal_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.desk.pace)
    answer = await runtime.desk.answer(
        lambda: decode_json(body),
        principal,
        idempotency_key=request.headers.get("idempotency-key"),
        arrived=arrival_of(request),
    )
    return Response(answer, media_type=JSON)


@get("/v1/decisions")
async def search_decisions(request: Call) -> Response[bytes]:
    """Recorded decisions, newest first, a page at a time."""
    runtime, principal = runtime_of(request), principal_of(request)
    words, now = words_of(request), runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.search.found(words, principal, now=now)))


@post("/v1/decisions/{decision_id:str}/activate", status_code=200)
async def activate_decision(request: Call, decision_id: FromPath[str]) -> Response[bytes]:
    """Count the contacts that a decision had reserved."""
    runtime, principal = runtime_of(request), principal_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)

    def activated() -> Activation:
        document = decode_json(body) if body else {}
        record = visible_decision(runtime, decision_id, principal).record
        return runtime.activations.activate(record, document, now=runtime.clock())

    answer = await runtime.workers.run(activated)
    log_event("decision_activated", decision_id=decision_id, contacts=len(answer.contacts))
    return as_json(answer)


@get("/v1/decisions/{decision_id:str}")
async def read_decision(request: Call, decision_id: FromPath[str]) -> Response[bytes]:
    """A stored decision: the answer as it was given, and its record with the full candidate set."""
    refuse_query(request.query_params)
    runtime, principal = runtime_of(request), principal_of(request)
    stored, outcomes = await runtime.workers.run(_read, runtime, decision_id, principal)
    names = runtime.feature_names.get(stored.record.versions.get("features", ""))
    view = decision_view(stored, feature_names=names, outcomes=outcomes)
    taxonomy = runtime.configurations.in_force.configuration.taxonomy
    return as_json(masked_decision(view, Sight.of(principal), taxonomy))


@get(
    "/v1/decisions/{decision_id:str}/explanation",
)
async def explain_decision(request: Call, decision_id: FromPath[str]) -> Response[bytes]:
    """Why a decision came out as it did."""
    runtime, principal, words = runtime_of(request), principal_of(request), words_of(request)

    def explained() -> bytes:
        record = visible_decision(runtime, decision_id, principal).record
        return runtime.explanations.explanation(record, words)

    return Response(await runtime.workers.run(explained), media_type=JSON)


@post(
    "/v1/decisions/{decision_id:str}/replay",
    status_code=200,
)
async def replay_decision(request: Call, decision_id: FromPath[str]) -> Response[bytes]:
    """A decision made again from its record, as it was or under something else."""
    runtime, principal = runtime_of(request), principal_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)

    def replayed() -> ReplayedAnswer:
        named = parse_replay_request(decode_json(body) if body else {})
        return runtime.replays.replay(visible_decision(runtime, decision_id, principal), named)

    return as_json(replay_answer(await runtime.workers.run(replayed)))


def parse_replay_request(document: object) -> ReplayRequest:
    """What a decision is to be made again with.

    Raises:
        InvalidInput: with every bad field.
    """
    fields = Fields.of(document, ("policy", "actions", "bundle", "as_champion"))
    named = ReplayRequest(
        policy=fields.text("policy"),
        actions=fields.text("actions"),
        bundle=fields.integer("bundle", 1, LARGEST_INTEGER, None),
        as_champion=fields.flag("as_champion", False),
    )
    fields.refuse("the decision cannot be made again with that")
    return named


def _read(runtime: Runtime, decision_id: str, principal: Principal) -> tuple[Stored, tuple[OutcomeView, ...] | None]:
    """A decision and what came of it; the decision alone where the event log does not answer."""
    stored = visible_decision(runtime, decision_id, principal)
    try:
        return stored, runtime.decision_outcomes.of(stored.record, now=runtime.clock())
    except StoreError as error:
        log_event("outcomes_not_read", error=error)
        return stored, None


def visible_decision(runtime: Runtime, decision_id: str, principal: Principal) -> Stored:
    """A stored decision that a caller may read.

    Raises:
        UnknownObject: there is none, or it is another source's.
    """
    stored = runtime.records.decision(decision_id)
    if stored is None or not may_read(principal, stored.record.source):
        # The same words for both: a foreign id must not be told from one that does not exist.
        raise UnknownObject(f"no decision {shown(decision_id)}; expected the id of one that this key may read")
    return stored
