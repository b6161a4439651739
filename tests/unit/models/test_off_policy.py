"""Off-policy estimates, against numbers computed by hand."""

import numpy as np
import pytest

from models.off_policy import doubly_robust_responses, effective_sample_size


def test_only_the_arm_taken_is_corrected() -> None:
    """``q + (y - q) / e`` for the arm taken, ``q`` for the others."""
    scores = doubly_robust_responses(
        np.array([1.0, 0.0]), np.array([1, 0]), np.array([0.5, 0.25]), np.array([[0.2, 0.4], [0.2, 0.4]])
    )
    assert np.allclose(scores, [[0.2, 1.6], [-0.6, 0.4]])


def test_the_mean_is_right_though_the_predictions_are_wrong() -> None:
    """With exact probabilities the mean score is the arm's mean response, whatever was predicted."""
    rng = np.random.default_rng(1)
    n = 40_000
    taken = (rng.random(n) < 0.3).astype(np.int64)
    y = np.where(taken == 1, rng.random(n) < 0.6, rng.random(n) < 0.1).astype(np.float64)
    scores = doubly_robust_responses(y, taken, np.where(taken == 1, 0.3, 0.7), np.full((n, 2), 0.9))
    # Four standard errors of the noisier arm.
    assert np.allclose(scores.mean(axis=0), [0.1, 0.6], atol=0.02)


@pytest.mark.parametrize(("weights", "expected"), [([1.0, 1.0, 1.0], 3.0), ([1.0, 0.0], 1.0), ([0.0, 0.0], 0.0)])
def test_effective_sample_size(weights: list[float], expected: float) -> None:
    """Equal weights count each row; nothing followed counts nothing."""
    assert effective_sample_size(np.array(weights)) == expected
