"""How often a key may ask: a token bucket for each key that has a limit, so that one caller cannot starve the others.

Buckets live in this process and are full when it starts. Used by one event loop only.

References:
    R. Polli, A. Martinez Ruiz, D. Miller (2025), RateLimit header fields for HTTP, an Internet-Draft of the IETF
    (draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from features.errors import InvalidInput, Problem
from features.events import shown
from serving.problems import KeyLimitReached

LEAST_PER_SECOND: Final = 0.001
MOST_PER_SECOND: Final = 100_000.0
MOST_BURST: Final = 1_000_000


class KeyLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a key may ask.

    Attributes:
        per_second: requests a second in the long run.
        burst: so many at once, after a rest.
    """

    per_second: float
    burst: int

    @classmethod
    def of(cls, per_second: float | None, burst: int | None) -> KeyLimit | None:
        """The limit that is asked for, None where none is; the burst is a second's worth where it is not said.

        Raises:
            InvalidInput: with every number that is out of bounds.
        """
        problems = []
        if per_second is None:
            if burst is not None:
                problems.append(Problem("burst", shown(burst), "no value without a rate"))
        elif not LEAST_PER_SECOND <= per_second <= MOST_PER_SECOND:  # NaN neither
            problems.append(
                Problem("rate", shown(per_second), f"a number from {LEAST_PER_SECOND:g} to {MOST_PER_SECOND:g}")
            )
        if burst is not None and not 1 <= burst <= MOST_BURST:
            problems.append(Problem("burst", shown(burst), f"an integer from 1 to {MOST_BURST}"))
        if problems:
            raise InvalidInput("the key cannot have that limit", problems)
        return None if per_second is None else cls(per_second=per_second, burst=burst or max(1, math.ceil(per_second)))

    @property
    def policy(self) -> str:
        """The ``RateLimit-Policy`` header: so many requests in the seconds that it takes to fill the bucket."""
        return f'"key";q={self.burst};w={math.ceil(self.burst / self.per_second)}'


class _Bucket:
    __slots__ = ("at", "left", "limit")

    def __init__(self, limit: KeyLimit, at: float) -> None:
        self.limit, self.at, self.left = limit, at, float(limit.burst)


class KeyLimits:
    """Counts the requests of the keys that have a limit.

    Args:
        timer: a monotonic clock, seconds.

    Attributes:
        refused: how many requests were refused until now.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._buckets: dict[str, _Bucket] = {}
        self.refused = 0

    def take(self, key_id: str, limit: KeyLimit | None) -> Mapping[str, str]:
        """Count one request of a key.

        Returns:
            The headers that tell its caller what is left; none where there is no limit.

        Raises:
            KeyLimitReached: nothing is left; it says when there is.
        """
        if limit is None:
            self._buckets.pop(key_id, None)
            return {}
        now = self._timer()
        bucket = self._buckets.get(key_id)
        if bucket is None or bucket.limit != limit:  # a limit that was changed begins with a full bucket
            bucket = self._buckets[key_id] = _Bucket(limit, now)
        bucket.left = min(float(limit.burst), bucket.left + max(0.0, now - bucket.at) * limit.per_second)
        bucket.at = now
        if bucket.left < 1.0:
            self.refused += 1
            raise KeyLimitReached(
                f"key {key_id} may ask {limit.per_second:g} times a second and {limit.burst} times at once, expected "
                "no more: ask again later, or more slowly",
                retry_after=max(1, math.ceil((1.0 - bucket.left) / limit.per_second)),
                headers=_headers(bucket),
            )
        bucket.left -= 1.0
        return _headers(bucket)


def _headers(bucket: _Bucket) -> dict[str, str]:
    limit = bucket.limit
    full_again = math.ceil((limit.burst - bucket.left) / limit.per_second)
    return {"RateLimit-Policy": limit.policy, "RateLimit": f'"key";r={int(bucket.left)};t={full_again}'}
