"""Errors as they leave, whichever door they leave by; those that should not happen are logged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from features.errors import HeadwayError
from serving.problems import (
    MEDIA_TYPE,
    ProblemDetails,
    ProblemType,
    SigningKeysUnavailable,
    Stopping,
    TooManyRequests,
    headers,
    problem_details,
    problem_type,
)
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
    is_foreseen = isinstance(error, Stopping | SigningKeysUnavailable)
    if (kind.status >= 500 or not isinstance(error, HeadwayError)) and not is_foreseen:
        log_event("request_failed", level=logging.ERROR, error=error, route=route)
    retry_after = error.retry_after if isinstance(error, TooManyRequests) else 1
    return failure(kind, problem_details(error), retry_after=retry_after)


def failure(kind: ProblemType, details: ProblemDetails, *, retry_after: int = 1) -> Failure:
    """Problem details as they leave."""
    sent = {"content-type": MEDIA_TYPE, **headers(kind, retry_after=retry_after)}
    return Failure(kind.status, sent, msgspec.json.encode(details))
