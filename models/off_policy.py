"""What a policy would have earned on decisions that another one made, from their logged selection probabilities.

Six estimators that differ in what they trust: the logged probabilities (IPS, SNIPS), a model of the reward (DM), or
both (DR, Switch-DR, DR with shrinkage). Whether the log can tell at all is asked first, ``models.off_policy_log``.
Errors and intervals are by customer throughout. Slates of several slots have estimators of their own,
``models.slate_off_policy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.metrics import bootstrap_interval
from models.off_policy_log import (
    LEVELS,
    FloatArray,
    Guard,
    IntArray,
    Logged,
    UnsupportedPolicy,
    clustered_error,
    effective_sample_size,
    refusals,
)

EstimatorName = Literal["IPS", "SNIPS", "DM", "DR", "Switch-DR", "DRos"]


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one estimator says of the policy's mean reward.

    Attributes:
        name: of the estimator.
        value: the estimate.
        low: lower end of its interval, by bootstrap over clusters.
        high: upper end.
        ess: effective sample size of the weights it uses; the number of rows for DM, which uses none.
        largest_weight: the largest weight it uses.
        share_clipped: share of the rows whose weight it dropped (Switch-DR) or more than halved (DRos).
        cut: the threshold (Switch-DR) or shrinkage (DRos) chosen; infinite where weights are used as they are.
    """

    name: EstimatorName
    value: float
    low: float
    high: float
    ess: float
    largest_weight: float
    share_clipped: float
    cut: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateParams:
    """How estimates are made.

    Attributes:
        guard: what is asked of the log.
        resamples: of the bootstrap.
        level: of the interval.
        seed: fixes the resamples.
    """

    guard: Guard = field(default_factory=Guard)
    resamples: int = 400
    level: float = 0.95
    seed: int = 7


def off_policy_estimates(logged: Logged, params: EstimateParams) -> dict[EstimatorName, Estimate]:
    """What all six estimators say; see the function of each.

    Raises:
        UnsupportedPolicy: the guard refuses.
    """
    reasons = refusals(logged, params.guard)
    if reasons:
        raise UnsupportedPolicy(reasons)
    return {name: estimate(logged, params) for name, estimate in ESTIMATORS.items()}


def ips(logged: Logged, params: EstimateParams) -> Estimate:
    """Inverse propensity scoring: ``mean(w r)``. Unbiased where probabilities are right and support is full.

    References:
        Horvitz and Thompson 1952, A generalization of sampling without replacement from a finite universe.
    """
    return _estimate("IPS", logged, params, _known(logged) + logged.weight * logged.reward, weight=logged.weight)


def snips(logged: Logged, params: EstimateParams) -> Estimate:
    """Self-normalised: ``sum(w r) / sum(w)``. Never outside the rewards seen; a little biased, much less variable.

    Of a value of several parts, each is normalised by itself: ``mean(E w) sum(w r) / sum(w)`` over its rows, as their
    weights do not average 1; and what is known is added. NaN where no row of a part was followed.

    References:
        Swaminathan and Joachims 2015, The self-normalized estimator for counterfactual learning; Hajek 1971, comment on
        a paper by Basu.
    """
    n = len(logged)
    part = np.zeros(n, dtype=np.int64) if logged.part is None else logged.part
    n_parts = int(part.max(initial=0)) + 1
    expected = np.ones(n) if logged.expected is None else logged.expected
    known, weight, earned = _known(logged), logged.weight, logged.weight * logged.reward

    def value(rows: IntArray) -> float:
        of, mean = part[rows], float(expected[rows].mean())
        if mean == 0:
            return float(known[rows].mean())
        total = np.bincount(of, weights=weight[rows], minlength=n_parts)
        if not total.all():
            return float("nan")
        ratios = np.bincount(of, weights=earned[rows], minlength=n_parts) / total
        return float(known[rows].mean() + mean * ratios.sum())

    return _told("SNIPS", logged, params, value, weight=weight)


def dm(logged: Logged, params: EstimateParams) -> Estimate:
    """Direct method: ``mean(sum_a pi(a|x) q(x, a))``. As biased as the model.

    Resampling knows nothing of that bias, so its interval is widened to hold the doubly robust one, which does.

    References:
        Dudik, Langford and Li 2011, Doubly robust policy evaluation and learning, section 2.
    """
    found = _estimate("DM", logged, params, logged.predicted_policy, weight=np.ones(len(logged)))
    corrected = dr(logged, params)
    return replace(found, low=min(found.low, corrected.low), high=max(found.high, corrected.high))


def dr(logged: Logged, params: EstimateParams) -> Estimate:
    """Doubly robust: ``mean(sum_a pi(a|x) q(x, a) + w (r - q(x, A)))``. Right where either of the two is.

    References:
        Dudik, Langford and Li 2011, as above; Dudik, Erhan, Langford and Li 2014, Doubly robust policy evaluation and
        optimization.
    """
    return _estimate("DR", logged, params, _corrected(logged, logged.weight), weight=logged.weight)


