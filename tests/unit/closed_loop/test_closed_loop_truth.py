"""What decisions were truly worth, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.actions import NO_ACTION
from models.configuration import built_in_configuration
from tests.closed_loop.setting import JOURNEY_ID
from tests.closed_loop.truth import Truth

BUILT_IN = built_in_configuration()


def a_batch(treatment: str, *rows: tuple[str, float, float, float]) -> dict[str, Any]:
    """The truth about one treatment: decision, probability, and response without and with it."""
    return {
        "treatment_id": np.full(len(rows), treatment, dtype=object),
        "decision_id": [row[0] for row in rows],
        "selection_probability": np.array([row[1] for row in rows]),
        "p0_observed": np.array([row[2] for row in rows]),
        "p1_observed": np.array([row[3] for row in rows]),
    }


def truth(*batches: dict[str, Any]) -> Truth:
    """Of the built-in journey."""
    return Truth(
        batches,
        catalogue=BUILT_IN.catalogue,
        journey=BUILT_IN.journeys.by_id[JOURNEY_ID],
        policy=BUILT_IN.policy,
    )


SMS = a_batch("sms_edu_v2", ("d-1", 0.5, 0.2, 0.3), ("d-2", 0.25, 0.2, 0.2))
WAIVER = a_batch("email_waiver_v1", ("d-1", 0.25, 0.5, 0.6))


def test_worth_is_value_less_incentive_and_costs() -> None:
    """38 * 0.1 less 0.08, 0.40 and 0.05; 60 * 0.1 less 24 for each of 0.6, 0.02, 0.30 and 0.01."""
    found = truth(SMS, WAIVER).of_policy(["d-1", "d-1"], ["sms_edu_v2", "email_waiver_v1"], np.eye(2))

    assert found == pytest.approx([3.8 - 0.53, 6.0 - 14.4 - 0.33])


def test_a_decision_is_worth_its_candidates_by_their_probabilities() -> None:
    """What is left of the probability is no action, which is worth nothing."""
    found = truth(SMS, WAIVER).as_decided(["d-1", "d-2", "d-3"])

    assert found == pytest.approx([0.5 * 3.27 + 0.25 * -8.73, 0.25 * -0.53, 0.0])


def test_the_best_of_a_decision_is_never_worse_than_no_action() -> None:
    """And what was no candidate is not the best."""
    never = a_batch("email_edu_v2", ("d-1", 0.0, 0.2, 0.9))

    assert truth(SMS, never).best(["d-1", "d-2"]) == pytest.approx([3.27, 0.0])


def test_a_policy_earns_nothing_by_no_action() -> None:
    """Its column is worth 0 in every decision."""
    assert truth(SMS).of_policy(["d-1"], [NO_ACTION, "sms_edu_v2"], np.array([[1.0, 0.0]])) == pytest.approx([0.0])
