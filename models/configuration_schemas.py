"""The JSON Schemas of the configuration files and of mappings, and the line that leads an editor to them."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import BaseModel

from features.editor_schemas import editor_schema, with_schema
from features.journeys import Journeys
from features.mapping import MAPPING_FILE, Mapping
from features.taxonomy import Taxonomy
from models.actions import Catalogue
from models.policy import Policy

SCHEMA_FOLDER: Final = "schemas"
"""Beside the files of a home's configuration."""

MODELS: Final[dict[str, type[BaseModel]]] = {
    "taxonomy.yaml": Taxonomy,
    "journeys.yaml": Journeys,
    "actions.yaml": Catalogue,
    "policy.yaml": Policy,
    MAPPING_FILE: Mapping,
}


def schema_name(file: str) -> str:
    """The name that the schema of a file is published under.

    >>> schema_name("policy.yaml")
    'policy.json'
    """
    return str(PurePosixPath(file).with_suffix(".json"))


def configuration_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each file, by the name it is published under."""
    return {schema_name(file): editor_schema(model, file) for file, model in MODELS.items()}


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def with_schemas(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Files of one folder, each led to its schema, and the schemas below the folder."""
    files = {name: _led(name, content) for name, content in contents.items()}
    schemas = {f"{SCHEMA_FOLDER}/{name}": schema_text(each).encode() for name, each in configuration_schemas().items()}
    return {**files, **schemas}


def _led(name: str, content: bytes) -> bytes:
    return with_schema(content.decode("utf-8"), f"{SCHEMA_FOLDER}/{schema_name(name)}").encode()
