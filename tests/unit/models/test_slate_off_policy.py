"""Slate estimators, against numbers computed by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.off_policy import EstimateParams
from models.off_policy_log import Guard, UnsupportedPolicy
from models.slate_off_policy import Slates, slate_estimates, slate_refusals, slot_weights

PARAMS = EstimateParams(guard=Guard(smallest_ess=0, smallest_ess_share=0, weight_errors=np.inf), resamples=20)


def slates(**given: Any) -> Slates:
    """Two slates of two slots; the policy's ratios are 2 and 0.5 on the first, 0.5 and 3 on the second."""
    fields: dict[str, Any] = {
        "reward": np.array([[1.0, 4.0], [2.0, 1.0]]),
        "logged": np.array([[0.25, 0.5], [0.5, 0.25]]),
        "policy": np.array([[0.5, 0.25], [0.25, 0.75]]),
        "logged_at": np.array([[0.25, 0.4], [0.5, 0.2]]),
        "policy_at": np.array([[0.5, 0.2], [0.25, 0.8]]),
        "predicted_taken": np.array([[3.0, 2.0], [2.0, 1.0]]),
        "predicted_policy": np.array([[2.5, 1.0], [2.5, 3.0]]),
    }
    return Slates(**{**fields, **given})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The products of the ratios are 1 and 1.5.
        ("slate IPS", (1.0 * 5 + 1.5 * 3) / 2),
        ("RIPS", (2 * 1 + 1 * 4 + 0.5 * 2 + 1.5 * 1) / 2),
        # Position by position the ratios are 2 and 0.5, and 0.5 and 4.
        ("independent IPS", (2 * 1 + 0.5 * 4 + 0.5 * 2 + 4 * 1) / 2),
        (
            "cascade DR",
            (2.5 + 2 * (1 - 3) + 2 * 1.0 + 1 * (4 - 2) + 2.5 + 0.5 * (2 - 2) + 0.5 * 3.0 + 1.5 * (1 - 1)) / 2,
        ),
    ],
)
def test_estimates_by_hand(name: Any, expected: float) -> None:
    """The formulas."""
    assert slate_estimates(slates(), PARAMS)[name].value == pytest.approx(expected)


def test_what_an_estimate_rests_on_is_told_by_slot() -> None:
    """RIPS puts 2 and 0.5 on the first slot, 1 and 1.5 on the second."""
    found = slate_estimates(slates(), PARAMS)["RIPS"]

    assert found.ess == pytest.approx((2.5**2 / 4.25, 2.5**2 / 3.25))
    assert found.largest_weight == 2.0


def test_a_slate_that_ends_early_has_nothing_behind_its_end() -> None:
    """Slots that are certain and earn nothing change no estimate."""
    short = slates()
    one = np.ones((2, 1))
    longer = {name: np.c_[getattr(short, name), one] for name in ("logged", "policy", "logged_at", "policy_at")}
    nothing = {name: np.c_[getattr(short, name), 0 * one] for name in ("reward", "predicted_taken", "predicted_policy")}

    before, after = slate_estimates(short, PARAMS), slate_estimates(Slates(**longer, **nothing), PARAMS)

    assert {name: one.value for name, one in after.items()} == pytest.approx(
        {name: one.value for name, one in before.items()}
    )


def test_one_slot_is_an_ordinary_decision() -> None:
    """Then all estimators without a model are inverse propensity scoring."""
    one = {name: getattr(slates(), name)[:, :1] for name in ("reward", "logged", "policy", "logged_at", "policy_at")}

    found = slate_estimates(Slates(**one), PARAMS)

    assert found.keys() == {"slate IPS", "RIPS", "independent IPS"}
    assert {estimate.value for estimate in found.values()} == {(2 * 1 + 0.5 * 2) / 2}


def test_what_is_not_known_is_not_estimated() -> None:
    """Without probabilities by position, and without a model, two are left."""
    log = slates(logged_at=None, policy_at=None, predicted_taken=None, predicted_policy=None)

    assert slate_estimates(log, PARAMS).keys() == {"slate IPS", "RIPS"}


def test_later_slots_may_be_refused_where_the_first_is_not() -> None:
    """Ratios of 1 and then a hundredfold weight on one slate in a hundred: position by position the log can tell."""
    n = 2_000
    rare = np.where(np.arange(n) % 100 == 0, 1.0, 0.0)
    log = Slates(
        reward=np.ones((n, 2)),
        logged=np.c_[np.full(n, 0.5), np.full(n, 0.01)],
        policy=np.c_[np.full(n, 0.5), rare],
        logged_at=np.full((n, 2), 0.5),
        policy_at=np.full((n, 2), 0.5),
    )

    assert slate_estimates(log, EstimateParams(resamples=5)).keys() == {"independent IPS"}
    reasons = slate_refusals(log, slot_weights(log)["RIPS"], Guard())
    assert {one.code for one in reasons} == {"few_decisions", "low_share"}
    assert all(one.reason.startswith("slot 2: ") for one in reasons)


def test_nothing_is_said_where_every_estimator_is_refused() -> None:
    """Two slates tell nothing; and a policy that fills what was never logged is not valued on any number."""
    with pytest.raises(UnsupportedPolicy, match="slot 1: 2 effective decisions"):
        slate_estimates(slates(), EstimateParams())
    with pytest.raises(UnsupportedPolicy, match="could not have been logged"):
        slate_estimates(replace(slates(), unsupported=np.array([0.5, 0.0])), PARAMS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": np.ones((2, 3))}, "policy of shape (2, 3), expected (2, 2)"),
        (
            {"logged": np.array([[0.5, 0.0], [0.5, 0.5]])},
            "logged holds what is no probability, expected numbers above 0",
        ),
        ({"policy": np.array([[0.5, 1.5], [0.5, 0.5]])}, "policy holds what is no probability"),
        ({"policy_at": None}, "logged_at without policy_at"),
        ({"predicted_taken": None}, "predicted_taken without predicted_policy"),
    ],
)
def test_bad_tables_are_refused(given: dict[str, Any], message: str) -> None:
    """The message names what does not fit."""
    with pytest.raises(NotEnoughData, match=re.escape(message)):
        slate_estimates(slates(**given), PARAMS)
