"""What people are told of a policy's value: in a few lines, and on a page."""

from __future__ import annotations

from typing import Any

from training.policy_page import evaluation_lines, policy_page

REASON = {"code": "low_share", "value": 0.01, "threshold": 0.05, "text": "12 effective decisions of 1200 (1.0%)"}


def interval(value: float, low: float, high: float) -> dict[str, float]:
    """An estimate between two bounds."""
    return {"value": value, "low": low, "high": high}


def report(**given: Any) -> dict[str, Any]:
    """Of 1,200 decisions."""
    weighted = {"ess": 300.0, "largest_weight": 9.0, "share_clipped": 0.0, "cut": None}
    fields: dict[str, Any] = {
        "id": "ope-0123456789abcdef",
        "journey": "card",
        "unit": "money per decision over doing nothing",
        "question": {"policy": None, "actions": None, "version": 3, "learned_until": None},
        "data": {
            "decisions": 1_200,
            "customers": 900,
            "first_decided_at": "2026-03-01T12:00:00.000000Z",
            "last_decided_at": "2026-03-04T12:00:00.000000Z",
            "arms": {"champion": 1_200},
            "skipped": {"bundle_missing": 7, "undeclared": 0},
        },
        "params": {"level": 0.95},
        "refused": [],
        "estimates": {
            "DR": {**interval(2.0, 1.0, 3.0), **weighted},
            "Switch-DR": {**interval(1.9, 1.0, 3.0), **weighted, "share_clipped": 0.125, "cut": 4.0},
        },
        "logging": interval(1.0, 0.5, 1.5),
        "difference": interval(1.0, 0.25, 1.75),
        "changed": 0.4,
        "weights": {"ess": 400.0, "mean": 1.0, "largest": 9.0, "quantiles": {"0.5": 0.5}, "largest_share": 0.2},
        "overlap": {"unsupported": 0.001, "untreated_ess": 150.0},
        "baselines": {
            "random": {
                "value": interval(0.5, 0.1, 0.9),
                "difference": interval(-0.5, -1.0, 0.0),
                "lead": interval(1.5, 0.5, 2.5),
                "ess": 200.0,
                "refused": [],
            },
            "rules_only": {"value": None, "difference": None, "lead": None, "ess": 12.0, "refused": [REASON]},
        },
        "actions": [{"action_id": "call", "channel": "call", "policy": 0.5, "logged": 0.25, "taken": 0.26}],
        "stages": {"applied": {"decisions": 30, "value": None, "difference": None, "refused": None}},
        "slates": None,
        "slates_reason": "none",
    }
    return {**fields, **given}


def refused() -> dict[str, Any]:
    """A report without any number."""
    nothing = dict.fromkeys(("estimates", "logging", "difference", "baselines", "stages"))
    return report(refused=[REASON], **nothing)


def test_a_value_is_told_with_what_it_is_compared_with() -> None:
    """One line for each, what was clipped and what was left out aloud."""
    lines = evaluation_lines(report())

    assert lines[0] == (
        "ope-0123456789abcdef: model version 3 on 1,200 decisions of 900 customers; left out: 7 bundle_missing"
    )
    assert lines[1] == "DR        +2.000 [1.000, 3.000] per decision over doing nothing, ESS 300"
    assert lines[2].endswith("ESS 300, 12.5% clipped")
    assert lines[3] == "who decided earned +1.000 [0.500, 1.500]; the difference is +1.000 [0.250, 1.750]"
    assert lines[4] == "random: +0.500 [0.100, 0.900]; the policy earns +1.500 [0.500, 2.500] more"
    assert lines[5] == "rules_only: refused"


def test_a_refusal_is_told_without_numbers() -> None:
    """Only the reasons."""
    assert evaluation_lines(refused())[1:] == ["refused:", "  low_share: 12 effective decisions of 1200 (1.0%)"]


def test_the_page_says_first_what_was_found() -> None:
    """In money, against what was really done."""
    page = policy_page(report())

    assert "it would have earned 2.00 per decision more than doing nothing (between 1.00 and 3.00)" in page
    assert "That is 1.00 more than what was really done earned (between 0.25 and 1.75)." in page
    assert "decisions of 2026-03-01 to 2026-03-04" in page
    assert page.count("<svg") == 2


def test_chance_is_not_told_as_a_gain_or_a_loss() -> None:
    """An interval that holds 0."""
    even = policy_page(report(difference=interval(0.1, -0.2, 0.4)))
    worse = policy_page(report(difference=interval(-0.5, -0.9, -0.1)))

    assert "the difference, +0.100 [-0.200, 0.400], may be chance" in even
    assert "That is 0.50 less than what was really done earned" in worse


def test_a_page_without_a_number_says_why() -> None:
    """And shows what the log is like."""
    page = policy_page(refused())

    assert "cannot tell what this policy would have earned" in page
    assert "Why there is no number" in page
    assert "12 effective decisions of 1200" in page
    assert "<svg" not in page


def test_what_is_not_valued_says_why_in_its_row() -> None:
    """A simple policy that the log cannot value, and a stage that is too small."""
    page = policy_page(report())

    assert "low_share" in page
    assert "too few decisions" in page


def test_slates_are_told_where_there_are_any() -> None:
    """With what the arm itself earned; or the reasons."""
    slates = {"about": "About slates.", "decisions": 500, "slots": 3, "logging": interval(1.0, 0.5, 1.5)}
    valued = policy_page(report(slates={**slates, "estimates": {"RIPS": interval(2.5, 2.0, 3.0)}, "refused": []}))
    not_valued = policy_page(report(slates={**slates, "estimates": None, "refused": [REASON]}))

    assert "500 decisions of up to 3 slots" in valued
    assert "RIPS" in valued
    assert "RIPS" not in not_valued
    assert "what the arm itself earned" in not_valued
