"""The service with one more route that does nothing: what HTTP, BentoML and the application's own door cost alone."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from serving.access import _BY_CALL, Rule
from serving.service import HeadwayService, app

__all__ = ["HeadwayService"]


@post("/benchmark/trivial", status_code=200)
async def trivial(request: Request[Any, Any, Any]) -> Response[bytes]:
    """A decoded body and a constant answer."""
    document = msgspec.json.decode(await request.body())
    return Response(msgspec.json.encode({"customer_id": document["customer_id"]}), media_type="application/json")


# The product's table has no such call, and so nobody could make it.
_BY_CALL["POST", "/benchmark/trivial"] = Rule(method="POST", path="/benchmark/trivial", roles=frozenset(), is_open=True)
app.register(trivial)
