"""Splits never let what is judged reach into what was learned from."""

import numpy as np
import pytest

from features.errors import NotEnoughData
from training.split import Split, before_and_after, hashed_halves, is_flat, time_split

AT = np.arange(0, 1000, dtype=np.int64)


KNOWN = AT + 50 <= 1000


def split_of(window: int = 50) -> Split:
    """Six tenths, two tenths, two tenths of what is known."""
    return time_split(AT, KNOWN, train_share=0.6, calibration_share=0.2, window_us=window)


def test_every_moment_is_in_one_part_and_parts_follow_in_time() -> None:
    """What a part may know ends where the next one starts; that is the caller's to cut."""
    split = split_of()
    parts = split.train.astype(int) + split.calibrate + split.test
    assert parts.tolist() == [1] * len(AT)
    assert AT[split.train].max() < split.calibrate_from == AT[split.calibrate].min()
    assert AT[split.calibrate].max() < split.test_from == AT[split.test].min()


def test_cut_offs_are_shares_of_what_was_fully_observed() -> None:
    """Censored moments at the end do not move them."""
    split = split_of()
    assert (split.calibrate_from, split.test_from) == (570, 760)


def test_a_history_too_short_for_its_window_is_refused() -> None:
    """The message says how long the history is and how far it looks."""
    with pytest.raises(NotEnoughData, match="calibration slice is empty"):
        split_of(300)
    with pytest.raises(NotEnoughData, match="no moment has a fully observed window"):
        time_split(AT, AT < 0, train_share=0.6, calibration_share=0.2, window_us=50)


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
