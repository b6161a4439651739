"""Placements as flags: which there are, what a context says, and the tag of what is shown."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest

from features.errors import InvalidInput, UnknownObject
from models.actions import Catalogue
from models.configuration import Configuration, built_in_configuration
from serving.ofrep import FlagDesk, Flags, TargetingKeyMissing, is_known, parse_evaluation, tag_of
from serving.ofrep_shapes import FlagEvaluation, ShownTreatment
from serving.problems import MalformedBody
from serving.schemas import MAX_PLACEMENTS

FACTS = frozenset({"device", "weather"})


@cache
def _built_in() -> Configuration:
    return built_in_configuration()


def _placing(*placements: str, **changes: Any) -> Configuration:
    """The built-in configuration, in which one treatment names placements."""
    configuration = _built_in()
    action = configuration.catalogue.by_id["explain_offer"]
    first = action.treatments[-1].model_copy(update={"placements": placements})
    chosen = action.model_copy(update={"treatments": (*action.treatments[:-1], first)} | changes)
    others = [chosen if one is action else one for one in configuration.catalogue.actions]
    catalogue = Catalogue(version=1, actions=tuple(others))
    return replace(configuration, catalogue=catalogue)


def test_flags_are_the_placements_that_treatments_name() -> None:
    """In one order, each once."""
    assert Flags.of(_placing("web/side", "web/home_banner")).keys == ("web/home_banner", "web/side")
    assert Flags.of(_built_in()).keys == ()


@pytest.mark.parametrize("key", ["web/anything", "web/home_banner", "web/a/b"])
def test_a_place_that_a_treatment_fits_is_a_flag(key: str) -> None:
    """Named or not: a treatment without placements fits any place of its channel."""
    Flags.of(_placing("web/home_banner")).require(key)


@pytest.mark.parametrize("key", ["", "web", "web/", "/home", "fax/home", "Web/home", "web.home", "web/" + "x" * 200])
def test_what_no_treatment_fits_is_no_flag(key: str) -> None:
    """It is said so, not decided on."""
    with pytest.raises(UnknownObject, match="no flag"):
        Flags.of(_placing("web/home_banner")).require(key)


def test_facts_are_what_is_declared_or_asked_for_by_a_rule() -> None:
    """Clients send whatever their other flags need: the rest is neither looked at nor kept."""
    rule = {
        "id": "appl.rain",
        "stage": "applicability",
        "all_of": [{"field": "context:weather", "equals": "rain"}],
    }
    policy = _built_in().policy
    with_rule = type(policy).model_validate(policy.model_dump() | {"rules": [rule]})

    flags = Flags.of(replace(_built_in(), policy=with_rule))
    evaluation = parse_evaluation({"context": {"targetingKey": "c", "weather": "rain", "email": "a@b"}}, flags.facts)

    assert flags.facts >= {"device", "weather"}
    assert evaluation.facts == {"weather": "rain"}


@pytest.mark.parametrize(
    ("document", "error", "told"),
    [
        ([], MalformedBody, "an object"),
        ({}, TargetingKeyMissing, "which customer"),
        ({"context": None}, TargetingKeyMissing, "which customer"),
        ({"context": {}}, TargetingKeyMissing, "which customer"),
        ({"context": {"targetingKey": ""}}, TargetingKeyMissing, "which customer"),
        ({"context": []}, InvalidInput, "an object"),
        ({"context": {"targetingKey": 7}}, InvalidInput, "text of 1 to 200 characters"),
        ({"context": {"targetingKey": "c", "headway_value": "number"}}, InvalidInput, "one of object, string, boolean"),
        ({"context": {"targetingKey": "c", "headway_chanel": "web"}}, InvalidInput, "one of headway_value"),
    ],
)
def test_what_cannot_be_evaluated(document: object, error: type[Exception], told: str) -> None:
    """Each with what was expected."""
    with pytest.raises(error, match=told):
        parse_evaluation(document, FACTS)


def test_flags_of_a_channel() -> None:
    """And no more than one decision can fill; a channel that there is not is a mistake, not an empty list."""
    many = [f"web/place_{number:02}" for number in range(MAX_PLACEMENTS)]
    flags = Flags.of(_placing("app/inbox", *many))

    assert flags.of_channel("web") == tuple(many)
    with pytest.raises(InvalidInput, match="21 placements"):
        flags.of_channel(None)
    with pytest.raises(InvalidInput, match="a channel of the configuration: web, app"):
        flags.of_channel("wbe")


def test_what_the_catalogue_has_no_more_is_not_shown() -> None:
    """Though a decision chose it a moment before."""
    selected = [{"slot": 1, "placement": "web/top", "action_id": "gone", "treatment_id": "gone_v1"}]
    answer = msgspec.json.encode({"decision_id": "d-1", "expires_at": "2026-03-01T12:30:00Z", "selected": selected})

    (flag,) = FlagDesk(_built_in).evaluated(answer, ["web/top"], "object")

    assert (flag.variant, flag.value) == ("no_action", msgspec.UNSET)


def _flag(**changes: Any) -> FlagEvaluation:
    at = {"decision_id": changes.get("decision_id", "d-1"), "expires_at": "2026-03-01T12:30:00Z"}
    shown = ShownTreatment(action_id="a", treatment_id="t", placement="web/top", disclosures=(), **at)
    return FlagEvaluation(key="web/top", variant="t", metadata=at, value=changes.get("value", shown))


def test_the_tag_changes_with_what_is_shown() -> None:
    """And with the decision to show it, whose id comes back with the exposure; not with one to show nothing."""
    nothing = [_flag(value=msgspec.UNSET, decision_id=one) for one in ("d-1", "d-2")]
    shown = [_flag(), _flag(decision_id="d-2"), _flag(value="t"), _flag(value=True)]

    assert tag_of(nothing[:1]) == tag_of(nothing[1:])
    assert len({tag_of([one]) for one in shown} | {tag_of(nothing), tag_of(nothing[:1])}) == 6


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, False),
        ("", False),
        ('W/"abc"', True),
        ('"abc"', True),
        ("abc", True),
        ('"x", W/"abc"', True),
        ("*", True),
        ('"abcd"', False),
    ],
)
def test_a_tag_is_found_in_a_header(header: str | None, found: bool) -> None:
    """As clients echo it, some without its quotes."""
    assert is_known('W/"abc"', header) is found
