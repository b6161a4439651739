"""One call of the API as its description has it, and what many of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from serving import problems
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
        answer: the shape of a success as JSON, or the media type of another.
        failures: the problems it may answer.
        tagged: a success carries an `ETag`.
        takes_basic: the key may come as the user of Basic.
        problem: the shape of its problems.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    description: str
    answer: type[msgspec.Struct] | str
    failures: tuple[ProblemType, ...] = ()
    body: type[msgspec.Struct] | None = None
    parameters: tuple[Json, ...] = ()
    is_body_optional: bool = False
    is_open: bool = False
    unready: bool = False
    tagged: bool = False
    takes_basic: bool = False
    problem: type[ProblemDetails] = ProblemDetails


DECISION_ID: Final[Json] = {
    "name": "decision_id",
    "in": "path",
    "required": True,
    "description": "The id of a decision.",
    "schema": {"type": "string"},
}
