"""A validator for the part of JSON Schema 2020-12 that our schemas use; anything else in them is an error."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

Json = Any

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS: Final = {"$schema", "$defs", "title", "description", "default", "format", "discriminator"}
_KNOWN: Final = _ANNOTATIONS | {
    *("$ref", "anyOf", "enum", "const", "type", "properties", "required", "additionalProperties", "items"),
    *("prefixItems", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"),
    *("patternProperties", "minProperties", "pattern", "exclusiveMinimum", "exclusiveMaximum"),
}


def violations(value: Json, schema: Json, document: Json, path: str = "") -> Iterator[str]:
    """Everything in ``value`` that ``schema`` does not allow.

    Raises:
        KeyError: a reference leads nowhere.
        ValueError: the schema has a keyword that this validator does not know.
    """
    if unknown := set(schema) - _KNOWN:
        raise ValueError(f"{path}: unknown keywords {sorted(unknown)}")
    if "$ref" in schema:
        yield from violations(value, resolved(schema["$ref"], document), document, path)
    if "anyOf" in schema and all(any(violations(value, one, document, path)) for one in schema["anyOf"]):
        yield f"{path}: {value!r} matches none of {len(schema['anyOf'])} schemas"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "type" in schema and not _is_of(value, schema["type"]):
        yield f"{path}: {value!r} is no {schema['type']}"
    elif isinstance(value, dict):
        yield from _object_violations(value, schema, document, path)
    elif isinstance(value, list):
        yield from _array_violations(value, schema, document, path)
    elif isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        yield f"{path}: {len(value)} characters"
    elif isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: {value!r} is not like {schema['pattern']}"
    elif _is_of(value, "number") and not _is_within(value, schema):
        yield f"{path}: {value} is out of bounds"


def resolved(reference: str, document: Json) -> Json:
    """What a local reference points at."""
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _is_of(value: Json, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _is_within(value: float, schema: Json) -> bool:
    inside = schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
    return inside and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)


def _object_violations(value: dict[str, Json], schema: Json, document: Json, path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    if len(value) < schema.get("minProperties", 0):
        yield f"{path}: {len(value)} properties"
    patterns = schema.get("patternProperties", {})
    yield from (f"{path}/{name}: missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        if name in properties:
            yield from violations(item, properties[name], document, f"{path}/{name}")
        elif matching := [each for pattern, each in patterns.items() if re.search(pattern, name)]:
            for each in matching:
                yield from violations(item, each, document, f"{path}/{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{path}/{name}: not allowed"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from violations(item, schema["additionalProperties"], document, f"{path}/{name}")
        elif properties:
            yield f"{path}/{name}: not described"


def _array_violations(value: list[Json], schema: Json, document: Json, path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        yield f"{path}: {len(value)} items"
    leading = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        described = leading[index] if index < len(leading) else schema.get("items", {})
        if described is False:
            yield f"{path}/{index}: not allowed"
        elif described:
            yield from violations(item, described, document, f"{path}/{index}")
