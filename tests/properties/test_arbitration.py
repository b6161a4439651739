"""Arbitration under any values: probabilities are exact, draws follow them, and losers do not matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from models.actions import NO_ACTION
from models.arbitration import (
    Factors,
    Scored,
    arm_selection,
    choose,
    exploration_loss,
    greedy_choice,
    marginal_selection,
    ranked,
)
from models.experiment import arm_of, arm_probabilities
from models.policy import Arm, Experiment
from tests.decisions import exploration, scored

MONEY = st.floats(-500, 500, allow_nan=False)
CANDIDATES = st.lists(st.tuples(MONEY, st.floats(0, 50)), max_size=8).map(
    lambda rows: [scored(f"t{i}", value, sigma=sigma) for i, (value, sigma) in enumerate(rows)]
)
MIXED = st.lists(st.tuples(MONEY, st.booleans()), min_size=1, max_size=8).map(
    lambda rows: [replace(scored(f"t{i}", value), mandatory=mandatory) for i, (value, mandatory) in enumerate(rows)]
)
PERCENT = st.floats(-100, 1000)
COST = st.floats(0, 200)
ARMS = st.sampled_from(["no_contact_holdout", "random_eligible", "champion"])


@given(CANDIDATES, ARMS, st.floats(0, 1), st.floats(0.01, 100))
def test_probabilities_are_a_distribution(
    candidates: list[Scored], arm: Arm, epsilon: float, temperature: float
) -> None:
    """They are never negative, cover every candidate and no action, and sum to 1."""
    found = arm_selection(arm, candidates, exploration(epsilon=epsilon, temperature=temperature))

    assert set(found) == {*(one.treatment_id for one in candidates), NO_ACTION}
    assert all(probability >= 0 for probability in found.values())
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-12)


@given(CANDIDATES, ARMS, st.integers(0, 10**6))
def test_only_what_has_a_probability_is_chosen(candidates: list[Scored], arm: Arm, decision: int) -> None:
    """A draw never gives what the probabilities exclude."""
    explored = exploration(epsilon=0.5)

    choice = choose(arm, candidates, explored, decision_id=f"d-{decision}", policy_version="p")

    assert arm_selection(arm, candidates, explored)[choice.treatment_id] > 0


@given(CANDIDATES, ARMS, st.integers(0, 10**6), st.integers(0, 7))
def test_removing_a_loser_never_changes_the_winner(
    candidates: list[Scored], arm: Arm, decision: int, removed: int
) -> None:
    """The noise belongs to the candidate, not to its place in a cumulative sum."""
    explored = exploration(epsilon=0.5)
    winner = choose(arm, candidates, explored, decision_id=f"d-{decision}", policy_version="p").treatment_id
    others = [one for i, one in enumerate(candidates) if i != removed or one.treatment_id == winner]

    again = choose(arm, others, explored, decision_id=f"d-{decision}", policy_version="p").treatment_id

    assert winner == again


@given(CANDIDATES)
def test_the_greedy_choice_is_never_harmful(candidates: list[Scored]) -> None:
    """It is worth more than nothing, or it is nothing."""
    by_id = {one.treatment_id: one for one in candidates}
    choice = greedy_choice(candidates)

    assert choice == NO_ACTION or by_id[choice].priority > 0


@given(MIXED, ARMS, st.integers(0, 10**6))
def test_what_is_mandatory_goes_first(candidates: list[Scored], arm: Arm, decision: int) -> None:
    """Whatever it is worth, with certainty and without a draw; but never in the holdout."""
    explored = exploration(epsilon=0.5)
    mandatory = [one for one in candidates if one.mandatory]

    choice = choose(arm, candidates, explored, decision_id=f"d-{decision}", policy_version="p")
    probability = arm_selection(arm, candidates, explored)[choice.treatment_id]

    if arm == "no_contact_holdout":
        assert choice.treatment_id == NO_ACTION
    elif mandatory:
        best = max(mandatory, key=lambda one: one.priority)
        assert (choice.treatment_id, choice.how, probability) == (best.treatment_id, "mandatory", 1.0)
        assert ranked(candidates)[: len(mandatory)] == sorted(mandatory, key=lambda one: -one.priority)
    else:
        assert choice.how != "mandatory"


@given(CANDIDATES, st.floats(0.01, 100))
def test_exploring_never_gains_by_expectation(candidates: list[Scored], temperature: float) -> None:
    """The greedy choice is worth the most of what may be drawn, so the loss is what the draw misses of it."""
    explored = exploration(epsilon=1.0, temperature=temperature)
    worth = {NO_ACTION: 0.0, **{one.treatment_id: one.net_value for one in candidates}}
    drawn = arm_selection("champion", candidates, explored)

    loss = exploration_loss(candidates, explored)

    expected = sum(probability * worth[treatment_id] for treatment_id, probability in drawn.items())
    assert loss == pytest.approx(worth[greedy_choice(candidates)] - expected, abs=1e-9)
    assert loss >= 0


def _factors(uplift: float, cost: float, lever: float, context: float) -> Factors:
    return Factors(
        control_response=0.2,
        uplift=uplift,
        sigma=0.01,
        is_binary=True,
        value=100.0,
        contact_cost=cost,
        incentive_cost=0.0,
        fatigue_cost=0.0,
        channel_price=0.0,
        lever_pct=lever,
        context_weight_pct=context,
    )


@given(st.floats(-0.2, 0.8), COST, PERCENT, PERCENT)
def test_a_boost_never_lifts_what_is_harmful(uplift: float, cost: float, lever: float, context: float) -> None:
    """What is worth no more than nothing keeps its value as its priority, and loses to no action."""
    found = _factors(uplift, cost, lever, context)

    assert found.net_value > 0 or found.priority == found.net_value
    assert (found.priority > 0) <= (found.net_value > 0)


@given(st.lists(st.tuples(st.floats(-0.2, 0.8), COST, PERCENT), min_size=2, max_size=8), st.floats(0, 200))
def test_a_higher_cost_never_raises_a_rank(rows: list[tuple[float, float, float]], more: float) -> None:
    """Whichever cost of the first candidate is raised, nobody who stood before it stands behind it."""

    def rank(extra: Mapping[str, float]) -> int:
        all_factors = [_factors(uplift, cost, lever, 0.0) for uplift, cost, lever in rows]
        first = replace(
            all_factors[0], **{name: getattr(all_factors[0], name) + amount for name, amount in extra.items()}
        )
        priorities = [one.priority for one in (first, *all_factors[1:])]
        order = ranked([scored(f"t{i}", 0.0, priority=priority) for i, priority in enumerate(priorities)])
        return [one.treatment_id for one in order].index("t0")

    costs = ("contact_cost", "incentive_cost", "fatigue_cost", "channel_price", "budget_price")
    assert all(rank({}) <= rank({name: more}) for name in costs)


@pytest.mark.parametrize("arm", ["champion", "random_eligible"])
def test_draws_follow_their_probabilities(arm: Arm) -> None:
    """Of 100,000 draws each candidate gets its share within four standard errors."""
    n = 100_000
    candidates = [scored("a", 2.0), scored("b", 1.0), scored("c", 0.5), scored("d", -3.0, sigma=0.1)]
    explored = exploration(epsilon=0.4, temperature=1.0)

    drawn = Counter(
        choose(arm, candidates, explored, decision_id=f"d-{i}", policy_version="p").treatment_id for i in range(n)
    )

    for treatment_id, probability in arm_selection(arm, candidates, explored).items():
        error = (probability * (1 - probability) / n) ** 0.5
        assert drawn[treatment_id] / n == pytest.approx(probability, abs=4 * error)


def test_over_the_arms_draws_follow_their_marginal_probabilities() -> None:
    """Of 100,000 customers, each in the arm that is dealt, within four standard errors."""
    n = 100_000
    candidates = [scored("a", 2.0), scored("b", 1.0), scored("c", -3.0, sigma=0.1)]
    explored = exploration(epsilon=0.4, temperature=1.0)
    experiment = Experiment(id="e", salt="s", no_contact_holdout=0.1, random_eligible=0.2, challenger=0.2)
    shares = arm_probabilities(experiment)

    drawn = Counter(
        choose(
            arm_of(f"c-{i}", experiment), candidates, explored, decision_id=f"d-{i}", policy_version="p"
        ).treatment_id
        for i in range(n)
    )

    marginal = marginal_selection(shares, {arm: arm_selection(arm, candidates, explored) for arm in shares})
    assert sum(marginal.values()) == pytest.approx(1.0, abs=1e-12)
    for treatment_id, probability in marginal.items():
        error = (probability * (1 - probability) / n) ** 0.5
        assert drawn[treatment_id] / n == pytest.approx(probability, abs=4 * error)


def test_arms_follow_their_shares_and_stay() -> None:
    """Of 20,000 customers each arm gets its share within four standard errors, and nobody moves."""
    n = 20_000
    experiment = Experiment(id="e", salt="s", no_contact_holdout=0.05, random_eligible=0.1, challenger=0.2)

    arms = [arm_of(f"c-{i}", experiment) for i in range(n)]

    for arm, share in arm_probabilities(experiment).items():
        error = (share * (1 - share) / n) ** 0.5
        assert arms.count(arm) / n == pytest.approx(share, abs=4 * error)
    assert arms == [arm_of(f"c-{i}", experiment) for i in range(n)]
