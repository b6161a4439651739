"""The gate and the framework's application behind it, over an installation in memory and without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from serving.api.app import application
from serving.api.calls import RUNTIME
from serving.gate import Gate
from serving.problems import Stopping
from serving.runtime import Runtime
from tests.doors import World


@asynccontextmanager
async def doors(world: World) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient, httpx.AsyncClient]]:
    """The runtime, and clients of the gate and of the framework's application alone."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Runtime]:
        runtime = world.runtime()
        yield runtime
        runtime.workers.close()
        runtime.errands.close()

    app = application(opened)

    def runtime_of_app() -> Runtime:
        if RUNTIME not in app.state:
            raise Stopping("closed")
        found: Runtime = app.state[RUNTIME]
        return found

    gate: Any = Gate(app, runtime=runtime_of_app, api=app)  # type: ignore[arg-type]  # ASGI, typed twice
    async with app.lifespan():
        runtime = runtime_of_app()
        async with client_of(gate) as door, client_of(app) as framework:
            yield runtime, door, framework


def client_of(app: Any) -> httpx.AsyncClient:
    """A client of an ASGI application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://headway")
