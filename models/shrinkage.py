"""Mean effects of arms, each drawn to what was believed of it as far as its own rows are few: empirical Bayes.

The best of many noisy means looks better than it is, and a policy that serves whichever is largest serves that luck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_HALVINGS: Final = 60
_LEAST_VARIANCE: Final = 1e-18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shrunk:
    """Posterior means of arms; all arrays ``(k,)``, in units of the outcome.

    Attributes:
        mean: ``weight * mean + (1 - weight) * prior``.
        sd: posterior standard deviation, no larger than the standard error or the spread.
        weight: of the arm's own mean, in ``[0, 1]``.
        spread: standard deviation of true means around their priors that was allowed for.
    """

    mean: FloatArray
    sd: FloatArray
    weight: FloatArray
    spread: FloatArray


def shrunk(mean: FloatArray, se: FloatArray, *, prior: FloatArray, least_spread: FloatArray) -> Shrunk:
    """Each arm's mean, weighted with its prior by precision: ``w = tau**2 / (tau**2 + se**2)``.

    ``tau`` is the arms' spread around their priors, as the arms themselves show it, or the arm's ``least_spread`` where
    that is larger: a few arms that happen to lie near their priors do not prove the priors right.

    Args:
        mean: ``(k,)`` estimated mean effects.
        se: ``(k,)`` their standard errors, not negative.
        prior: ``(k,)`` what is believed of each without its rows.
        least_spread: ``(k,)`` above 0, how far off the belief may be at the least, one standard deviation.

    References:
        Efron and Morris 1975, Data analysis using Stein's estimator and its generalizations; Morris 1983, Parametric
        empirical Bayes inference: theory and applications, section 1.
    """
    variance = np.maximum(se, 0.0) ** 2
    spread = np.sqrt(np.maximum(spread_of(mean - prior, variance), least_spread**2))
    weight = spread**2 / (spread**2 + variance)
    return Shrunk(
        mean=weight * mean + (1 - weight) * prior,
        sd=np.sqrt(weight * variance),
        weight=weight,
        spread=spread,
    )


def spread_of(distance: FloatArray, variance: FloatArray) -> float:
    """Variance of true distances beyond that of their estimates: ``t`` with ``sum(d**2 / (t + v)) = k``, at least 0.

    Each arm counts by what it tells, which the plain moment ``mean(d**2) - mean(v)`` leaves to its noisiest arm.

    Args:
        distance: ``(k,)`` estimates less what was believed.
        variance: ``(k,)`` of the estimates.

    References:
        Paule and Mandel 1982, Consensus values and weighting factors.

    >>> round(spread_of(np.array([0.3, -0.3]), np.array([0.01, 0.01])), 6)
    0.08
    """
    square, variance = distance**2, np.maximum(variance, _LEAST_VARIANCE)
    if not len(square) or (square / variance).sum() <= len(square):
        return 0.0
    low, high = 0.0, float(square.mean())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (square / (middle + variance)).sum() > len(square):
            low = middle
        else:
            high = middle
    return high


def effective_rows(weight: FloatArray) -> float:
    """As how many equally weighted rows weighted ones count: ``sum(w)**2 / sum(w**2)``; 0 of none.

    References:
        Kish 1965, Survey sampling, section 11.7.

    >>> effective_rows(np.array([2.0, 2.0, 2.0])), effective_rows(np.array([1.0, 0.0]))
    (3.0, 1.0)
    """
    total = float((weight**2).sum())
    # Equal weights are as many rows as there are, which rounding must not put below a threshold.
    return round(float(weight.sum()) ** 2 / total, 6) if total else 0.0
