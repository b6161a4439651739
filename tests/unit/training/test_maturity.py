"""What outcomes count while windows are open: by hand at the edges, and right on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.maturity import Maturity, maturity

WINDOW = 10


def weights(
    elapsed: list[int], settled_after: list[int], kinds: list[int] | None = None, largest: float = 5
) -> Maturity:
    """Of decisions with a window of ten."""
    return maturity(
        np.array(elapsed),
        np.array(settled_after),
        window=WINDOW,
        kinds=np.zeros(len(elapsed), dtype=np.int64) if kinds is None else np.array(kinds),
        largest_weight=largest,
    )


def test_what_has_seen_its_window_end_is_settled_to_the_last_microsecond() -> None:
    """The window is ``(t, t + W]``: observed for exactly W it is over, a microsecond less and it is not."""
    found = weights([10, 9, 30, 30], [10, 10, 10, 10])
    assert found.weight.tolist() == pytest.approx([4 / 3, 0.0, 4 / 3, 4 / 3])
    assert not found.refused.any()


def test_a_yes_counts_as_soon_as_it_can_be_seen() -> None:
    """A yes after 4 is seen at 4 and not at 3; three of four were observed for that long."""
    assert weights([3, 4, 10, 10], [4, 4, 4, 10]).weight.tolist() == pytest.approx([0.0, 4 / 3, 4 / 3, 2.0])


def test_a_yes_at_the_end_of_the_window_counts_as_a_no_does() -> None:
    """Both are settled after W."""
    assert weights([10, 10, 2, 12], [10, 10, 10, 3]).weight.tolist() == pytest.approx([4 / 3, 4 / 3, 0.0, 4 / 3])


def test_where_every_window_is_over_all_count_one() -> None:
    """To the last bit: nothing is corrected."""
    assert weights([10, 11, 99], [1, 10, 5]).weight.tolist() == [1.0, 1.0, 1.0]


def test_a_decision_after_the_end_of_observation_was_made_and_not_observed() -> None:
    """Its time is negative: it stands in the share, and counts nothing."""
    assert weights([-1, 10], [10, 10]).weight.tolist() == [0.0, 2.0]


def test_few_that_would_stand_for_many_are_not_weighed() -> None:
    """One in six has seen its window end: it counts one, open windows count nothing and are told of."""
    found = weights([1, 1, 1, 1, 1, 10], [1, 10, 10, 10, 10, 10])
    assert found.weight.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert found.refused.tolist() == [True] * 5 + [False]


def test_one_in_five_is_enough() -> None:
    """At the bound the weights are used."""
    assert weights([1, 1, 1, 1, 10], [1, 10, 10, 10, 10]).weight.tolist() == [1.0, 0.0, 0.0, 0.0, 5.0]


def test_kinds_are_weighed_apart() -> None:
    """Those of a kind that is new do not lean on the age of the others."""
    found = weights([10, 10, 10, 1], [10, 10, 10, 1], kinds=[0, 0, 1, 1])
    assert found.weight.tolist() == [1.0, 1.0, 2.0, 1.0]


@given(
    elapsed=st.lists(st.integers(0, 20), min_size=1, max_size=12),
    delays=st.lists(st.integers(1, WINDOW), min_size=1, max_size=6),
)
def test_weights_are_right_on_average_over_delays(elapsed: list[int], delays: list[int]) -> None:
    """If every decision is as likely to be settled after each delay, the weights sum to as many rows for each.

    Worked out exactly: weights of all decisions at one delay, which are what the estimate adds up.
    """
    n = len(elapsed)
    if sum(one >= WINDOW for one in elapsed) * 5 < n:
        return
    for delay in delays:
        assert weights(elapsed, [delay] * n).weight.sum() == pytest.approx(n)
