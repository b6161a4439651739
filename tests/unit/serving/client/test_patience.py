"""How long a caller waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InvalidInput
from serving.client.patience import Patience

SECONDS = st.floats(0.001, 1_000)
CHANCES = st.floats(0, 1)
FAILURES = st.integers(1, 10_000)


@given(failures=FAILURES, chance=CHANCES, first=SECONDS, longest=SECONDS, asked=st.floats(0, 1_000))
def test_a_wait_is_between_what_was_asked_for_and_the_cap(
    failures: int, chance: float, first: float, longest: float, asked: float
) -> None:
    """Never less than `Retry-After`, never more than the cap unless that is."""
    patience = Patience(first_wait_seconds=first, longest_wait_seconds=longest)

    wait = patience.wait_seconds(failures, chance=chance, retry_after=asked)

    assert asked <= wait <= max(asked, longest)


@given(failures=FAILURES, chance=CHANCES)
def test_no_wait_is_shorter_than_one_before_by_the_same_chance(failures: int, chance: float) -> None:
    """Patience grows with failures."""
    patience = Patience()

    assert patience.wait_seconds(failures, chance=chance) <= patience.wait_seconds(failures + 1, chance=chance)


@given(failures=FAILURES, less=CHANCES, more=CHANCES)
def test_chance_spreads_those_who_failed_together(failures: int, less: float, more: float) -> None:
    """Over all of the wait, from nothing to its bound."""
    patience = Patience()

    less, more = sorted((less, more))
    assert patience.wait_seconds(failures, chance=less) <= patience.wait_seconds(failures, chance=more)
    assert patience.wait_seconds(failures, chance=0.0) == 0.0


def test_waits_double_up_to_the_cap() -> None:
    """The bounds, one by one."""
    patience = Patience(first_wait_seconds=0.5, longest_wait_seconds=3)

    assert [patience.wait_seconds(n, chance=1.0) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_bounds_that_nobody_can_keep_are_refused_together() -> None:
    """All of them, by name."""
    with pytest.raises(InvalidInput) as caught:
        Patience(deadline_seconds=0, attempt_seconds=float("nan"), longest_wait_seconds=-1)

    assert [one.path for one in caught.value.problems] == [
        "deadline_seconds",
        "attempt_seconds",
        "longest_wait_seconds",
    ]
