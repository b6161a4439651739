"""The one route that is asked all day, without what a web framework does for all routes: a tenth of a decision's time.

It answers what the framework's own route for the same call answers, byte for byte; whatever is out of the ordinary
about a request, such as query parameters, is left to that route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from serving.access import rule_of
from serving.api.audited import note
from serving.api.bodies import announced_length, bounded_body, chunks_of
from serving.api.calls import JSON
from serving.api.failures import failure_of
from serving.auth import Principal, authorization_of
from serving.requests import decode_json
from serving.runtime import Runtime

DECISIONS: Final = "/v1/decisions"
MAY_ASK: Final = rule_of("POST", DECISIONS)

_JSON_HEADER: Final = (b"content-type", JSON.encode())


def takes(scope: Any) -> bool:
    """Whether an HTTP request is for this door."""
    return bool(scope["path"] == DECISIONS and scope["method"] == "POST" and not scope["query_string"])


async def answer_decision(runtime: Runtime, scope: Any, receive: Any, send: Any) -> None:
    """Answer a request for a decision, as an ASGI application does."""
    arrived = runtime.timer()
    principal = None
    left: Mapping[str, str] = {}
    try:
        asked = _headers(scope)
        principal = runtime.authenticator.principal(authorization_of(scope["headers"]))
        left = runtime.key_limits.take(principal.key_id, principal.limit)
        MAY_ASK.require(principal)
        body = await _answer(runtime, asked, receive, principal, arrived)
    except Exception as error:
        failure = failure_of(error, route=DECISIONS)
        status, body = failure.status, failure.body
        headers = _as_sent({**failure.headers, **left})
    else:
        status, headers = 200, [_JSON_HEADER, *_as_sent(left)]
    headers.append((b"content-length", b"%d" % len(body)))
    runtime.metrics.observe_request(route=DECISIONS, status=status, seconds=runtime.timer() - arrived)
    note(runtime, MAY_ASK, principal, status=status)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Any) -> dict[bytes, str]:
    headers: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, value.decode("latin-1"))
    return headers


def _as_sent(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def _answer(
    runtime: Runtime, headers: Mapping[bytes, str], receive: Any, principal: Principal, arrived: float
) -> bytes:
    runtime.desk.pace.admit()
    body = await bounded_body(
        chunks_of(receive),
        encoding=headers.get(b"content-encoding"),
        announced=announced_length(headers.get(b"content-length")),
        limit=runtime.settings.max_body_bytes,
    )
    return await runtime.desk.answer(
        lambda: decode_json(body), principal, idempotency_key=headers.get(b"idempotency-key"), arrived=arrived
    )
