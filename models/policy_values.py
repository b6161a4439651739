"""What a policy would earn over doing nothing, on decisions as arrays: six estimators, and paired with who decided.

Pure. Over doing nothing a decision earns, with the notation of ``models.logged_choices.policy_scores``,

    ``V = E[sum_a pi(a) (v_a (y_a(a) - y_a(0)) - i_a y_a(a) - c_a)]``,

the sum over every option but no action. It has a part that only decisions with an action tell about, a part that only
decisions without one tell about, and costs, which are known whatever comes:

    ``V = E[sum_a pi(a) (v_a - i_a) y_a(a)]  -  E[sum_a pi(a) v_a y_a(0)]  -  E[sum_a pi(a) c_a]``.

So every decision carries one weight and one reward, of its own part. With ``Pi = 1 - pi(0)``:

    ===========  ================  ======================================  =====================================
    done         weight ``w``      reward ``r``                            its prediction ``q``
    ===========  ================  ======================================  =====================================
    an action    ``pi(A) / e(A)``  ``(v_A - i_A) y_A``                     ``(v_A - i_A) q_A``
    nothing      ``Pi / e(0)``     ``-sum_a pi(a) v_a y_a / Pi``           ``-sum_a pi(a) v_a q_0a / Pi``
    ===========  ================  ======================================  =====================================

The weights of either part have the mean ``E[Pi]``, not 1: SNIPS normalises each part to that by itself. The mean of
``w (r - q)`` on top of the prediction of the whole is the mean of ``policy_scores``: DR here is what the promotion gate
compares. The guard looks at the weights of the choices, ``pi(A) / e(A)``, and that there are decisions without action.

References:
    Dudik, Erhan, Langford and Li 2014, Doubly robust policy evaluation and optimization; Gutierrez and Gerardy 2017,
    Causal inference and uplift modelling, a review of the literature (a treated and a control part).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.logged_choices import LoggedChoices, check_policy, policy_scores
from models.metrics import Interval, bootstrap_interval
from models.off_policy import ESTIMATORS, Estimate, EstimateParams, EstimatorName
from models.off_policy_log import Guard, Logged, Refusal, WeightTail, effective_sample_size, refusals, weight_tail

FloatArray = NDArray[np.float64]


def money_over_nothing(log: LoggedChoices, policy: FloatArray) -> Logged:
    """The decisions beside a policy, in money over doing nothing; see the module.

    Args:
        log: decisions whose logged probabilities are whole; see ``broken_rows``.
        policy: ``(n, m)`` probability with which it takes each option; rows sum to 1.

    Raises:
        NotEnoughData: the table is none of these decisions.
    """
    check_policy(log, policy, "policy")
    rows = np.arange(len(log))
    option, aim = policy[:, 1:], log.aim[1:]
    acting = option.sum(axis=1)
    value, incentive = log.value[:, 1:], log.incentive[:, 1:]
    none, predicted = log.control[:, aim], log.predicted[:, 1:]
    cost = (option * log.cost[:, 1:]).sum(axis=1)
    is_nothing = log.taken == 0
    margin = (log.value - log.incentive)[rows, log.taken]
    choice_weight = policy[rows, log.taken] / log.logged[rows, log.taken]

    def in_part(taken: FloatArray, control: FloatArray) -> FloatArray:
        lost = np.divide(
            (option * value * control[:, aim]).sum(axis=1), acting, out=np.zeros(len(log)), where=acting > 0
        )
        found: FloatArray = np.where(is_nothing, -lost, margin * taken)
        return found

    return Logged(
        reward=in_part(log.response[rows, log.aim[log.taken]], log.response),
        weight=np.where(is_nothing, acting / log.logged[rows, log.taken], choice_weight),
        predicted_taken=in_part(log.predicted[rows, log.taken], log.control),
        predicted_policy=(option * (value * (predicted - none) - incentive * predicted)).sum(axis=1) - cost,
        unsupported=_unsupported(log, policy),
        clusters=log.people,
        part=is_nothing.astype(np.int64),
        expected=acting,
        known=-cost,
        choice_weight=choice_weight,
    )


def _unsupported(log: LoggedChoices, policy: FloatArray) -> FloatArray:
    """``(n,)`` probability of what could not be logged; all of it where nobody could be left alone to compare with."""
    chosen = (policy * (log.logged <= 0)).sum(axis=1)
    found: FloatArray = np.where(log.logged[:, 0] <= 0, np.maximum(chosen, 1 - policy[:, 0]), chosen)
    return found


def choice_refusals(log: LoggedChoices, policy: FloatArray, guard: Guard) -> tuple[Refusal, ...]:
    """Every reason not to compare the policy with another one on the same decisions: what its choices weigh tells.

    A difference of two policies asks less than the value of one: what comes of doing nothing may be the same for both.
    """
    rows, none = np.arange(len(log)), np.zeros(len(log))
    choices = Logged(
        reward=none,
        weight=policy[rows, log.taken] / log.logged[rows, log.taken],
        predicted_taken=none,
        predicted_policy=none,
        unsupported=(policy * (log.logged <= 0)).sum(axis=1),
        clusters=log.people,
    )
    return refusals(choices, guard)


def value_refusals(logged: Logged, guard: Guard) -> tuple[Refusal, ...]:
    """Every reason not to value the policy: those of ``refusals``, and ``few_untreated``.

    Where the policy does anything, what comes of doing nothing must have been seen often enough.
    """
    found = list(refusals(logged, guard))
    if logged.part is not None and logged.weight.any():
        ess = effective_sample_size(logged.weight[logged.part == 1])
        if ess < guard.smallest_ess:
            text = (
                f"{ess:.0f} effective decisions without any action, expected at least {guard.smallest_ess:.0f}: what "
                f"comes of doing nothing is not known"
            )
            found.append(Refusal("few_untreated", text, ess, guard.smallest_ess))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValues:
    """What the log says of one policy, in money a decision over doing nothing.

    Attributes:
        refusals: why there is no number; empty where there are.
        estimates: by estimator; empty where refused.
        difference: doubly robust, less who decided, of the same decisions; None where refused.
        tail: of the weights of its choices.
        untreated_ess: effective sample size of the decisions without action.
        unsupported: share of what it does that could not have been logged.
        changed: share of the probability that goes to another option than who decided gave it.
    """

    refusals: tuple[Refusal, ...]
    estimates: Mapping[EstimatorName, Estimate]
    difference: Interval | None
    tail: WeightTail
    untreated_ess: float
    unsupported: float
    changed: float


def policy_values(
    log: LoggedChoices,
    policy: FloatArray,
    params: EstimateParams,
    *,
    names: Collection[EstimatorName] = tuple(ESTIMATORS),
) -> PolicyValues:
    """What the log says of a policy.

    Args:
        log: at least one decision, whose logged probabilities are whole.
        policy: ``(n, m)`` probability with which it takes each option.
        params: of the estimates.
        names: the estimators that are asked.

    Raises:
        NotEnoughData: the table is none of these decisions.
    """
    logged = money_over_nothing(log, policy)
    found = value_refusals(logged, params.guard)
    difference = None if found else paired_difference(log, policy, log.logged, params)
    choices = logged.weight if logged.choice_weight is None else logged.choice_weight
    return PolicyValues(
        refusals=found,
        estimates={} if found else {name: ESTIMATORS[name](logged, params) for name in names},
        difference=difference,
        tail=weight_tail(choices),
        untreated_ess=effective_sample_size(logged.weight[log.taken == 0]),
        unsupported=float(logged.unsupported.mean()),
        changed=float(np.abs(policy - log.logged).sum(axis=1).mean() / 2),
    )


def paired_difference(log: LoggedChoices, policy: FloatArray, other: FloatArray, params: EstimateParams) -> Interval:
    """What a policy earns more than another one, doubly robust on the same decisions, with its interval by customer."""
    return _mean_interval(policy_scores(log, policy) - policy_scores(log, other), log, params)


def on_policy_value(log: LoggedChoices, params: EstimateParams) -> Interval:
    """What who decided earns over doing nothing, doubly robust, with its interval by customer."""
    return _mean_interval(policy_scores(log, log.logged), log, params)


def _mean_interval(terms: FloatArray, log: LoggedChoices, params: EstimateParams) -> Interval:
    return bootstrap_interval(
        lambda drawn: float(terms[drawn].mean()),
        len(terms),
        clusters=log.people,
        seed=params.seed,
        n_resamples=params.resamples,
        level=params.level,
    )
