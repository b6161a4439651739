"""The service with one more route that does nothing: what HTTP, BentoML and the application's own door cost alone."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post

from serving.service import HeadwayService, app

__all__ = ["HeadwayService"]


@post("/benchmark/trivial", status_code=200)
async def trivial(request: Request[Any, Any, Any]) -> Response[bytes]:
    """A decoded body and a constant answer."""
    document = msgspec.json.decode(await request.body())
    return Response(msgspec.json.encode({"customer_id": document["customer_id"]}), media_type="application/json")


app.register(trivial)
