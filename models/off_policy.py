"""What a policy would have earned on decisions that another one made, from their logged selection probabilities.

Six estimators that differ in what they trust: the logged probabilities (IPS, SNIPS), a model of the reward (DM), or
both (DR, Switch-DR, DR with shrinkage). A guard refuses to answer where the log cannot tell. Errors and intervals are
by customer throughout. Slates of several slots have estimators of their own, ``models.slate_off_policy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.metrics import bootstrap_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EstimatorName = Literal["IPS", "SNIPS", "DM", "DR", "Switch-DR", "DRos"]

_QUANTILES: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
_ROUNDING: Final = 1e-6
"""How far probabilities may sum from 1, and with them a mean weight that does not vary."""


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


def clustered_error(values: FloatArray, clusters: NDArray[np.generic] | None) -> float:
    """Standard error of the mean of ``values``, deviations summed by cluster before they are squared.

    ``sqrt(sum_g (sum_{i in g} (x_i - mean))**2) / n``: a customer's decisions share the arm of the experiment, so their
    weights move together.

    Args:
        values: ``(n,)``.
        clusters: ``(n,)`` customers; every row is its own where None.

    References:
        Liang and Zeger 1986, Longitudinal data analysis using generalized linear models; Cameron and Miller 2015, A
        practitioner's guide to cluster-robust inference, section II.

    >>> round(clustered_error(np.array([1.0, 1.0, 3.0, 3.0]), np.array(["a", "a", "b", "b"])), 6)
    0.707107
    """
    off = values - values.mean()
    sums = off if clusters is None else np.bincount(np.unique(clusters, return_inverse=True)[1], weights=off)
    return float(np.sqrt((sums**2).sum())) / len(values)


@dataclass(frozen=True, slots=True)
class WeightTail:
    """How unevenly weights are spread: few large ones speak for all others.

    Attributes:
        ess: effective sample size.
        mean: 1 is expected of the weights of a policy.
        largest: the largest one.
        quantiles: of the weights, by level.
        largest_share: share of the total weight that the largest hundredth of the rows has, or the largest row where
            there are few; NaN where all weights are 0.
    """

    ess: float
    mean: float
    largest: float
    quantiles: Mapping[float, float]
    largest_share: float


def weight_tail(weight: FloatArray) -> WeightTail:
    """The tail of weights ``(n,)``, ``n`` above 0.

    References:
        Owen 2013, Monte Carlo theory, methods and examples, chapter 9.3; Vehtari et al. 2024, Pareto smoothed
        importance sampling (the largest weights tell whether a mean can be trusted).

    >>> weight_tail(np.array([0.0, 1.0, 1.0, 2.0])).largest_share
    0.5
    """
    total = float(weight.sum())
    top = np.sort(weight)[-max(1, round(len(weight) / 100)) :]
    levels = _QUANTILES[:-1]
    return WeightTail(
        ess=effective_sample_size(weight),
        mean=float(weight.mean()),
        largest=float(weight.max()),
        quantiles=dict(zip(levels, np.quantile(weight, levels).tolist(), strict=True)),
        largest_share=float(top.sum()) / total if total > 0 else float("nan"),
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Logged:
    """Logged decisions beside a policy that is to be valued on them, each ``(n,)``.

    A value may be a sum of parts, of which every row tells about one: what was done, or what comes of doing nothing
    (``models.policy_values``). Then weights are those of a row's part, and the last four say the rest.

    Attributes:
        reward: ``r``, what came of what was taken.
        weight: ``w = pi(a|x) / e(a|x)``: how much likelier the policy is to do what was done than who did it.
        predicted_taken: ``q(x, a)``, predicted reward of what was taken, by a model that did not see the row.
        predicted_policy: ``sum_a pi(a|x) q(x, a)``, predicted reward of what the policy would do.
        unsupported: probability that the policy does what could not have been logged; 0 where nothing says so.
        clusters: whose decisions these are; None where every row is its own.
        part: which part of the value a row tells about, from 0; None where there is one.
        expected: expectation of the weight of each part at this row, the same for all; None for 1.
        known: what the policy earns whatever comes of it, which needs no weight; None for nothing. ``predicted_policy``
            holds it.
        choice_weight: ``pi(a|x) / e(a|x)`` where ``weight`` is another: what the guard looks at.
    """

    reward: FloatArray
    weight: FloatArray
    predicted_taken: FloatArray
    predicted_policy: FloatArray
    unsupported: FloatArray
    clusters: NDArray[np.generic] | None = None
    part: IntArray | None = None
    expected: FloatArray | None = None
    known: FloatArray | None = None
    choice_weight: FloatArray | None = None

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.reward)


def logged_decisions(
    reward: FloatArray,
    arm: IntArray,
    selection_probability: FloatArray,
    *,
    policy: FloatArray,
    predicted: FloatArray | None = None,
    arm_probabilities: FloatArray | None = None,
    clusters: NDArray[np.generic] | None = None,
) -> Logged:
    """Decisions beside a policy that is given by its table of probabilities.

    Args:
        reward: ``(n,)`` what came of each decision.
        arm: ``(n,)`` the arm taken.
        selection_probability: ``(n,)`` logged marginal probability of the arm taken, above 0.
        policy: ``(n, n_arms)`` probability with which the policy takes each arm; rows sum to 1.
        predicted: ``(n, n_arms)`` predicted reward of every arm; 0 where None, so that DR is IPS.
        arm_probabilities: ``(n, n_arms)`` logged table, if there is one: it tells which arms could have been taken.
        clusters: ``(n,)`` customers.

    Raises:
        NotEnoughData: a probability is not one, or an array does not fit the others.
    """
    n, n_arms = policy.shape
    tables = {"predicted": predicted, "arm_probabilities": arm_probabilities}
    for name, table in tables.items():
        if table is not None and table.shape != policy.shape:
            raise NotEnoughData(f"{name} of shape {table.shape}, expected ({n}, {n_arms}), as the policy's")
    if not len(reward) == len(arm) == len(selection_probability) == n:
        raise NotEnoughData(
            f"{len(reward)} rewards, {len(arm)} arms, {len(selection_probability)} selection probabilities and {n} "
            f"rows of the policy, expected as many of each"
        )
    if not ((selection_probability > 0) & (selection_probability <= 1 + _ROUNDING)).all():
        raise NotEnoughData("a selection probability outside (0, 1], expected only decisions whose own was logged")
    if not (np.allclose(policy.sum(axis=1), 1.0, atol=1e-6) and (policy >= 0).all()):
        raise NotEnoughData("probabilities of the policy that are negative or do not sum to 1, expected a distribution")
    q = np.zeros(policy.shape) if predicted is None else predicted
    rows = np.arange(n)
    impossible = np.zeros(policy.shape) if arm_probabilities is None else (arm_probabilities <= 0)
    return Logged(
        reward=np.asarray(reward, dtype=np.float64),
        weight=policy[rows, arm] / selection_probability,
        predicted_taken=q[rows, arm],
        predicted_policy=(policy * q).sum(axis=1),
        unsupported=(policy * impossible).sum(axis=1),
        clusters=clusters,
    )


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


class Refusal(NamedTuple):
    """One reason for which a log cannot tell what a policy would earn.

    Attributes:
        code: ``few_decisions``, ``low_share``, ``no_support`` or ``wrong_weights``.
        reason: for people.
        value: what was found.
        threshold: what was expected.
    """

    code: str
    reason: str
    value: float
    threshold: float


class UnsupportedPolicy(NotEnoughData):
    """The log cannot tell what the policy would earn; any number would be a guess."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__(f"this log cannot value this policy: {'; '.join(one.reason for one in refusals)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is asked of a log before it may value a policy.

    Attributes:
        smallest_ess: effective sample size, in decisions.
        smallest_ess_share: the same as a share of all decisions. Below it a few rows speak for all others, and
            intervals that resample those few rows are too short.
        largest_unsupported: mean probability of the policy on arms that could not have been logged.
        weight_errors: standard errors by which the mean weight may differ from 1, its expectation; by customer.
    """

    smallest_ess: float = 100.0
    smallest_ess_share: float = 0.05
    largest_unsupported: float = 0.01
    weight_errors: float = 4.0


def refusals(logged: Logged, guard: Guard) -> tuple[Refusal, ...]:
    """Every reason not to value the policy on this log; empty where there is none.

    References:
        Owen 2013, Monte Carlo theory, methods and examples, chapter 9.3 (diagnostics); Sachdeva, Su and Joachims 2020,
        Off-policy bandits with deficient support; Lefortier et al. 2016, Large-scale validation of counterfactual
        learning methods (mean weight as a control variate).
    """
    n, weight = len(logged), logged.weight if logged.choice_weight is None else logged.choice_weight
    ess = effective_sample_size(weight)
    found = []
    if ess < guard.smallest_ess:
        text = f"{ess:.0f} effective decisions, expected at least {guard.smallest_ess:.0f}"
        found.append(Refusal("few_decisions", text, ess, guard.smallest_ess))
    share = ess / max(n, 1)
    if ess < guard.smallest_ess_share * n:
        text = (
            f"{ess:.0f} effective decisions of {n} ({share:.1%}), expected at least {guard.smallest_ess_share:.0%}: "
            f"the policies hardly ever do the same"
        )
        found.append(Refusal("low_share", text, share, guard.smallest_ess_share))
    unsupported = float(logged.unsupported.mean()) if n else 1.0
    if unsupported > guard.largest_unsupported:
        text = (
            f"{unsupported:.1%} of what the policy does could not have been logged, expected at most "
            f"{guard.largest_unsupported:.0%}"
        )
        found.append(Refusal("no_support", text, unsupported, guard.largest_unsupported))
    if not n:
        return tuple(found)
    mean, error = float(weight.mean()), clustered_error(weight, logged.clusters)
    if abs(mean - 1) > guard.weight_errors * error + _ROUNDING:
        text = (
            f"a mean weight of {mean:.3f}, expected 1 within {guard.weight_errors:g} standard errors of {error:.3f}: "
            f"the logged probabilities are not those of this log, or the policy does what was never logged"
        )
        found.append(Refusal("wrong_weights", text, mean, 1.0))
    return tuple(found)


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
    grid = [*(float(q) ** power for q in np.quantile(followed, _QUANTILES)), np.inf] if len(followed) else [np.inf]

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
