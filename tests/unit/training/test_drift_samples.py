"""Which decisions a drift report looks at, and what it takes from their records."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from features.event_export import EVENTS_SCHEMA
from features.schema import feature_set
from features.stable_hash import stable_hash
from models.configuration import built_in_configuration
from models.decision import Candidate, DecisionRecord, Selected
from tests.decision_records import NO_ACTION, SCORED, record
from tests.drifting import decided
from training.drift_samples import SALT, Gathered, Subject, joined, latest_apart, sampled_ids

_IDS = st.lists(st.text(min_size=1, max_size=8, alphabet="abcdef0123"), unique=True, max_size=60)


@given(ids=_IDS, n=st.integers(1, 70), page=st.integers(1, 20))
def test_a_sample_is_the_lowest_hashes_however_it_is_paged(ids: list[str], n: int, page: int) -> None:
    """The same log gives the same sample, and more of a log changes it by no more than what is added."""
    pages = [ids[start : start + page] for start in range(0, len(ids), page)]
    assert sampled_ids(pages, n) == sorted(ids, key=lambda one: stable_hash(SALT, one))[:n]


def test_decisions_of_one_time_have_no_latest() -> None:
    """Nothing can be put apart; else the latest share is."""
    side = decided(1_000, 1)
    assert latest_apart(side.where(side.at == side.at[0]), 0.2) is None
    parts = latest_apart(side, 0.2)
    assert parts is not None
    assert [len(part) for part in parts] == [800, 200]
    assert parts[0].at.max() <= parts[1].at.min()
    assert np.array_equal(joined(*parts).at, side.at)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """The built-in journey."""
    configuration = built_in_configuration()
    journey = configuration.journeys.journeys[0]
    return Subject(
        journey, configuration.taxonomy, configuration.catalogue, feature_set(configuration.taxonomy, journey)
    )


def _made(subject: Subject, **changes: Any) -> DecisionRecord:
    scored = _renamed(SCORED, action_id="nudge_documents", treatment_id="sms_edu_v2", outcome="progress_7d")
    held = Candidate(
        action_id="callback_help",
        treatment_id="call",
        channel="call",
        dropped="contact_policy",
        rule_ids=("cap.week", "quiet"),
    )
    out = Candidate(
        action_id="explain_offer", treatment_id="mail", channel="email", dropped="eligibility", rule_ids=("too_young",)
    )
    fields: dict[str, Any] = {
        "journey_id": subject.journey.id,
        "candidates": (scored, held, out, NO_ACTION),
        "selected": (Selected(slot=1, placement=None, action_id="nudge_documents", treatment_id="sms_edu_v2"),),
    }
    return record(1, **{**fields, **changes})


def _renamed(one: Candidate, **changes: Any) -> Candidate:
    return structs.replace(one, **changes)


def test_what_was_predicted_and_held_back_is_taken_from_the_record(subject: Subject) -> None:
    """Probabilities by action, the control response by outcome, and the limits that held a candidate back."""
    gathered = Gathered(subject)
    gathered.add([_made(subject)])
    found = gathered.decided(EVENTS_SCHEMA.empty_table(), observed_until=0)
    nudge = subject.arm_ids.index("nudge_documents")
    assert found.arm.tolist() == [nudge]
    assert found.probabilities[0, [0, nudge]].tolist() == [0.4, 0.6]
    assert (found.uplift[0, nudge], found.sigma[0, nudge]) == (0.05, 0.01)
    assert found.control[0, subject.outcome_ids.index("progress_7d")] == 0.1
    # The other outcomes were predicted for nobody, and the record is one all the same.
    assert np.isnan(found.control[0]).sum() == len(subject.outcome_ids) - 1 > 0
    assert found.is_recorded.tolist() == [True]
    assert (found.reached.tolist(), found.held.tolist(), found.held_by.tolist()) == ([2], [1], [("cap.week",)])
    assert found.stall.tolist() == [0.7]
    assert math.isnan(found.response[0, 0])
    assert found.people.tolist() == ["c1"]


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "shadow"},
        {"mode": "dry_run"},
        {"journey_id": "another"},
        {"selected": (Selected(slot=1, placement=None, action_id="gone", treatment_id="gone_sms"),)},
    ],
)
def test_what_reached_nobody_is_passed_over(subject: Subject, change: dict[str, Any]) -> None:
    """Shadows, dry runs, other journeys, and actions that are no longer in the catalogue."""
    gathered = Gathered(subject)
    gathered.add([_made(subject, **change)])
    assert len(gathered) == 0
