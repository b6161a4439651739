"""Effects that come true: how far an ensemble's spread of effects is stretched or shrunk, and how sure that is.

Measured on rows that a member was not fitted on, with the doubly robust scores that are right on average whatever the
models. A straight line is all that they can tell: each score is some ten times as wide as the effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.effects import Comparison, Effect
from models.monotone import IDENTITY, MonotoneMap

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

GROUPS: Final = 10
"""Groups of like customers that intervals are about: deciles of the predicted effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """What held-out rows say of an effect model.

    Attributes:
        slope: of the scores on the ensemble, as measured; 1 is ideal, 0 means that its order is noise.
        slope_se: its standard error, clustered by customer.
        centre: weighted mean of the ensemble over the compared rows.
        variance: likewise its variance.
        jackknife: mean jackknife variance of one customer's ensemble.
        shared: mean jackknife variance of a group's mean, beside what the arm's mean shares: what like customers'
            errors have in common.
        misfit: mean square by which groups of like customers were off the line on rows not fitted on, beyond the noise
            of their scores; 0 where noise explains it.
        n_rows: rows that the slope was measured on.
    """

    slope: float
    slope_se: float
    centre: float
    variance: float
    jackknife: float
    shared: float
    misfit: float
    n_rows: int

    @property
    def served_slope(self) -> float:
        """The slope that is applied: shrunk by its own noise, and never negative, which would turn the order around.

        ``slope * max(0, 1 - (slope_se / slope)**2)``.

        References:
            Efron and Morris 1973, Stein's estimation rule and its competitors, section 2 (the positive part).
        """
        if self.slope <= 0:
            return 0.0
        return self.slope * max(0.0, 1 - (self.slope_se / self.slope) ** 2)

    def calibration(self, mean: float, weight: float) -> MonotoneMap:
        """The map after ``weight * ensemble + (1 - weight) * mean``, which keeps the arm's mean where it is.

        What is served is ``mean + served_slope * weight * (ensemble - centre)``.
        """
        if self.variance == 0:
            return IDENTITY
        before = weight * self.centre + (1 - weight) * mean
        return MonotoneMap("linear", slope=self.served_slope, intercept=mean - self.served_slope * before)

    @property
    def relative_se(self) -> float:
        """How wrong the distance of an effect from the mean is, as a share of it.

        Of two things: the slope's standard error over the slope that is applied, and the line itself. Where a share
        ``jackknife / variance`` of what the ensemble says is noise, what is true of those it says it of bends away from
        a line by about as much; held-out scores are too wide to measure that bend, so it is allowed for. Both vanish
        as rows grow.
        """
        if not self.served_slope:
            return 0.0
        return float(np.hypot(self.slope_se / self.served_slope, min(self.jackknife / self.variance, 1.0)))

    def sigma_floor(self, mean_se: float) -> float:
        """The smallest standard deviation that is served: where members agree they can still be wrong together.

        Trees of a bounded size bend an effect in the same way whatever rows they saw, which no jackknife notices. It
        shows, where rows are many, in groups of like customers.
        """
        return float(np.sqrt(mean_se**2 + self.misfit)) if self.misfit else 0.0

    @property
    def spread_scale(self) -> float:
        """What the jackknife variance of one customer is multiplied by, so that it holds for groups of like customers.

        Members differ on a customer by much that averages out among customers who are predicted alike. What is left
        of it in the mean of such a group is what an interval on the group's effect has to allow for.
        """
        return self.shared / self.jackknife if self.jackknife else 1.0


