"""Monotone maps: what they give, what they refuse, and when each kind is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import BundleError, NotEnoughData
from models.calibration import IDENTITY, SMALLEST_ISOTONIC_ROWS, MonotoneMap, fitted_map
from models.metrics import calibration_slope, ece


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too high in the middle: the truth is their square."""
    rng = np.random.default_rng(seed)
    predicted = rng.random(n)
    return predicted, (rng.random(n) < predicted**2).astype(np.float64)


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


@pytest.mark.parametrize("n", [300, 6000])
def test_the_fitted_map_calibrates_later_rows(n: int) -> None:
    """On rows that it has not seen the error falls, and the slope comes close to 1."""
    fitted = fitted_map(*drawn(n, seed=1))
    predicted, happened = drawn(20_000, seed=2)
    calibrated = fitted.apply(predicted)
    assert ece(happened, calibrated) < 0.5 * ece(happened, predicted)
    assert calibration_slope(happened, calibrated) == pytest.approx(1.0, abs=0.25)


def test_few_rows_get_platts_map() -> None:
    """An isotonic map would follow the noise."""
    assert fitted_map(*drawn(SMALLEST_ISOTONIC_ROWS - 1, seed=3)).kind == "platt"


def test_a_shape_that_platt_cannot_follow_gets_an_isotonic_map() -> None:
    """The kind is chosen by held-out log loss."""
    rng = np.random.default_rng(4)
    predicted = rng.random(4000)
    happened = (rng.random(4000) < np.where(predicted < 0.7, 0.05, 0.6)).astype(np.float64)
    fitted = fitted_map(predicted, happened)
    assert fitted.kind == "isotonic"
    assert min(fitted.y) > 0
    assert max(fitted.y) < 1


def test_a_model_that_ranks_backwards_is_calibrated_to_the_base_rate() -> None:
    """A monotone map cannot turn a ranking around; it can refuse to trust it."""
    predicted, happened = drawn(800, seed=5)
    calibrated = fitted_map(1 - predicted, happened).apply(np.array([0.1, 0.9]))
    assert calibrated[0] == calibrated[1] == pytest.approx(happened.mean(), abs=0.01)


def test_a_slice_of_one_kind_cannot_calibrate() -> None:
    """All rows positive says nothing of the others."""
    with pytest.raises(NotEnoughData, match="5 of 5 calibration rows are positive"):
        fitted_map(np.full(5, 0.5), np.ones(5))


@pytest.mark.parametrize(
    "made", [IDENTITY, MonotoneMap("platt", 0.1 + 0.2, -1 / 3), MonotoneMap("isotonic", x=(0.1, 0.7), y=(0.2, 0.2))]
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
        {"kind": "platt", "slope": "x", "intercept": 0.0},
        {"kind": "platt", "slope": float("nan"), "intercept": 0.0},
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
