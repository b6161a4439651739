"""Declared reasons: what is refused and with which words, and that no wording changes a version."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from features.errors import ConfigurationError
from features.mapping import shipped_mappings
from features.reason_templates import ReasonTemplate
from models.configuration import built_in_configuration, read_configuration

FEATURES_FOLDER = Path(__file__).parents[3] / "features"
HERE = "journeys[0].reason_templates[0]"


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """A folder with the built-in files, in whose journeys a text is replaced."""
    folder = tmp_path / "edited"
    shutil.copytree(FEATURES_FOLDER / "defaults", folder)
    text = (folder / "journeys.yaml").read_text()
    assert old in text
    (folder / "journeys.yaml").write_text(text.replace(old, new, 1))
    return folder


def template(**changes: object) -> ReasonTemplate:
    """A template of one feature of the stall, unless told otherwise."""
    fields = {"code": "SLOW", "features": ["dwell"], "direction": "raises", "text": "Slow"}
    return ReasonTemplate.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("old", "new", "path", "expected"),
    [
        (
            "[waiting_on_us_hours, waited_on_us_hours]",
            "[waiting_on_us_hour]",
            f"{HERE}.features[0]",
            "did you mean waiting_on_us_hours?",
        ),
        (
            "[waiting_on_us_hours, waited_on_us_hours]",
            "[waiting_on_us_hours, waiting_on_us_hours]",
            f"{HERE}.features[1]",
            "ids that are unique here",
        ),
        ("[waiting_on_us_hours, waited_on_us_hours]", "[]", f"{HERE}.features", "at least 1 item"),
        ("code: SILENT_FOR_LONG", "code: WAITING_ON_US", "journeys[0].reason_templates[1]", "ids that are unique here"),
        ("code: WAITING_ON_US", "code: waiting", f"{HERE}.code", "pattern"),
        ("code: WAITING_ON_US", "code: UPLIFT_LARGE", f"{HERE}.code", "does not begin like those of every decision"),
        ("direction: raises", "direction: up", f"{HERE}.direction", "one of lowers, raises"),
        ("direction: raises", "quantity: stal\n        direction: raises", f"{HERE}.quantity", "did you mean stall?"),
        (
            "direction: raises",
            "direction: raises\n        action: nudge_documents",
            HERE,
            "an action only where the quantity is effect",
        ),
        (
            "direction: raises",
            "direction: raises\n        quantity: effect\n        action: nudge_document",
            f"{HERE}.action",
            "an action of credit_card_application: one of ",
        ),
        ("at_least: 1\n", "at_least: 1\n        at_most: 0\n", HERE, "1 is above 0"),
        ("at_least: 1\n", "at_last: 1\n", f"{HERE}.at_last", "did you mean at_least?"),
        ("for {value}", "for {hours}", f"{HERE}.text", "no other placeholder than {value}"),
        ("for {value}", "for {value:.2f}", f"{HERE}.text", "no other placeholder than {value}"),
        ("for {value}", "for {}", f"{HERE}.text", "no other placeholder than {value}"),
        ("for {value}", "for {value", f"{HERE}.text", "a text without loose braces"),
    ],
)
def test_a_bad_template_is_refused_by_place(tmp_path: Path, old: str, new: str, path: str, expected: str) -> None:
    """File, line, path, and what would have been right."""
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(edited(tmp_path, old, new), origin="here")

    (problem,) = raised.value.problems
    assert (problem.file, problem.path) == ("here/journeys.yaml", path)
    assert problem.line is not None
    assert expected in problem.expected


def test_other_words_change_no_version(tmp_path: Path) -> None:
    """Nothing learns or decides by them: no other snapshot, model or home is called for."""
    folder = edited(tmp_path, "Has been waiting on us for {value}", "Waits since {value}")

    configuration = read_configuration(folder, origin="here")

    assert configuration.journeys.journeys[0].reason_templates[0].text == "Waits since {value}"
    assert configuration.versions == built_in_configuration().versions


def test_the_shipped_journeys_have_reasons() -> None:
    """The built-in journey some twenty, of both quantities and directions; the loan applications a few."""
    (card,) = built_in_configuration().journeys.journeys
    (loan,) = read_configuration(shipped_mappings()["bpic2012"], origin="bpic2012").journeys.journeys

    kinds = {(one.quantity, one.direction) for one in card.reason_templates}
    assert len(card.reason_templates) >= 15
    assert kinds == {("stall", "raises"), ("stall", "lowers"), ("effect", "raises"), ("effect", "lowers")}
    assert len(loan.reason_templates) >= 4


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({}, math.nan, True),
        ({"at_least": 2}, 2.0, True),
        ({"at_least": 2}, 1.9, False),
        ({"at_most": 2}, 2.0, True),
        ({"at_most": 2}, 2.1, False),
        ({"at_least": 0}, math.nan, False),
        ({"at_most": 0}, math.nan, False),
    ],
)
def test_bounds_are_inclusive_and_unknown_is_outside(bounds: dict[str, float], value: float, expected: bool) -> None:
    """A template with a bound is never said of what is not known."""
    assert template(**bounds).holds(value) is expected
