"""Flag evaluations of the OpenFeature Remote Evaluation Protocol: a placement is a flag, an evaluation a decision."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import Response, post

from features.errors import InvalidInput, Problem, UnknownObject
from serving.api.calls import (
    JSON,
    Call,
    admitted_body,
    arrival_of,
    as_json,
    body_of,
    principal_of,
    runtime_of,
    words_of,
)
from serving.api.failures import failure_of
from serving.ofrep import TargetingKeyMissing, bulk_bytes, is_known, parse_evaluation, send_of, tag_of
from serving.ofrep_shapes import ErrorCode, EvaluationFailure, FlagEvaluation
from serving.problems import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedEncoding, problem_details
from serving.queries import Query
from serving.requests import decode_json

ALL: Final = "/ofrep/v1/evaluate/flags"
ONE: Final = f"{ALL}/{{key:path}}"
EVENT_WORDS: Final = ("flagConfigEtag", "flagConfigLastModified")
"""What a client that was told of a change by a stream of events asks with. There is no such stream, and every
evaluation is of what holds now."""

_MOST_SHOWN: Final = 200
_PLACES: Final = {"journey_id": "context.headway_journey_id"}
"""Where in a context stands what a request for a decision calls otherwise."""

_CODES: Final[tuple[tuple[type[Exception], ErrorCode], ...]] = (
    (TargetingKeyMissing, "TARGETING_KEY_MISSING"),
    (InvalidInput, "INVALID_CONTEXT"),
    (UnknownObject, "FLAG_NOT_FOUND"),
    (MalformedBody, "PARSE_ERROR"),
    (BodyTooLarge, "PARSE_ERROR"),
    (BodyTooSlow, "PARSE_ERROR"),
    (UnsupportedEncoding, "PARSE_ERROR"),
)


def _failed(request: Call, error: Exception) -> Response[bytes]:
    """A failure in the words of the protocol, with the status that it has for it."""
    left = failure_of(error, route=str(request.scope.get("path_template")))
    code: ErrorCode = next((code for kind, code in _CODES if isinstance(error, kind)), "GENERAL")
    key = _key_of(request)
    body = EvaluationFailure(
        key=msgspec.UNSET if key is None else key,
        errorCode=code,
        errorDetails=_details(error),
    )
    headers = {name: value for name, value in left.headers.items() if name != "content-type"}
    status = 400 if isinstance(error, InvalidInput) else left.status
    return Response(msgspec.json.encode(body), status_code=status, media_type=JSON, headers=headers)


@post(ONE, exception_handlers={Exception: _failed}, status_code=200)
async def evaluate_flag(request: Call) -> Response[bytes]:
    """Evaluate one flag."""
    runtime, key = runtime_of(request), _key_of(request) or ""
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.desk.pace)
    runtime.flags.flags.require(key)
    evaluation = parse_evaluation(decode_json(body), runtime.flags.flags.facts)
    principal = principal_of(request)
    answer = await runtime.desk.answer(
        lambda: evaluation.request([key], send=send_of(principal.source, key)),
        principal,
        idempotency_key=None,
        arrived=arrival_of(request),
    )
    (flag,) = runtime.flags.evaluated(answer, [key], evaluation.value_type)
    return as_json(flag)


@post(ALL, exception_handlers={Exception: _failed}, status_code=200)
async def evaluate_flags(request: Call) -> Response[bytes]:
    """Evaluate all flags at once, by one decision."""
    runtime, principal = runtime_of(request), principal_of(request)
    query = Query.of_words(words_of(request), EVENT_WORDS)
    query.refuse("the query is not one that this call takes")
    body = await admitted_body(request, runtime.settings.max_body_bytes, pace=runtime.desk.pace)
    evaluation = parse_evaluation(decode_json(body), runtime.flags.flags.facts)
    keys = runtime.flags.flags.of_channel(evaluation.channel)
    flags: tuple[FlagEvaluation, ...] = ()
    if keys:
        answer = await runtime.desk.answer(
            lambda: evaluation.request(keys, send=send_of(principal.source, evaluation.channel)),
            principal,
            idempotency_key=None,
            arrived=arrival_of(request),
        )
        flags = runtime.flags.evaluated(answer, keys, evaluation.value_type)
    headers = {"ETag": tag_of(flags)}
    if is_known(headers["ETag"], request.headers.get("if-none-match")):
        return Response(b"", status_code=304, headers=headers)
    return Response(bulk_bytes(flags), media_type=JSON, headers=headers)


EVALUATION_ROUTES: Final = (evaluate_flag, evaluate_flags)


def _key_of(request: Call) -> str | None:
    """The flag that a path names, cut where it is none; its slash may have come as it is or as %2F."""
    key = request.scope["path"].partition(f"{ALL}/")[2]
    return key[:_MOST_SHOWN] or None


def _details(error: Exception) -> str:
    if not isinstance(error, InvalidInput):
        return problem_details(error).detail
    return f"{error.headline}: {'; '.join(map(_told, error.problems))}"


def _told(problem: Problem) -> str:
    return f"{_PLACES.get(problem.path, problem.path)} is {problem.value or 'missing'}, expected {problem.expected}"
