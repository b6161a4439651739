"""The calls of the OpenFeature Remote Evaluation Protocol, as the description of the API has them."""

from __future__ import annotations

from typing import Final

from serving import problems
from serving.api.calls import JSON
from serving.api.operation import KEYED, WRITING, Json, Operation
from serving.ofrep_shapes import BulkEvaluation, EvaluationFailure, EvaluationRequest, FlagEvaluation

_KEY: Final[Json] = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "The flag: a placement, `channel/name`. Its slash may be sent as it is, or as `%2F`.",
    "schema": {"type": "string"},
    "example": "web/home_banner",
}
_IF_NONE_MATCH: Final[Json] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of an earlier answer: where it still holds, the answer is a 304 without a body.",
    "schema": {"type": "string"},
}
_CHANGED: Final[tuple[Json, ...]] = tuple(
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": "Taken as the protocol has it, and not needed: every evaluation is of what holds now.",
        "schema": {"type": "string"},
    }
    for name in ("flagConfigEtag", "flagConfigLastModified")
)
# What the protocol answers with a 400, this API's own calls answer with a 422.
_FAILURES: Final = (*KEYED, *(kind for kind in WRITING if kind is not problems.INVALID))

EVALUATION_OPERATIONS: Final = (
    Operation(
        method="post",
        path="/ofrep/v1/evaluate/flags/{key}",
        operation_id="evaluate_flag",
        summary="Evaluate one placement as a flag",
        description="For OpenFeature clients with the OFREP provider, version 0.3.0 of the protocol. An inbound "
        "decision with `activate: false`: until it expires, evaluating the flag again for the same context is answered "
        "by it. Where nothing is to be shown there is no `value`, and the default of the code holds; nobody can tell a "
        "holdout. Exposure and outcome come back by `decision_id`.",
        body=EvaluationRequest,
        answer=FlagEvaluation,
        problem=EvaluationFailure,
        problem_media=JSON,
        parameters=(_KEY,),
        failures=(*_FAILURES, problems.NOT_FOUND),
    ),
    Operation(
        method="post",
        path="/ofrep/v1/evaluate/flags",
        operation_id="evaluate_flags",
        summary="Evaluate all placements as flags, by one decision",
        description="The placements are those that treatments of the catalogue name; with `headway_channel` in the "
        "context only those of one channel. No action is shown at two of them. The `ETag` changes if and only if what "
        "is to be shown does, or the decision to show it.",
        body=EvaluationRequest,
        answer=BulkEvaluation,
        problem=EvaluationFailure,
        problem_media=JSON,
        parameters=(_IF_NONE_MATCH, *_CHANGED),
        failures=_FAILURES,
        tagged=True,
        has_not_modified=True,
    ),
)
"""Every call of the protocol."""
