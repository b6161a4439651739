"""One decision as a pure function, with the catalogue's priors in place of a model."""

from __future__ import annotations

import math
from typing import Any

import pytest

from features.kernel import Floats, new_state
from models.actions import NO_ACTION
from models.deliberation import Deliberation, Inputs, deliberate
from models.heads import FittedHeads, Head, effect_head
from models.records import CustomerRecords
from models.scoring import Scorer, scorer_of
from tests.boosters import booster, constant_waits, stump
from tests.decisions import action, condition, contact, question, rule, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event

STALLED_AT = START_AT + 61 * MINUTE_US


def vector(*, minutes: int, kinds: tuple[str, ...] = ("visited",)) -> Floats:
    """The vector of a customer with one event a minute, as of some minutes after the first."""
    state = new_state(FEATURES.plan)
    for i, kind in enumerate(kinds):
        FEATURES.fold(state, event(f"e{i}", kind=kind, at=START_AT + i * MINUTE_US))
    return FEATURES.vector(state, {}, START_AT + minutes * MINUTE_US)


def decided(*actions: Any, **changes: Any) -> Deliberation:
    """A deliberation over some actions, for a customer stalled in the first stage unless told otherwise."""
    policy_changes, scorer = changes.pop("policy_changes", None), changes.pop("scorer", None)
    challenger = changes.pop("challenger", None)
    fields: dict[str, Any] = {
        "decision_id": "d-1",
        "vector": vector(minutes=61),
        "attributes": {},
        "holdings": frozenset(),
        "context": {},
        "channel": None,
        "records": CustomerRecords(),
        "question": question(at=STALLED_AT),
        "time_zone": "Europe/Amsterdam",
        "arm": "champion",
    }
    rules = rulebook(*actions, policy_changes=policy_changes)
    return deliberate(Inputs(**(fields | changes)), rules, scorer, challenger)


def test_the_best_action_is_chosen_and_ranked_first() -> None:
    """0.2 * 10 - 0.1 beats 0.1 * 10 - 0.1."""
    found = decided(action("weak", prior_uplift=0.1), action("strong"))

    assert found.choice.treatment_id == "strong_phone"
    assert found.ranking == ("strong_phone", "weak_phone")
    assert found.factors["strong_phone"].net_value == pytest.approx(1.9)


def test_the_candidate_set_is_complete_and_ends_with_no_action() -> None:
    """Dropped candidates stay in the record, with their reason and without numbers."""
    found = decided(action("other", stages=["applied"]), action("nudge"))

    dropped, scored, nothing = found.candidates
    assert (dropped.dropped, dropped.rule_ids) == ("applicability", ("applicability.stage",))
    assert math.isnan(dropped.net_value)
    assert scored.effect_source == "prior"
    assert (nothing.action_id, nothing.net_value, nothing.dropped) == (NO_ACTION, 0.0, None)
    assert sum(one.selection_probability for one in found.candidates) == pytest.approx(1.0)
    assert sum(one.arm_selection_probability for one in found.candidates) == pytest.approx(1.0)


def test_an_action_of_which_nothing_is_known_is_not_scored() -> None:
    """No prior and no model: dropped at scoring rather than given a neutral number."""
    found = decided(action("new", prior_uplift=None))

    assert (found.candidates[0].dropped, found.candidates[0].rule_ids) == ("scoring", ("scoring.no_estimate",))
    assert found.choice.treatment_id == NO_ACTION
    assert found.ranking == ()


def test_the_situation_is_read_from_the_vector() -> None:
    """Stalled after the stage's hour, not before; the stall propensity is unknown without a model."""
    stalled, early = decided().situation, decided(vector=vector(minutes=59)).situation

    assert (stalled.status, stalled.stage, stalled.stall_state) == ("open", "looking", "IDLE")
    assert early.stall_state is None
    assert math.isnan(stalled.stall_propensity)


def test_only_a_stalled_customer_waits() -> None:
    """The benign wait was learned from stalled customers, and says nothing of others."""
    scorer = scorer_of([constant_waits()], len(FEATURES.names))

    stalled, early = (decided(vector=vector(minutes=minutes), scorer=scorer).stall for minutes in (61, 59))

    assert (stalled.stall_propensity, stalled.benign_wait) == (0.75, 0.25)
    assert early.stall_propensity == 0.75
    assert math.isnan(early.benign_wait)


