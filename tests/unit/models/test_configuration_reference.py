"""The page on configuration keys is the one that the models give, and says what each key is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from features.editor_schemas import meanings
from models.configuration_reference import FILES, reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "configuration-keys.md"


def test_the_page_in_the_docs_is_current() -> None:
    """Every key as it is checked now."""
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run: python -m models.configuration_reference > docs/reference/configuration-keys.md"
    )


@pytest.mark.parametrize("model", [model for _, model in FILES], ids=[file for file, _ in FILES])
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    """A key without a word is not documented, nor is a word without a key."""
    schema = model.model_json_schema()

    for name, shape in {model.__name__: schema, **schema["$defs"]}.items():
        assert (name, set(meanings(shape["description"]))) == (name, set(shape["properties"]))


def test_bounds_and_defaults_are_told() -> None:
    """As in the catalogue's own rows."""
    rows = reference().splitlines()

    assert (
        "| `min_stall_propensity` | number, at least 0, at most 1 | `0.0` | below it the action is not applicable. |"
    ) in rows
    assert "| `decision_ttl` | duration |  | how long a decision may be acted on. |" in rows
    assert "| `treatments` | list of [Treatment](#treatment) |  | the ways of doing it; each is a candidate. |" in rows
