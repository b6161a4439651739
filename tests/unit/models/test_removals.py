"""A marketer's word for whatever stands in the way, and the page that explains each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.actions import Action
from models.audience_columns import COLUMNS
from models.funnel import Considered
from models.removals import MEANINGS, REMOVALS, removal_of
from tests.decisions import action, policy

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "audiences.md"
POLICY = policy(
    contact_policy={
        "caps": [{"id": "cap.week", "contacts": 3, "period": "7d"}],
        "suppressions": [{"id": "hold.no", "after": "negative", "scope": "action", "hold": "30d"}],
    },
    rules=[
        {
            "id": "elig.open",
            "stage": "eligibility",
            "all_of": [{"field": "feature:journey_status", "at_least": 1, "at_most": 1}],
        },
        {"id": "elig.adult", "stage": "eligibility", "all_of": [{"field": "attribute:age", "at_least": 18}]},
        {"id": "suit.member", "stage": "suitability", "all_of": [{"field": "attribute:member", "equals": True}]},
    ],
)


def considered(stage: Any, *rule_ids: str, of: Action | None = None) -> Considered:
    """A candidate that fell there."""
    offered = of or action(
        rules=[
            {"id": "elig.has", "stage": "eligibility", "all_of": [{"field": "holding:card", "equals": False}]},
            {"id": "appl.slow", "stage": "applicability", "all_of": [{"field": "state", "equals": "IDLE"}]},
        ]
    )
    return Considered(offered, offered.treatments[0], stage, rule_ids)


@pytest.mark.parametrize(
    ("stage", "rule_ids", "expected"),
    [
        ("catalogue", ("catalogue.validity",), "not_offered"),
        ("catalogue", ("request.direction",), "not_offered"),
        ("eligibility", ("elig.open",), "not_in_journey"),
        ("eligibility", ("elig.has",), "existing_customer"),
        ("eligibility", ("elig.adult",), "product_mismatch"),
        ("eligibility", ("elig.adult", "elig.has", "elig.open"), "not_in_journey"),
        ("applicability", ("applicability.stage",), "not_now"),
        ("applicability", ("appl.slow",), "not_now"),
        ("suitability", ("suit.member",), "product_mismatch"),
        ("suitability", ("suitability.disclosures",), "product_mismatch"),
        ("contact_policy", ("contact.objection",), "no_consent"),
        ("contact_policy", ("contact.consent.email",), "no_consent"),
        ("contact_policy", ("contact.quiet_hours", "cap.week", "hold.no"), "suppressed"),
        ("contact_policy", ("contact.quiet_hours", "cap.week"), "over_contacted"),
        ("contact_policy", ("contact.quiet_hours",), "quiet_hours"),
        ("contact_policy", ("contact.channel_not_outbound",), "not_reachable"),
        ("capacity", ("limit.phone",), "no_capacity"),
    ],
)
def test_each_rule_has_a_word(stage: str, rule_ids: tuple[str, ...], expected: str) -> None:
    """Of several rules the first word in the order of the closed set."""
    assert removal_of(considered(stage, *rule_ids), POLICY) == expected


@pytest.mark.parametrize("stage", [None, "scoring"])
def test_what_the_funnel_lets_through_has_none(stage: str | None) -> None:
    """Nobody may ask."""
    with pytest.raises(ValueError, match="was not dropped"):
        removal_of(considered(stage), POLICY)


def test_the_reference_has_every_word_and_column() -> None:
    """In their order, with what they mean."""
    text = REFERENCE.read_text(encoding="utf-8")

    assert "\n".join(f"| `{one}` | {MEANINGS[one]} |" for one in REMOVALS) in text
    assert "\n".join(f"| `{one.name}` | {one.type} | {one.meaning} |" for one in COLUMNS) in text
    assert set(MEANINGS) == set(REMOVALS)
