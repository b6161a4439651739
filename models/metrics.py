"""How good beliefs are: arrays in, numbers out. Every number names its definition: names alone differ in meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData

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


def logistic_line(margin: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Intercept and slope of ``logit P = a + b * margin`` of greatest likelihood, by Newton's method.

    Args:
        margin: ``(n,)``, not all equal.
        target: ``(n,)`` in ``[0, 1]``, some on either side of what a constant would give.
    """
    # In units of its own spread, so that steps can be bounded alike whatever the scale.
    centre, spread = float(margin.mean()), float(margin.std())
    design = np.stack([np.ones_like(margin), (margin - centre) / spread], axis=1)
    rate = float(np.clip(target.mean(), 1e-9, 1 - 1e-9))
    beta = np.array([np.log(rate / (1 - rate)), 0.0])
    for _ in range(50):
        fitted = 0.5 * (1 + np.tanh(0.5 * (design @ beta)))
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        step = np.linalg.lstsq(information, design.T @ (target - fitted), rcond=None)[0]
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    slope = float(beta[1]) / spread
    return float(beta[0]) - slope * centre, slope


def qini_curve(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rows taken, best uplift first, and the incremental outcomes among them.

    At each distinct value of ``uplift``: ``Y_t - Y_c * N_t / N_c`` over the rows taken so far (0 in place of the
    ratio where ``N_c`` is 0). Both start at 0.

    References:
        Radcliffe 2007, Using control groups to target on predicted lift; as in scikit-uplift's ``qini_curve``.
    """
    order = np.argsort(uplift, kind="stable")[::-1]
    y, uplift, treated = y[order].astype(np.float64), uplift[order], treated[order].astype(np.float64)
    ends = np.r_[np.flatnonzero(np.diff(uplift)), len(uplift) - 1]
    n_all = (ends + 1).astype(np.float64)
    n_treated = np.cumsum(treated)[ends]
    n_control = n_all - n_treated
    y_treated = np.cumsum(y * treated)[ends]
    y_control = np.cumsum(y * (1 - treated))[ends]
    ratio = np.divide(n_treated, n_control, out=np.zeros_like(n_treated), where=n_control != 0)
    return np.r_[0.0, n_all], np.r_[0.0, y_treated - y_control * ratio]


def qini_sklift(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> float:
    """Qini coefficient as scikit-uplift defines ``qini_auc_score(negative_effect=True)``: 0 is random, 1 is perfect.

    Area between the Qini curve and the random line (from 0 to the perfect curve's end), over the same area of the
    perfect curve, whose ranking is ``y * treated - y * (1 - treated)``. For outcomes that are not binary the same
    formula is applied.

    Args:
        y: ``(n,)`` outcome.
        uplift: ``(n,)`` predicted uplift; only its order counts.
        treated: ``(n,)`` 1 for the action, 0 for no action.

    Returns:
        NaN if there are no rows of either kind or nothing to gain.

    References:
        Radcliffe 2007 (as above); scikit-uplift 0.5, ``sklift.metrics.qini_auc_score``.
    """
    if not 0 < treated.sum() < len(treated):
        return float("nan")
    x_perfect, y_perfect = qini_curve(y, y * treated - y * (1 - treated), treated)
    random = 0.5 * x_perfect[-1] * y_perfect[-1]
    perfect = np.trapezoid(y_perfect, x_perfect) - random
    x, gained = qini_curve(y, uplift, treated)
    return float((np.trapezoid(gained, x) - random) / perfect) if perfect else float("nan")


def auuc(y: FloatArray, uplift: FloatArray, treated: FloatArray) -> float:
    """Area under the normalised cumulative gain, as causalml's ``auuc_score(normalize=True)``: about 0.5 is random.

    Rows are ordered best uplift first. After k rows the gain is k times the mean outcome of the treated minus that of
    the others among them, linearly interpolated where one of the two is missing; it is divided by the absolute gain
    of all rows and averaged over k = 0..n.

    References:
        Gutierrez and Gerardy 2017, Causal inference and uplift modelling: a review of the literature; causalml 0.15.
    """
    if not 0 < treated.sum() < len(treated):
        return float("nan")
    order = np.argsort(-uplift, kind="stable")
    y, treated = y[order].astype(np.float64), treated[order].astype(np.float64)
    n_treated, n_control = np.cumsum(treated), np.cumsum(1 - treated)
    both = (n_treated > 0) & (n_control > 0)
    lift = np.cumsum(y * treated)[both] / n_treated[both] - np.cumsum(y * (1 - treated))[both] / n_control[both]
    rows = np.arange(len(y) + 1, dtype=np.float64)
    gain = rows * np.interp(rows, np.r_[0.0, rows[1:][both]], np.r_[0.0, lift])
    return float(np.mean(gain) / abs(gain[-1])) if gain[-1] else float("nan")


def uplift_at_k(y: FloatArray, uplift: FloatArray, treated: FloatArray, share: float) -> float:
    """Mean outcome of the treated minus that of the others, among the ``share`` of all rows with the best uplift.

    As scikit-uplift's ``uplift_at_k(strategy="overall")``. NaN if one of the two is missing there.
    """
    best = np.argsort(-uplift, kind="stable")[: int(len(y) * share)]
    is_treated = treated[best] == 1
    if is_treated.all() or not is_treated.any():
        return float("nan")
    return float(y[best][is_treated].mean() - y[best][~is_treated].mean())


def random_qini(y: FloatArray, treated: FloatArray, *, seed: int, n_draws: int = 20) -> float:
    """The baseline: mean ``qini_sklift`` of random rankings."""
    rng = np.random.default_rng(seed)
    return float(np.mean([qini_sklift(y, rng.random(len(y)), treated) for _ in range(n_draws)]))


def effect_calibration_slope(score: FloatArray, uplift: FloatArray) -> float:
    """Slope of doubly robust scores on the predicted uplift: 1 is ideal, 0 means that the ranking is noise.

    NaN where the predictions do not differ.

    References:
        Chernozhukov, Demirer, Duflo and Fernandez-Val 2018, Generic machine learning inference on heterogeneous
        treatment effects, section 2 (best linear predictor).
    """
    if not (uplift != uplift[:1]).any():
        return float("nan")  # the mean of equal numbers differs from them by rounding, which would be divided by
    centred = uplift - uplift.mean()
    return float((centred * (score - score.mean())).sum() / (centred**2).sum())


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
        Bounds are NaN where the statistic is NaN on most resamples.

    Raises:
        NotEnoughData: there are no rows.

    References:
        Efron 1979, Bootstrap methods; Field and Welsh 2007, Bootstrapping clustered data.
    """
    if n == 0:
        raise NotEnoughData("no rows to judge on, expected some: move the cut-off")
    labels = np.arange(n) if clusters is None else np.asarray(clusters)
    _, of_row, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    by_cluster = np.argsort(of_row, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        drawn = rng.integers(0, len(sizes), len(sizes))
        lengths = sizes[drawn]
        shift = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values.append(statistic(by_cluster[np.repeat(starts[drawn], lengths) + shift]))
    known = np.array([value for value in values if not np.isnan(value)])
    estimate = statistic(np.arange(n))
    if len(known) <= n_resamples / 2:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))
