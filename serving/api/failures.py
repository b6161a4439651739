"""Errors as they leave, whichever door they leave by; those that should not happen are logged."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from features.errors import HeadwayError
from serving.problems import (
    MEDIA_TYPE,
    UNAVAILABLE,
    KeyLimitReached,
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
from serving.tracking_shapes import TrackingProblem


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


def failure_of(error: Exception, *, route: str, chance: Callable[[], float] = random.random) -> Failure:
    """How an error leaves. Whatever is ours to mend is logged with its place, never with values.

    Args:
        error: what went wrong.
        route: the template of the path.
        chance: numbers from 0 to 1, by which those who are refused together do not come back together.
    """
    kind = problem_type(error)
    is_foreseen = isinstance(error, Stopping | SigningKeysUnavailable)
    if (kind.status >= 500 or not isinstance(error, HeadwayError)) and not is_foreseen:
        log_event("request_failed", level=logging.ERROR, error=error, route=route)
    if isinstance(error, TooManyRequests):
        left = failure(kind, problem_details(error), retry_after=_spread(error.retry_after, chance))
        told = error.headers if isinstance(error, KeyLimitReached) else {}
        return replace(left, headers={**left.headers, **told})
    return failure(kind, problem_details(error), retry_after=_spread(1, chance) if kind is UNAVAILABLE else 1)


def tracking_failure_of(error: Exception, *, route: str) -> Failure:
    """``failure_of`` with the members that tracking SDKs look for.

    RudderStack's takes an answer without them for a broken connection, and sends what was refused again and again.
    """
    left = failure_of(error, route=route)
    told = problem_details(error)
    body = TrackingProblem(**msgspec.structs.asdict(told), code=problem_type(error).slug, message=told.detail)
    return replace(left, body=msgspec.json.encode(body))


def _spread(seconds: int, chance: Callable[[], float]) -> int:
    """Some whole seconds, from those given to twice as many and one more."""
    return seconds + int(chance() * (seconds + 2))


def failure(kind: ProblemType, details: ProblemDetails, *, retry_after: int = 1) -> Failure:
    """Problem details as they leave."""
    sent = {"content-type": MEDIA_TYPE, **headers(kind, retry_after=retry_after)}
    return Failure(kind.status, sent, msgspec.json.encode(details))
