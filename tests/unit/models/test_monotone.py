"""Monotone maps: what they give and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import BundleError
from models.monotone import IDENTITY, MonotoneMap


def test_the_identity_changes_nothing() -> None:
    """Values come back as they are."""
    assert IDENTITY.apply(np.array([0.0, 0.3, 1.0])).tolist() == [0.0, 0.3, 1.0]


def test_platt_moves_the_log_odds() -> None:
    """Slope 2 and intercept 0 square the odds: 3 to 1 becomes 9 to 1."""
    assert MonotoneMap("platt", slope=2.0).apply(np.array([0.75]))[0] == pytest.approx(0.9, abs=1e-12)


def test_isotonic_draws_lines_between_knots_and_stays_flat_beyond() -> None:
    """Halfway between two knots is halfway between their values."""
    steps = MonotoneMap("isotonic", x=(0.2, 0.4), y=(0.1, 0.5))
    assert steps.apply(np.array([0.0, 0.3, 0.9])).tolist() == pytest.approx([0.1, 0.3, 0.5])


def test_a_line_is_for_effects_and_knows_no_bounds() -> None:
    """Twice the value, less a tenth."""
    line = MonotoneMap("linear", slope=2.0, intercept=-0.1)
    assert line.apply(np.array([-0.5, 0.0, 3.0])).tolist() == pytest.approx([-1.1, -0.1, 5.9])


@pytest.mark.parametrize(
    "made",
    [
        IDENTITY,
        MonotoneMap("linear", 1 / 3, -0.1),
        MonotoneMap("platt", 0.1 + 0.2, -1 / 3),
        MonotoneMap("isotonic", x=(0.1, 0.7), y=(0.2, 0.2)),
    ],
)
def test_json_gives_the_map_back(made: MonotoneMap) -> None:
    """To the last bit."""
    assert made == MonotoneMap.from_json(made.to_json())


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "spline"},
        {"kind": ["platt"]},
        {"kind": "platt", "slope": 1.0},
        {"kind": "platt", "slope": -1.0, "intercept": 0.0},
        {"kind": "linear", "slope": -0.1, "intercept": 0.0},
        {"kind": "platt", "slope": "x", "intercept": 0.0},
        {"kind": "platt", "slope": float("nan"), "intercept": 0.0},
        {"kind": "platt", "slope": 10**400, "intercept": 0.0},
        {"kind": "isotonic", "x": [], "y": []},
        {"kind": "isotonic", "x": 3, "y": [1]},
        {"kind": "isotonic", "x": [0.2, 0.1], "y": [0.1, 0.2]},
        {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.2, 0.1]},
        {"kind": "isotonic", "x": [0.1, 0.2], "y": [0.2, 1.1]},
    ],
)
def test_a_damaged_map_is_refused(document: dict[str, object]) -> None:
    """Unknown kinds, missing keys and maps that fall are a BundleError."""
    with pytest.raises(BundleError):
        MonotoneMap.from_json(document)
