"""What every route shares: the runtime, who is calling, the body within its bound, and answers as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import HTTPScope

from features.errors import InvalidInput, Problem, path_step
from features.events import shown
from serving.access import rule_of
from serving.admission import kind_of
from serving.api.bodies import announced_length, bounded_body, chunks_of
from serving.api.browsers import require_origin
from serving.api.failures import Failure
from serving.auth import Principal, authorization_of
from serving.pace import Pace
from serving.queries import Words
from serving.runtime import Runtime

JSON: Final = "application/json"
RUNTIME: Final = "runtime"
ARRIVED: Final = "headway_arrived"
LEFT: Final = "headway_left"
LONGEST_QUERY: Final = 8_192
MOST_PARAMETERS: Final = 64
_ENCODER = msgspec.json.Encoder()

Call: TypeAlias = Request[Any, Any, Any]


def guarded(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Let whoever may use a call pass, before anything of the body is read; it guards every route.

    Raises:
        Unauthenticated: nobody knows who calls.
        Forbidden: they may not, or the table of who may call has no row for the route.
    """
    scope = cast(HTTPScope, connection.scope)
    if scope["method"] == "OPTIONS":
        return  # what a path takes is no secret
    rule = rule_of(scope["method"], scope["path_template"])
    if rule.is_open:
        return
    runtime = cast(Runtime, connection.app.state[RUNTIME])
    authorization = authorization_of(scope["headers"])
    caller = runtime.authenticator.tracking_principal if rule.takes_basic else runtime.authenticator.principal
    principal = caller(authorization)
    scope["user"] = principal
    cast(dict[str, Any], scope)[LEFT] = runtime.key_limits.take(principal.key_id, principal.limit)
    rule.require(principal)
    if principal.is_public:
        require_origin(principal, connection.headers.get("origin"))
    runtime.admission.admit(kind_of(scope["method"], scope["path_template"]))


def runtime_of(call: Call) -> Runtime:
    """What the application works with."""
    return cast(Runtime, call.app.state[RUNTIME])


def principal_of(call: Call) -> Principal:
    """Who is calling; set by the guard of the route."""
    return cast(Principal, call.scope["user"])


async def body_of(call: Call, limit: int, *, pace: Pace) -> bytes:
    """The body of a call that takes no query parameters, not read where the call could not be answered soon.

    Raises:
        InvalidInput: there are query parameters.
        TooManyRequests: as ``Pace.admit``.
        BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedEncoding: as ``bounded_body``.
    """
    refuse_query(call.query_params)
    return await admitted_body(call, limit, pace=pace)


async def admitted_body(call: Call, limit: int, *, pace: Pace) -> bytes:
    """``body_of`` for a call that reads its query parameters itself."""
    pace.admit()
    return await bounded_body(
        chunks_of(call.receive),
        encoding=call.headers.get("content-encoding"),
        announced=announced_length(call.headers.get("content-length")),
        limit=limit,
    )


def words_of(call: Call) -> Words:
    """The query parameters of a call, each with every value given."""
    return {name: call.query_params.getall(name) for name in set(call.query_params)}


def arrival_of(call: Call) -> float:
    """When a call came, by the runtime's timer."""
    return cast(float, call.scope[ARRIVED])  # type: ignore[typeddict-item]  # set by the application's middleware


def refuse_endless_query(query: bytes) -> None:
    """Refuse a query string that no call has, before it is taken apart.

    Raises:
        InvalidInput: it is too long, or has too many parameters.
    """
    n_parameters = query.count(b"&") + 1
    if len(query) > LONGEST_QUERY or n_parameters > MOST_PARAMETERS:
        found = f"{len(query)} characters, {n_parameters} parameters"
        expected = f"at most {LONGEST_QUERY} characters and {MOST_PARAMETERS} parameters"
        raise InvalidInput("the query is not one that a call takes", [Problem("?", found, expected)])


def refuse_query(given: Mapping[str, str]) -> None:
    """Refuse query parameters: one that is not read would be a wish silently ignored.

    Raises:
        InvalidInput: there are some.
    """
    if names := sorted(set(given)):
        found = [Problem(f"?{path_step(name)}", shown(given.get(name)), "no query parameter") for name in names]
        raise InvalidInput("the call has query parameters that it does not take", found)


def as_json(value: object, *, status: int = 200) -> Response[bytes]:
    """An answer as JSON."""
    return Response(_ENCODER.encode(value), media_type=JSON, status_code=status)


def as_problem(failure: Failure) -> Response[bytes]:
    """An answer that is not a success."""
    headers = dict(failure.headers)
    return Response(failure.body, status_code=failure.status, media_type=headers.pop("content-type"), headers=headers)
