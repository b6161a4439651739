"""Who is asked for: filters that are refused with every problem, and what the others select."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.actions import Condition
from models.audience_columns import COLUMN_NAMES, DEFAULT_COLUMNS
from models.audience_selection import is_selected, selection_of
from models.audiences import AudienceRequest, filter_problems
from models.configuration import built_in_configuration
from models.rule_checks import Names
from models.rulebooks import feature_sets_of
from tests.decisions import situation

JOURNEY = "credit_card_application"
REGIONS = ("north", "south")
STAGES = ("applied", "verified")


def names() -> Names:
    """Of the built-in configuration."""
    configuration = built_in_configuration()
    features = {one: features.names for one, features in feature_sets_of(configuration).items()}
    return Names.of(configuration.taxonomy, configuration.journeys, features, configuration.policy)


GOOD: list[dict[str, Any]] = [
    {"field": "stage", "one_of": ["applied", "verified"]},
    {"field": "state", "equals": "IDLE"},
    {"field": "stall_state", "equals": "DOCUMENTS_MISSING"},
    {"field": "stall_propensity", "at_least": 0.4},
    {"field": "feature:hours_since_progress", "at_least": 48, "at_most": 480},
    {"field": "attribute:region", "none_of": ["abroad"], "missing": "pass"},
    {"field": "attribute:open_complaint", "equals": False},
    {"field": "holding:card_protection", "equals": True},
    {"field": "consent:email", "equals": "granted"},
    {"field": "lead_class", "one_of": ["HOT"]},
    {"field": "attribute:tenure_years", "known": True},
]


def test_what_rules_may_ask_a_filter_may() -> None:
    """The same words, with the same values."""
    assert filter_problems({"all_of": GOOD}, names(), JOURNEY, path="filter") == []
    assert len(selection_of(GOOD)) == len(GOOD)


@pytest.mark.parametrize(
    ("condition", "place", "expected"),
    [
        ({"field": "channel", "equals": "web"}, "field", "known of a customer"),
        ({"field": "context:device", "equals": "mobile"}, "field", "known of a customer"),
        ({"field": "journey_status", "equals": "open"}, "field", "only customers whose journey is open"),
        ({"field": "attribute:email_hash", "equals": "x"}, "field", "attribute: and"),
        ({"field": "attribute:region", "equals": "moon"}, "equals", "north"),
        ({"field": "attribute:region", "at_least": 3}, "at_least", "a category, no number"),
        ({"field": "stage", "one_of": ["applied", "used_up"]}, "one_of[1]", "used"),
        ({"field": "feature:nonsense", "at_least": 1}, "field", "a feature of"),
        ({"field": "stall_propensity", "equals": "high"}, "equals", "a number"),
        ({"field": "stage"}, "", "a condition has one of"),
        ({"field": "stage", "equals": "applied", "why": 1}, "why", ""),
    ],
)
def test_a_filter_that_says_nothing_is_refused(condition: dict[str, Any], place: str, expected: str) -> None:
    """Nor one that names something personal; the place is that of the condition in the body."""
    (problem,) = filter_problems({"all_of": [GOOD[0], condition]}, names(), JOURNEY, path="filter")

    assert problem.path == ".".join(filter(None, ["filter.all_of[1]", place]))
    assert expected in problem.expected
    assert (problem.file, problem.line) == (None, None)


def test_all_problems_are_told_at_once() -> None:
    """And what is no filter at all, or has too many conditions, is refused too."""
    bad = [{"field": "attribute:region", "equals": "moon"}, {"field": "stage", "equals": "nowhere"}]

    assert [one.path for one in filter_problems({"all_of": bad}, names(), JOURNEY, path="filter")] == [
        "filter.all_of[0].equals",
        "filter.all_of[1].equals",
    ]
    for content in ("north", [1], {"any_of": []}, {"all_of": GOOD[:1] * 33}):
        assert filter_problems(content, names(), JOURNEY, path="filter")


@given(
    region=st.sampled_from([*REGIONS, None]),
    stage=st.sampled_from(STAGES),
    stall=st.sampled_from([0.0, 0.3, 0.7, math.nan]),
    wanted=st.lists(st.sampled_from(REGIONS), min_size=1, unique=True),
    least=st.sampled_from([0.0, 0.3, 0.9]),
    stages=st.lists(st.sampled_from(STAGES), min_size=1, unique=True),
    is_kind=st.booleans(),
)
def test_a_filter_selects_as_it_says(
    region: str | None, stage: str, stall: float, wanted: list[str], least: float, stages: list[str], is_kind: bool
) -> None:
    """All conditions hold; what is unknown fails one, unless it says that it passes."""
    missing: Any = "pass" if is_kind else "fail"
    conditions = (
        Condition(field="attribute:region", one_of=tuple(wanted), missing=missing),
        Condition(field="stall_propensity", at_least=least),
        Condition(field="stage", one_of=tuple(stages)),
    )
    stands = situation(attributes={} if region is None else {"region": region}, stall_propensity=stall, stage=stage)

    expected = (is_kind if region is None else region in wanted) and stall >= least and stage in stages
    assert is_selected(conditions, stands) == expected
    assert is_selected((), stands)


def test_columns_are_of_the_closed_set() -> None:
    """Also those of whoever asks for none; nothing in them is an attribute of a person."""
    attributes = set(built_in_configuration().taxonomy.attributes)

    assert set(DEFAULT_COLUMNS) < set(COLUMN_NAMES)
    assert attributes.isdisjoint(COLUMN_NAMES)
    assert AudienceRequest(journey_id=JOURNEY).columns == DEFAULT_COLUMNS
