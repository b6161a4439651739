"""Arbitration: net value by hand, ranking, and probabilities that say what the draw does."""

from __future__ import annotations

import math

import pytest

from models.actions import NO_ACTION
from models.arbitration import Factors, arm_selection, choose, greedy_choice, interval, marginal_selection, ranked
from models.experiment import arm_probabilities
from models.policy import Arm, Experiment
from tests.decisions import exploration, scored


def _factors(
    *,
    control_response: float = 0.2,
    uplift: float = 0.1,
    is_binary: bool = True,
    incentive_cost: float = 10.0,
    lever_pct: float = 0.0,
    context_weight_pct: float = 0.0,
) -> Factors:
    return Factors(
        control_response=control_response,
        uplift=uplift,
        sigma=0.05,
        is_binary=is_binary,
        value=100.0,
        contact_cost=1.0,
        incentive_cost=incentive_cost,
        fatigue_cost=0.5,
        channel_price=0.25,
        lever_pct=lever_pct,
        context_weight_pct=context_weight_pct,
    )


def test_the_incentive_is_paid_to_everyone_who_responds() -> None:
    """0.1 * 100 - 1 - (0.2 + 0.1) * 10 - 0.5 - 0.25: also those pay who would have responded anyway."""
    assert _factors().net_value == pytest.approx(5.25, abs=1e-12)


def test_an_unknown_response_pays_the_incentive_to_all() -> None:
    """Where p0 is unknown, or the outcome is no probability, the incentive is charged in full."""
    assert _factors(control_response=math.nan).net_value == pytest.approx(-1.75, abs=1e-12)
    assert _factors(is_binary=False).net_value == pytest.approx(-1.75, abs=1e-12)


def test_uncertainty_moves_with_what_depends_on_the_uplift() -> None:
    """One more response brings its value and costs its incentive: sigma * (100 - 10)."""
    assert _factors().net_value_sigma == pytest.approx(4.5, abs=1e-12)
    assert interval(1.0, 0.0) == (1.0, 1.0)


def test_boosts_multiply_a_positive_value() -> None:
    """Context 10 % and lever 20 % make 1.32 of it."""
    assert _factors(context_weight_pct=10, lever_pct=20).priority == pytest.approx(1.32 * 5.25, abs=1e-12)


def test_a_boost_never_lifts_a_harmful_action() -> None:
    """A negative value stays exactly what it is under any boost."""
    harmful = _factors(uplift=-0.1, lever_pct=900)

    assert harmful.priority == harmful.net_value
    assert harmful.priority < 0


def test_ranking_is_by_priority_and_stable() -> None:
    """The highest priority first; equal ones keep the catalogue's order."""
    found = ranked([scored("a", 1.0), scored("b", 3.0), scored("c", 3.0)])

    assert [one.treatment_id for one in found] == ["b", "c", "a"]


def test_doing_nothing_wins_when_nothing_is_worth_more_than_zero() -> None:
    """Zero is not above zero."""
    assert greedy_choice([scored("a", -1.0), scored("b", 0.0)]) == NO_ACTION
    assert greedy_choice([]) == NO_ACTION


def test_the_holdout_is_never_contacted() -> None:
    """Whatever the values are."""
    candidates = [scored("a", 1000.0)]

    assert arm_selection("no_contact_holdout", candidates, exploration()) == {"a": 0.0, NO_ACTION: 1.0}
    choice = choose("no_contact_holdout", candidates, exploration(), decision_id="d-1", policy_version="p")
    assert choice.treatment_id == NO_ACTION


def test_random_eligible_is_uniform_with_no_action_among_them() -> None:
    """Three candidates make a quarter each."""
    candidates = [scored("a", 5.0), scored("b", -50.0, sigma=0.0), scored("c", 0.0)]

    assert arm_selection("random_eligible", candidates, exploration()) == dict.fromkeys(
        ("a", "b", "c", NO_ACTION), 0.25
    )


def test_exploration_keeps_to_the_safe_set() -> None:
    """A candidate whose upper bound is not above 0 is never explored; the others share epsilon by softmax."""
    candidates = [scored("good", 2.0), scored("unsure", -0.1, sigma=1.0), scored("bad", -2.0, sigma=0.1)]

    found = arm_selection("champion", candidates, exploration(epsilon=0.2, temperature=1.0))

    weights = {"good": math.exp(2.0), "unsure": math.exp(-0.1), NO_ACTION: 1.0}
    total = sum(weights.values())
    assert found["bad"] == 0.0
    assert found["good"] == pytest.approx(0.8 + 0.2 * weights["good"] / total)
    assert found["unsure"] == pytest.approx(0.2 * weights["unsure"] / total)
    assert found[NO_ACTION] == pytest.approx(0.2 / total)


def test_what_is_certain_in_every_arm_is_certain() -> None:
    """Shares whose sum is rounded to a little more than 1 make no probability above 1."""
    experiment = Experiment(id="e", salt="s", no_contact_holdout=0.1, random_eligible=0.25, challenger=0.4)
    shares = arm_probabilities(experiment, n_linked=1)
    given_arm = {arm: arm_selection(arm, [], exploration()) for arm in shares}

    assert sum(shares.values()) > 1.0
    assert marginal_selection(shares, given_arm) == {NO_ACTION: 1.0}


def test_the_marginal_mixes_the_arms_by_their_shares() -> None:
    """5 % nothing, 10 % uniform over two, 85 % greedy."""
    shares: dict[Arm, float] = {
        "no_contact_holdout": 0.05,
        "random_eligible": 0.10,
        "challenger": 0.0,
        "champion": 0.85,
    }
    given_arm = {arm: arm_selection(arm, [scored("a", 1.0)], exploration(epsilon=0.0)) for arm in shares}

    found = marginal_selection(shares, given_arm)

    assert found == {"a": pytest.approx(0.05 + 0.85), NO_ACTION: pytest.approx(0.05 + 0.05)}
