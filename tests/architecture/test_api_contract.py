"""The description of the API: published as it is served, valid, and of no harm to callers of the last release.

``tests/golden/openapi_released.json`` is the description of the last release. How it is moved, and how a break is made
on purpose, stands in the contributors' page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from serving.api.published import openapi_text
from tests.architecture.api_changes import breaking_changes
from tests.doors import World
from tests.json_schema import violations

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "reference" / "openapi.json"
RELEASED = ROOT / "tests" / "golden" / "openapi_released.json"
Document = dict[str, Any]
Change = Callable[[Document], object]


def test_the_published_description_is_current() -> None:
    """docs/reference/openapi.json is what the code says, to the byte."""
    assert PUBLISHED.read_text(encoding="utf-8") == openapi_text(), (
        "run: python -m serving.api.published > docs/reference/openapi.json"
    )


def test_the_service_serves_what_is_published(tmp_path: Path) -> None:
    """A client that was generated from the file fits the service."""
    with World(tmp_path).client() as client:
        served = client.get("/openapi.json", key=None)

    assert served.json() == json.loads(PUBLISHED.read_text(encoding="utf-8"))


def test_the_description_is_valid() -> None:
    """By the schema of OpenAPI 3.1 itself."""
    document = json.loads(openapi_text())

    assert [
        f"{list(one.absolute_path)}: {one.message}" for one in OpenAPIV31SpecValidator(document).iter_errors()
    ] == []


def test_every_example_is_one_that_would_be_taken() -> None:
    """Examples of bodies and parameters keep to the schemas beside them."""
    document = json.loads(openapi_text())

    for place, schema, example in _examples(document):
        assert list(violations(example, schema, document, place)) == []


def _examples(document: Document) -> Iterator[tuple[str, Any, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {})
            for part in (*operation.get("parameters", []), *body.values()):
                if "example" in part:
                    yield f"{method} {path} {part.get('name', 'body')}", part["schema"], part["example"]


def test_nothing_breaks_callers_of_the_last_release() -> None:
    """Whoever calls the last release can call this one."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))

    broken = breaking_changes(released, json.loads(openapi_text()))

    assert broken == [], (
        "this breaks callers of the last release; keep what they rely on beside it, or break it on purpose as "
        ".github/CONTRIBUTING.md says under 'The contract of the API'"
    )


SMALL: Document = {
    "security": [{"key": []}],
    "paths": {
        "/v1/things": {
            "post": {
                "operationId": "make_thing",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 50}},
                    {"name": "kind", "in": "query", "schema": {"type": "string", "enum": ["a", "b"]}},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
                "responses": {
                    "200": {
                        "headers": {"ETag": {"schema": {"type": "string"}}},
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                    },
                    "409": {"content": {"application/problem+json": {"schema": {"type": "object"}}}},
                },
            },
            "get": {
                "operationId": "read_things",
                "security": [],
                "responses": {"200": {"content": {"text/plain": {"schema": {"type": "string"}}}}},
            },
        }
    },
    "components": {
        "schemas": {
            "Ask": {
                "type": "object",
                "title": "Ask",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 200},
                    "mode": {"type": "string", "enum": ["live", "shadow"], "default": "live"},
                    "weight": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
                    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 9, "default": []},
                    "facts": {"type": "object", "additionalProperties": {"type": "number"}},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Ask"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            },
            "Thing": {
                "type": "object",
                "title": "Thing",
                "properties": {
                    "thing_id": {"type": "string"},
                    "made_at": {"type": "string", "format": "date-time"},
                    "count": {"type": "integer", "minimum": 0},
                    "state": {"enum": ["new", "old"]},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "pair": {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "items": False},
                    "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "inner": {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]},
                },
                "required": ["thing_id", "count", "state", "note"],
            },
        }
    },
}


def _post(document: Document) -> Document:
    found: Document = document["paths"]["/v1/things"]["post"]
    return found


def _shape(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][name]
    return found