def switch_dr(logged: Logged, params: EstimateParams, threshold: float | None = None) -> Estimate:
    """DR that leaves rows of large weight to the model: ``w`` becomes ``w 1{w <= threshold}``.

    The threshold is chosen by the smallest estimated squared error where none is given. The interval is widened by the
    bound on the bias that the choice accepted.

    References:
        Wang, Agarwal and Dudik 2017, Optimal and adaptive off-policy evaluation in contextual bandits (SWITCH, with DR
        in place of IPS below the threshold).
    """
    cut = _best_cut(logged, _switched) if threshold is None else threshold
    weight = _switched(logged.weight, cut)
    clipped = logged.weight > cut
    found = _estimate("Switch-DR", logged, params, _corrected(logged, weight), weight=weight, clipped=clipped, cut=cut)
    return _widened(found, _bias_bound(logged, weight))


def dr_with_shrinkage(logged: Logged, params: EstimateParams, shrinkage: float | None = None) -> Estimate:
    """DR whose weights are shrunk: ``w`` becomes ``lambda w / (w**2 + lambda)``; 0 is DM, infinity is DR.

    Lambda is chosen by the smallest estimated squared error where none is given. The interval is widened by the bound
    on the bias that the choice accepted: without that it held the arms' true means on Hillstrom 81 % of the time.

    References:
        Su, Dimakopoulou, Krishnamurthy and Dudik 2020, Doubly robust off-policy evaluation with shrinkage (optimistic
        shrinkage; section 5 for the choice).
    """
    cut = _best_cut(logged, _shrunk, power=2) if shrinkage is None else shrinkage
    weight = _shrunk(logged.weight, cut)
    clipped = logged.weight**2 > cut
    found = _estimate("DRos", logged, params, _corrected(logged, weight), weight=weight, clipped=clipped, cut=cut)
    return _widened(found, _bias_bound(logged, weight))


ESTIMATORS: Final[Mapping[EstimatorName, Callable[[Logged, EstimateParams], Estimate]]] = {
    "IPS": ips,
    "SNIPS": snips,
    "DM": dm,
    "DR": dr,
    "Switch-DR": switch_dr,
    "DRos": dr_with_shrinkage,
}


def _known(logged: Logged) -> FloatArray:
    return np.zeros(len(logged)) if logged.known is None else logged.known


def _corrected(logged: Logged, weight: FloatArray) -> FloatArray:
    return logged.predicted_policy + weight * (logged.reward - logged.predicted_taken)


def _switched(weight: FloatArray, threshold: float) -> FloatArray:
    return np.where(weight <= threshold, weight, 0.0)


def _shrunk(weight: FloatArray, shrinkage: float) -> FloatArray:
    if np.isinf(shrinkage):
        return weight
    return shrinkage * weight / (weight**2 + shrinkage) if shrinkage > 0 else np.zeros_like(weight)


def _bias_bound(logged: Logged, weight: FloatArray) -> float:
    """What cutting the weights may cost: ``|mean((w - w') (r - q))|``, and one clustered error of that on top."""
    left_out = (logged.weight - weight) * (logged.reward - logged.predicted_taken)
    return abs(float(left_out.mean())) + clustered_error(left_out, logged.clusters)


def _widened(found: Estimate, by: float) -> Estimate:
    return replace(found, low=found.low - by, high=found.high + by)


def _best_cut(logged: Logged, cut_weights: Callable[[FloatArray, float], FloatArray], power: int = 1) -> float:
    """The cut among quantiles of the weights, none included, with the smallest variance plus squared bias bound."""
    followed = logged.weight[logged.weight > 0]
    grid = [*(float(q) ** power for q in np.quantile(followed, (*LEVELS, 1.0))), np.inf] if len(followed) else [np.inf]

    def squared_error(cut: float) -> float:
        weight = cut_weights(logged.weight, cut)
        error = clustered_error(_corrected(logged, weight), logged.clusters)
        return error**2 + _bias_bound(logged, weight) ** 2

    return min(reversed(grid), key=squared_error)


def _estimate(
    name: EstimatorName,
    logged: Logged,
    params: EstimateParams,
    terms: FloatArray,
    *,
    weight: FloatArray,
    clipped: NDArray[np.bool_] | None = None,
    cut: float = np.inf,
) -> Estimate:
    return _told(name, logged, params, lambda rows: float(terms[rows].mean()), weight=weight, clipped=clipped, cut=cut)


def _told(
    name: EstimatorName,
    logged: Logged,
    params: EstimateParams,
    value: Callable[[IntArray], float],
    *,
    weight: FloatArray,
    clipped: NDArray[np.bool_] | None = None,
    cut: float = np.inf,
) -> Estimate:
    """An estimate of rows ``(m,)``, with its interval by bootstrap over clusters and what its weights are like."""
    interval = bootstrap_interval(
        value,
        len(logged),
        clusters=logged.clusters,
        seed=params.seed,
        n_resamples=params.resamples,
        level=params.level,
    )
    return Estimate(
        name=name,
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
        ess=effective_sample_size(weight),
        largest_weight=float(weight.max()),
        share_clipped=0.0 if clipped is None else float(clipped.mean()),
        cut=cut,
    )
