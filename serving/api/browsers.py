"""Calls from web pages of other origins: allowed where publishable keys are, for their origins, without cookies.

A browser asks first (a preflight), without the key: it is told yes for every origin that some publishable key is for.
Whether it is the origin of this key is looked at when the call itself comes. That keeps pages apart, not programs: an
``Origin`` can be made up outside of browsers.

References:
    WHATWG (2026), Fetch Standard, section 3.2, CORS protocol.
"""

from __future__ import annotations

from typing import Final

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from features.errors import StoreError
from features.events import shown
from serving.access import PUBLIC_PATHS
from serving.auth import Principal
from serving.problems import Forbidden
from serving.runtime import Runtime

PREFLIGHT_SECONDS: Final = 7_200
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST",
    # The last one is RudderStack's, which says again who the call is about; it is not read.
    "Access-Control-Allow-Headers": "authorization, content-type, content-encoding, anonymousid",
    "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
}


def require_origin(principal: Principal, origin: str | None) -> None:
    """Pass where a publishable key is used from a page of its origins.

    Raises:
        Forbidden: it is not.
    """
    if origin not in principal.origins:
        expected = ", ".join(sorted(principal.origins))
        raise Forbidden(
            f"key {principal.key_id} is publishable and was used from {shown(origin)}; expected the origin {expected}: "
            "send from a page there, or use a secret key"
        )


def for_browsers(app: ASGIApp, runtime_key: str) -> ASGIApp:
    """Middleware that lets pages read the answers of an application, and answers what browsers ask first.

    Args:
        app: the application.
        runtime_key: where its state keeps the runtime.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path_template"] not in PUBLIC_PATHS:
            await app(scope, receive, send)
            return
        headers = Headers.from_scope(scope)
        origin = headers.get("origin")
        is_allowed = origin is not None and origin in _origins(scope["litestar_app"].state[runtime_key])
        if scope["method"] == "OPTIONS" and is_allowed and "access-control-request-method" in headers:
            await send({"type": "http.response.start", "status": 204, "headers": _encoded(_PREFLIGHT, origin or "")})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableScopeHeaders.from_message(message)
                told.add("Vary", "Origin")
                if is_allowed:
                    told["Access-Control-Allow-Origin"] = origin or ""
                    told["Access-Control-Expose-Headers"] = "Retry-After"
            await send(message)

        await app(scope, receive, opened)

    return answer


def _origins(runtime: Runtime) -> frozenset[str]:
    try:
        return runtime.origins()
    except StoreError:
        return frozenset()  # the call itself is refused, and says why


def _encoded(headers: dict[str, str], origin: str) -> list[tuple[bytes, bytes]]:
    told = {**headers, "Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in told.items()]
