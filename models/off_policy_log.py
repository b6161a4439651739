"""Logged decisions beside a policy that is to be valued on them, and whether they can value it.

Weights say how much likelier the policy is to do what was done than who did it. Few large ones, or none where the
policy does what was never logged, and no estimator of ``models.off_policy`` is of any use: the guard refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVELS: Final = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Of the quantiles of weights that are looked at."""

_ROUNDING: Final = 1e-6
"""How far probabilities may sum from 1, and with them a mean weight that does not vary."""


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
    return WeightTail(
        ess=effective_sample_size(weight),
        mean=float(weight.mean()),
        largest=float(weight.max()),
        quantiles=dict(zip(LEVELS, np.quantile(weight, LEVELS).tolist(), strict=True)),
        largest_share=float(top.sum()) / total if total > 0 else float("nan"),
    )


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
