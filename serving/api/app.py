"""The ASGI application: routes, guards, and errors as problem details. Building it does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, cast

from litestar import Litestar, Response
from litestar.datastructures import MutableScopeHeaders, State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, ExceptionHandlersMap, Message, Receive, Scope, Send

from features.errors import UnknownObject
from features.events import shown
from serving import problems
from serving.api.audiences import estimate_audience, make_audience, screen_list
from serving.api.audited import note_call
from serving.api.browsers import for_browsers
from serving.api.calls import ARRIVED, LEFT, RUNTIME, Call, as_problem, guarded, refuse_endless_query
from serving.api.configurations import put_actions, put_policy, read_actions, read_policy, validate_policy
from serving.api.customers import customer_context, customer_journey
from serving.api.decisions import (
    activate_decision,
    decide,
    explain_decision,
    read_decision,
    replay_decision,
    search_decisions,
)
from serving.api.events import recent_events, take_events
from serving.api.failures import failure, failure_of
from serving.api.identities import link, lookup, unlink
from serving.api.jobs import cancel_job, job_result, list_jobs, read_job
from serving.api.journeys import report_journey
from serving.api.measuring import list_evaluations, read_drift, read_evaluation, report_experiment, simulate
from serving.api.ofrep import EVALUATION_ROUTES
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
from serving.api.registered_models import list_models, promote_model, roll_back_model
from serving.api.tracking import TRACKING_ROUTES
from serving.api.workforce import put_workforce, read_workforce
from serving.runtime import Runtime

ROUTES: Final = (
    *(read_actions, put_actions, read_policy, put_policy, validate_policy, replay_decision),
    *(take_events, recent_events, decide, read_decision, take_outcomes, report_journey),
    *TRACKING_ROUTES,
    *EVALUATION_ROUTES,
    *(search_decisions, activate_decision, explain_decision),
    *(customer_journey, customer_context),
    *(link, unlink, lookup),
    *(put_workforce, read_workforce),
    *(list_models, promote_model, roll_back_model),
    *(report_experiment, list_evaluations, read_evaluation, simulate, read_drift),
    *(list_jobs, read_job, cancel_job, job_result),
    *(make_audience, estimate_audience, screen_list),
    *(livez, readyz, metrics, openapi_json, index, docs, docs_asset, problem_page),
)


_METHODS: Final = {
    path: {method for handler in ROUTES if path in handler.paths for method in handler.http_methods}
    for one in ROUTES
    for path in one.paths
}


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
        guards=[guarded],
        middleware=[_measured, _for_browsers],
        exception_handlers=handlers,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # each route bounds its own body, and says so in its own words
        state=State(),
        debug=False,
    )


def _problem(request: Call, error: Exception) -> Response[bytes]:
    return as_problem(failure_of(error, route=_route(request.scope)))


def _http_problem(request: Call, error: HTTPException) -> Response[bytes]:
    """What Litestar itself refuses: no such route, no such method, a client that went away."""
    path = shown(request.scope["path"])
    if error.status_code == problems.NOT_FOUND.status:
        return _problem(request, UnknownObject(f"no path {path}; expected one of those in /docs"))
    if error.status_code == problems.METHOD.status:
        detail = f"{path} does not take {request.method}; expected one of the methods in /docs"
        told = failure(problems.METHOD, problems.details(problems.METHOD, detail))
        return as_problem(replace(told, headers={**told.headers, **(error.headers or {})}))  # what it does take: Allow
    if error.status_code < problems.INTERNAL.status:
        return _problem(request, problems.MalformedBody(f"the request cannot be read: {error.detail}"))
    return _problem(request, error)


def _measured(app: ASGIApp) -> ASGIApp:
    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        runtime: Runtime = scope["litestar_app"].state[RUNTIME]
        started = runtime.timer()
        scope[ARRIVED] = started  # type: ignore[typeddict-unknown-key]  # ASGI leaves room for one's own

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                runtime.metrics.observe_request(
                    route=_route(scope), status=message["status"], seconds=runtime.timer() - started
                )
                note_call(runtime, scope, status=message["status"])
                _tell_all_methods(scope, message)
                if left := cast(dict[str, Any], scope).get(LEFT):
                    told = [(name.lower().encode(), value.encode()) for name, value in left.items()]
                    message["headers"] = [*message["headers"], *told]
            await send(message)

        refuse_endless_query(scope["query_string"])
        await app(scope, receive, noting)

    return measure


def _tell_all_methods(scope: Any, message: Message) -> None:
    """Litestar answers OPTIONS for one handler of a path alone; what the path takes is what all of them take."""
    if scope["method"] == "OPTIONS" and (methods := _METHODS.get(_route(scope))):
        MutableScopeHeaders.from_message(message)["Allow"] = ", ".join(sorted({*methods, "OPTIONS"}))


def _for_browsers(app: ASGIApp) -> ASGIApp:
    return for_browsers(app, RUNTIME)


def _route(scope: Any) -> str:
    """The template of the path: never its parameters, which would make series without end."""
    return str(scope.get("path_template") or "none")
