"""One decision as a pure function, with the catalogue's priors in place of a model."""

from __future__ import annotations

import math
from typing import Any

import pytest

from features.kernel import Floats, new_state
from models.actions import NO_ACTION
from models.deliberation import Deliberation, Inputs, deliberate
from models.records import CustomerRecords
from models.scoring import scorer_of
from tests.boosters import constant_waits
from tests.decisions import action, question, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event


def vector(*, minutes: int, kinds: tuple[str, ...] = ("visited",)) -> Floats:
    """The vector of a customer with one event a minute, as of some minutes after the first."""
    state = new_state(FEATURES.plan)
    for i, kind in enumerate(kinds):
        FEATURES.fold(state, event(f"e{i}", kind=kind, at=START_AT + i * MINUTE_US))
    return FEATURES.vector(state, {}, START_AT + minutes * MINUTE_US)


def decided(*actions: Any, **changes: Any) -> Deliberation:
    """A deliberation over some actions, for a customer stalled in the first stage unless told otherwise."""
    policy_changes, scorer = changes.pop("policy_changes", None), changes.pop("scorer", None)
    fields: dict[str, Any] = {
        "decision_id": "d-1",
        "vector": vector(minutes=61),
        "attributes": {},
        "holdings": frozenset(),
        "context": {},
        "channel": None,
        "records": CustomerRecords(),
        "question": question(at=START_AT + 61 * MINUTE_US),
        "time_zone": "Europe/Amsterdam",
        "arm": "champion",
    }
    return deliberate(Inputs(**(fields | changes)), rulebook(*actions, policy_changes=policy_changes), scorer)


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