LEADS = {
    "criteria": [
        {"id": "opted_in", "title": "", "points": 1, "all_of": [{"field": "consent:sms", "equals": "granted"}]},
        {"id": "called", "title": "", "points": 1, "all_of": [{"field": "direction", "equals": "inbound"}]},
    ],
    "classes": [{"id": "HOT", "at_least": 2}, {"id": "WARM", "at_least": 1}],
}


def test_rules_ask_how_good_a_lead_it_is() -> None:
    """The class follows from consents and direction; without criteria there is none."""
    hot = rule("elig.hot", condition("lead_class", equals="HOT"))
    asked: dict[str, Any] = {
        "policy_changes": {"lead_qualification": LEADS},
        "records": CustomerRecords(consents={"sms": "granted"}),
    }

    warm = decided(action("sell", rules=[hot]), **asked)
    inbound = decided(action("sell", rules=[hot]), question=question(at=STALLED_AT, outbound=False), **asked)

    assert (warm.situation.lead_class, warm.candidates[0].rule_ids) == ("WARM", ("elig.hot",))
    assert (inbound.situation.lead_class, inbound.candidates[0].rule_ids) == ("HOT", ())
    assert decided().situation.lead_class is None


def test_the_abandon_probability_is_for_rules() -> None:
    """Known with a model, unknown without one."""
    leaving = rule("elig.leaving", condition("abandon_probability", at_least=0.25))
    scorer = scorer_of([constant_waits()], len(FEATURES.names))

    assert decided(action(rules=[leaving]), scorer=scorer).candidates[0].rule_ids != ("elig.leaving",)
    assert decided(action(rules=[leaving])).candidates[0].rule_ids == ("elig.leaving",)


def test_fatigue_makes_the_next_contact_dearer() -> None:
    """Two contacts in the period double a cost that grows by half with each; without a policy it stays."""
    tired = action(treatments=[{"id": "t", "channel": "phone", "contact_cost": 0.1, "fatigue_cost": 0.4}])
    records = CustomerRecords(contacts=(contact(at=START_AT - 1), contact(at=START_AT)))
    growing = {"contact_policy": {"fatigue": {"period": "14d", "growth": 0.5}}}

    found = decided(tired, records=records, policy_changes=growing)

    assert found.candidates[0].fatigue_cost == 0.8
    assert found.candidates[0].net_value == pytest.approx(2.0 - 0.1 - 0.8)
    assert decided(tired, records=records).candidates[0].fatigue_cost == 0.4
    assert decided(tired, policy_changes=growing).candidates[0].fatigue_cost == 0.4


def test_a_treatment_fills_only_the_places_it_names() -> None:
    """The better one is for the banner alone, and leaves the other place to the next."""
    banner = {"id": "b", "channel": "web", "contact_cost": 0, "placements": ["web/banner"]}
    anywhere = {"id": "a", "channel": "web", "contact_cost": 0}
    asked = question(at=STALLED_AT, outbound=False, placements=("web/side", "web/banner"))

    found = decided(
        action("best", treatments=[banner]), action("next", treatments=[anywhere], prior_uplift=0.1), question=asked
    )

    assert [(one.placement, one.treatment_id) for one in found.selected] == [("web/banner", "b"), ("web/side", "a")]


def test_a_slate_keeps_to_the_caps_of_an_issue() -> None:
    """Two places, and room for one sale: the second place goes to the next best of another issue."""
    web = [{"channel": "web", "contact_cost": 0}]
    actions = [
        action(name, issue=issue, prior_uplift=uplift, treatments=[web[0] | {"id": name}])
        for name, issue, uplift in (("sell", "grow", 0.3), ("insure", "grow", 0.2), ("help", "service", 0.1))
    ]
    cap = {"id": "cap.sales", "contacts": 1, "period": "30d", "issue": "grow"}

    found = decided(
        *actions,
        question=question(at=STALLED_AT, outbound=False, placements=("web/top", "web/side")),
        policy_changes={"contact_policy": {"caps": [cap]}},
    )

    assert [one.treatment_id for one in found.selected] == ["sell", "help"]


