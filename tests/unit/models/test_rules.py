"""Rules: each predicate means what it says, and what is unknown never passes by accident."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from models.rules import condition_holds, failing_applicability, failing_rules, failing_suitability
from tests.decisions import action, condition, known, rule, situation
from tests.histories import FEATURES


@pytest.mark.parametrize(
    ("field", "operator", "holds"),
    [
        ("stage", {"equals": "looking"}, True),
        ("stage", {"equals": "applied"}, False),
        ("attribute:tier", {"one_of": ("gold", "basic")}, True),
        ("attribute:tier", {"none_of": ("gold",)}, False),
        ("attribute:member", {"equals": True}, True),
        ("attribute:member", {"one_of": ("false",)}, False),
        ("attribute:age", {"at_least": 40, "at_most": 40}, True),
        ("attribute:age", {"at_least": 40.5}, False),
        ("attribute:tier", {"at_least": 1}, False),
        ("holding:card", {"equals": True}, True),
        ("holding:loan", {"equals": False}, True),
        ("context:device", {"equals": "mobile"}, True),
        ("attribute:member", {"equals": 1.0}, False),
        ("attribute:member", {"at_least": 0.5}, False),
        ("context:visits", {"equals": 1.0}, True),
        ("context:visits", {"equals": True}, False),
        ("context:visits", {"one_of": ("1",)}, True),
        ("context:visits", {"none_of": ("1",)}, False),
        ("stall_propensity", {"at_least": 0.4}, True),
        ("journey_status", {"equals": "open"}, True),
        ("state", {"equals": "ACTIVE"}, True),
        ("consent:sms", {"equals": "granted"}, True),
        ("consent:sms", {"none_of": ("withdrawn", "objected")}, True),
        ("consent:marketing", {"one_of": ("withdrawn", "objected")}, True),
        ("direction", {"equals": "inbound"}, True),
        ("abandon_probability", {"at_most": 0.2}, True),
        ("abandon_probability", {"at_least": 0.21}, False),
        ("lead_class", {"one_of": ("HOT", "WARM")}, True),
        ("attribute:tier", {"known": True}, True),
        ("attribute:tier", {"known": False}, False),
        ("attribute:income", {"known": True}, False),
        ("attribute:income", {"known": False}, True),
        ("consent:email", {"known": False}, True),
        ("feature:nps_last", {"known": False}, True),
    ],
)
def test_a_condition_means_what_it_says(field: str, operator: dict[str, Any], holds: bool) -> None:
    """Every operator compares the value that the field refers to."""
    customer = situation(
        attributes=known(tier="gold", member=True, age=40.0),
        holdings=frozenset({"card"}),
        context=known(device="mobile", visits=1.0),
        stall_propensity=0.41,
        abandon_probability=0.2,
        consents={"sms": "granted", "marketing": "objected"},
        direction="inbound",
        lead_class="WARM",
    )

    assert condition_holds(condition(field, **operator), customer) is holds


@pytest.mark.parametrize(
    "field",
    [
        "attribute:tier",
        "context:device",
        "holding:card",
        "consent:sms",
        "stall_propensity",
        "abandon_probability",
        "stall_state",
        "lead_class",
        "feature:nps_last",
    ],
)
@pytest.mark.parametrize("operator", [{"equals": "x"}, {"none_of": ("x",)}, {"at_least": 0.0}])
def test_unknown_fails_unless_missing_passes(field: str, operator: dict[str, Any]) -> None:
    """A value that is not known fails every operator, and passes where the condition says so."""
    customer = situation(holdings=None, stall_propensity=math.nan)

    assert not condition_holds(condition(field, **operator), customer)
    assert condition_holds(condition(field, missing="pass", **operator), customer)


def test_a_feature_is_compared_by_its_number() -> None:
    """``feature:`` reads the model's vector."""
    customer = situation(features={**dict.fromkeys(FEATURES.names, math.nan), "calls_7d": 3.0})

    assert condition_holds(condition("feature:calls_7d", at_least=3), customer)


def test_a_feature_that_says_yes_or_no_is_a_number() -> None:
    """Vectors hold 1 and 0 for it, and rules may write either."""
    customer = situation(features={**dict.fromkeys(FEATURES.names, math.nan), "calls_7d": 1.0})

    assert condition_holds(condition("feature:calls_7d", equals=True), customer)
    assert not condition_holds(condition("feature:calls_7d", equals=False), customer)


def test_bounds_leave_something_between_them() -> None:
    """A condition that nothing can meet is refused when the file is read."""
    with pytest.raises(ValidationError, match="nothing is at least 2 and at most 1"):
        condition("attribute:age", at_least=2, at_most=1)


def test_asking_what_is_known_leaves_nothing_missing() -> None:
    """``known`` says itself what an unknown value means."""
    with pytest.raises(ValidationError, match="has no missing"):
        condition("attribute:tier", known=True, missing="pass")


@pytest.mark.parametrize("operators", [{}, {"equals": 1, "at_least": 0}, {"known": True, "equals": "gold"}])
def test_a_condition_has_one_operator(operators: dict[str, Any]) -> None:
    """None, or two that are no pair of bounds, are refused when the file is read."""
    with pytest.raises(ValidationError, match="a condition has one of"):
        condition("stage", **operators)


def test_all_failing_rules_are_listed() -> None:
    """Every failing rule of every stage is there, in its order, and those that hold are not."""
    rules = [
        rule("a", condition("stage", equals="applied")),
        rule("b", condition("stage", equals="looking")),
        rule("c", condition("state", equals="IDLE")),
        rule("d", condition("stage", equals="applied"), stage="suitability"),
    ]

    assert [one.id for one in failing_rules(rules, situation())] == ["a", "c", "d"]


def test_an_action_is_crafted_for_stages_and_stall_states() -> None:
    """An action for other stages, other stall states or likelier stalls is not applicable."""
    picky = action(stages=["applied"], stall_states=["APPLIED"], min_stall_propensity=0.5)

    failing = failing_applicability(picky, situation(stall_propensity=0.49))

    assert failing == ("applicability.stage", "applicability.stall_state", "applicability.min_stall_propensity")


def test_an_unknown_stall_propensity_meets_no_minimum() -> None:
    """Without a model an action that asks for a likely stall is not applicable, and one that asks for none is."""
    assert failing_applicability(action(min_stall_propensity=0.1), situation()) == (
        "applicability.min_stall_propensity",
    )
    assert failing_applicability(action(), situation()) == ()


def test_a_regulated_action_needs_its_disclosures() -> None:
    """A regulated action without disclosures is unsuitable for everyone."""
    assert failing_suitability(action(regulated=True)) == ("suitability.disclosures",)
    assert failing_suitability(action(regulated=True, disclosures=["credit.warning"])) == ()
