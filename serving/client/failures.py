"""What a call of the client may come to, apart from an answer.

CallFailed (a HeadwayError)
├── Problem            the service said what was wrong (RFC 9457)
├── NoAnswer           there was none: no connection, a time-out, a connection that broke
└── UnreadableAnswer   an answer that is not one of this API
"""

from __future__ import annotations

from http.client import responses
from typing import Final

import msgspec

from features.errors import HeadwayError
from serving.problems import IN_FLIGHT, FieldError, ProblemDetails

_ASK_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_BLANK: Final = "about:blank"


class CallFailed(HeadwayError):
    """A call that gave no answer to be used.

    Attributes:
        call: method and template of the path; never with the ids in it.
        attempts: how often it was made.
        may_be_asked_again: whether the very same call may still succeed.
        retry_after_seconds: how long to wait with it at least.
    """

    may_be_asked_again: bool = False
    retry_after_seconds: float = 0.0

    def __init__(self, call: str, message: str) -> None:
        self.call = call
        self.attempts = 1
        super().__init__(message)


class NoAnswer(CallFailed):
    """There was no answer; whether the call was carried out is not known. The same call again is safe."""

    may_be_asked_again = True


class UnreadableAnswer(CallFailed):
    """A success whose body is not what this version of the client knows."""


class Problem(CallFailed):
    """The service said what was wrong.

    Attributes:
        status: of the answer.
        type: path of the page that explains it; `about:blank` where something before the service answered.
        title: the same for every problem of the type.
        detail: what was wrong this time, and what to do.
        errors: every bad field, where fields are at fault.
        details: all that the service said, with `reasons` and `evidence` of a refused promotion.
    """

    def __init__(self, call: str, details: ProblemDetails, *, retry_after_seconds: float = 0.0) -> None:
        self.details = details
        self.status = details.status
        self.type = details.type
        self.title = details.title
        self.detail = details.detail
        self.errors: tuple[FieldError, ...] = details.errors
        self.retry_after_seconds = retry_after_seconds
        self.may_be_asked_again = self.status in _ASK_AGAIN or self.type == IN_FLIGHT.path
        fields = "".join(f"; {one.pointer or 'the body'}: expected {one.expected}" for one in self.errors)
        super().__init__(call, f"{call}: {self.status} {self.title} ({self.type}): {self.detail}{fields}")


def problem_of(call: str, *, status: int, body: bytes, retry_after: str | None) -> Problem:
    """The problem that an answer without success is; one that is not told as a problem has the type `about:blank`."""
    try:
        details = msgspec.structs.replace(msgspec.json.decode(body, type=ProblemDetails), status=status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = "this is no answer of Headway; see what stands between, such as a proxy"
        title = responses.get(status, "Not a success")
        details = ProblemDetails(type=_BLANK, title=title, status=status, detail=detail)
    return Problem(call, details, retry_after_seconds=seconds_of(retry_after))


def seconds_of(retry_after: str | None) -> float:
    """The seconds of a `Retry-After`; 0 where it is missing, or a date, which the service never sends.

    >>> seconds_of("3"), seconds_of("Wed, 21 Oct 2026 07:28:00 GMT"), seconds_of(None)
    (3.0, 0.0, 0.0)
    """
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdecimal() else 0.0
