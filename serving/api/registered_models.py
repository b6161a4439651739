"""Registered models: what there is, promoted and rolled back."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from serving.api.calls import Call, as_json, body_of, principal_of, refuse_query, runtime_of
from serving.requests import decode_json


@get("/v1/models")
async def list_models(request: Call) -> Response[bytes]:
    """Every registered model."""
    runtime = runtime_of(request)
    refuse_query(request.query_params)
    return as_json(await runtime.workers.run(runtime.models.models))


@post("/v1/models/{name:str}/promote", status_code=200)
async def promote_model(request: Call, name: FromPath[str]) -> Response[bytes]:
    """A version to champion, or to a share of the population."""
    runtime, by = runtime_of(request), principal_of(request).key_id
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.errands.run(lambda: runtime.models.promote(name, decode_json(body), by=by)))


@post("/v1/models/{name:str}/rollback", status_code=200)
async def roll_back_model(request: Call, name: FromPath[str]) -> Response[bytes]:
    """The champion before."""
    runtime, by = runtime_of(request), principal_of(request).key_id
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.errands.run(lambda: runtime.models.rollback(name, decode_json(body), by=by)))
