"""Calibration: later rows come true, and each kind of map is chosen where it should be."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.calibration import SMALLEST_ISOTONIC_ROWS, fitted_map, platt_map
from models.metrics import calibration_slope, ece


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too high in the middle: the truth is their square."""
    rng = np.random.default_rng(seed)
    predicted = rng.random(n)
    return predicted, (rng.random(n) < predicted**2).astype(np.float64)


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


def test_a_row_of_weight_two_is_two_rows() -> None:
    """Platt's map of some rows twice is that of their weights."""
    predicted, happened = drawn(500, seed=5)
    times = 1 + np.arange(500) % 2
    weighed = platt_map(predicted, happened, times.astype(np.float64))
    repeated = platt_map(np.repeat(predicted, times), np.repeat(happened, times))
    assert (weighed.slope, weighed.intercept) == pytest.approx((repeated.slope, repeated.intercept))