def test_a_customer_who_never_entered_has_no_stage() -> None:
    """Nothing is known, and nothing is made up."""
    found = decided(vector=FEATURES.vector(new_state(FEATURES.plan), {}, START_AT))

    assert (found.situation.status, found.situation.stage, found.situation.state) == ("never", None, None)


def test_both_probabilities_are_told_apart() -> None:
    """Given the champion the best action is certain; over all arms the holdout's share is missing."""
    shares = {"id": "exp", "salt": "s", "no_contact_holdout": 0.2, "random_eligible": 0.1}

    nudge = decided(action("nudge"), policy_changes={"experiment": shares}).candidates[0]

    assert nudge.arm_selection_probability == 1.0
    assert nudge.selection_probability == pytest.approx(0.7 + 0.1 * 0.5)


CHALLENGED = {"id": "exp", "salt": "s", "no_contact_holdout": 0.2, "random_eligible": 0.1, "challenger": 0.3}


def test_a_challenger_decides_for_its_arm_alone() -> None:
    """It lets through what the champion's stall propensity holds back; the marginal is over both."""
    sure, waiting = (
        Scorer(scorer_of([fitted], len(FEATURES.names)).bundle, {("paid", "careful"): (0.2, 0.05)})
        for fitted in (constant_waits(), FittedHeads(heads=(), boosters={}))
    )
    for arm, chosen in (("champion", "careful_phone"), ("challenger", NO_ACTION)):
        found = decided(
            action("careful", min_stall_propensity=0.5),
            arm=arm,
            scorer=sure,
            challenger=waiting,
            policy_changes={"experiment": CHALLENGED},
        )

        careful, nothing = found.candidates
        assert found.choice.treatment_id == chosen
        # Champion 0.4 and half of random 0.1; nobody else.
        assert careful.selection_probability == pytest.approx(0.4 + 0.05)
        assert nothing.selection_probability == pytest.approx(0.2 + 0.05 + 0.3)


def test_an_arm_that_nobody_is_in_can_be_asked_for() -> None:
    """As a replay as the champion does where the challenger has everybody: its candidates then had no chance."""
    sure, waiting = (
        Scorer(scorer_of([fitted], len(FEATURES.names)).bundle, {("paid", "careful"): (0.2, 0.05)})
        for fitted in (constant_waits(), FittedHeads(heads=(), boosters={}))
    )
    everybody = {"id": "exp", "salt": "s", "no_contact_holdout": 0.0, "random_eligible": 0.0, "challenger": 1.0}

    found = decided(
        action("careful", min_stall_propensity=0.5),
        scorer=sure,
        challenger=waiting,
        policy_changes={"experiment": everybody},
    )

    assert found.choice.treatment_id == "careful_phone"
    assert [one.selection_probability for one in found.candidates] == [0.0, 1.0]
    assert [one.arm_selection_probability for one in found.candidates] == [1.0, 0.0]


def test_without_a_challenger_the_champion_decides_for_it() -> None:
    """And the probabilities are those of what really happens."""
    found = decided(action("nudge"), arm="challenger", policy_changes={"experiment": CHALLENGED})

    assert found.choice.treatment_id == "nudge_phone"
    assert found.candidates[0].selection_probability == pytest.approx(0.7 + 0.05)


def test_a_mandatory_action_goes_first_whatever_it_is_worth() -> None:
    """It costs more than it brings, and is said all the same; the reason tells."""
    found = decided(action("good"), action("notice", mandatory=True, prior_uplift=0.0))

    assert found.selected[0].action_id == "notice"
    assert found.ranking == ("notice_phone", "good_phone")
    assert found.candidates[1].selection_probability == 1.0


def test_nobody_in_the_holdout_hears_even_what_is_mandatory() -> None:
    """Never contacted by any path."""
    found = decided(action("notice", mandatory=True), arm="no_contact_holdout")

    assert found.selected == ()


