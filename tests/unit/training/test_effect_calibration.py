"""The decile table and the share of clipped responses."""

from __future__ import annotations

import numpy as np
import pytest

from training.effect_calibration import decile_table, share_clipped


def test_each_tenth_shows_its_means() -> None:
    """A hundred rows whose scores are their predictions."""
    predicted = np.arange(100.0)[::-1]
    table = decile_table(predicted, predicted, np.arange(100))
    assert [group["n"] for group in table] == [10] * 10
    assert [group["predicted"] for group in table] == pytest.approx([4.5 + 10 * i for i in range(10)])
    assert all(group["predicted"] == group["effect"] for group in table)


def test_an_interval_is_two_standard_errors_wide_and_over_people() -> None:
    """Scores of +1 and -1: 1.96 / 10 for a hundred people, and as much for the same people twice."""
    scores, people = np.tile([1.0, -1.0], 50), np.arange(100)
    once = decile_table(scores, np.zeros(100), people)[0]
    twice = decile_table(np.tile(scores, 2), np.zeros(200), np.tile(people, 2))[0]
    assert (once["low"], once["high"]) == (pytest.approx(-0.196), pytest.approx(0.196))
    assert twice["high"] == pytest.approx(0.196)


def test_rows_that_are_predicted_alike_stand_together() -> None:
    """The arm's mean for everybody is one group, in whatever order the rows come."""
    assert [group["n"] for group in decile_table(np.arange(50.0), np.full(50, 0.2), np.arange(50))] == [50]


def test_no_row_has_no_table() -> None:
    """An empty list."""
    assert decile_table(np.empty(0), np.empty(0), np.empty(0)) == []


def test_clipped_responses_are_counted() -> None:
    """Two of four end at 0 or at 1."""
    assert share_clipped(np.array([0.1, 0.95, 0.5, 0.2]), np.array([-0.1, 0.05, 0.1, 0.0])) == 0.5
