"""Splits never let what is judged reach into what was learned from."""

import numpy as np
import pytest

from features.errors import NotEnoughData
from training.split import before_and_after, hashed_halves, is_flat, time_split

AT = np.arange(0, 1000, dtype=np.int64)


def test_training_windows_end_before_the_calibration_and_that_before_the_test() -> None:
    """No window of a slice reaches into the next slice."""
    split = time_split(AT, 50, train_share=0.6, calibration_share=0.2)
    assert AT[split.train].max() + 50 < split.calibrate_from <= AT[split.calibrate].min()
    assert AT[split.calibrate].max() + 50 < split.test_from <= AT[split.test].min()


def test_rows_that_cross_a_cut_off_are_in_no_slice() -> None:
    """What looks over a cut-off is dropped, and nothing is in two slices."""
    split = time_split(AT, 50, train_share=0.6, calibration_share=0.2)
    parts = split.train.astype(int) + split.calibrate + split.test
    assert (parts.max(), int((parts == 0).sum())) == (1, 100)


def test_a_history_too_short_for_its_window_is_refused() -> None:
    """The message says how long the history is and how far it looks."""
    with pytest.raises(NotEnoughData, match="calibration slice is empty"):
        time_split(AT, 300, train_share=0.6, calibration_share=0.2)


def test_decisions_learn_from_windows_that_end_before_the_judged_ones_start() -> None:
    """The same for two slices."""
    train, test = before_and_after(AT, 50, train_share=0.7)
    assert AT[train].max() + 50 < AT[test].min()


def test_a_customer_is_in_one_half() -> None:
    """All rows of a customer fall into the same half, and each half gets about half of the customers."""
    customers = [f"c{i % 500}" for i in range(1000)]
    first, second = hashed_halves(customers, "a")
    assert np.array_equal(first[:500], first[500:])
    assert np.array_equal(first, ~second)
    assert 200 < first[:500].sum() < 300


def test_salts_give_other_halves() -> None:
    """Averaging over salts averages over different splits."""
    customers = [f"c{i}" for i in range(200)]
    assert not np.array_equal(hashed_halves(customers, "a")[0], hashed_halves(customers, "b")[0])


def test_one_time_is_flat() -> None:
    """A campaign table with one time cannot be split by it."""
    assert is_flat(np.array([7, 7, 7]))
    assert not is_flat(np.array([7, 8]))
