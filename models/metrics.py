"""How good beliefs are: arrays in, numbers out. Every number names its definition: names alone differ in meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.uplift_metrics import UpliftRanking, random_baseline

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ECE_BINS: Final = 15
_EDGE: Final = 1e-12


class Interval(NamedTuple):
    """An estimate between two bounds."""

    estimate: float
    low: float
    high: float


def auc(happened: FloatArray, score: FloatArray) -> float:
    """Probability that a row where it happened scores above one where it did not; ties count half. NaN if one-sided.

    References:
        Hanley and McNeil 1982, The meaning and use of the area under a ROC curve.

    >>> auc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positives = int((happened == 1).sum())
    negatives = len(happened) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[group][happened == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(happened: FloatArray, probability: FloatArray) -> float:
    """Mean squared difference between probability and outcome (Brier 1950).

    >>> brier(np.array([1.0, 0.0]), np.array([0.8, 0.4]))
    0.1
    """
    return float(np.mean((probability - happened) ** 2))


def log_loss(happened: FloatArray, probability: FloatArray) -> float:
    """Mean negative log likelihood, in nats; probabilities are kept 1e-12 from 0 and 1."""
    p = np.clip(probability, _EDGE, 1 - _EDGE)
    return float(-np.mean(happened * np.log(p) + (1 - happened) * np.log1p(-p)))


def ece(happened: FloatArray, probability: FloatArray, n_bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean over rows of |mean outcome - mean probability| in bins of equal mass.

    Rows are ordered by probability and cut into ``n_bins`` bins of (nearly) equal numbers of rows.

    References:
        Naeini, Cooper and Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning, with bins of
        equal mass in place of equal width.
    """
    order = np.argsort(probability, kind="stable")
    gaps = [
        abs(float((happened[part] - probability[part]).sum())) for part in np.array_split(order, n_bins) if len(part)
    ]
    return float(np.sum(gaps) / len(order)) if len(order) else float("nan")


def calibration_slope(happened: FloatArray, probability: FloatArray) -> float:
    """Slope of the logistic recalibration: 1 is ideal, below 1 too extreme, above 1 too timid. NaN if one-sided.

    The maximum-likelihood ``b`` of ``logit P(happened) = a + b * logit(probability)``.

    References:
        Cox 1958, Two further applications of a model for binary regression.
    """
    if not 0 < happened.sum() < len(happened) or np.ptp(probability) == 0:
        return float("nan")
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    return logistic_line(np.log(p) - np.log1p(-p), happened)[1]


def logistic_line(margin: FloatArray, target: FloatArray, weight: FloatArray | None = None) -> tuple[float, float]:
    """Intercept and slope of ``logit P = a + b * margin`` of greatest likelihood, by Newton's method.

    Args:
        margin: ``(n,)``, not all equal.
        target: ``(n,)`` in ``[0, 1]``, some on either side of what a constant would give.
        weight: ``(n,)`` of the rows; all count alike if None.
    """
    # In units of its own spread, so that steps can be bounded alike whatever the scale.
    centre, spread = float(margin.mean()), float(margin.std())
    design = np.stack([np.ones_like(margin), (margin - centre) / spread], axis=1)
    rate = float(np.clip(np.average(target, weights=weight), 1e-9, 1 - 1e-9))
    counted = np.ones_like(margin) if weight is None else weight
    beta = np.array([np.log(rate / (1 - rate)), 0.0])
    for _ in range(50):
        fitted = 0.5 * (1 + np.tanh(0.5 * (design @ beta)))
        information = design.T @ (design * (counted * fitted * (1 - fitted))[:, None])
        step = np.linalg.lstsq(information, design.T @ (counted * (target - fitted)), rcond=None)[0]
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    slope = float(beta[1]) / spread
    return float(beta[0]) - slope * centre, slope


def qini_curve(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``UpliftRanking.qini_curve``: rows taken, best uplift first, and the incremental outcomes among them."""
    return UpliftRanking(y, uplift, treated).qini_curve()


def qini_sklift(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> float:
    """``UpliftRanking.qini_sklift``: scikit-uplift's Qini coefficient; 0 is random, 1 is perfect.

    >>> qini_sklift(np.array([1.0, 0, 0, 1]), np.array([4.0, 3, 2, 1]), np.array([1.0, 1, 0, 0]))
    1.0
    """
    return UpliftRanking(y, uplift, treated).qini_sklift()


def auuc(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> float:
    """``UpliftRanking.auuc_causalml``: causalml's normalised AUUC; about 0.5 is random."""
    return UpliftRanking(y, uplift, treated).auuc_causalml()


def random_qini(y: FloatArray, treated: FloatArray, *, seed: int, n_draws: int = 20) -> float:
    """The baseline: mean ``qini_sklift`` of random rankings."""
    return random_baseline(lambda score: qini_sklift(y, score, treated), len(y), seed=seed, n_draws=n_draws)[0]


def bootstrap_interval(
    statistic: Callable[[IntArray], float],
    n: int,
    *,
    clusters: NDArray[np.generic] | None,
    seed: int,
    n_resamples: int = 200,
    level: float = 0.95,
) -> Interval:
    """The statistic on all rows, and its percentile interval when whole clusters are drawn again.

    Args:
        statistic: of row indices ``(m,)``; a resample on which it is NaN is left out.
        n: number of rows.
        clusters: ``(n,)`` customers; a row is its own cluster if None.
        seed: fixes the resamples.
        n_resamples: number of resamples.
        level: share of resamples inside.

    Returns:
        Bounds are NaN where the statistic is NaN on most resamples, and where one customer is all there is.

    Raises:
        NotEnoughData: there are no rows.

    References:
        Efron 1979, Bootstrap methods; Field and Welsh 2007, Bootstrapping clustered data.
    """
    of_row, sizes = _clusters(n, clusters)
    by_cluster = np.argsort(of_row, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        shift = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values.append(statistic(by_cluster[np.repeat(starts[drawn], lengths) + shift]))
    return _percentiles(statistic(np.arange(n)), np.array(values), level, len(sizes))


def bootstrap_intervals(
    statistics: Callable[[FloatArray], Sequence[float]],
    n: int,
    *,
    clusters: NDArray[np.generic] | None,
    seed: int,
    n_resamples: int = 200,
    level: float = 0.95,
) -> tuple[Interval, ...]:
    """``bootstrap_interval`` of many statistics from the same resamples, for statistics of row weights.

    A resample is a count for each row, and the same seed draws what ``bootstrap_interval`` draws: nothing is sorted or
    copied for it. Six measures of 60,000 rows take about five CPU-seconds for 200 resamples;
    ``bootstrap_interval`` takes as long for one of them.

    Args:
        statistics: of row weights ``(n,)``; always as many numbers.
        n: number of rows.
        clusters: ``(n,)`` customers; a row is its own cluster if None.
        seed: fixes the resamples.
        n_resamples: number of resamples.
        level: share of resamples inside.

    Returns:
        One interval a statistic, its estimate of weights that are all 1.

    Raises:
        NotEnoughData: there are no rows.

    >>> values = np.arange(5.0)
    >>> mean, total = bootstrap_intervals(
    ...     lambda weight: (weight @ values / weight.sum(), weight.sum()), 5, clusters=None, seed=1
    ... )
    >>> mean.estimate, total
    (2.0, Interval(estimate=5.0, low=5.0, high=5.0))
    """
    of_row, sizes = _clusters(n, clusters)
    rng = np.random.default_rng(seed)
    values = [
        statistics(
            np.bincount(rng.integers(0, len(sizes), len(sizes)), minlength=len(sizes)).astype(np.float64)[of_row]
        )
        for _ in range(n_resamples)
    ]
    estimates = statistics(np.ones(n))
    table = np.array(values, dtype=np.float64).reshape(n_resamples, len(estimates))
    return tuple(_percentiles(float(one), table[:, place], level, len(sizes)) for place, one in enumerate(estimates))


def _clusters(n: int, clusters: NDArray[np.generic] | None) -> tuple[IntArray, IntArray]:
    """The cluster of each row, and the number of rows of each cluster."""
    if n == 0:
        raise NotEnoughData("no rows to judge on, expected some: move the cut-off")
    labels = np.arange(n) if clusters is None else np.asarray(clusters)
    _, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return of_row, sizes


def _percentiles(estimate: float, values: FloatArray, level: float, n_clusters: int) -> Interval:
    known = values[~np.isnan(values)]
    if n_clusters < 2 or len(known) <= len(values) / 2:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))
