"""Decisions: ask for one, read one back."""

from __future__ import annotations

from typing import Final

from litestar import Response, get, post
from litestar.params import FromPath

from features.errors import UnknownObject
from features.events import shown
from models.records import Stored
from serving.api.calls import (
    JSON,
    Call,
    allowed,
    arrival_of,
    as_json,
    body_of,
    principal_of,
    refuse_query,
    runtime_of,
)
from serving.auth import Principal
from serving.requests import decode_json
from serving.runtime import Runtime
from serving.views import decision_view

READS_ALL: Final = frozenset({"admin", "analyst"})
"""Roles that may read the decisions of every source; others read their own source's."""


@post("/v1/decisions", guards=[allowed("caller", "agent", "marketer")], status_code=200)
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


@get("/v1/decisions/{decision_id:str}", guards=[allowed("caller", "agent", "marketer", "analyst", "privacy")])
async def read_decision(request: Call, decision_id: FromPath[str]) -> Response[bytes]:
    """A stored decision: the answer as it was given, and its record with the full candidate set."""
    refuse_query(request)
    runtime, principal = runtime_of(request), principal_of(request)
    stored = await runtime.workers.run(_visible, runtime, decision_id, principal)
    names = runtime.feature_names.get(stored.record.versions.get("features", ""))
    return as_json(decision_view(stored, feature_names=names))


def _visible(runtime: Runtime, decision_id: str, principal: Principal) -> Stored:
    stored = runtime.records.decision(decision_id)
    is_own = stored is not None and stored.record.source == principal.source
    if stored is None or not (is_own or not principal.roles.isdisjoint(READS_ALL)):
        # The same words for both: a foreign id must not be told from one that does not exist.
        raise UnknownObject(f"no decision {shown(decision_id)}; expected the id of one that this key may read")
    return stored
