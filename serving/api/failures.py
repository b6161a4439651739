"""Errors as they leave, whichever door they leave by; those that should not happen are logged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from features.errors import HeadwayError
from serving.problems import MEDIA_TYPE, ProblemDetails, ProblemType, headers, problem_details, problem_type
from serving.telemetry import log_event


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is not a success.

    Attributes:
        headers: the content type among them.
        body: problem details.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def failure_of(error: Exception, *, route: str) -> Failure:
    """How an error leaves. Whatever is ours to mend is logged with its place, never with values."""
    kind = problem_type(error)
    if kind.status >= 500 or not isinstance(error, HeadwayError):
        log_event("request_failed", level=logging.ERROR, error=error, route=route)
    return failure(kind, problem_details(error))


def failure(kind: ProblemType, details: ProblemDetails) -> Failure:
    """Problem details as they leave."""
    return Failure(kind.status, {"content-type": MEDIA_TYPE, **headers(kind)}, msgspec.json.encode(details))
