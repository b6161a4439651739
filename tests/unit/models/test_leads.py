"""Lead qualification: points for what is met, nothing for what is unknown, and no class without what is required."""

from __future__ import annotations

import math
from typing import Any

import pytest

from models.leads import LeadStanding, lead_standing
from models.policy import NOT_QUALIFIED, LeadQualification
from models.situation import Situation
from tests.decisions import known, situation

LEADS = LeadQualification.model_validate(
    {
        "criteria": [
            {
                "id": "solvent",
                "title": "Solvent",
                "required": True,
                "all_of": [{"field": "attribute:arrears", "equals": False}],
            },
            {
                "id": "adult",
                "title": "Of age, and a member",
                "points": 40,
                "all_of": [{"field": "attribute:age", "at_least": 18}, {"field": "attribute:member", "equals": True}],
            },
            {
                "id": "loyal",
                "title": "Will not leave",
                "points": 30,
                "all_of": [{"field": "abandon_probability", "at_most": 0.5}],
            },
        ],
        "classes": [{"id": "WARM", "at_least": 40}, {"id": "HOT", "at_least": 70}],
    }
)


def _customer(abandon: float = math.nan, **attributes: Any) -> Situation:
    return situation(attributes=known(**attributes), abandon_probability=abandon)


@pytest.mark.parametrize(
    ("customer", "standing"),
    [
        (
            _customer(0.1, arrears=False, age=20.0, member=True),
            LeadStanding("HOT", 70.0, ("solvent", "adult", "loyal"), (), ()),
        ),
        (
            _customer(arrears=False, age=20.0, member=True),
            LeadStanding("WARM", 40.0, ("solvent", "adult"), (), ("loyal",)),
        ),
        (
            _customer(0.9, arrears=False, age=20.0, member=True),
            LeadStanding("WARM", 40.0, ("solvent", "adult"), ("loyal",), ()),
        ),
        (
            _customer(0.1, arrears=False, age=17.0),
            LeadStanding(NOT_QUALIFIED, 30.0, ("solvent", "loyal"), ("adult",), ()),
        ),
        (
            _customer(0.1, arrears=False, age=20.0),
            LeadStanding(NOT_QUALIFIED, 30.0, ("solvent", "loyal"), (), ("adult",)),
        ),
        (
            _customer(0.1, arrears=True, age=20.0, member=True),
            LeadStanding(NOT_QUALIFIED, 70.0, ("adult", "loyal"), ("solvent",), ()),
        ),
        (
            _customer(0.1, age=20.0, member=True),
            LeadStanding(NOT_QUALIFIED, 70.0, ("adult", "loyal"), (), ("solvent",)),
        ),
    ],
    ids=["all met", "one unknown", "one unmet", "one condition fails", "one half known", "required", "maybe required"],
)
def test_where_a_lead_stands(customer: Situation, standing: LeadStanding) -> None:
    """Met, unmet and unknown are told apart; a required criterion that may be missed leaves nobody qualified."""
    assert lead_standing(LEADS, customer) == standing
