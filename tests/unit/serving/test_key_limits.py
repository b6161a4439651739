"""Limits of keys: a burst after a rest, the rate in the long run, and headers that say what is left."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InvalidInput
from serving.key_limits import KeyLimit, KeyLimits
from serving.problems import KeyLimitReached

LIMIT = KeyLimit(per_second=2.0, burst=4)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_key_without_a_limit_is_never_refused() -> None:
    """And its caller is told of none."""
    limits = KeyLimits(_Clock())

    assert [limits.take("k1", None) for _ in range(1_000)] == [{}] * 1_000


def test_a_burst_passes_and_the_next_one_waits() -> None:
    """Four at once; the fifth is told to come back in half a second, which is the next whole one."""
    limits = KeyLimits(_Clock())
    left = [limits.take("k1", LIMIT)["RateLimit"] for _ in range(4)]

    with pytest.raises(KeyLimitReached, match="key k1 may ask 2 times a second and 4 times at once") as refusal:
        limits.take("k1", LIMIT)

    assert left == ['"key";r=3;t=1', '"key";r=2;t=1', '"key";r=1;t=2', '"key";r=0;t=2']
    assert refusal.value.headers == {"RateLimit-Policy": '"key";q=4;w=2', "RateLimit": '"key";r=0;t=2'}
    assert (refusal.value.retry_after, limits.refused) == (1, 1)


def test_one_key_takes_nothing_from_another() -> None:
    """Whoever is refused is refused alone."""
    limits = KeyLimits(_Clock())
    for _ in range(4):
        limits.take("k1", LIMIT)

    assert limits.take("k2", LIMIT)["RateLimit"] == '"key";r=3;t=1'


def test_a_changed_limit_holds_at_once() -> None:
    """It begins with a full bucket; without one nobody is refused."""
    limits = KeyLimits(_Clock())
    for _ in range(4):
        limits.take("k1", LIMIT)

    assert limits.take("k1", KeyLimit(per_second=1.0, burst=10))["RateLimit"] == '"key";r=9;t=1'
    assert limits.take("k1", None) == {}


@given(
    per_second=st.floats(0.5, 50.0),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(per_second: float, burst: int, pauses: list[float]) -> None:
    """However requests are spread, in any stretch of time no more pass than the burst and what came in meanwhile."""
    clock = _Clock()
    limits, limit = KeyLimits(clock), KeyLimit(per_second=per_second, burst=burst)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        with suppress(KeyLimitReached):
            limits.take("k1", limit)
            passed.append(clock.now)

    for first, since in enumerate(passed):
        for place in range(first, len(passed)):
            assert place - first + 1 <= burst + per_second * (passed[place] - since) + 1e-6


def test_who_waits_as_long_as_told_passes() -> None:
    """``Retry-After`` is enough, also for a key that may ask every ten seconds."""
    clock = _Clock()
    limits, limit = KeyLimits(clock), KeyLimit(per_second=0.1, burst=1)
    limits.take("k1", limit)
    with pytest.raises(KeyLimitReached) as refusal:
        limits.take("k1", limit)
    clock.now += refusal.value.retry_after

    assert (refusal.value.retry_after, limits.take("k1", limit)["RateLimit"]) == (10, '"key";r=0;t=10')


@pytest.mark.parametrize(
    ("per_second", "burst", "names"),
    [
        (0.0, None, ["rate"]),
        (-1.0, 0, ["rate", "burst"]),
        (math.nan, None, ["rate"]),
        (math.inf, None, ["rate"]),
        (None, 5, ["burst"]),
        (1.0, 1_000_001, ["burst"]),
    ],
)
def test_a_limit_that_cannot_be_is_refused(per_second: float | None, burst: int | None, names: list[str]) -> None:
    """Every bad number is named."""
    with pytest.raises(InvalidInput) as refusal:
        KeyLimit.of(per_second, burst)

    assert [problem.path for problem in refusal.value.problems] == names


def test_a_burst_is_a_seconds_worth_where_it_is_not_said() -> None:
    """At least one request."""
    assert KeyLimit.of(2.5, None) == KeyLimit(per_second=2.5, burst=3)
    assert KeyLimit.of(0.2, None) == KeyLimit(per_second=0.2, burst=1)
    assert KeyLimit.of(None, None) is None
