"""From hazards to the stall: contributions add up for any hazards, have the right sign, and the gradient is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.hazard_contributions import Margins, stall_by_feature, stall_gradient, stall_log_odds

N_PERIODS, N_FEATURES = 3, 4
LOG_ODDS = arrays(np.float64, (2, N_PERIODS), elements=st.floats(-6, -0.1))
"""Hazards below half, so that the two of a period leave room for each other."""
SMALL = arrays(np.float64, (2, N_PERIODS, N_FEATURES), elements=st.floats(-1, 0))
STEP = 1e-6


@given(LOG_ODDS, SMALL, LOG_ODDS, SMALL)
@settings(deadline=None)
def test_they_add_up(base_p: np.ndarray, by_p: np.ndarray, base_a: np.ndarray, by_a: np.ndarray) -> None:
    """To the difference between the row and the baseline, as log odds of a stall."""
    progress, abandon = Margins(base_p, by_p), Margins(base_a, by_a)

    found = stall_by_feature(progress, abandon).sum(axis=1)

    expected = stall_log_odds(progress.total, abandon.total) - stall_log_odds(base_p, base_a)
    assert found == pytest.approx(expected, abs=1e-8)


@given(LOG_ODDS, SMALL, LOG_ODDS)
@settings(deadline=None)
def test_what_slows_progress_raises_the_stall(base_p: np.ndarray, by_p: np.ndarray, base_a: np.ndarray) -> None:
    """Contributions to progress, all of them negative here, come out positive; nothing comes of the other cause."""
    found = stall_by_feature(Margins(base_p, by_p), Margins(base_a, np.zeros(by_p.shape)))

    assert (found >= 0).all()
    assert (found[(by_p < -0.01).all(axis=1)] > 0).all()


@given(LOG_ODDS, LOG_ODDS, st.integers(0, 1), st.integers(0, N_PERIODS - 1))
@settings(deadline=None)
def test_the_gradient_is_the_slope(progress: np.ndarray, abandon: np.ndarray, cause: int, period: int) -> None:
    """A small step in any hazard of any period moves the stall by that much."""
    up, down = [progress.copy(), abandon.copy()], [progress.copy(), abandon.copy()]
    up[cause][:, period] += STEP
    down[cause][:, period] -= STEP

    slope = (stall_log_odds(*up) - stall_log_odds(*down)) / (2 * STEP)

    assert stall_gradient(progress, abandon)[cause][:, period] == pytest.approx(slope, abs=1e-5)


def test_abandonment_raises_the_stall_as_long_as_progress_could_have_come() -> None:
    """In the last period it takes nothing away from progress there."""
    even = np.full((1, 2), -1.0)

    gradient = stall_gradient(even, even)[1][0]

    assert gradient[0] > 0
    assert gradient[1] == 0


def test_hazards_that_exceed_one_together_add_up_too() -> None:
    """Abandonment gives way; the kink on the way costs some digits."""
    progress = Margins(np.array([[-1.0, -1.0]]), np.array([[[4.0], [1.0]]]))
    abandon = Margins(np.array([[1.0, 0.0]]), np.array([[[2.0], [1.0]]]))

    found = stall_by_feature(progress, abandon).sum(axis=1)

    expected = stall_log_odds(progress.total, abandon.total) - stall_log_odds(progress.baseline, abandon.baseline)
    assert found == pytest.approx(expected, abs=0.05)
