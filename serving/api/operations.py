"""Operations: health, metrics, the description of the API, and its pages."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Redirect

from features.errors import StoreError, UnknownObject
from features.events import shown
from serving.api.calls import JSON, Call, as_json, runtime_of
from serving.api.openapi import api_document
from serving.problems import PROBLEM_TYPES, TooManyRequests
from serving.runtime import Runtime
from serving.telemetry import METRICS_MEDIA_TYPE
from serving.views import Liveness, Readiness


@get("/livez")
async def livez() -> Response[bytes]:
    """The process answers."""
    return as_json(Liveness(live=True))


@get("/readyz")
async def readyz(request: Call) -> Response[bytes]:
    """The stores take work and can be written: 200, else 503. A journey without a bundle is served, degraded."""
    runtime = runtime_of(request)
    ready = await runtime.readiness.is_ready()
    readiness = Readiness(
        ready=ready,
        bundles=dict(runtime.loaded_bundles()),
        configuration=runtime.configurations.in_force.configuration.version,
        configuration_refused=runtime.configurations.refused is not None,
        notes=runtime.write_ahead.notes(),
    )
    return as_json(readiness, status=200 if ready else 503)


@get("/metrics")
async def metrics(request: Call) -> Response[bytes]:
    """All metrics as Prometheus reads them."""
    runtime = runtime_of(request)
    with suppress(TooManyRequests):  # what tells of the backlog must come through it
        await runtime.workers.run(_note_capacity, runtime)
    return Response(runtime.metrics.exposition(), media_type=METRICS_MEDIA_TYPE)


def _note_capacity(runtime: Runtime) -> None:
    with suppress(StoreError):  # the other metrics tell of a store that is down; this one keeps its last value
        runtime.metrics.note_capacity(runtime.capacity_used())


@get("/openapi.json")
async def openapi_json() -> Response[bytes]:
    """The description of this API, OpenAPI 3.1."""
    return Response(_openapi_bytes(), media_type=JSON)


@cache
def _openapi_bytes() -> bytes:
    return msgspec.json.encode(api_document())


@get("/")
async def index() -> Redirect:
    """To the pages of the API."""
    return Redirect("/docs")


_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Headway API</title><link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script></body>
</html>
"""
_START: Final = (
    'window.onload = () => SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", validatorUrl: null});\n'
)
_SAFE: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    "X-Content-Type-Options": "nosniff",
}
_ASSETS: Final = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}


@get("/docs")
async def docs() -> Response[str]:
    """The pages of the API; everything they load comes from this service."""
    return Response(_PAGE, media_type="text/html", headers=_SAFE)


@get("/docs/assets/{name:str}")
async def docs_asset(name: FromPath[str]) -> Response[bytes]:
    """A file of the pages, out of BentoML's own copy of Swagger UI."""
    if name == "start.js":
        return Response(_START.encode(), media_type="text/javascript", headers=_SAFE)
    path = _asset_folder() / name
    if name not in _ASSETS or not path.is_file():
        raise UnknownObject(f"no file {shown(name)} of the pages")
    return Response(path.read_bytes(), media_type=_ASSETS[name], headers=_SAFE)


@cache
def _asset_folder() -> Path:
    spec = find_spec("bentoml")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0] if places else "") / "_internal" / "server" / "static_content"


@get("/docs/problems/{slug:str}")
async def problem_page(slug: FromPath[str]) -> Response[str]:
    """The page of one type of problem."""
    kind = next((kind for kind in PROBLEM_TYPES if kind.slug == slug), None)
    if kind is None:
        raise UnknownObject(f"no problem {shown(slug)}; expected one of {', '.join(one.slug for one in PROBLEM_TYPES)}")
    return Response(kind.page(), media_type="text/markdown", headers=_SAFE)
