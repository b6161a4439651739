"""Mappings against taxonomy, journeys and catalogue, and where mappings are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from features.errors import MappingError
from features.journeys import Journeys
from features.mapping import mapping_folder, read_mapping
from features.mapping_checks import mapping_problems
from features.yaml_files import YamlDocument
from tests.histories import TAXONOMY, journey
from tests.imports import EVENT, file_of, mapping_of

_JOURNEYS = Journeys(version=1, journeys=(journey(),))
_PLAIN = {"customer": {"column": "who"}, "at": {"column": "when"}}
_FOLLOWED = {"when": [{"column": "what", "equals": "x"}], "at": {"column": "when"}, "within": "1d"}


def _found(**table: Any) -> list[tuple[str, str, str]]:
    """Path, value and expectation of every problem of a mapping with one table."""
    document = YamlDocument("mapping.yaml", {}, {(): 1})
    problems = mapping_problems(
        mapping_of(table), document, taxonomy=TAXONOMY, journeys=_JOURNEYS, treatments={"sms_nudge"}
    )
    return [(problem.path, problem.value, problem.expected) for problem in problems]


def test_a_mapping_whose_names_are_declared_is_right() -> None:
    """Names that lead somewhere, and texts that come from the file, are no problem."""
    decision = {**_PLAIN, "id": {"column": "id"}, "journey": "application", "chosen": {"column": "arm"}}
    outcome = {**_PLAIN, "outcome": "paid", "value": 1}

    assert _found(events=[EVENT], decisions=[decision], outcomes=[outcome]) == []


@pytest.mark.parametrize(
    ("table", "path", "value", "expected"),
    [
        ({"events": [{**_PLAIN, "kind": "visit"}]}, "events[0].kind", '"visit"', "did you mean visited?"),
        (
            {"events": [{**_PLAIN, "kind": {"column": "what", "lookup": {"V": "visited", "P": "payd"}}}]},
            "events[0].kind.lookup.P",
            '"payd"',
            "did you mean paid?",
        ),
        ({"events": [{**EVENT, "channel": "fax"}]}, "events[0].channel", '"fax"', "one of phone, web"),
        (
            {"events": [{**_PLAIN, "kind": "paid", "facts": {"amout": {"column": "a"}}}]},
            "events[0].facts.amout",
            '"amout"',
            "a fact of paid: one of amount; did you mean amount?",
        ),
        (
            {"attributes": [{**_PLAIN, "values": {"agee": {"column": "a"}}}]},
            "attributes[0].values.agee",
            '"agee"',
            "did you mean age?, or holding:<name>",
        ),
        (
            {"attributes": [{**_PLAIN, "per": "group", "values": {"age": {"column": "a"}}}]},
            "attributes[0].per",
            '"group"',
            "row, or a table with group_by",
        ),
        ({"outcomes": [{**_PLAIN, "outcome": "pay", "value": 1}]}, "outcomes[0].outcome", '"pay"', "one of paid"),
        (
            {"decisions": [{**_PLAIN, "id": "1", "journey": "loan", "chosen": "sms_nudge"}]},
            "decisions[0].journey",
            '"loan"',
            "one of application",
        ),
        (
            {"decisions": [{**_PLAIN, "id": "1", "journey": "application", "chosen": "sms"}]},
            "decisions[0].chosen",
            '"sms"',
            "one of no_action, sms_nudge",
        ),
        (
            {
                "decisions": [
                    {
                        **_PLAIN,
                        "id": "1",
                        "journey": "application",
                        "chosen": "sms_nudge",
                        "candidates": [{"treatment": "fax"}],
                    }
                ]
            },
            "decisions[0].candidates[0].treatment",
            '"fax"',
            "one of no_action, sms_nudge",
        ),
        (
            {
                "decisions": [
                    {
                        **_PLAIN,
                        "id": "1",
                        "journey": "application",
                        "chosen": {"followed_by": {**_FOLLOWED, "then": "sms_nudge", "otherwise": "no_action"}},
                    }
                ]
            },
            "decisions[0].chosen.followed_by",
            '"followed_by"',
            "a table with group_by: it looks at later rows",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(table: dict[str, Any], path: str, value: str, expected: str) -> None:
    """Undeclared kinds, channels, facts, attributes, outcomes, journeys and treatments are named where they stand."""
    ((where, got, wanted),) = _found(**table)

    assert (where, got) == (f"tables[0].{path}", value)
    assert expected in wanted


def test_a_mapping_is_found_by_name_or_path(tmp_path: Path) -> None:
    """A shipped name, a file and a folder with a mapping.yaml all lead to a folder and a file in it."""
    path = file_of(tmp_path, "version: 1\n", "mapping.yaml")

    assert mapping_folder("hillstrom")[0].name == "hillstrom"
    assert mapping_folder(str(path)) == (tmp_path, "mapping.yaml")
    assert mapping_folder(str(tmp_path)) == (tmp_path, "mapping.yaml")


def test_an_unknown_mapping_lists_the_shipped_ones() -> None:
    """A wrong name is refused with what there is."""
    with pytest.raises(MappingError, match=r"one of bpic2012, .*; did you mean hillstrom"):
        mapping_folder("hilstrom")


def test_a_bad_mapping_file_lists_its_problems(tmp_path: Path) -> None:
    """Unknown keys, zones and encodings are named by line."""
    head = "version: 1\nsource: shop\ntitle: x\ntime_zone: Mars\n"
    text = f"{head}tables:\n  - format: csv\n    encoding: utf-99\n    event: []\n"
    file_of(tmp_path, text, "mapping.yaml")

    found = [(problem.line, problem.path) for problem in read_mapping(tmp_path).problems]

    assert found == [(4, "time_zone"), (7, "tables[0].encoding"), (8, "tables[0].event")]