def recalibration(compared: Comparison, effect: Effect, x: FloatArray, *, judged: BoolArray) -> Recalibration:
    """The slope of an arm's effect, on rows that each member was not fitted on.

    The members' covariance with the scores is that of the effects with the ensemble, since the ensemble is their mean;
    divided by the ensemble's own variance it is the ensemble's slope, which is steeper than a member's. The number of
    trees that a fold is judged at is the one that the other folds would have chosen: chosen by the fold itself it
    would look better than it is.

    Args:
        compared: the rows of the arm and of no action.
        effect: what was chosen for the arm.
        x: ``(m, n_features)`` of those rows.
        judged: ``(m,)`` rows that the slope is measured on: those whose probabilities were logged, if any were.

    References:
        Chernozhukov, Demirer, Duflo and Fernandez-Val 2018, Generic machine learning inference on heterogeneous
        treatment effects, section 2 (best linear predictor); Efron and Stein 1981, The jackknife estimate of variance.
    """
    members = np.stack([fit.raw(x, effect.rounds) for fit in effect.fits])
    ensemble = members.mean(axis=0)
    weight, fold = compared.weight, compared.fold
    own, held_out = np.empty(len(x)), np.empty(len(x))
    for k, fit in enumerate(effect.fits):
        inside = fold == k
        own[inside] = members[k, inside]
        held_out[inside] = fit.raw(x[inside], effect.rounds_without[k])
    score, predicted, own = (
        _centred(values[judged], weight[judged], fold[judged]) for values in (compared.score, held_out, own)
    )
    slope, slope_se = _slope(score, predicted, weight[judged], compared.groups[judged])
    variance = _variance(ensemble, weight)
    steeper = _mean(own**2, weight[judged]) / variance if variance > 0 else 0.0
    return Recalibration(
        slope=slope * steeper,
        slope_se=slope_se * steeper,
        centre=_mean(ensemble, weight),
        variance=variance,
        jackknife=_mean(_jackknife(members), weight),
        shared=_shared(members, ensemble, weight),
        misfit=_misfit(score - slope * predicted, predicted, weight[judged], compared.groups[judged]),
        n_rows=int(judged.sum()),
    )


def _slope(
    score: FloatArray, predicted: FloatArray, weight: FloatArray, groups: NDArray[np.int64]
) -> tuple[float, float]:
    """Weighted least squares of centred arrays, and the standard error over customers; 0 where nothing differs."""
    square = float((weight * predicted**2).sum())
    if square == 0:
        return 0.0, 0.0
    slope = float((weight * predicted * score).sum()) / square
    influence = weight * predicted * (score - slope * predicted)
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=influence)
    return slope, float(np.sqrt((sums**2).sum())) / square


def _misfit(residual: FloatArray, predicted: FloatArray, weight: FloatArray, groups: NDArray[np.int64]) -> float:
    """``mean(d_g**2 - s_g**2)`` over groups of like predictions, at least 0.

    d_g is a group's mean residual, and s_g its standard error over customers.
    """
    squares, noise = [], []
    for rows in np.array_split(np.argsort(predicted, kind="stable"), GROUPS):
        total = float(weight[rows].sum())
        if total == 0:
            continue
        off = float((weight[rows] * residual[rows]).sum()) / total
        sums = np.bincount(
            np.unique(groups[rows], return_inverse=True)[1], weights=weight[rows] * (residual[rows] - off)
        )
        squares.append(off**2)
        noise.append(float((sums**2).sum()) / total**2)
    if not squares:
        return 0.0
    return max(0.0, float(np.mean(squares) - np.mean(noise)))


def _shared(members: FloatArray, ensemble: FloatArray, weight: FloatArray) -> float:
    """Mean over groups of the jackknife variance of the group's mean, each member less its own mean over all rows."""
    centred = members - np.average(members, axis=1, weights=weight)[:, None]
    groups = np.array_split(np.argsort(ensemble, kind="stable"), GROUPS)
    means = np.stack([np.average(centred[:, group], axis=1, weights=weight[group]) for group in groups if len(group)])
    return float(_jackknife(means.T).mean())


def _jackknife(members: FloatArray) -> FloatArray:
    """``(K - 1) / K * sum((t_k - t)**2)`` over the first axis."""
    n = len(members)
    variance: FloatArray = (n - 1) / n * ((members - members.mean(axis=0)) ** 2).sum(axis=0)
    return variance


def _centred(values: FloatArray, weight: FloatArray, fold: NDArray[np.int64]) -> FloatArray:
    """Values less their weighted mean in each fold: members differ in level, which is no effect."""
    sums, weights = np.bincount(fold, weights=weight * values), np.bincount(fold, weights=weight)
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    centred: FloatArray = values - means[fold]
    return centred


def _mean(values: FloatArray, weight: FloatArray) -> float:
    return float(np.average(values, weights=weight))


def _variance(values: FloatArray, weight: FloatArray) -> float:
    return _mean((values - _mean(values, weight)) ** 2, weight)