def test_a_regret_budget_holds_epsilon_down() -> None:
    """The share that explores is what the inputs say, and the loss of exploring is told."""
    exploring = {"exploration": {"epsilon": 0.5, "temperature": 1.0, "regret_budget": 10.0}}
    held, free = (decided(action(), epsilon=epsilon, policy_changes=exploring) for epsilon in (0.0, 0.5))

    assert held.candidates[0].arm_selection_probability == 1.0
    assert free.candidates[0].arm_selection_probability < 1.0
    assert held.exploration_loss == free.exploration_loss > 0
    assert math.isnan(decided(action()).exploration_loss)


def test_out_of_time_no_model_is_asked_and_nothing_is_chosen() -> None:
    """What earlier rules dropped keeps its reason; the rest is dropped at scoring, and doing nothing is certain."""
    asked = question(at=START_AT + 61 * MINUTE_US, out_of_time=True)
    scorer = scorer_of([constant_waits()], len(FEATURES.names))

    found = decided(action("other", stages=["applied"]), action("nudge"), question=asked, scorer=scorer)

    other, nudge, nothing = found.candidates
    assert (other.dropped, other.rule_ids) == ("applicability", ("applicability.stage",))
    assert (nudge.dropped, nudge.rule_ids) == ("scoring", ("scoring.deadline",))
    assert math.isnan(found.stall.stall_propensity)
    assert (found.choice.treatment_id, found.ranking, found.selected) == (NO_ACTION, (), ())
    assert (nothing.selection_probability, nothing.arm_selection_probability) == (1.0, 1.0)


def believing(**effects: float) -> Scorer:
    """A scorer with one constant effect for each action, whatever numbers they are."""
    heads = [Head(name=effect_head("paid", action_id), mean=mean) for action_id, mean in effects.items()]
    return scorer_of([FittedHeads(heads=tuple(heads), boosters={})], len(FEATURES.names))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 1e308])
@pytest.mark.parametrize("arm", ["champion", "random_eligible"])
def test_a_number_that_is_none_is_not_ranked_by(broken: float, arm: str) -> None:
    """The candidate is dropped by name, and what is left is decided as if it were not there; 1e308 overflows."""
    damaged = decided(action("bad"), action("good"), scorer=believing(bad=broken, good=0.2), arm=arm)
    alone = decided(action("good"), scorer=believing(good=0.2), arm=arm)

    dropped, *others = damaged.candidates
    assert (dropped.dropped, dropped.rule_ids, dropped.selection_probability) == (
        "scoring",
        ("scoring.not_finite",),
        0.0,
    )
    assert repr(others) == repr(list(alone.candidates))  # NaN is not equal to itself
    assert (damaged.ranking, damaged.choice, damaged.selected) == (alone.ranking, alone.choice, alone.selected)
    assert (damaged.is_finite, alone.is_finite) == (False, True)


def test_what_is_mandatory_is_not_done_on_a_number_that_is_none() -> None:
    """It would go before everything, at a worth and a price that nobody knows."""
    found = decided(action("bad", mandatory=True), action("good"), scorer=believing(bad=math.nan, good=0.2))

    assert found.ranking == ("good_phone",)


def test_a_damaged_leaf_leaves_the_stall_unknown() -> None:
    """A leaf goes bad after the check: what asks for a stall propensity is not done, and it is said."""
    heads = FittedHeads(
        heads=(Head(name="stall", members=("stall",)), Head(name=effect_head("paid", "nudge"), mean=0.2)),
        boosters={"stall": booster(stump(0, 24.0, 0.9, 0.9), n_features=len(FEATURES.names))},
    )
    scorer = scorer_of([heads], len(FEATURES.names))
    asked = [action("nudge"), action("urgent", min_stall_propensity=0.5, prior_uplift=0.9)]
    whole = decided(*asked, scorer=scorer)
    for leaf in (math.nan, math.inf):
        scorer.bundle.forest.value[:] = leaf

        found = decided(*asked, scorer=scorer)

        assert (whole.stall.stall_propensity, whole.is_finite) == (pytest.approx(0.9), True)
        assert math.isnan(found.stall.stall_propensity)
        assert found.candidates[1].rule_ids == ("applicability.min_stall_propensity",)
        assert (found.choice.treatment_id, found.is_finite) == ("nudge_phone", False)
