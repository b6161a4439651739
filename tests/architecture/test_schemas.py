"""The published JSON Schemas: current, explained, and of one mind with the loader on shipped files and on mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from features.editor_schemas import DIALECT, with_schema
from features.yaml_files import parse_yaml, read_yaml
from models.configuration_schemas import MODELS, schema_text
from tests.json_schema import violations
from training.config_commands import all_schemas
from training.params import PARAMS_FILE, Params

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "schemas"
LOADED: dict[str, type[BaseModel]] = {**MODELS, PARAMS_FILE.name: Params}
SHIPPED = sorted([*(ROOT / "features").rglob("*.yaml"), PARAMS_FILE])
SCHEMAS = all_schemas()


def _schema_of(file: str) -> dict[str, Any]:
    return SCHEMAS[Path(file).with_suffix(".json").name]


def _violations(data: object, file: str) -> list[str]:
    schema = _schema_of(file)
    return list(violations(data, schema, schema))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_published_schemas_are_current() -> None:
    """As the models are now, and no others."""
    published = {path.name: path.read_text(encoding="utf-8") for path in PUBLISHED.glob("*.json")}

    assert published == {name: schema_text(schema) for name, schema in SCHEMAS.items()}, (
        "run: headway config schemas --output docs/schemas"
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_of_a_schema_is_explained(name: str) -> None:
    """An editor has something to say on each, and refuses every other."""
    schema = SCHEMAS[name]
    shapes = [shape for shape in (schema, *schema.get("$defs", {}).values()) if "properties" in shape]

    unexplained = [(shape["title"], key) for shape in shapes for key in shape["properties"] if not _said(shape, key)]
    assert (schema["$schema"], schema["title"]) == (DIALECT, Path(name).with_suffix(".yaml").name)
    assert unexplained == []
    assert [shape["title"] for shape in shapes if shape["additionalProperties"] is not False] == []


@pytest.mark.parametrize("path", SHIPPED, ids=_name)
def test_every_shipped_file_leads_to_its_schema_and_keeps_to_it(path: Path) -> None:
    """Its first line names a file that is there, and the schema allows what it says."""
    text = path.read_text(encoding="utf-8")
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.partition("\n")[0])

    assert found is not None
    assert (path.parent / found[1]).resolve() == PUBLISHED / path.with_suffix(".json").name
    assert _violations(parse_yaml(text, file=path.name).data, path.name) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("journeys.yaml", "stall_after: 1h", "stall_after: 1 hour"),
        ("journeys.yaml", "stall_after: 1h", "stall_after: 3600"),
        ("journeys.yaml", "id: submitted", "id: Submitted"),
        ("journeys.yaml", "stall_state: SUBMISSION_OPEN", "stall_state: open"),
        ("journeys.yaml", "abandon_after:", "abandoned_after:"),
        ("journeys.yaml", "window: 30d, value: 400", "window: 30d, value: -1"),
        ("journeys.yaml", "exits:", "exits: [declined]\n    ways_out:"),
        ("journeys.yaml", "version: 1", "version: 2"),
        ("taxonomy.yaml", "kinds:", "kinds:\n  Bad-Name: {title: x}"),
        ("taxonomy.yaml", "role: operation", "role: operator"),
        ("taxonomy.yaml", "dtype: text", "dtype: string"),
        ("actions.yaml", "kind: call", "kind: phone"),
        ("actions.yaml", "stages: [offer_sent]", "stages: offer_sent"),
        ("actions.yaml", "contact_cost: 6.00", "contact_cost: cheap"),
        ("policy.yaml", "epsilon: 0.05", "epsilon: 1.5"),
        ("policy.yaml", 'start: "20:00"', 'start: "8 pm"'),
        ("policy.yaml", "temperature: 5.0", "temperature: 0"),
        ("policy.yaml", "decision_ttl: 24h", ""),
        ("mapping.yaml", "format: xes", "format: xml"),
        ("mapping.yaml", "source: bpic2012", "source: BPI 2012"),
        ("mapping.yaml", "per: group", "per: case"),
        ("mapping.yaml", "customer: {column:", "customer: {colum:"),
    ],
)
def test_a_mistake_is_one_for_the_loader_and_for_the_schema(file: str, old: str, new: str) -> None:
    """What an editor underlines is refused, with the line, and the other way round."""
    text = (ROOT / "features" / "mappings" / "bpic2012" / file).read_text(encoding="utf-8")
    assert old in text
    broken = text.replace(old, new, 1)

    loaded = read_yaml(LOADED[file], broken, file=file)

    assert loaded.value is None
    assert all(problem.line is not None for problem in loaded.problems)
    assert _violations(parse_yaml(broken, file=file).data, file) != []


def test_a_mistake_in_the_parameters_is_one_for_both() -> None:
    """Unknown keys and bounds."""
    text = PARAMS_FILE.read_text(encoding="utf-8")

    for old, new in (("seed:", "sead:"), ("train_share: 0.", "train_share: 1.")):
        broken = text.replace(old, new, 1)
        assert broken != text
        assert read_yaml(Params, broken, file="params.yaml").value is None
        assert _violations(parse_yaml(broken, file="params.yaml").data, "params.yaml") != []


@pytest.mark.parametrize("value", ["club", 3, True, {"column": "x"}, {"constant": 1, "plus": "2d"}])
def test_a_value_of_a_mapping_may_be_a_plain_word(value: object) -> None:
    """As the loader takes it."""
    event = {"customer": value, "at": {"column": "t"}, "kind": "k"}
    data = {
        "version": 1,
        "source": "s",
        "title": "t",
        "tables": [{"format": "csv", "events": [event]}],
    }

    assert _violations(data, "mapping.yaml") == []
    assert MODELS["mapping.yaml"].model_validate(data).model_dump()["source"] == "s"


def test_the_first_line_is_replaced_and_not_repeated() -> None:
    """A file that is copied leads to the schema beside the copy."""
    once = with_schema("# about\nversion: 1\n", "../a.json")

    assert with_schema(once, "schemas/a.json") == (
        "# yaml-language-server: $schema=schemas/a.json\n# about\nversion: 1\n"
    )


def test_schemas_are_json_that_is_the_same_each_time() -> None:
    """Nothing in them depends on the run."""
    assert {name: json.loads(schema_text(each)) for name, each in all_schemas().items()} == SCHEMAS


def _said(shape: dict[str, Any], key: str) -> str:
    found: str = shape["properties"][key].get("description", "")
    return found
