"""The catalogue and the policy: read, tried, and put in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litestar import Response, get, post, put

from features.errors import InvalidInput, Problem
from features.events import shown
from serving.api.calls import Call, as_json, body_of, principal_of, runtime_of
from serving.governing_views import (
    DEFAULT_DECISIONS,
    MOST_DECISIONS,
    DocumentAnswer,
    document_answer,
    validation_answer,
)
from serving.requests import REQUIRED, Fields, decode_json
from serving.telemetry import log_event

if TYPE_CHECKING:  # they know jitted code, for which the composition root chooses the folder first
    from serving.configurations import Document, Part
    from serving.replays import Trial
    from serving.runtime import Runtime

_DOCUMENTS: Final[tuple[Part, ...]] = ("policy", "actions")


@get("/v1/actions")
async def read_actions(request: Call) -> Response[bytes]:
    """The catalogue in force, or an earlier one."""
    return await _read(request, "actions")


@get("/v1/policies")
async def read_policy(request: Call) -> Response[bytes]:
    """The policy in force, or an earlier one."""
    return await _read(request, "policy")


@put("/v1/actions")
async def put_actions(request: Call) -> Response[bytes]:
    """Put a catalogue in force."""
    return await _put(request, "actions")


@put("/v1/policies")
async def put_policy(request: Call) -> Response[bytes]:
    """Put a policy in force."""
    return await _put(request, "policy")


@post("/v1/policies/validate", status_code=200)
async def validate_policy(request: Call) -> Response[bytes]:
    """Whether a policy or a catalogue may be put in force, and what it would have changed."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    trial = await runtime.workers.run(_tried, runtime, body)
    tried = 0 if trial.tally is None else trial.tally.decisions
    log_event("configuration_tried", source=principal_of(request).source, valid=not trial.problems, decisions=tried)
    return as_json(validation_answer(trial))


def _tried(runtime: Runtime, body: bytes) -> Trial:
    fields = Fields.of(decode_json(body), (*_DOCUMENTS, "decisions"))
    documents: dict[Part, object] = {part: value for part in _DOCUMENTS if (value := fields.value(part)) is not None}
    decisions = fields.integer("decisions", 1, MOST_DECISIONS, DEFAULT_DECISIONS) or DEFAULT_DECISIONS
    if not documents:
        fields.add("policy", None, f"{REQUIRED} where there are no actions")
    fields.refuse("the body cannot be tried")
    return runtime.replays.tried(documents, decisions=decisions)


async def _read(request: Call, part: Part) -> Response[bytes]:
    runtime = runtime_of(request)
    version = _version(request)
    return _tagged(document_answer(await runtime.workers.run(runtime.configurations.document, part, version)))


async def _put(request: Call, part: Part) -> Response[bytes]:
    runtime, source = runtime_of(request), principal_of(request).source
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    if_match = request.headers.get("if-match")

    def put() -> Document:
        return runtime.configurations.put(part, decode_json(body), if_match=if_match, source=source)

    return _tagged(document_answer(await runtime.workers.run(put)))


def _tagged(answer: DocumentAnswer) -> Response[bytes]:
    response = as_json(answer)
    response.headers["etag"] = f'"{answer.version}"'
    return response


def _version(request: Call) -> str | None:
    """The only query parameter that reading takes.

    Raises:
        InvalidInput: there are others, or it is given twice.
    """
    problems = []
    for name in sorted(set(request.query_params)):
        given = request.query_params.getall(name)
        if name != "version":
            problems.append(Problem(f"?{name}", shown(given[0]), "version, or no query parameter"))
        elif len(given) > 1:
            problems.append(Problem(f"?{name}", shown(list(given)), "one value"))
    if problems:
        raise InvalidInput("the call has query parameters that it does not take", problems)
    version: str | None = request.query_params.get("version")
    return version
