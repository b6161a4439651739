"""Values over doing nothing: every estimator against the truth of worlds that are drawn, and against the scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.logged_choices import LoggedChoices, policy_scores
from models.off_policy import ESTIMATORS, EstimateParams
from models.off_policy_log import Guard
from models.policy_values import money_over_nothing, on_policy_value, policy_values, value_refusals

Floats = NDArray[np.float64]
PARAMS = EstimateParams(resamples=100)
SEEDS = st.integers(0, 10**6)
M, K = 4, 2
AIM = np.array([0, 0, 1, 0])
VALUE = np.array([0.0, 10.0, 30.0, 10.0])
INCENTIVE = np.array([0.0, 1.0, 0.0, 3.0])
COST = np.array([0.0, 0.2, 1.0, 0.0])
CHANCE = np.array(
    [[[0.2, 0.1], [0.5, 0.1], [0.2, 0.3], [0.35, 0.1]], [[0.4, 0.2], [0.3, 0.2], [0.4, 0.25], [0.6, 0.2]]]
)
"""Chance of each outcome, by kind of customer and option."""


def a_world(rng: np.random.Generator, n: int, *, wrong: float = 0.0) -> tuple[LoggedChoices, Floats, Floats]:
    """Decisions of customers of two kinds, a policy, and what it truly earns of each decision.

    Args:
        rng: of all draws.
        n: decisions, two a customer.
        wrong: how far off the predictions are.
    """
    kind = np.repeat(rng.integers(0, 2, n // 2), 2)
    logged = np.array([[0.3, 0.3, 0.2, 0.2], [0.2, 0.5, 0.1, 0.2]])[kind]
    policy = np.array([[0.1, 0.6, 0.3, 0.0], [0.4, 0.0, 0.1, 0.5]])[kind]
    taken = (rng.random(n)[:, None] > logged.cumsum(axis=1)).sum(axis=1)
    chance = CHANCE[kind]
    response = (rng.random((n, K)) < chance[np.arange(n), taken]).astype(np.float64)
    told = np.clip(chance + wrong * rng.normal(size=chance.shape), 0, 1)
    log = LoggedChoices(
        taken=taken,
        logged=logged,
        predicted=told[:, np.arange(M), AIM],
        control=told[:, 0],
        response=response,
        value=np.tile(VALUE, (n, 1)),
        incentive=np.tile(INCENTIVE, (n, 1)),
        cost=np.tile(COST, (n, 1)),
        aim=AIM,
        binary=np.array([True, True]),
        people=np.repeat(np.arange(n // 2), 2),
    )
    with_it = chance[:, np.arange(M), AIM]
    money = VALUE * (with_it - chance[:, 0][:, AIM]) - INCENTIVE * with_it - COST
    money[:, 0] = 0.0
    return log, policy, (policy * money).sum(axis=1)


@given(SEEDS, st.floats(0, 1))
def test_doubly_robust_is_the_mean_of_the_scores(seed: int, wrong: float) -> None:
    """What the promotion gate compares is what the evaluation reports, to the last digits."""
    log, policy, _ = a_world(np.random.default_rng(seed), 60, wrong=wrong)

    found = ESTIMATORS["DR"](money_over_nothing(log, policy), EstimateParams(resamples=2))

    assert found.value == pytest.approx(policy_scores(log, policy).mean(), abs=1e-12)


@given(SEEDS)
def test_perfect_predictions_need_no_weights(seed: int) -> None:
    """Where what came is what was predicted, all doubly robust estimators are the direct method."""
    log, policy, _ = a_world(np.random.default_rng(seed), 60)
    sure = replace(
        log,
        predicted=log.response[:, AIM],
        control=log.response,
    )
    found = [
        ESTIMATORS[name](money_over_nothing(sure, policy), EstimateParams(resamples=2)).value
        for name in ("DM", "DR", "Switch-DR", "DRos")
    ]

    np.testing.assert_allclose(found, found[0], atol=1e-12)


@given(SEEDS)
def test_doing_nothing_earns_exactly_nothing(seed: int) -> None:
    """No estimator makes anything of it, and it is never refused for want of untreated decisions."""
    log, policy, _ = a_world(np.random.default_rng(seed), 60, wrong=0.3)
    nothing = np.zeros_like(policy)
    nothing[:, 0] = 1.0

    logged = money_over_nothing(log, nothing)

    for estimate in ESTIMATORS.values():
        assert estimate(logged, EstimateParams(resamples=2)).value == 0.0
    assert "few_untreated" not in [one.code for one in value_refusals(logged, Guard())]


@given(SEEDS, st.floats(0.5, 20))
def test_money_in_other_units_scales_every_estimate(seed: int, rate: float) -> None:
    """Values, incentives and costs in another currency give the same decisions in that currency."""
    log, policy, _ = a_world(np.random.default_rng(seed), 80, wrong=0.2)
    other = replace(log, value=rate * log.value, incentive=rate * log.incentive, cost=rate * log.cost)

    for name, estimate in ESTIMATORS.items():
        ours = estimate(money_over_nothing(log, policy), EstimateParams(resamples=2)).value
        theirs = estimate(money_over_nothing(other, policy), EstimateParams(resamples=2)).value
        assert theirs == pytest.approx(rate * ours, rel=1e-6, abs=1e-9), name


def test_every_estimator_is_right_on_average() -> None:
    """Over 200 worlds no mean is off by more than four standard errors; the direct method's model is right here."""
    rng = np.random.default_rng(5)
    off: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for _ in range(200):
        log, policy, truth = a_world(rng, 400, wrong=0.02)
        logged = money_over_nothing(log, policy)
        for name, estimate in ESTIMATORS.items():
            off[name].append(estimate(logged, EstimateParams(resamples=2)).value - float(truth.mean()))

    for name, errors in off.items():
        spread = float(np.std(errors)) / np.sqrt(len(errors))
        allowed = 4 * spread + (0.02 if name in ("SNIPS", "Switch-DR", "DRos") else 0.0)  # a small bias is theirs
        assert abs(float(np.mean(errors))) < allowed, (name, float(np.mean(errors)), spread)
    assert np.std(off["DR"]) < np.std(off["IPS"])
    assert np.std(off["SNIPS"]) < np.std(off["IPS"])


