"""Reasons in words: only where the model bears them out, strongest first, with values as people read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.reason_templates import ReasonTemplate
from models.stated_reasons import MOST, STRONGEST, StatedReason, stated_reasons, talking_points_of, value_text
from tests.histories import FEATURES

PLACES = {name: place for place, name in enumerate(FEATURES.names)}


def template(code: str, *features: str, **changes: Any) -> ReasonTemplate:
    """A template of what raises the stall, unless told otherwise."""
    fields = {"code": code, "features": features, "direction": "raises", "text": f"{code.lower()} {{value}}"}
    return ReasonTemplate.model_validate(fields | changes)


def numbers(**values: float) -> np.ndarray:
    """A vector, or contributions, with some places set and 0 elsewhere."""
    found = np.zeros(len(FEATURES.names))
    for name, value in values.items():
        found[PLACES[name]] = value
    return found


def stated(*templates: ReasonTemplate, by_feature: np.ndarray, **of: Any) -> list[str]:
    """The codes of what is stated of a customer of whom every feature is 2."""
    vector = np.full(len(FEATURES.names), 2.0)
    found = stated_reasons(templates, FEATURES, vector, by_feature, **({"quantity": "stall"} | of))
    return [reason.code for reason in found]


def test_the_sign_has_to_fit() -> None:
    """What lowers the stall is no reason why it is high, nor is what does nothing."""
    templates = (
        template("UP", "loops"),
        template("DOWN", "revisits", direction="lowers"),
        template("FLAT", "events_total"),
    )

    assert stated(*templates, by_feature=numbers(loops=0.3, revisits=-0.2)) == ["UP", "DOWN"]
    assert stated(*templates, by_feature=numbers(loops=-0.3, revisits=0.2)) == []


def test_the_strongest_comes_first_and_equal_ones_by_code() -> None:
    """Whatever the order of the templates."""
    templates = (template("B", "loops"), template("C", "events_total"), template("A", "revisits"))
    by_feature = numbers(loops=0.2, revisits=0.2, events_total=0.3)

    assert stated(*templates, by_feature=by_feature) == ["C", "A", "B"]
    assert stated(*reversed(templates), by_feature=by_feature) == ["C", "A", "B"]


def test_features_of_one_template_count_together() -> None:
    """Contributions add up, also against each other."""
    both = template("BOTH", "loops", "revisits")

    assert stated(
        both, template("ONE", "events_total"), by_feature=numbers(loops=0.2, revisits=0.2, events_total=0.3)
    ) == [
        "BOTH",
        "ONE",
    ]
    assert stated(both, by_feature=numbers(loops=0.2, revisits=-0.3)) == []


def test_what_is_weak_beside_the_others_is_not_said() -> None:
    """At most as many features may be stronger as stand before the last of the strongest."""
    strong = {name: 1.0 for name in FEATURES.names[:STRONGEST]}

    assert stated(template("WEAK", "loops"), by_feature=numbers(**strong, loops=0.9)) == []
    del strong[FEATURES.names[0]]
    assert stated(template("WEAK", "loops"), by_feature=numbers(**strong, loops=0.9)) == ["WEAK"]


def test_no_more_than_a_person_reads() -> None:
    """The strongest few."""
    names = FEATURES.names[: MOST + 2]
    by_feature = numbers(**{name: 1.0 + place for place, name in enumerate(names)})

    found = stated(*(template(f"R{place}", name) for place, name in enumerate(names)), by_feature=by_feature)

    assert found == [f"R{place}" for place in range(MOST + 1, 1, -1)]


def test_a_bound_is_on_the_first_feature() -> None:
    """Everybody's features are 2 here."""
    by_feature = numbers(loops=0.2)

    assert stated(template("HIGH", "loops", at_least=3), by_feature=by_feature) == []
    assert stated(template("LOW", "loops", at_most=2), by_feature=by_feature) == ["LOW"]


def test_a_quantity_has_its_own_reasons() -> None:
    """Those of the effect of another action are not said of this one."""
    templates = (
        template("STALL", "loops"),
        template("ANY", "loops", quantity="effect"),
        template("OTHERS", "loops", quantity="effect", action="call"),
    )
    by_feature = numbers(loops=0.2)

    assert stated(*templates, by_feature=by_feature) == ["STALL"]
    assert stated(*templates, by_feature=by_feature, quantity="effect", action_id="nudge") == ["ANY"]
    assert stated(*templates, by_feature=by_feature, quantity="effect", action_id="call") == ["ANY", "OTHERS"]


def test_talking_points_are_given_once() -> None:
    """Those of the strongest reason first."""
    reasons = [
        StatedReason(code=code, text=code, contribution=1.0, talking_points=points)
        for code, points in (("A", ("x", "y")), ("B", ("y", "z")))
    ]

    assert talking_points_of(reasons) == ("x", "y", "z")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("waiting_on_us_hours", 0.25, "15 minutes"),
        ("waiting_on_us_hours", 1.0, "1 hour"),
        ("waiting_on_us_hours", 30.4, "30 hours"),
        ("waiting_on_us_hours", 80.0, "3 days"),
        ("loops", 3.0, "3"),
        ("customer_events_decayed_7d", 1.26, "1.3"),
        ("sentiment_last", -0.456, "-0.46"),
        ("stalled_now", 1.0, "yes"),
        ("stalled_now", 0.0, "no"),
        ("preferred_channel", 1.0, "phone"),
        ("attribute_tier", 1.0, "gold"),
        ("attribute_tier", 7.0, "7"),
        ("attribute_member", 1.0, "yes"),
        ("attribute_age", 41.0, "41 years"),
        ("value_total", 12345.6, "12,346"),
        ("nps_last", math.nan, "unknown"),
    ],
)
def test_values_have_their_units(name: str, value: float, expected: str) -> None:
    """Hours in what suits them, codes as their words, amounts with theirs."""
    assert value_text(FEATURES, name, value) == expected
