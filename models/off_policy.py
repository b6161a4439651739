"""What a policy would have earned on decisions that another one made, from their logged selection probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def doubly_robust_responses(
    y: FloatArray, arm: IntArray, selection_probability: FloatArray, predicted: FloatArray
) -> FloatArray:
    """``(n, n_arms)`` scores whose mean over rows is each arm's mean response, had everyone got it.

    ``q_a + 1{A=a} (y - q_a) / e``: unbiased where the probabilities are right, whatever was predicted.

    Args:
        y: ``(n,)`` observed response.
        arm: ``(n,)`` the arm taken.
        selection_probability: ``(n,)`` marginal probability of the arm taken, above 0.
        predicted: ``(n, n_arms)`` predicted response of every arm, from rows that are not these.

    References:
        Dudik, Langford and Li 2011, Doubly robust policy evaluation and learning.
    """
    scores = predicted.copy()
    rows = np.arange(len(y))
    scores[rows, arm] += (y - predicted[rows, arm]) / selection_probability
    return scores


def effective_sample_size(weights: FloatArray) -> float:
    """How many equally weighted rows tell as much: ``sum(w)**2 / sum(w**2)``; 0 where no row was followed.

    References:
        Kish 1965, Survey sampling; Owen 2013, Monte Carlo theory, methods and examples, chapter 9.3.
    """
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0
