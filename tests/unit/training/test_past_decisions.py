"""Past decisions are read as what was chosen and how likely everything was."""

import math

import numpy as np

from models.decision import Candidate, DecisionRecord, Selected
from models.record_export import record_table
from tests.decision_records import NO_ACTION, SCORED, record
from training.past_decisions import PastDecisions, past_decisions

ACTIONS = ("other", "nudge", "offer")


def read(*records: DecisionRecord) -> PastDecisions:
    """The decisions of the journey ``card``, with features of version f1."""
    return past_decisions(record_table(records), "card", ACTIONS, features_version="f1", n_features=3)


def selected(action_id: str, treatment_id: str, slot: int = 1) -> Selected:
    """A filled slot."""
    return Selected(slot=slot, placement=None, action_id=action_id, treatment_id=treatment_id)


def test_the_arm_is_the_action_in_slot_one() -> None:
    """No action is arm 0, and so is a decision that filled no slot."""
    second = selected("nudge", "nudge_sms", slot=2)
    found = read(
        record(1),
        record(2, selected=()),
        record(3, selected=(selected("no_action", "no_action"), second)),
    )
    assert [found.arm_ids[arm] for arm in found.arm] == ["nudge", "no_action", "no_action"]


def test_arms_are_those_that_could_have_been_chosen_in_catalogue_order() -> None:
    """An action with probability 0 everywhere is no arm."""
    assert read(record(1)).arm_ids == ("no_action", "nudge")


def test_the_treatments_of_an_action_are_one_arm() -> None:
    """Its probability is the sum of theirs."""
    mail = Candidate(action_id="nudge", treatment_id="nudge_mail", channel="email", selection_probability=0.15)
    text = Candidate(action_id="nudge", treatment_id="nudge_sms", channel="sms", selection_probability=0.45)
    found = read(record(1, candidates=(mail, text, NO_ACTION)))
    assert np.allclose(found.arm_probabilities, [[0.4, 0.6]])
    assert np.allclose(found.selection_probability, [0.6])


def test_probabilities_that_were_not_logged_stay_unknown() -> None:
    """NaN for the row, not a neutral number; other rows keep theirs."""
    unknown = Candidate(action_id="nudge", treatment_id="nudge_sms", channel="sms", selection_probability=math.nan)
    found = read(record(1, candidates=(unknown, NO_ACTION)), record(2))
    assert np.isnan(found.selection_probability).tolist() == [True, False]
    assert np.isnan(found.arm_probabilities).tolist() == [[True, True], [False, False]]


def test_only_decisions_that_reached_the_customer_count() -> None:
    """Trials and shadows taught nobody anything; another journey's decisions are another model's."""
    found = read(
        record(1),
        record(2, mode="dry_run"),
        record(3, mode="shadow"),
        record(4, mode="imported"),
        record(5, journey_id="loan"),
    )
    assert found.decision_ids.to_pylist() == ["d-000001", "d-000004"]


def test_a_decision_for_an_action_that_is_gone_is_left_out() -> None:
    """Nothing could be done with its effect, and it is not no action either."""
    gone = Candidate(action_id="gone", treatment_id="gone_sms", channel="sms", selection_probability=0.6)
    found = read(
        record(1),
        record(2, candidates=(gone, NO_ACTION), selected=(selected("gone", "gone_sms"),)),
        record(3, candidates=(SCORED, NO_ACTION)),
    )
    assert found.decision_ids.to_pylist() == ["d-000001", "d-000003"]
    assert np.allclose(found.arm_probabilities, [[0.4, 0.6], [0.4, 0.6]])


def test_a_recorded_vector_is_used_where_its_version_fits() -> None:
    """A vector of other features would be misread."""
    found = read(record(1), record(2, versions={"features": "f0"}), record(3, vector=()))
    assert found.has_vector.tolist() == [True, False, False]
    assert np.array_equal(found.vector[0], [1.0, math.nan, -0.0], equal_nan=True)
    assert np.isnan(found.vector[1:]).all()


def test_no_decisions_are_no_rows() -> None:
    """A home without decisions still has frames."""
    found = read()
    assert (len(found), found.arm_ids, found.vector.shape) == (0, ("no_action",), (0, 3))
