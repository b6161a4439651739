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
from serving.api.examples import EXAMPLES
from serving.api.openapi import OPERATIONS, api_document
from serving.api.operation import Operation
from serving.api.reference import reference
from serving.auth import ROLES
from serving.child_commands import Finished
from serving.outcomes import _KEYS as OUTCOME_KEYS
from serving.problems import PROBLEM_TYPES
from tests.audience_answers import PRINTED
from tests.doors import Client, World
from tests.json_schema import resolved, violations

DOCS = Path(__file__).parents[3] / "docs"
REFERENCE = DOCS / "reference" / "api.md"
CALLERS = DOCS / "how-to" / "caller.md"
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
        (method.lower(), path.replace(":str", "").replace(":path", ""))
        for handler in ROUTES
        for path in handler.paths
        for method in handler.http_methods
        if path not in PAGES
    }

    described = {(method, path) for path, operations in api_document()["paths"].items() for method in operations}

    assert described == {(method, path) for method, path in served if method not in ("head", "options")}


def test_a_path_says_which_methods_it_takes(tmp_path: Path) -> None:
    """All of them, whether it is asked or called with another one."""
    with World(tmp_path).client() as client:
        for path, operations in api_document()["paths"].items():
            asked = client.other("OPTIONS", re.sub(r"\{.*?\}", "x", path))
            refused = client.other("PATCH", re.sub(r"\{.*?\}", "x", path))

            expected = {*(method.upper() for method in operations), "OPTIONS"}
            assert (asked.status_code, refused.status_code) == (204, 405)
            assert set(asked.headers["allow"].split(", ")) == expected
            assert set(refused.headers["allow"].split(", ")) == expected


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
        if status >= "400"
    }

    assert described <= statuses


def test_every_type_of_problem_leads_to_its_page(tmp_path: Path) -> None:
    """The service itself serves it: `type` is a reference to resolve against the address that was called (RFC 9457)."""
    with World(tmp_path).client() as client:
        pages = {kind.slug: client.other("GET", kind.path, key=None) for kind in PROBLEM_TYPES}

    assert {name: page.status_code for name, page in pages.items()} == dict.fromkeys(pages, 200)
    assert [kind.slug for kind in PROBLEM_TYPES if pages[kind.slug].text != kind.page()] == []


def test_every_type_of_problem_is_one_that_a_call_may_answer() -> None:
    """A page for what nothing answers misleads; only a method that a path does not take belongs to no call."""
    described = {kind.slug for one in OPERATIONS for kind in one.failures}

    assert {kind.slug for kind in PROBLEM_TYPES} - described == {"method-not-allowed"}


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


def _left_out(schema: Any, value: Any, schemas: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """A body of an example with null for each field that may be left out, in turn, and the same without the field."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _left_out(one, value, schemas)
    elif isinstance(value, list) and value and "items" in schema:
        for null, absent in _left_out(schema["items"], value[0], schemas):
            yield [null, *value[1:]], [absent, *value[1:]]
    elif isinstance(value, dict) and schema.get("additionalProperties") is False:
        types = schema["properties"].get("type", {}).get("enum")
        if types is not None and value["type"] not in types:
            return
        for name, inner in schema["properties"].items():
            others = {key: each for key, each in value.items() if key != name}
            if name not in schema["required"]:
                yield {**others, name: None}, others
            for null, absent in _left_out(inner, value.get(name), schemas):
                yield {**others, name: null}, {**others, name: absent}


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.body], ids=lambda one: one.operation_id)
def test_null_stands_for_a_field_that_is_not_given(tmp_path: Path, operation: Operation) -> None:
    """As the description says of every field of a request that may be left out: nothing else is refused."""
    document, example = api_document(), EXAMPLES[operation.operation_id]
    content = document["paths"][operation.path][operation.method]["requestBody"]["content"]["application/json"]
    world = World(tmp_path)
    world.command = lambda command: Finished(is_done=True, document=PRINTED.get(command.words[:2], {}))

    with world.client() as client:
        decided = client.done("/v1/decisions", {"customer_id": "c-1"})
        path = operation.path.format_map({**example.names, "decision_id": decided["decision_id"]})
        for bodies in _left_out(content["schema"], content["example"], document["components"]["schemas"]):
            null, absent = (client.other(operation.method.upper(), path, json=one).json() for one in bodies)
            assert _refused(null) == _refused(absent), bodies[0]


def _refused(answer: Any) -> list[str]:
    rejected = [one for each in answer.get("rejections", ()) for one in each["errors"]]
    return [one["pointer"] for one in (*answer.get("errors", ()), *rejected)]


def test_the_request_id_is_optional_to_callers() -> None:
    """The doors make one where there is none."""
    assert api_document()["components"]["schemas"]["DecisionRequest"]["required"] == ["customer_id"]


def test_every_call_that_changes_something_says_what_makes_it_safe_to_send_again() -> None:
    """In the table of the callers' page: a retry that counts twice would be found out by its damage."""
    table = CALLERS.read_text(encoding="utf-8").partition("### What makes it safe to send it again")[2]
    writing = {f"`{one.method.upper()} {one.path}`" for one in OPERATIONS if one.method != "get"}
    told = set(re.findall(r"`(?:POST|PUT|PATCH|DELETE) [^`]+`", table))

    assert told == writing, "docs/how-to/caller.md has a row for each"


def test_the_idempotency_key_is_described_where_it_is_read() -> None:
    """And nowhere else: a header that is not read would be a promise that is not kept."""
    described = {one.operation_id for one in OPERATIONS for part in one.parameters if part["name"] == "Idempotency-Key"}

    assert described == {"decide", "make_audience", "screen_list"}


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