def _field(document: Document, name: str) -> Document:
    shape, _, field = name.partition(".")
    found: Document = _shape(document, shape)["properties"][field]
    return found


def _replaced(name: str, **schema: Any) -> Change:
    def change(document: Document) -> None:
        shape, _, field = name.partition(".")
        _shape(document, shape)["properties"][field] = schema

    return change


BREAKS: dict[str, tuple[Change, str]] = {
    "a path is gone": (lambda d: d["paths"].clear(), "POST /v1/things: is gone"),
    "a method is gone": (lambda d: d["paths"]["/v1/things"].pop("get"), "GET /v1/things: is gone"),
    "an operation is renamed": (
        lambda d: _post(d).update(operationId="make"),
        "POST /v1/things: operationId 'make_thing' is now 'make'",
    ),
    "a key is needed where none was": (
        lambda d: d["paths"]["/v1/things"]["get"].pop("security"),
        "GET /v1/things: a call without a key is no longer enough",
    ),
    "another key is needed": (lambda d: d.update(security=[{"other": []}]), "POST /v1/things: key is no longer enough"),
    "a second key is needed": (
        lambda d: d.update(security=[{"key": [], "other": []}]),
        "POST /v1/things: key is no longer enough",
    ),
    "a parameter is gone": (lambda d: _post(d)["parameters"].pop(), "POST /v1/things query kind: is gone"),
    "a parameter is required now": (
        lambda d: _post(d)["parameters"][0].update(required=True),
        "POST /v1/things query limit: is required now",
    ),
    "a new parameter is required": (
        lambda d: _post(d)["parameters"].append({"name": "x", "in": "query", "required": True, "schema": {}}),
        "POST /v1/things query x: is new and required",
    ),
    "a parameter's bound is narrower": (
        lambda d: _post(d)["parameters"][0]["schema"].update(maximum=20),
        "POST /v1/things query limit: maximum 50 is not taken any more, only 20",
    ),
    "a parameter's value is gone": (
        lambda d: _post(d)["parameters"][1]["schema"].update(enum=["a"]),
        "POST /v1/things query kind: 'b' is not taken any more",
    ),
    "the body is gone": (lambda d: _post(d).pop("requestBody"), "POST /v1/things body: is gone"),
    "the body is required now": (
        lambda d: _post(d)["requestBody"].update(required=True),
        "POST /v1/things body: is required now",
    ),
    "a body is new and required": (
        lambda d: d["paths"]["/v1/things"]["get"].update(requestBody={"required": True, "content": {}}),
        "GET /v1/things body: is new and required",
    ),
    "the body's media type is gone": (
        lambda d: _post(d)["requestBody"].update(content={}),
        "POST /v1/things body: application/json is not taken any more",
    ),
    "a field of requests is gone": (
        lambda d: _shape(d, "Ask")["properties"].pop("tags"),
        "POST /v1/things body/tags: is gone",
    ),
    "a field of requests is required now": (
        lambda d: _shape(d, "Ask")["required"].append("mode"),
        "POST /v1/things body/mode: is required now",
    ),
    "a new field of requests is required": (
        lambda d: (_shape(d, "Ask")["properties"].update(x={}), _shape(d, "Ask")["required"].append("x")),
        "POST /v1/things body/x: is new and required",
    ),
    "a request's text may not be as long": (
        lambda d: _field(d, "Ask.name").update(maxLength=100),
        "POST /v1/things body/name: maxLength 200 is not taken any more, only 100",
    ),
    "a request's text must be longer": (
        lambda d: _field(d, "Ask.name").update(minLength=2),
        "POST /v1/things body/name: minLength 1 is not taken any more, only 2",
    ),
    "a request's text has a pattern": (
        lambda d: _field(d, "Ask.name").update(pattern="^a"),
        "POST /v1/things body/name: pattern None is not taken any more, only ^a",
    ),
    "a request's list may not be as long": (
        lambda d: _field(d, "Ask.tags").update(maxItems=8),
        "POST /v1/things body/tags: maxItems 9 is not taken any more, only 8",
    ),
    "a request's items are of another type": (
        lambda d: _field(d, "Ask.tags").update(items={"type": "integer"}),
        "POST /v1/things body/tags/*: string is not taken any more, only integer",
    ),
    "a request's choice is narrower": (
        lambda d: _field(d, "Ask.mode").update(enum=["live"]),
        "POST /v1/things body/mode: 'shadow' is not taken any more",
    ),
    "a request's default is another": (
        lambda d: _field(d, "Ask.mode").update(default="shadow"),
        "POST /v1/things body/mode: the default 'live' is now 'shadow'",
    ),
    "a request may not hold null any more": (
        _replaced("Ask.weight", type="number", default=None),
        "POST /v1/things body/weight: null is not taken any more",
    ),
    "a request's number must be whole": (
        lambda d: _field(d, "Ask.weight").update(anyOf=[{"type": "integer"}, {"type": "null"}]),
        "POST /v1/things body/weight: number is not taken any more, only integer",
    ),
    "a request's map takes less": (
        lambda d: _field(d, "Ask.facts").update(additionalProperties={"type": "integer"}),
        "POST /v1/things body/facts/*: number is not taken any more, only integer",
    ),
    "a request's map takes nothing": (
        lambda d: _field(d, "Ask.facts").update(additionalProperties=False),
        "POST /v1/things body/facts/*: other members is not taken any more",
    ),
    "a status is gone": (lambda d: _post(d)["responses"].pop("409"), "POST /v1/things 409: is gone"),
    "a success is new": (
        lambda d: _post(d)["responses"].update({"202": {}}),
        "POST /v1/things 202: is new, and a success",
    ),
    "a header is gone": (
        lambda d: _post(d)["responses"]["200"].pop("headers"),
        "POST /v1/things 200: the header ETag is gone",
    ),
    "an answer's media type is another": (
        lambda d: _post(d)["responses"]["409"].update(content={"application/json": {"schema": {}}}),
        "POST /v1/things 409: application/problem+json is gone",
    ),
    "a field of answers is gone": (
        lambda d: (_shape(d, "Thing")["properties"].pop("count"), _shape(d, "Thing")["required"].remove("count")),
        "POST /v1/things 200/count: is gone",
    ),
    "an optional field of answers is gone": (
        lambda d: _shape(d, "Thing")["properties"].pop("made_at"),
        "POST /v1/things 200/made_at: is gone",
    ),
    "a field of answers may be left out": (
        lambda d: _shape(d, "Thing")["required"].remove("note"),
        "POST /v1/things 200/note: may be left out now",
    ),
    "a field of answers may be null": (
        _replaced("Thing.thing_id", anyOf=[{"type": "string"}, {"type": "null"}]),
        "POST /v1/things 200/thing_id: null is new to callers",
    ),
    "a field of answers is of another type": (
        _replaced("Thing.thing_id", type="integer"),
        "POST /v1/things 200/thing_id: integer is new to callers, only string",
    ),
    "a whole number of answers may be broken": (
        _replaced("Thing.count", type="number", minimum=0),
        "POST /v1/things 200/count: number is new to callers, only integer",
    ),
    "a field of answers has no format": (
        _replaced("Thing.made_at", type="string"),
        "POST /v1/things 200/made_at: format None is new to callers, only date-time",
    ),
    "a closed choice of answers is wider": (
        lambda d: _field(d, "Thing.state").update(enum=["new", "old", "gone"]),
        "POST /v1/things 200/state: 'gone' is new to callers",
    ),
    "a closed choice of answers is open": (
        _replaced("Thing.state", type="string"),
        "POST /v1/things 200/state: string is new to callers, only ['new', 'old']",
    ),
    "a number of answers has no bound": (
        _replaced("Thing.count", type="integer"),
        "POST /v1/things 200/count: minimum None is new to callers, only 0",
    ),
    "a pair of answers has three": (
        lambda d: _field(d, "Thing.pair")["prefixItems"].append({"type": "number"}),
        "POST /v1/things 200/pair: 3 items of their own is new to callers, only 2",
    ),
    "a map of answers holds something else": (
        lambda d: _field(d, "Thing.by_name").update(additionalProperties={"type": "string"}),
        "POST /v1/things 200/by_name/*: string is new to callers, only integer",
    ),
}

