"""Decisions with everything switched on: arms, challenger, mandatory, capacities, races, deadlines, prices at once."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from features.kernel import Floats, new_state
from models.actions import NO_ACTION, Action
from models.deliberation import Deliberation, Inputs, Rulebook, deliberate
from models.experiment import arm_probabilities
from models.heads import FittedHeads
from models.policy import Arm
from models.prices import PriceList
from models.records import CustomerRecords
from models.scoring import Scorer, scorer_of
from tests.boosters import constant_waits
from tests.decisions import action, contact, question, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event

NAMES = ("a", "b", "c", "d")
CHANNELS = ("phone", "web")
STALLED_AT = START_AT + 61 * MINUTE_US
ARMS: tuple[Arm, ...] = ("no_contact_holdout", "random_eligible", "champion", "challenger")
SHARES = (0.0, 0.1, 0.25, 1 / 3, 0.5)


def _vector() -> Floats:
    state = new_state(FEATURES.plan)
    FEATURES.fold(state, event("e1", at=START_AT))
    return FEATURES.vector(state, {}, STALLED_AT)


def _scorer(*, knows_stalls: bool) -> Scorer:
    """Of a bundle that knows how likely a stall is, or of one that knows nothing: effects are priors in both."""
    fitted = constant_waits() if knows_stalls else FittedHeads(heads=(), boosters={})
    return scorer_of([fitted], len(FEATURES.names))


SCORERS = {"sure": _scorer(knows_stalls=True), "blank": _scorer(knows_stalls=False), "none": None}


@st.composite
def _actions(draw: st.DrawFn) -> list[Action]:
    found = []
    for name in NAMES:
        channels = draw(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=2, unique=True))
        found.append(
            action(
                name,
                issue=draw(st.sampled_from(["grow", "service"])),
                treatments=[
                    {
                        "id": f"{name}_{channel}",
                        "channel": channel,
                        "contact_cost": draw(st.sampled_from([0.0, 0.5, 8.0])),
                        "fatigue_cost": draw(st.sampled_from([0.0, 1.0])),
                    }
                    for channel in channels
                ],
                incentive_cost=draw(st.sampled_from([0.0, 5.0])),
                mandatory=draw(st.sampled_from([False, False, False, True])),
                transactional=draw(st.booleans()),
                min_stall_propensity=draw(st.sampled_from([0.0, 0.0, 0.5])),
                assigned_to=draw(st.sampled_from([None, "desk"])),
                lever_pct=draw(st.sampled_from([-100.0, 0.0, 50.0])),
                prior_uplift=draw(st.sampled_from([-0.2, 0.0, 0.05, 0.2])),
                prior_sigma=draw(st.sampled_from([0.001, 0.05, 0.5])),
            )
        )
    return found


@st.composite
def _rulebooks(draw: st.DrawFn) -> Rulebook:
    shares = draw(st.lists(st.sampled_from(SHARES), min_size=3, max_size=3).filter(lambda found: sum(found) <= 1))
    limits = [
        {"id": "calls", "units": draw(st.integers(0, 2)), "period": "1d", "channel": "phone"},
        {"id": "desk", "units": draw(st.integers(0, 2)), "period": "1h", "queue": "desk"},
    ]
    return rulebook(
        *draw(_actions()),
        policy_changes={
            "experiment": {
                "id": "exp",
                "salt": "s",
                "no_contact_holdout": shares[0],
                "random_eligible": shares[1],
                "challenger": shares[2],
            },
            "exploration": {
                "epsilon": draw(st.sampled_from([0.0, 0.3, 1.0])),
                "temperature": draw(st.sampled_from([0.01, 1.0, 50.0])),
                "regret_budget": draw(st.none() | st.just(5.0)),
            },
            "contact_policy": {
                "caps": [{"id": "cap.all", "contacts": draw(st.integers(0, 3)), "period": "7d"}],
                "fatigue": draw(st.none() | st.just({"period": "7d", "growth": 0.5})),
            },
            "capacity": {
                "limits": draw(st.sampled_from([[], limits])),
                "budgets": draw(st.sampled_from([[], [{"id": "money", "amount": 6.0, "period": "1d"}]])),
            },
        },
    )


@st.composite
def _inputs(draw: st.DrawFn, rules: Rulebook) -> Inputs:
    treatments = list(rules.catalogue.treatment_by_id)
    lost = draw(st.dictionaries(st.sampled_from(treatments), st.just("cap.all"), max_size=2))
    placements = draw(st.sampled_from([(), ("phone/a", "web/b"), ("web/a", "phone/b", "phone/c")]))
    prices = PriceList(
        journey_id="application",
        created_at=0,
        valid_until=2 * STALLED_AT,
        policy_version="p1",
        capacity_version="",
        bundle=None,
        prices={"calls": 1.5, "money": 0.3},
        value=0.0,
        gap=0.0,
    )
    return Inputs(
        decision_id=f"d-{draw(st.integers(0, 10**6))}",
        vector=_vector(),
        attributes={},
        holdings=frozenset(),
        context={},
        channel=None,
        records=CustomerRecords(
            contacts=tuple(contact(at=STALLED_AT - MINUTE_US) for _ in range(draw(st.integers(0, 2)))),
            capacity_used=draw(
                st.dictionaries(st.sampled_from(["calls", "desk", "money"]), st.sampled_from([1.0, 5.9]))
            ),
            assignees=draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["p1", None]))),
        ),
        question=question(
            at=STALLED_AT,
            outbound=draw(st.booleans()),
            lost=lost,
            placements=placements,
            channels=frozenset(one.partition("/")[0] for one in placements) or None,
            out_of_time=draw(st.sampled_from([False, False, False, False, True])),
        ),
        time_zone="Europe/Amsterdam",
        arm=draw(st.sampled_from(ARMS)),
        n_linked=draw(st.integers(0, 3)),
        epsilon=draw(st.none() | st.sampled_from([0.0, 0.01])),
        prices=draw(st.none() | st.just(prices)),
    )


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_probabilities_are_those_of_what_happens(data: st.DataObject) -> None:
    """They sum to 1, the holdout gets nothing, and no loser decides the winner: whatever is configured and asked."""
    rules = data.draw(_rulebooks())
    inputs = data.draw(_inputs(rules))
    champion, challenger = (SCORERS[data.draw(st.sampled_from(sorted(SCORERS)))] for _ in range(2))

    found = deliberate(inputs, rules, champion, challenger)

    by_id = {one.treatment_id: one for one in found.candidates}
    assert math.isclose(sum(one.selection_probability for one in found.candidates), 1.0, rel_tol=1e-12)
    assert math.isclose(sum(one.arm_selection_probability for one in found.candidates), 1.0, rel_tol=1e-12)
    assert all(0.0 <= one.selection_probability <= 1.0 + 1e-12 for one in found.candidates)
    assert all(one.arm_selection_probability == 0.0 for one in found.candidates if not one.is_scored)
    assert by_id[found.choice.treatment_id].arm_selection_probability > 0.0
    _check_marginal(found, inputs, rules, champion, challenger)
    _check_slate(found, inputs, rules)
    if inputs.arm == "no_contact_holdout":
        assert (found.selected, found.choice.treatment_id) == ((), NO_ACTION)
    losers = {one.treatment_id for one in found.candidates if one.is_scored} - {found.choice.treatment_id, NO_ACTION}
    if losers:
        lost = {**inputs.question.lost, min(losers): "cap.all"}
        without = replace(inputs, question=replace(inputs.question, lost=lost))
        assert deliberate(without, rules, champion, challenger).choice == found.choice


def _check_marginal(
    found: Deliberation, inputs: Inputs, rules: Rulebook, champion: Scorer | None, challenger: Scorer | None
) -> None:
    """The marginal is the mean over the arms of what the same decision would say in each."""
    shares = arm_probabilities(rules.policy.experiment, n_linked=inputs.n_linked)
    assert math.isclose(sum(shares.values()), 1.0, rel_tol=1e-12)
    expected = dict.fromkeys((one.treatment_id for one in found.candidates), 0.0)
    for arm, share in shares.items():
        for one in deliberate(replace(inputs, arm=arm), rules, champion, challenger).candidates:
            expected[one.treatment_id] += share * one.arm_selection_probability
    for one in found.candidates:
        assert math.isclose(one.selection_probability, expected[one.treatment_id], rel_tol=1e-9, abs_tol=1e-15)


def _check_slate(found: Deliberation, inputs: Inputs, rules: Rulebook) -> None:
    actions = [one.action_id for one in found.selected]
    assert len(actions) == len(set(actions))
    assert len(found.selected) <= max(1, len(inputs.question.placements))
    assert [one.slot for one in found.selected] == list(range(1, len(actions) + 1))
    assert all(0.0 < one.conditional_probability <= 1.0 for one in found.selected)
    cap, contacts = rules.policy.contact_policy.caps[0], len(inputs.records.contacts)
    assert not actions or contacts + len(actions) <= cap.contacts
    for limit in rules.policy.capacity.limits:
        taken = sum(
            limit.channel in (None, rules.catalogue.treatment_by_id[one.treatment_id].channel)
            and limit.queue in (None, rules.catalogue.by_id[one.action_id].assigned_to)
            for one in found.selected
        )
        assert taken == 0 or inputs.records.capacity_used.get(limit.id, 0.0) + taken <= limit.units
    if rules.policy.capacity.budgets:
        spent = sum(found.factors[one.treatment_id].spend for one in found.selected)
        assert spent <= 1e-5 or inputs.records.capacity_used.get("money", 0.0) + spent <= 6.0 + 1e-5
