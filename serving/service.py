"""The BentoML service: the HTTP routes mounted at ``/``, and ``rank`` beside them for BentoML clients.

Importing it builds the application without I/O; the stores are opened when the worker starts. The order of imports
matters: numba's cache folder is set before anything jitted is imported.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import FrameType
from typing import Any, Final, cast

import bentoml
from starlette.responses import Response
from uvicorn.config import HTTP_PROTOCOLS, LOOP_FACTORIES

from features.home import Home, telemetry_off, use_numba_cache
from serving import accepting
from serving.api.app import application
from serving.api.calls import ARRIVED, JSON, RUNTIME
from serving.api.failures import failure_of
from serving.gate import PRINCIPAL, RANK, Gate
from serving.problems import Stopping
from serving.refusals import Refusals
from serving.runtime import Runtime
from serving.shedding import SheddingProtocol

SWITCH_SECONDS: Final = 0.0005
"""So long the event loop keeps other threads from running while it has something to do itself.

A commit gives way at each of its statements. With Python's own 5 ms a group of commits took half a second where the
loop never rests, as it does while requests are being refused, and decisions missed their deadline by it.
"""


@asynccontextmanager
async def _opened() -> AsyncIterator[Runtime]:
    telemetry_off(os.environ)
    use_numba_cache(Home.from_environment(os.environ))
    from serving.bootstrap import open_runtime  # jitted code: the cache folder is set above

    async with open_runtime(os.environ) as runtime:
        yield runtime


app = application(_opened)


def _runtime() -> Runtime:
    runtime = app.state.get(RUNTIME)
    if runtime is None:
        raise Stopping("the stores are not open; expected the service to run: ask again later")
    return cast(Runtime, runtime)


def _unready_from(signal_number: int) -> None:
    """Not ready from a signal on; whoever handled it before, handles it: what runs is finished, then the process ends.

    Without this the service would call itself ready for as long as its last requests take.
    """
    before = signal.getsignal(signal_number)

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(Stopping):
            _runtime().readiness.stop()
        if callable(before):
            before(number, frame)

    signal.signal(signal_number, handle)


@bentoml.service(
    name="headway",
    workers=int(os.environ.get("HEADWAY_WORKERS") or 1),  # read here by BentoML, and checked by `headway serve` before
    metrics={"enabled": False},  # /metrics is Headway's own
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},  # no exporter is configured: spans would be made to be thrown away
)
@bentoml.asgi_app(app, path="/", name="api")
class HeadwayService:
    """Next best action."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # BentoML ships no complete types
    async def open(self) -> None:
        """Open the stores; BentoML does not run the lifespan of a mounted Litestar application."""
        self._lifespan: AbstractAsyncContextManager[None] = app.lifespan()
        await self._lifespan.__aenter__()
        sys.setswitchinterval(SWITCH_SECONDS)
        # What was made until now stays: walking its 270,000 objects at every full collection would stop all requests.
        gc.collect()
        gc.freeze()
        if threading.current_thread() is threading.main_thread():  # signals are the main thread's
            _unready_from(signal.SIGTERM)
            _unready_from(signal.SIGINT)
        settings = _runtime().settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"Headway is ready on http://{host}:{settings.port} (pages under /docs)", flush=True)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # as above
    async def close(self) -> None:
        """Finish what is under way and close the stores."""
        await self._lifespan.__aexit__(None, None, None)

    @bentoml.api(route=RANK)  # type: ignore[untyped-decorator]  # as above
    async def rank(self, request: dict[str, Any], /, ctx: bentoml.Context) -> dict[str, Any]:
        """The ranked next best action: the same request and answer as ``POST /v1/decisions``."""
        runtime = _runtime()
        scope = ctx.request.scope
        key = ctx.request.headers.get("idempotency-key")
        try:
            answer = await runtime.desk.answer(
                lambda: request, scope[PRINCIPAL], idempotency_key=key, arrived=scope[ARRIVED]
            )
        except Exception as error:
            failure = failure_of(error, route=RANK)
            ctx.response.status_code = failure.status  # BentoML puts its own over the response's
            return _as_is(Response(failure.body, failure.status, dict(failure.headers)))
        return _as_is(Response(answer, media_type=JSON))


def _as_is(response: Response) -> dict[str, Any]:
    """A response that BentoML sends untouched; the declared type is what its clients decode."""
    return cast(dict[str, Any], response)


class Protocol(SheddingProtocol):
    """The server's HTTP protocol."""

    def refusals(self) -> Refusals | None:
        """Of the open runtime."""
        runtime = app.state.get(RUNTIME)
        return None if runtime is None else cast(Runtime, runtime).refusals


# BentoML lets uvicorn choose both.
HTTP_PROTOCOLS["auto"] = f"{__name__}:{Protocol.__name__}"
LOOP_FACTORIES["auto"] = f"{accepting.__name__}:{accepting.loop_factory.__name__}"
cast(Any, HeadwayService).add_asgi_middleware(Gate, runtime=_runtime, api=app)
