"""The ASGI application: routes, guards, and errors as problem details. Building it does nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import msgspec
from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, ExceptionHandlersMap, Message, Receive, Scope, Send

from features.errors import HeadwayError, UnknownObject
from serving import problems
from serving.api.calls import RUNTIME, Call
from serving.api.decisions import decide, read_decision
from serving.api.events import take_events
from serving.api.operations import (
    docs,
    docs_asset,
    index,
    livez,
    metrics,
    openapi_json,
    problem_page,
    readyz,
)
from serving.api.outcomes import take_outcomes
from serving.runtime import Runtime
from serving.telemetry import log_event

ROUTES: Final = (
    *(take_events, decide, read_decision, take_outcomes),
    *(livez, readyz, metrics, openapi_json, index, docs, docs_asset, problem_page),
)


def application(open_runtime: Callable[[], AbstractAsyncContextManager[Runtime]]) -> Litestar:
    """The application; what it works with is opened and closed by its lifespan."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_runtime() as runtime:
            app.state[RUNTIME] = runtime
            yield
            del app.state[RUNTIME]

    handlers: ExceptionHandlersMap = {HTTPException: _http_problem, Exception: _problem}
    return Litestar(
        route_handlers=list(ROUTES),
        lifespan=[lifespan],
        middleware=[_measured],
        exception_handlers=handlers,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # each route bounds its own body, and says so in its own words
        state=State(),
        debug=False,
    )


def problem_answer(error: Exception) -> Response[bytes]:
    """An error as it leaves."""
    kind = problems.problem_type(error)
    return _answer(kind, problems.problem_details(error))


def _problem(request: Call, error: Exception) -> Response[bytes]:
    if not isinstance(error, HeadwayError) or problems.problem_type(error).status >= 500:
        log_event("request_failed", level=logging.ERROR, error=error, route=_route(request.scope))
    return problem_answer(error)


def _http_problem(request: Call, error: HTTPException) -> Response[bytes]:
    """What Litestar itself refuses: no such route, no such method, a client that went away."""
    if error.status_code == problems.NOT_FOUND.status:
        return problem_answer(UnknownObject(f"no path {request.scope['path']!r:.200}; expected one of those in /docs"))
    if error.status_code == problems.METHOD.status:
        detail = f"{request.scope['path']!r:.200} does not take {request.method}; see /docs"
        return _answer(problems.METHOD, problems.details(problems.METHOD, detail))
    if error.status_code < 500:
        return problem_answer(problems.MalformedBody(f"the request cannot be read: {error.detail}"))
    return _problem(request, error)


def _answer(kind: problems.ProblemType, details: problems.ProblemDetails) -> Response[bytes]:
    return Response(
        msgspec.json.encode(details),
        status_code=kind.status,
        media_type=problems.MEDIA_TYPE,
        headers=dict(problems.headers(kind)),
    )


def _measured(app: ASGIApp) -> ASGIApp:
    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        runtime: Runtime = scope["litestar_app"].state[RUNTIME]
        started = runtime.timer()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                runtime.metrics.observe_request(
                    route=_route(scope), status=message["status"], seconds=runtime.timer() - started
                )
            await send(message)

        await app(scope, receive, noting)

    return measure


def _route(scope: Any) -> str:
    """The template of the path: never its parameters, which would make series without end."""
    return str(scope.get("path_template") or "none")
