"""What holds of off-policy estimates on any log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.off_policy import ESTIMATORS, EstimateParams, dm, dr, dr_with_shrinkage, ips, snips, switch_dr
from models.off_policy_log import Guard, Logged, clustered_error, logged_decisions, refusals

PARAMS = EstimateParams(resamples=2)
SEEDS = st.integers(0, 10**6)


def a_log(seed: int, *, n: int = 60, n_arms: int = 3) -> Logged:
    """Decisions, rewards, predictions and a policy at random."""
    rng = np.random.default_rng(seed)
    logged, policy = rng.dirichlet(np.ones(n_arms), n), rng.dirichlet(np.ones(n_arms), n)
    arm = np.array([rng.choice(n_arms, p=row) for row in logged])
    return logged_decisions(
        rng.normal(size=n),
        arm,
        logged[np.arange(n), arm],
        policy=policy,
        predicted=rng.normal(size=(n, n_arms)),
        arm_probabilities=logged,
    )


@given(SEEDS)
def test_without_a_model_doubly_robust_is_inverse_propensity(seed: int) -> None:
    """A model that says 0 corrects nothing."""
    log = replace(a_log(seed), predicted_taken=np.zeros(60), predicted_policy=np.zeros(60))

    assert dr(log, PARAMS).value == pytest.approx(ips(log, PARAMS).value)


@given(SEEDS)
def test_a_perfect_model_needs_no_correction(seed: int) -> None:
    """Where every residual is 0, all doubly robust estimators are the direct method."""
    log = a_log(seed)
    perfect = replace(log, predicted_taken=log.reward)

    found = [estimate(perfect, PARAMS).value for estimate in (dm, dr, switch_dr, dr_with_shrinkage)]

    np.testing.assert_allclose(found, found[0], atol=1e-12)


@given(SEEDS)
def test_the_policy_that_logged_has_the_mean_of_its_log(seed: int) -> None:
    """Constant weights of 1: IPS and SNIPS are the mean reward."""
    log = replace(a_log(seed), weight=np.ones(60))

    assert ips(log, PARAMS).value == pytest.approx(log.reward.mean())
    assert snips(log, PARAMS).value == pytest.approx(log.reward.mean())


@given(SEEDS)
def test_self_normalised_stays_among_the_rewards(seed: int) -> None:
    """It is a mean of rewards that were seen."""
    log = a_log(seed)

    assert log.reward.min() - 1e-12 <= snips(log, PARAMS).value <= log.reward.max() + 1e-12


@given(SEEDS)
def test_cuts_have_their_limits(seed: int) -> None:
    """No cut is DR; a full cut is the direct method."""
    log = a_log(seed)
    whole, direct = dr(log, PARAMS).value, dm(log, PARAMS).value

    assert switch_dr(log, PARAMS, threshold=np.inf).value == pytest.approx(whole)
    assert dr_with_shrinkage(log, PARAMS, shrinkage=np.inf).value == pytest.approx(whole)
    assert switch_dr(log, PARAMS, threshold=-1.0).value == pytest.approx(direct)
    assert dr_with_shrinkage(log, PARAMS, shrinkage=0.0).value == pytest.approx(direct)


@given(SEEDS)
def test_shrinkage_never_enlarges_a_weight(seed: int) -> None:
    """Shrunk weights keep their order up to the root of lambda, and are below what they were."""
    log = a_log(seed)

    assert dr_with_shrinkage(log, PARAMS, shrinkage=2.0).largest_weight <= log.weight.max()


@given(SEEDS, st.floats(-5, 5))
def test_estimates_move_with_the_rewards(seed: int, shift: float) -> None:
    """Where model and rewards are shifted alike, self-normalised and doubly robust estimates shift as much."""
    log = a_log(seed)
    moved = replace(
        log,
        reward=log.reward + shift,
        predicted_taken=log.predicted_taken + shift,
        predicted_policy=log.predicted_policy + shift,
    )

    for estimate in (snips, dm, dr):
        assert estimate(moved, PARAMS).value == pytest.approx(estimate(log, PARAMS).value + shift)


@given(SEEDS)
def test_the_guard_judges_by_weights_alone(seed: int) -> None:
    """Whether a log can value a policy must not depend on what came out."""
    log = a_log(seed)

    assert refusals(log, Guard()) == refusals(replace(log, reward=-log.reward * 7), Guard())


def clustered_log(rng: np.random.Generator, *, people: int = 250, each: int = 8) -> Logged:
    """Decisions of customers who stay in the arm that they were dealt: all of a customer's weights move together."""
    person = np.repeat(np.arange(people), each)
    greedy = rng.integers(0, 2, len(person))
    logged = 0.1 / 2 + 0.9 * np.eye(2)[greedy]
    random_arm = (rng.random(people) < 0.1)[person]
    taken = np.where(random_arm, rng.integers(0, 2, len(person)), greedy)
    return logged_decisions(
        rng.normal(size=len(person)),
        taken,
        logged[np.arange(len(person)), taken],
        policy=np.tile([0.3, 0.7], (len(person), 1)),
        clusters=person,
    )


def test_sound_logs_of_customers_who_stay_in_an_arm_are_not_refused() -> None:
    """Not more than one in 200; of 1,000 such logs two were refused, and 44 where rows were taken for independent."""
    rng = np.random.default_rng(11)

    wrong = [one.code for _ in range(400) for one in refusals(clustered_log(rng), Guard(smallest_ess_share=0))]

    assert wrong.count("wrong_weights") <= 2


def test_wrong_probabilities_are_found_in_logs_of_customers_too() -> None:
    """Logged chances a third too low make weights of 1.5, which no clustering explains."""
    rng = np.random.default_rng(12)
    found = []
    for _ in range(20):
        log = clustered_log(rng, people=1_000)
        found += [one.code for one in refusals(replace(log, weight=log.weight * 1.5), Guard(smallest_ess_share=0))]

    assert found.count("wrong_weights") == 20


@given(SEEDS)
def test_rows_that_are_their_own_customers_change_nothing(seed: int) -> None:
    """Clusters of one row each are no clusters."""
    values = np.random.default_rng(seed).normal(size=50)

    assert clustered_error(values, np.arange(50)) == pytest.approx(clustered_error(values, None))
    assert clustered_error(values, None) == pytest.approx(values.std() / np.sqrt(50))


@given(SEEDS, st.integers(2, 5))
def test_copies_tell_nothing_more(seed: int, times: int) -> None:
    """A customer whose rows are copies counts once."""
    values = np.random.default_rng(seed).normal(size=50)

    copied = clustered_error(np.repeat(values, times), np.repeat(np.arange(50), times))

    assert copied == pytest.approx(clustered_error(values, None))


@given(SEEDS)
def test_every_estimate_lies_in_its_interval(seed: int) -> None:
    """With enough resamples."""
    log = a_log(seed, n=200)

    for estimate in ESTIMATORS.values():
        found = estimate(log, EstimateParams(resamples=50))
        assert found.low <= found.value <= found.high