def test_wrong_predictions_mislead_only_who_trusts_them_alone() -> None:
    """A model that says a half of everything: the direct method is off, and its interval knows."""
    log, policy, truth = a_world(np.random.default_rng(6), 40_000)
    half = replace(log, predicted=np.full_like(log.predicted, 0.5), control=np.full_like(log.control, 0.5))
    found = policy_values(half, policy, PARAMS)

    assert found.refusals == ()
    assert abs(found.estimates["DM"].value - truth.mean()) > 0.5
    for one in found.estimates.values():
        assert one.low <= truth.mean() <= one.high, one.name


def test_who_decided_differs_from_nobody() -> None:
    """Of the policy that logged the difference is 0, exactly; its value is the on-policy one."""
    log, _, _ = a_world(np.random.default_rng(7), 2_000, wrong=0.1)

    found = policy_values(log, log.logged, PARAMS)

    assert found.difference is not None
    assert tuple(found.difference) == (0.0, 0.0, 0.0)
    assert found.estimates["DR"].value == pytest.approx(on_policy_value(log, PARAMS).estimate)
    assert (found.changed, found.tail.mean, found.tail.ess) == (0.0, 1.0, 2_000.0)


def test_intervals_hold_the_truth() -> None:
    """Doubly robust, in at least 88 of 100 worlds, where 95 are meant; and of the paired difference."""
    rng = np.random.default_rng(8)
    held = {"value": 0, "difference": 0}
    for _ in range(100):
        log, policy, truth = a_world(rng, 1_000, wrong=0.1)
        money = policy_values(log, policy, PARAMS)
        assert money.difference is not None
        dr = money.estimates["DR"]
        held["value"] += dr.low <= truth.mean() <= dr.high
        gained = float((truth - _earned_by_logging(log)).mean())
        held["difference"] += money.difference.low <= gained <= money.difference.high

    assert held["value"] >= 88
    assert held["difference"] >= 88


def _earned_by_logging(log: LoggedChoices) -> Floats:
    """What who logged truly earns of each decision: kinds are told apart by the chance of doing nothing."""
    chance = CHANCE[(log.logged[:, 0] < 0.25).astype(np.int64)]
    with_it = chance[:, np.arange(M), AIM]
    money = VALUE * (with_it - chance[:, 0][:, AIM]) - INCENTIVE * with_it - COST
    money[:, 0] = 0.0
    earned: Floats = (log.logged * money).sum(axis=1)
    return earned


def test_a_policy_needs_decisions_without_action() -> None:
    """Where nobody could be left alone nothing is known of doing nothing; where few were, too little."""
    log, policy, _ = a_world(np.random.default_rng(9), 2_000)
    logged = log.logged.copy()
    logged[:, 1] += logged[:, 0]
    logged[:, 0] = 0.0
    kept = log.taken > 0
    nobody = replace(log, logged=logged).of(kept)
    few = log.of((log.taken > 0) | (np.arange(2_000) < 60))

    never = [one.code for one in policy_values(nobody, policy[kept], PARAMS).refusals]
    rarely = policy_values(few, policy[(log.taken > 0) | (np.arange(2_000) < 60)], PARAMS)

    assert {"no_support", "few_untreated"} <= set(never)
    assert "few_untreated" in [one.code for one in rarely.refusals]
    assert (rarely.estimates, rarely.difference) == ({}, None)


def test_what_is_no_distribution_is_refused() -> None:
    """Naming the policy."""
    log, policy, _ = a_world(np.random.default_rng(10), 20)

    with pytest.raises(NotEnoughData, match="probabilities of the policy"):
        money_over_nothing(log, policy / 2)
