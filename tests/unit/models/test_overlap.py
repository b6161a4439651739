"""Overlap: what is counted, and when it is said aloud."""

from __future__ import annotations

import numpy as np
import pytest

from models.overlap import overlap_of


def test_even_probabilities_count_in_full() -> None:
    """And nothing is said."""
    found = overlap_of(np.full(80, 0.5), clipped=np.zeros(80, dtype=np.bool_), n_all=80)
    assert (found.ess, found.smallest_probability, found.share_impossible) == (pytest.approx(80.0), 0.5, 0.0)
    assert found.problems == ()


def test_a_few_huge_weights_are_told() -> None:
    """One row in a hundred at 1/1000 weighs ten times what all others do: 100 rows count as one and a half."""
    given = np.r_[np.full(99, 0.99), 0.001]
    found = overlap_of(given, clipped=np.zeros(100, dtype=np.bool_), n_all=100)
    assert found.ess == pytest.approx(1100**2 / (1_000_000 + 99 / 0.99**2), rel=1e-3)
    assert found.problems == ("100 rows count as 1 (the smallest probability is 0.001)",)


def test_clipped_estimates_are_told() -> None:
    """One in ten."""
    found = overlap_of(np.full(50, 0.5), clipped=np.arange(50) % 10 == 0, n_all=50)
    assert found.share_clipped == pytest.approx(0.1)
    assert found.problems == ("10% of the estimated probabilities were clipped",)


def test_rows_without_a_chance_are_counted_and_no_problem() -> None:
    """Three in four: the action belongs to another stage there."""
    found = overlap_of(np.full(25, 0.5), clipped=np.zeros(25, dtype=np.bool_), n_all=100)
    assert found.share_impossible == pytest.approx(0.75)
    assert found.problems == ()


def test_no_row_has_no_overlap() -> None:
    """Noughts, and not a division by them."""
    found = overlap_of(np.empty(0), clipped=np.empty(0, dtype=np.bool_), n_all=10)
    assert (found.ess, found.n_rows, found.share_impossible) == (0.0, 0, 1.0)
