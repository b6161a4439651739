"""Identities: link and unlink ids, and look people up by an identifier."""

from __future__ import annotations

from litestar import Response, get, post

from features.errors import InvalidInput, Problem
from features.events import shown
from serving.api.calls import Call, as_json, body_of, principal_of, runtime_of
from serving.masking import Sight, masked_lookup, masked_person
from serving.requests import REQUIRED, decode_json
from serving.telemetry import log_event

_PARAMETERS = ("name", "value")


@post("/v1/identities/link", status_code=200)
async def link(request: Call) -> Response[bytes]:
    """Say that an alias belongs to a customer."""
    runtime, principal = runtime_of(request), principal_of(request)
    document = decode_json(await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace))
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.identities.link(document, source=principal.source, now=now))
    log_event("identity_linked", status=answer.status, degraded=answer.degraded)
    return as_json(masked_person(answer, Sight.of(principal)))


@post("/v1/identities/unlink", status_code=200)
async def unlink(request: Call) -> Response[bytes]:
    """Say that an alias does not belong to a customer, or no longer."""
    runtime, principal = runtime_of(request), principal_of(request)
    document = decode_json(await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace))
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.identities.unlink(document, source=principal.source, now=now))
    log_event("identity_unlinked", status=answer.status, degraded=answer.degraded)
    return as_json(masked_person(answer, Sight.of(principal)))


@get("/v1/lookup")
async def lookup(request: Call) -> Response[bytes]:
    """Everybody whose identifier has a value."""
    runtime, principal = runtime_of(request), principal_of(request)
    name, value = _asked(request)
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.identities.lookup(name, value, now=now))
    return as_json(masked_lookup(answer, Sight.of(principal)))


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
