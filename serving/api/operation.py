"""One call of the API as its description has it, and what many of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from serving import problems
from serving.access import rule_of
from serving.problems import ProblemDetails, ProblemType

Json = dict[str, Any]

KEYED: Final = (problems.UNAUTHENTICATED, problems.FORBIDDEN, problems.KEY_LIMIT)
READING: Final = (problems.NOT_FOUND, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE)
WRITING: Final = (
    *(problems.MALFORMED, problems.TOO_SLOW, problems.TOO_LARGE, problems.ENCODING, problems.INVALID),
    *(problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of the API.

    Attributes:
        answer: the shape of a success as JSON, or the media type of another, or those that a file may have.
        status: of a success.
        accepted: the shape of a 202, where that is another success.
        media_types: of bodies beside JSON.
        failures: the problems it may answer.
        tagged: a success carries an `ETag`.
        problem: the shape of its problems.
        problem_media: the media type of its problems.
        has_not_modified: it may answer that nothing has changed, without a body.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    description: str
    answer: type[msgspec.Struct] | str | tuple[str, ...]
    failures: tuple[ProblemType, ...] = ()
    body: type[msgspec.Struct] | None = None
    parameters: tuple[Json, ...] = ()
    is_body_optional: bool = False
    unready: bool = False
    tagged: bool = False
    problem: type[msgspec.Struct] = ProblemDetails
    problem_media: str = problems.MEDIA_TYPE
    has_not_modified: bool = False
    status: int = 200
    accepted: type[msgspec.Struct] | None = None
    media_types: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The description, and who may use it."""
        return f"{self.description} {rule_of(self.method.upper(), self.path).said}".strip()


DECISION_ID: Final[Json] = {
    "name": "decision_id",
    "in": "path",
    "required": True,
    "description": "The id of a decision.",
    "schema": {"type": "string"},
}

IDEMPOTENCY_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The request id, where the body has none; if both are given they must be equal. May be quoted.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
