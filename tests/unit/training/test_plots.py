"""Drawings: the same numbers give the same bytes, and words stay words."""

from __future__ import annotations

from training.plots import converging, intervals


def test_a_settling_estimate_is_drawn_with_both_bands() -> None:
    """The legend tells them apart, the axes what they are."""
    drawn = [
        converging([100, 200], [0.5, 0.4], [(0.1, 0.9), (0.2, 0.6)], [(-0.5, 1.5), (0.0, 0.8)], unit="points")
        for _ in range(2)
    ]

    assert drawn[0] == drawn[1]
    for words in ("any number of looks", "one look", "customers followed to the end", "points"):
        assert words in drawn[0]


def test_money_in_a_title_is_no_formula() -> None:
    """Two dollar signs are what somebody wrote."""
    drawn = intervals(["From $5 to $10"], [1.0], [(0.5, 1.5)], unit="$ for each $")

    assert "From $5 to $10" in drawn
    assert "$ for each $" in drawn
