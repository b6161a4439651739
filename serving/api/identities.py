"""Identities: link and unlink ids, and look people up by an identifier."""

from __future__ import annotations

from litestar import Response, get, post

from features.errors import InvalidInput, Problem
from features.events import shown
from serving.api.calls import Call, allowed, as_json, body_of, principal_of, runtime_of
from serving.requests import REQUIRED, decode_json
from serving.telemetry import log_event

_PARAMETERS = ("name", "value")


@post("/v1/identities/link", guards=[allowed("caller", "agent")], status_code=200)
async def link(request: Call) -> Response[bytes]:
    """Say that an alias belongs to a customer."""
    runtime, source = runtime_of(request), principal_of(request).source
    document = decode_json(await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace))
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.identities.link(document, source=source, now=now))
    log_event("identity_linked", status=answer.status, degraded=answer.degraded)
    return as_json(answer)


@post("/v1/identities/unlink", guards=[allowed("caller", "agent")], status_code=200)
async def unlink(request: Call) -> Response[bytes]:
    """Say that an alias does not belong to a customer, or no longer."""
    runtime, source = runtime_of(request), principal_of(request).source
    document = decode_json(await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace))
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.identities.unlink(document, source=source, now=now))
    log_event("identity_unlinked", status=answer.status, degraded=answer.degraded)
    return as_json(answer)


@get("/v1/lookup", guards=[allowed("caller", "agent")])
async def lookup(request: Call) -> Response[bytes]:
    """Everybody whose identifier has a value."""
    runtime = runtime_of(request)
    name, value = _asked(request)
    now = runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.identities.lookup(name, value, now=now)))


def _asked(request: Call) -> tuple[str, str]:
    """The two query parameters.

    Raises:
        InvalidInput: one is missing or given twice, or there are others.
    """
    given = {name: request.query_params.getall(name) for name in set(request.query_params)}
    problems = [Problem(f"?{name}", "", REQUIRED) for name in _PARAMETERS if not any(given.get(name, ()))]
    problems += [
        Problem(f"?{name}", shown(values[-1]), "once" if name in _PARAMETERS else f"one of {', '.join(_PARAMETERS)}")
        for name, values in sorted(given.items())
        if name not in _PARAMETERS or len(values) > 1
    ]
    if problems:
        raise InvalidInput("the query is not one that this call takes", problems)
    return given["name"][0], given["value"][0]