HARMLESS: dict[str, Change] = {
    "a path is new": lambda d: d["paths"].update({"/v1/new": {"get": {"operationId": "n", "responses": {"200": {}}}}}),
    "a parameter is new and optional": lambda d: _post(d)["parameters"].append(
        {"name": "x", "in": "query", "schema": {"type": "string"}}
    ),
    "a parameter takes more": lambda d: _post(d)["parameters"][0]["schema"].update(maximum=500),
    "a parameter has one more value": lambda d: _post(d)["parameters"][1]["schema"]["enum"].append("c"),
    "a field of requests is new and optional": lambda d: _shape(d, "Ask")["properties"].update(x={"type": "string"}),
    "a field of requests may be left out": lambda d: _shape(d, "Ask").pop("required"),
    "a request may hold null": _replaced("Ask.name", anyOf=[{"type": "string"}, {"type": "null"}]),
    "a request's text may be longer": lambda d: _field(d, "Ask.name").pop("maxLength"),
    "a request's choice is wider": lambda d: _field(d, "Ask.mode")["enum"].append("dry_run"),
    "a request's whole numbers may be broken": lambda d: _field(d, "Ask.facts").update(additionalProperties={}),
    "a field of answers is new": lambda d: _shape(d, "Thing")["properties"].update(x={"type": "string"}),
    "a field of answers is always there": lambda d: _shape(d, "Thing")["required"].append("made_at"),
    "a field of answers is never null": _replaced("Thing.note", type="string"),
    "a closed choice of answers is narrower": lambda d: _field(d, "Thing.state").update(enum=["new"]),
    "a number of answers has a tighter bound": lambda d: _field(d, "Thing.count").update(minimum=1, maximum=9),
    "a failure is new": lambda d: _post(d)["responses"].update({"429": {}}),
    "a header is new": lambda d: _post(d)["responses"]["200"]["headers"].update({"Link": {}}),
    "a second way to authenticate": lambda d: d["security"].append({"token": []}),
    "a key is needed no more": lambda d: _post(d).update(security=[]),
    "a body may be sent": lambda d: d["paths"]["/v1/things"]["get"].update(requestBody={"content": {}}),
    "words are others": lambda d: _shape(d, "Thing").update(description="a thing, said better"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found(name: str) -> None:
    """Each kind of break is told with its place."""
    change, said = BREAKS[name]
    new = deepcopy(SMALL)
    change(new)

    broken = breaking_changes(SMALL, new)

    assert [one for one in broken if one.startswith(said)] != [], broken


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_passes(name: str) -> None:
    """Callers need not know of it."""
    new = deepcopy(SMALL)
    HARMLESS[name](new)

    assert new != SMALL
    assert breaking_changes(SMALL, new) == []


def test_a_renamed_field_breaks_both_ways() -> None:
    """Who sends it and who reads it."""
    new = deepcopy(SMALL)
    for shape, old in (("Ask", "tags"), ("Thing", "count")):
        properties = _shape(new, shape)["properties"]
        properties["renamed"] = properties.pop(old)

    assert breaking_changes(SMALL, new) == [
        "POST /v1/things body/tags: is gone",
        "POST /v1/things 200/count: is gone",
    ]


def test_what_cannot_be_judged_is_not_passed_over() -> None:
    """A keyword that the comparison does not know is an error, not a pass."""
    new = deepcopy(SMALL)
    _field(new, "Ask.name")["dependentRequired"] = {}

    with pytest.raises(ValueError, match="dependentRequired"):
        breaking_changes(SMALL, new)


def test_the_description_does_not_break_itself() -> None:
    """The whole of it can be judged, shapes within themselves too."""
    document = json.loads(openapi_text())

    assert breaking_changes(document, deepcopy(document)) == []
