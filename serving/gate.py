"""What stands before BentoML: the door of decisions, and for BentoML's own routes the key and the bound on the body.

Health is answered by Headway's routes: BentoML's own only tell that a process runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.errors import HeadwayError
from serving import problems
from serving.access import rule_of
from serving.api.audited import note
from serving.api.bodies import announced_length, bounded_body, chunks_of
from serving.api.calls import ARRIVED, refuse_endless_query, refuse_query
from serving.api.decision_door import answer_decision, takes
from serving.api.failures import Failure, failure, failure_of
from serving.auth import Principal, authorization_of
from serving.problems import Stopping
from serving.requests import Fields, decode_json
from serving.runtime import Runtime
from serving.schemas import DecisionRequest

RANK: Final = "/rank"
PRINCIPAL: Final = "headway_principal"
_MAY_ASK: Final = rule_of("POST", RANK)
_REPLACED: Final = frozenset({b"content-encoding", b"content-length", b"content-type"})
HEALTH: Final = frozenset({"/livez", "/readyz"})

AnyApp: TypeAlias = Callable[[Any, Any, Any], Any]


class Gate:
    """ASGI middleware in front of everything that BentoML serves.

    Args:
        app: what stands behind it.
        runtime: gives the open runtime; raises ``Stopping`` where there is none.
        api: Headway's own application.
    """

    def __init__(self, app: ASGIApp, *, runtime: Callable[[], Runtime], api: AnyApp) -> None:
        self._app = app
        self._runtime = runtime
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            runtime = self._runtime()
        except Stopping as error:
            await _send(failure_of(error, route="none"), send)
            return
        path = scope["path"]
        if takes(scope):
            await answer_decision(runtime, scope, receive, send)
        elif path in HEALTH:
            await self._api(scope, receive, send)
        elif path == RANK:
            await self._rank(runtime, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _rank(self, runtime: Runtime, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        arrived = runtime.timer()
        principal: Principal | None = None
        left: Mapping[str, str] = {}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = [(name.lower().encode(), value.encode()) for name, value in left.items()]
                message["headers"] = [*message["headers"], *told]
                seconds = runtime.timer() - arrived
                runtime.metrics.observe_request(route=RANK, status=message["status"], seconds=seconds)
                note(runtime, _MAY_ASK, principal, status=message["status"])
            await send(message)

        if scope["method"] != "POST":
            detail = f"{RANK} does not take {scope['method']}; expected POST"
            refused = failure(problems.METHOD, problems.details(problems.METHOD, detail))
            await _send(replace(refused, headers={**refused.headers, "Allow": "POST"}), noting)
            return
        try:
            principal = runtime.authenticator.principal(authorization_of(scope["headers"]))
            left = runtime.key_limits.take(principal.key_id, principal.limit)
            _MAY_ASK.require(principal)
            refuse_endless_query(scope["query_string"])
            refuse_query(QueryParams(scope["query_string"]))
            runtime.desk.pace.admit()
            body = await bounded_body(
                chunks_of(receive),
                encoding=headers.get("content-encoding"),
                announced=announced_length(headers.get("content-length")),
                limit=runtime.settings.max_body_bytes,
            )
            # Read twice: what BentoML cannot read it answers in words of its own, and with a 500.
            Fields.of(decode_json(body), DecisionRequest.__struct_fields__)
        except HeadwayError as error:
            await _send(failure_of(error, route=RANK), noting)
            return
        # Whatever the sender calls it, the body is JSON: BentoML would read it by its content type.
        told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        kept = [pair for pair in scope["headers"] if pair[0] not in _REPLACED]
        await self._app(
            {**scope, PRINCIPAL: principal, ARRIVED: arrived, "headers": [*kept, *told]}, _once(body, receive), noting
        )


def _once(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever comes, such as the disconnection."""
    waiting = [body]

    async def next_message() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return next_message


async def _send(failed: Failure, send: Send) -> None:
    sent = {**failed.headers, "content-length": str(len(failed.body))}
    pairs = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": failed.status, "headers": pairs})
    await send({"type": "http.response.body", "body": failed.body})
