"""How well predicted effects order and size what an action changes, judged by doubly robust scores.

A doubly robust score of a row is an unbiased, noisy estimate of what the action changes for it: it may be averaged over
any rows that were chosen without looking at it. Unlike a comparison of arms it needs no equal shares and corrects for
how the actions were selected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics import Interval, bootstrap_intervals

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class EffectRanking:
    """Rows by falling predicted effect, and their doubly robust scores.

    The measures take ``weight``, ``(n,)`` counts in the order of the arguments: each is what it would be on a table
    that holds every row so many times, and on the rows as they are if None. The scores of rows of equal prediction are
    averaged first, so that the order in which they come does not matter. No measure is defined without rows: NaN.

    Args:
        score: ``(n,)`` doubly robust effect scores.
        predicted: ``(n,)`` predicted effects, fitted on other rows; only their order counts.

    Raises:
        ValueError: the arrays differ in length, or one holds NaN: rows that cannot be judged are left out beforehand.

    References:
        Yadlowsky, Fleming, Shah, Brunskill and Wager 2025, Evaluating treatment prioritization rules via rank-weighted
        average treatment effects, JASA (arXiv 2111.07966), sections 2 and 3; ties as in grf's
        ``rank_average_treatment_effect``.
    """

    def __init__(self, score: FloatArray, predicted: FloatArray) -> None:
        _check(score, predicted)
        self._order = np.argsort(-predicted, kind="stable")
        ordered = predicted[self._order]
        self._score = score[self._order].astype(np.float64)
        self._starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1] if len(ordered) else np.empty(0, np.intp)

    def toc(self, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """The targeting operator characteristic, at the end of each step of equal predictions.

        Two arrays: the share q of the rows taken, best first, and ``TOC(q) = mean(score | taken) - mean(score)``. The
        last is 0: everybody is taken.
        """
        n, total, _ = self._steps(weight)
        n, total = n[n > 0], total[n > 0]
        return (n / n[-1], total / n - total[-1] / n[-1]) if len(n) else (n, n)

    def autoc(self, weight: FloatArray | None = None) -> float:
        """Area under the TOC: ``1/n sum_k TOC(k/n)``; 0 is random, and what an oracle reaches depends on the effects.

        The rank-weighted average treatment effect with weights 1. It asks most of the first rows: right where few
        customers gain. (causalml's ``rate_score("autoc")`` weighs by 1/q besides, which is another number.)

        >>> round(EffectRanking(np.array([3.0, 1.0, 1.0, -1.0]), np.array([4.0, 3.0, 2.0, 1.0])).autoc(), 12)
        0.916666666667
        """
        taken, total, mean = self._steps(weight)
        if not len(taken) or taken[-1] <= 0:
            return float("nan")
        before, gained = np.r_[0.0, taken[:-1]], np.r_[0.0, total[:-1]]
        # Inside a step TOC(W) = (gained - mean before) / W + mean - overall, at every whole W until its end.
        harmonic = np.r_[0.0, np.cumsum(1.0 / np.arange(1, round(taken[-1]) + 1))]
        per_rank = harmonic[np.rint(taken).astype(np.int64)] - harmonic[np.rint(before).astype(np.int64)]
        area = ((gained - mean * before) * per_rank + (mean - total[-1] / taken[-1]) * (taken - before)).sum()
        return float(area / taken[-1])

    def rate_qini(self, weight: FloatArray | None = None) -> float:
        """``1/n sum_k (k/n) TOC(k/n)``: 0 is random.

        The rank-weighted average treatment effect with weights q: the area between a Qini curve and the random line, on
        doubly robust scores and for each row. It weighs all customers alike: right where many gain a little.

        >>> EffectRanking(np.array([3.0, 1.0, 1.0, -1.0]), np.array([4.0, 3.0, 2.0, 1.0])).rate_qini()
        0.375
        """
        taken, total, mean = self._steps(weight)
        if not len(taken) or taken[-1] <= 0:
            return float("nan")
        before, gained = np.r_[0.0, taken[:-1]], np.r_[0.0, total[:-1]]
        ranks = 0.5 * (taken * (taken + 1) - before * (before + 1))  # sum of the whole W of each step
        overall = total[-1] / taken[-1]
        area = ((gained - mean * before) * (taken - before) + (mean - overall) * ranks).sum()
        return float(area / taken[-1] ** 2)

    def _steps(self, weight: FloatArray | None) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rows and sum of scores taken until the end of each step, and the mean score inside it."""
        if not len(self._starts):
            nothing = np.empty(0)
            return nothing, nothing, nothing
        counts = np.ones(len(self._score)) if weight is None else weight[self._order]
        n = np.add.reduceat(counts, self._starts)
        sums = np.add.reduceat(counts * self._score, self._starts)
        return np.cumsum(n), np.cumsum(sums), sums / np.where(n > 0, n, 1.0)


def effect_slope(score: FloatArray, predicted: FloatArray, weight: FloatArray | None = None) -> float:
    """Slope of the scores on the predictions, under row weights: 1 is ideal, 0 means that the predictions are noise.

    NaN where the predictions do not differ.

    References:
        Chernozhukov, Demirer, Duflo and Fernandez-Val 2018, Generic machine learning inference on heterogeneous
        treatment effects, section 2 (best linear predictor).
    """
    n = np.ones(len(score)) if weight is None else weight
    held = n > 0
    if not held.any() or not (predicted[held] != predicted[held][0]).any():
        return float("nan")
    centred = predicted - np.average(predicted, weights=n)
    return float((n * centred * (score - np.average(score, weights=n))).sum() / (n * centred**2).sum())


def targeting_value(
    score: FloatArray, predicted: FloatArray, weight: FloatArray | None = None, *, cost: float = 0.0
) -> float:
    """Gain for each row of acting where the prediction is above the cost: ``mean(1{predicted > cost} (score - cost))``.

    In units of the outcome. NaN without rows. The random baseline acts on as many rows whoever they are:
    ``share * (mean(score) - cost)``, see ``random_targeting_value``.

    References:
        Dudik, Langford and Li 2011, Doubly robust policy evaluation and learning, for a policy of two arms.

    >>> score, predicted = np.array([2.0, 0.0, -1.0, 1.0]), np.array([0.3, 0.1, -0.2, 0.2])
    >>> targeting_value(score, predicted), random_targeting_value(score, predicted)
    (0.75, 0.375)
    """
    n = np.ones(len(score)) if weight is None else weight
    total = float(n.sum())
    return float((n * (predicted > cost) * (score - cost)).sum()) / total if total > 0 else float("nan")


def random_targeting_value(
    score: FloatArray, predicted: FloatArray, weight: FloatArray | None = None, *, cost: float = 0.0
) -> float:
    """The baseline of ``targeting_value``: acting on as many rows, drawn at random."""
    n = np.ones(len(score)) if weight is None else weight
    total = float(n.sum())
    if total <= 0:
        return float("nan")
    return float((n * (predicted > cost)).sum() / total * ((n * score).sum() / total - cost))


@dataclass(frozen=True, slots=True)
class EffectBin:
    """Rows of about the same predicted effect.

    Attributes:
        predicted: their mean prediction.
        effect: their mean doubly robust score, and its 95 % interval by bootstrap over customers.
        n: rows.
    """

    predicted: float
    effect: Interval
    n: int


def effect_table(
    score: FloatArray,
    predicted: FloatArray,
    *,
    clusters: NDArray[np.generic] | None,
    seed: int,
    n_bins: int = 10,
    n_resamples: int = 200,
) -> tuple[EffectBin, ...]:
    """Predicted against doubly robust effects, in bins of equal numbers of rows, lowest prediction first.

    Where the predictions are calibrated, the effect of a bin is its mean prediction within the interval. Rows of equal
    prediction share the bin of their middle rank, so that bins may differ in size and empty ones are left out; one
    prediction for everybody gives one bin. Its random baseline is the mean effect in every bin.

    Args:
        score: ``(n,)`` doubly robust effect scores.
        predicted: ``(n,)`` predicted effects, fitted on other rows.
        clusters: ``(n,)`` customers; a row is its own cluster if None.
        seed: fixes the resamples.
        n_bins: the most bins.
        n_resamples: number of resamples.

    Raises:
        NotEnoughData: there are no rows.
        ValueError: the arrays differ in length, or one holds NaN.

    >>> effect, prediction = np.tile([0.0, 0.5], 50), np.tile([0.25, 0.75], 50)
    >>> [(one.predicted, one.effect.estimate, one.n) for one in effect_table(effect, prediction, clusters=None, seed=1)]
    [(0.25, 0.0, 50), (0.75, 0.5, 50)]
    """
    _check(score, predicted)
    bins = _bins(predicted, n_bins)
    n = np.bincount(bins)

    def means(weight: FloatArray) -> list[float]:
        held = np.bincount(bins, weights=weight)
        total = np.bincount(bins, weights=weight * score)
        unknown = np.full(len(held), np.nan)
        return np.divide(total, held, out=unknown, where=held > 0).tolist()  # type: ignore[no-any-return]  # numpy's

    effects = bootstrap_intervals(means, len(score), clusters=clusters, seed=seed, n_resamples=n_resamples)
    centres = np.bincount(bins, weights=predicted) / n
    return tuple(
        EffectBin(float(centre), effect, int(size)) for centre, effect, size in zip(centres, effects, n, strict=True)
    )


def _bins(predicted: FloatArray, n_bins: int) -> IntArray:
    """``(n,)`` bin of each row, by the middle rank of its prediction; numbered from 0 without gaps."""
    if not len(predicted):
        return np.empty(0, dtype=np.int64)
    _, step, n = np.unique(predicted, return_inverse=True, return_counts=True)
    middle = (np.cumsum(n) - 0.5 * n) / len(predicted)
    of_step = np.minimum((middle * n_bins).astype(np.int64), n_bins - 1)
    return np.unique(of_step[step], return_inverse=True)[1].astype(np.int64)


def _check(score: FloatArray, predicted: FloatArray) -> None:
    if len(score) != len(predicted):
        raise ValueError(f"{len(score)} scores and {len(predicted)} predictions, expected as many")
    for name, values in (("scores", score), ("predictions", predicted)):
        if unknown := int(np.isnan(values).sum()):
            raise ValueError(f"{unknown} of {len(values)} {name} are NaN; leave out those rows")
