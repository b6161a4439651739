"""From contributions to hazards to contributions to the stall that they lead to: pure arithmetic over arrays."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.hazards import incidence
from models.monotone import expit

FloatArray = NDArray[np.float64]

_NODES: Final = 32
"""Places on the way from the baseline to the row; the sums are then exact to 1e-9 for hazards that are not absurd."""
_EDGE: Final = 1e-12
"""A stall is kept this far from certain, where its log odds are infinite."""


class Margins(NamedTuple):
    """Log odds of one cause's hazard in each period, taken apart.

    Attributes:
        baseline: ``(n_rows, n_periods)``.
        by_feature: ``(n_rows, n_periods, n_features)``; with the baseline they sum to the log odds.
    """

    baseline: FloatArray
    by_feature: FloatArray

    @property
    def total(self) -> FloatArray:
        """``(n_rows, n_periods)`` the log odds."""
        margins: FloatArray = self.baseline + self.by_feature.sum(axis=2)
        return margins


def stall_log_odds(progress: FloatArray, abandon: FloatArray) -> FloatArray:
    """``(n_rows,)`` log odds of no progress by the end of the last period.

    Args:
        progress: ``(n_rows, n_periods)`` log odds of the hazard of progress.
        abandon: likewise of abandonment.
    """
    return _log_odds(incidence(expit(progress), expit(abandon)).progress[:, -1])


def stall_by_feature(progress: Margins, abandon: Margins) -> FloatArray:
    """``(n_rows, n_features)`` what the features contribute to the log odds of no progress; positive raises a stall.

    Hazards of several periods and of two causes make a stall together, and not by adding up. What each of them accounts
    for is its part of the integral of the gradient, on the straight way from the baseline to the row; that part goes to
    the features in proportion to what they contributed to this hazard. All parts add up to
    ``stall_log_odds(totals) - stall_log_odds(baselines)``.

    Args:
        progress: of the hazard of progress, in the periods up to the end that is asked about.
        abandon: likewise of abandonment.

    References:
        Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks; Chen, Lundberg and Lee 2022,
        Explaining a series of models by propagating Shapley values.
    """
    starts = (progress.baseline, abandon.baseline)
    ways = (progress.total - starts[0], abandon.total - starts[1])
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    slopes = [np.zeros(start.shape) for start in starts]
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        at = [start + node * way for start, way in zip(starts, ways, strict=True)]
        for slope, gradient in zip(slopes, stall_gradient(*at), strict=True):
            slope += weight * gradient
    found: FloatArray = sum(
        np.einsum("nk,nkf->nf", slope, margins.by_feature)
        for slope, margins in zip(slopes, (progress, abandon), strict=True)
    )
    return found


def stall_gradient(progress: FloatArray, abandon: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What ``stall_log_odds`` grows by with each of the log odds, each ``(n_rows, n_periods)``.

    With V_k the probability of progress by the end, given that the journey is open at the start of period k,
    ``V_k = p_k + (1 - p_k - a_k) V_{k+1}``, the incidence F grows by ``S_{k-1} (1 - V_{k+1})`` with p_k and by
    ``-S_{k-1} V_{k+1}`` with a_k.

    Args:
        progress: ``(n_rows, n_periods)`` log odds of the hazard of progress.
        abandon: likewise of abandonment.
    """
    p, free = expit(progress), expit(abandon)
    a = np.minimum(free, 1.0 - p)
    is_open = np.cumprod(np.concatenate([np.ones((len(p), 1)), 1.0 - p - a], axis=1), axis=1)[:, :-1]
    ahead = np.zeros(p.shape)
    for k in range(p.shape[1] - 2, -1, -1):
        ahead[:, k] = p[:, k + 1] + (1.0 - p[:, k + 1] - a[:, k + 1]) * ahead[:, k + 1]
    reached = np.clip(p[:, :1] + (1.0 - p[:, :1] - a[:, :1]) * ahead[:, :1], _EDGE, 1.0 - _EDGE)
    outer = -1.0 / (reached * (1.0 - reached))
    # Where abandonment gave way to progress it is what progress leaves: neither of them opens the next period.
    gave_way = free > 1.0 - p
    by_progress = np.where(gave_way, is_open, is_open * (1.0 - ahead))
    by_abandon = np.where(gave_way, 0.0, -is_open * ahead)
    return outer * by_progress * p * (1.0 - p), outer * by_abandon * free * (1.0 - free)


def _log_odds(progressed: FloatArray) -> FloatArray:
    inside = np.clip(progressed, _EDGE, 1.0 - _EDGE)
    odds: FloatArray = np.log1p(-inside) - np.log(inside)
    return odds
