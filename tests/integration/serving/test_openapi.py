"""The description of the API: well formed, complete, and equal to what is published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from features.events import _KEYS as EVENT_KEYS
from models.actions import Catalogue
from models.policy import Policy
from serving.access import rule_of
from serving.api.app import ROUTES
from serving.api.openapi import OPERATIONS, api_document
from serving.api.operation import Operation
from serving.api.reference import reference
from serving.auth import ROLES
from serving.outcomes import _KEYS as OUTCOME_KEYS
from serving.problems import PROBLEM_TYPES
from tests.doors import Client, World
from tests.json_schema import resolved, violations

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"
PAGES = {"/", "/docs", "/docs/assets/{name:str}", "/docs/problems/{slug:str}", "/openapi.json"}


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def test_every_reference_leads_somewhere() -> None:
    """No shape is missing."""
    document = api_document()

    assert all(resolved(reference_, document) for reference_ in _references(document))


def test_every_schema_is_one_that_answers_can_be_checked_against() -> None:
    """No keyword that the tests' validator would pass over."""
    document = api_document()

    for name, schema in document["components"]["schemas"].items():
        list(violations({}, schema, document, name))


def test_it_is_plain_json() -> None:
    """It can be published as it is."""
    text = json.dumps(api_document(), allow_nan=False)

    assert json.dumps(json.loads(text)) == text


def test_every_route_is_described() -> None:
    """A route without a description fails here, and a description without a route too."""
    served = {
        (method.lower(), path.replace(":str", ""))
        for handler in ROUTES
        for path in handler.paths
        for method in handler.http_methods
        if path not in PAGES
    }

    described = {(method, path) for path, operations in api_document()["paths"].items() for method in operations}

    assert described == {(method, path) for method, path in served if method not in ("head", "options")}


def test_every_operation_has_an_id_and_problems() -> None:
    """Generated clients get names, and every keyed call says that it may be refused."""
    operations = [one for path in api_document()["paths"].values() for one in path.values()]

    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all("401" in one["responses"] for one in operations if one.get("security") != [])


def test_every_problem_that_a_call_can_meet_is_a_documented_type() -> None:
    """The statuses of the description are those of the problem types."""
    statuses = {kind.status for kind in PROBLEM_TYPES}
    described = {
        int(status)
        for path in api_document()["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
        if not status.startswith("2")
    }

    assert described <= statuses


def test_described_bodies_are_those_that_are_read() -> None:
    """The fields of events, exposures and outcomes are the parsers' own."""
    schemas = api_document()["components"]["schemas"]

    assert set(schemas["EventDocument"]["properties"]) == set(EVENT_KEYS)
    assert set(schemas["ExposureDocument"]["properties"]) == set(OUTCOME_KEYS["exposure"])
    assert set(schemas["OutcomeDocument"]["properties"]) == set(OUTCOME_KEYS["outcome"])


def test_described_documents_have_the_keys_of_the_files() -> None:
    """A key that the policy or the catalogue has, and a caller is not told of, would be found by nobody."""
    schemas = api_document()["components"]["schemas"]

    assert set(schemas["PolicyDocument"]["properties"]) == set(Policy.model_fields)
    assert set(schemas["ActionsDocument"]["properties"]) == set(Catalogue.model_fields)


def test_the_request_id_is_optional_to_callers() -> None:
    """The doors make one where there is none."""
    assert api_document()["components"]["schemas"]["DecisionRequest"]["required"] == ["customer_id"]


def test_the_reference_is_current() -> None:
    """docs/reference/api.md is what the description says."""
    assert REFERENCE.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_every_call_is_for_the_roles_that_its_description_names(tmp_path: Path, role: str) -> None:
    """Whoever is not named is refused, whoever is named is not."""
    world = World(tmp_path)
    key = world.key("crm", role)
    keyed = [one for one in OPERATIONS if not rule_of(one.method.upper(), one.path).is_open]

    with world.client() as client:
        refused = {one.operation_id: _asked(client, one, key).status_code == 403 for one in keyed}

    said = {one.operation_id: re.search(r"For the roles? ([a-z, ]+)\.", one.told) for one in keyed}
    assert refused == {
        name: found is not None and role not in re.split(r", | and ", found[1]) for name, found in said.items()
    }
    assert None not in said.values()


def _asked(client: Client, operation: Operation, key: str) -> Response:
    path = re.sub(r"\{.*?\}", "x", operation.path)
    if operation.method == "get":
        return client.get(path, key=key)
    ask = client.post if operation.method == "post" else client.put
    return ask(path, {}, key=key)
