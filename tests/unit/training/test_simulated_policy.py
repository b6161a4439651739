"""The policy behind simulated past decisions: exact probabilities over what the rules allow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.actions import NO_ACTION
from models.configuration import built_in_configuration
from training.simulated_draws import Draws
from training.simulated_policy import (
    Standing,
    allowed,
    candidates_json,
    chosen,
    options_of,
    selection_probabilities,
)
from training.simulated_world import STAGES, STATES

OPTIONS = options_of(built_in_configuration().catalogue)
STALL_STATES = ("DOCUMENTS_MISSING", "OFFER_UNDECIDED", "CARD_NOT_ACTIVATED", "CARD_NOT_USED")
N = 50


def a_standing(**given: Any) -> Standing:
    """Stalled customers of whom nothing stands against anything."""
    yes, no = np.ones(N, dtype=np.bool_), np.zeros(N, dtype=np.bool_)
    fields: dict[str, Any] = {
        "stage": 1,
        "state": np.arange(N) % len(STATES),
        "stalled": yes,
        "consents": dict.fromkeys(("email", "sms", "push", "call"), yes),
        "offers_allowed": yes,
        "low_income": no,
        "documents_sent": no,
        "holds_protection": no,
        "may_be_asked": yes,
        "called_lately": no,
        "preferred": np.arange(N) % 6,
        "is_later_round": no,
    }
    return Standing(**{**fields, **given})


def allowed_options(standing: Standing) -> list[Any]:
    """The options that at least one of the customers may get."""
    table = allowed(OPTIONS, standing, STALL_STATES[standing.stage])
    return [option for column, option in enumerate(OPTIONS) if table[:, column].any()]


@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_probabilities_sum_to_one(stage: int) -> None:
    """Over all candidates and no action, for every customer."""
    standing = a_standing(stage=stage)
    candidates = allowed(OPTIONS, standing, STALL_STATES[stage])

    probabilities = selection_probabilities(OPTIONS, candidates, standing)

    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("stage", range(len(STAGES)))
def test_exactly_the_candidates_are_possible(stage: int) -> None:
    """Everything else has probability 0; no action always is possible."""
    standing = a_standing(stage=stage)
    candidates = allowed(OPTIONS, standing, STALL_STATES[stage])

    probabilities = selection_probabilities(OPTIONS, candidates, standing)

    np.testing.assert_array_equal(probabilities[:, :-1] > 0, candidates)
    assert probabilities[:, -1].min() > 0.01


def test_the_policy_is_not_uniform() -> None:
    """It depends on state and preference, so ignoring the probabilities would mislead."""
    standing = a_standing()
    candidates = allowed(OPTIONS, standing, "OFFER_UNDECIDED")

    no_action = selection_probabilities(OPTIONS, candidates, standing)[:, -1]

    assert no_action.max() / no_action.min() > 1.2


def test_draws_follow_the_probabilities() -> None:
    """Over 50 x 400 draws each share is within five standard errors of its probability."""
    standing = a_standing()
    candidates = allowed(OPTIONS, standing, "OFFER_UNDECIDED")
    probabilities = selection_probabilities(OPTIONS, candidates, standing)
    draws = Draws(7, np.arange(N, dtype=np.int64))

    taken = np.stack([chosen(draws, np.arange(N), step, probabilities) for step in range(400)])

    shares = np.array([(taken == column).mean() for column in range(len(OPTIONS) + 1)])
    errors = np.sqrt((probabilities * (1 - probabilities)).sum(axis=0) / N / taken.size)
    assert (np.abs(shares - probabilities.mean(axis=0)) <= 5 * errors).all()


def test_the_log_holds_the_very_probabilities() -> None:
    """What is written reads back bit for bit, no action last."""
    standing = a_standing()
    candidates = allowed(OPTIONS, standing, "OFFER_UNDECIDED")
    probabilities = selection_probabilities(OPTIONS, candidates, standing)

    first = json.loads(candidates_json(OPTIONS, probabilities)[0])

    assert [entry["selection_probability"] for entry in first] == probabilities[0][probabilities[0] > 0].tolist()
    assert first[-1]["action_id"] == NO_ACTION


def test_no_offer_where_care_comes_first() -> None:
    """A flag or an open complaint leaves service actions only."""
    options = allowed_options(a_standing(offers_allowed=np.zeros(N, dtype=np.bool_)))

    assert {option.action.issue for option in options} == {"onboard", "service", "listen"}


def test_no_message_without_consent() -> None:
    """A channel that is not open is used by nothing, save transactional messages."""
    closed = dict.fromkeys(("email", "sms", "push", "call"), np.zeros(N, dtype=np.bool_))

    channels = {option.treatment.channel for option in allowed_options(a_standing(consents=closed))}

    assert channels == {"web", "case"}


def test_nobody_is_asked_for_documents_that_we_have() -> None:
    """The nudge is for those who have sent none."""
    sent = allowed_options(a_standing(stage=0, documents_sent=np.ones(N, dtype=np.bool_)))

    assert "nudge_documents" not in {option.action.id for option in sent}


def test_before_a_stall_only_what_needs_none() -> None:
    """Actions crafted for a stall state wait for the stall."""
    early = allowed_options(a_standing(stalled=np.zeros(N, dtype=np.bool_)))

    assert {option.action.id for option in early} == {"survey_experience"}
