"""Whole decisions over any small catalogue: losers do not matter, costs and boosts do what they say, all adds up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.kernel import new_state
from models.actions import NO_ACTION, Action
from models.deliberation import Deliberation, Inputs, deliberate
from models.policy import Arm
from models.records import CustomerRecords
from models.scoring import scorer_of
from tests.boosters import constant_waits
from tests.decisions import action, question, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event

AT = START_AT + 61 * MINUTE_US
SHARES = {"no_contact_holdout": 0.1, "random_eligible": 0.2, "challenger": 0.3}
ARMS: tuple[Arm, ...] = ("no_contact_holdout", "random_eligible", "champion", "challenger")
CHALLENGER = scorer_of([constant_waits()], len(FEATURES.names))
STATE = new_state(FEATURES.plan)
FEATURES.fold(STATE, event("e1"))
VECTOR = FEATURES.vector(STATE, {}, AT)


@st.composite
def catalogues(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Actions worth something or nothing, some only for whom a model expects to stall, some mandatory."""
    return [
        {
            "action_id": f"a{number}",
            "prior_uplift": draw(st.floats(-0.3, 0.6)),
            "prior_sigma": draw(st.floats(0.01, 0.2)),
            "lever_pct": draw(st.sampled_from([-50.0, 0.0, 0.0, 900.0])),
            "context_weight_pct": draw(st.sampled_from([0.0, 0.0, 300.0])),
            "incentive_cost": draw(st.floats(0, 3)),
            "min_stall_propensity": draw(st.sampled_from([0.0, 0.0, 0.5])),
            "mandatory": draw(st.integers(0, 9)) == 0,
        }
        for number in range(draw(st.integers(1, 5)))
    ]


def _decided(actions: Sequence[Action], *, arm: Arm, decision: int = 0, epsilon: float = 0.5) -> Deliberation:
    """By priors alone, but that the challenger has a model, which expects a stall."""
    book = rulebook(
        *actions,
        policy_changes={
            "experiment": {"id": "exp", "salt": "s", **SHARES},
            "exploration": {"epsilon": epsilon, "temperature": 1.0},
        },
    )
    inputs = Inputs(
        decision_id=f"d-{decision}",
        vector=VECTOR,
        attributes={},
        holdings=None,
        context={},
        channel=None,
        records=CustomerRecords(),
        question=question(at=AT),
        time_zone="Europe/Amsterdam",
        arm=arm,
    )
    return deliberate(inputs, book, None, CHALLENGER)


def _winner(found: Deliberation) -> str:
    return found.selected[0].action_id if found.selected else NO_ACTION


@given(catalogues(), st.sampled_from(ARMS))
@settings(deadline=None)
def test_probabilities_sum_to_one(catalogue: list[dict[str, Any]], arm: Arm) -> None:
    """Given the arm and over all arms, also where two bundles let different candidates through."""
    found = _decided([action(**one) for one in catalogue], arm=arm).candidates

    assert math.fsum(one.arm_selection_probability for one in found) == pytest.approx(1.0, abs=1e-12)
    assert math.fsum(one.selection_probability for one in found) == pytest.approx(1.0, abs=1e-12)
    assert all(one.selection_probability >= 0 and one.arm_selection_probability >= 0 for one in found)


@given(catalogues(), st.sampled_from(ARMS), st.integers(0, 10**6), st.integers(0, 4))
@settings(deadline=None)
def test_without_a_losing_action_the_winner_is_the_same(
    catalogue: list[dict[str, Any]], arm: Arm, decision: int, removed: int
) -> None:
    """In every arm, whatever chance drew."""
    actions = [action(**one) for one in catalogue]
    winner = _winner(_decided(actions, arm=arm, decision=decision))
    others = [one for place, one in enumerate(actions) if place != removed or one.id == winner]

    if others:  # a catalogue has at least one
        assert _winner(_decided(others, arm=arm, decision=decision)) == winner


@given(catalogues(), st.sampled_from(["contact_cost", "fatigue_cost", "incentive_cost"]), st.floats(0, 20))
@settings(deadline=None)
def test_a_dearer_action_never_stands_higher(catalogue: list[dict[str, Any]], cost: str, more: float) -> None:
    """Nor is it more likely chosen by the greedy champion, nor brought in by chance."""
    plain = {"id": "a0_phone", "channel": "phone", "contact_cost": 0.1}
    treatment = plain | ({} if cost == "incentive_cost" else {cost: plain.get(cost, 0.0) + more})
    dearer = {"treatments": [treatment]}
    if cost == "incentive_cost":
        dearer["incentive_cost"] = catalogue[0]["incentive_cost"] + more
    before = [action(**catalogue[0], treatments=[plain]), *(action(**one) for one in catalogue[1:])]
    after = [action(**{**catalogue[0], **dearer}), *before[1:]]

    first, second = (_decided(actions, arm="challenger", epsilon=0.0) for actions in (before, after))

    assert first.ranking.index("a0_phone") <= second.ranking.index("a0_phone")
    assert _probability(first, "a0_phone") >= _probability(second, "a0_phone")


def _probability(found: Deliberation, treatment_id: str) -> float:
    return next(one.arm_selection_probability for one in found.candidates if one.treatment_id == treatment_id)


@given(catalogues(), st.floats(0, 1000), st.floats(0, 1000))
@settings(deadline=None)
def test_a_boost_never_lifts_a_harmful_action(catalogue: list[dict[str, Any]], lever: float, context: float) -> None:
    """What is worth no more than nothing is ranked by its plain value, and only chance or a duty selects it."""
    boosted = [action(**{**one, "lever_pct": lever, "context_weight_pct": context}) for one in catalogue]
    plain = [action(**{**one, "lever_pct": 0.0, "context_weight_pct": 0.0}) for one in catalogue]

    found = _decided(boosted, arm="challenger", epsilon=0.0)
    without = {one.treatment_id: one for one in _decided(plain, arm="challenger", epsilon=0.0).candidates}
    mandatory = {one.id for one in boosted if one.mandatory}

    for one in found.candidates:
        if one.action_id not in {*mandatory, NO_ACTION} and one.net_value <= 0:
            assert one.priority == without[one.treatment_id].priority == one.net_value
            assert one.arm_selection_probability == 0.0
