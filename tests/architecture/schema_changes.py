"""Whether everything of one JSON Schema is allowed by another, for the part of JSON Schema that our shapes use.

Of requests the outer schema is the new one and the inner the old: what callers send must still be taken. Of answers it
is the other way round: what is answered must be what callers were told of. A keyword that is not known here is an
error, so that nothing is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

Json = dict[str, Any]

_SAID_ONLY: Final = {"title", "description", "discriminator", "example", "examples", "deprecated"}
_KNOWN: Final = _SAID_ONLY | {
    *("$ref", "anyOf", "enum", "const", "type", "format", "default", "pattern"),
    *("properties", "required", "additionalProperties", "items", "prefixItems"),
    *("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_LOWEST: Final = ("minItems", "minLength", "minimum", "exclusiveMinimum")
_HIGHEST: Final = ("maxItems", "maxLength", "maximum", "exclusiveMaximum")


class Reading(Enum):
    """Which way a shape goes."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True)
class Shapes:
    """A schema and the description that its references lead into."""

    schema: Any
    document: Json

    def inner(self, schema: Any) -> Shapes:
        """A part of it."""
        return Shapes(schema, self.document)

    def resolved(self) -> Shapes:
        """What its reference leads to, or itself.

        Raises:
            ValueError: the schema has a keyword that is not known here.
        """
        schema = self.schema
        while "$ref" in schema:
            target: Any = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            schema = target
        if unknown := set(schema) - _KNOWN:
            raise ValueError(f"unknown keywords {sorted(unknown)}; expected one that changes are judged by")
        return self.inner(schema)


def differences(outer: Shapes, inner: Shapes, place: str, *, reading: Reading) -> Iterator[str]:
    """What of ``inner`` the schema ``outer`` does not allow, each with its place; nothing where it allows all of it."""
    yield from _Walk(reading).between(outer, inner, place)


class _Walk:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._under_way: set[tuple[int, int]] = set()

    def between(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        yield from self._default(outer.schema, inner.schema, place)
        yield from self._resolved(outer.resolved(), inner.resolved(), place)

    def _resolved(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        outer_ways, inner_ways = _ways(outer), _ways(inner)
        if len(outer_ways) == len(inner_ways) == 1:
            yield from self._one(outer_ways[0], inner_ways[0], place)
            return
        for way in inner_ways:
            found = [list(self._one(each, way, place)) for each in outer_ways]
            if all(found):
                alike = [
                    each for each, other in zip(found, outer_ways, strict=True) if _kind_of(other) == _kind_of(way)
                ]
                yield from min(alike, key=len) if alike else [f"{place}: {_told(way.schema)} {self._unexpected}"]

    def _one(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        pair = (id(outer.schema), id(inner.schema))
        if pair in self._under_way:  # a shape within itself
            return
        self._under_way.add(pair)
        yield from self._allowed(outer, inner, place)
        self._under_way.discard(pair)

    def _allowed(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        allowed, possible = outer.schema, inner.schema
        if (allowed_values := _values(allowed)) is not None:
            values = _values(possible)
            if values is None:
                yield f"{place}: {_told(possible)} {self._unexpected}, only {allowed_values}"
            else:
                yield from (f"{place}: {one!r} {self._unexpected}" for one in values if one not in allowed_values)
            return
        if not _is_within(_types(possible), _types(allowed)):
            yield f"{place}: {_told(possible)} {self._unexpected}, only {_told(allowed)}"
            return
        if _values(possible) is None:
            yield from self._bounds(allowed, possible, place)
        yield from self._items(outer, inner, place)
        yield from self._members(outer, inner, place)

    def _bounds(self, allowed: Json, possible: Json, place: str) -> Iterator[str]:
        for name in _LOWEST:
            if possible.get(name, -math.inf) < allowed.get(name, -math.inf):
                yield f"{place}: {name} {possible.get(name)} {self._unexpected}, only {allowed[name]}"
        for name in _HIGHEST:
            if possible.get(name, math.inf) > allowed.get(name, math.inf):
                yield f"{place}: {name} {possible.get(name)} {self._unexpected}, only {allowed[name]}"
        for name in ("format", "pattern"):
            if name in allowed and possible.get(name) != allowed[name]:
                yield f"{place}: {name} {possible.get(name)} {self._unexpected}, only {allowed[name]}"

    def _items(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        leading = outer.schema.get("prefixItems", [])
        given = inner.schema.get("prefixItems", [])
        for index, (allowed, possible) in enumerate(zip(leading, given, strict=False)):
            yield from self.between(outer.inner(allowed), inner.inner(possible), f"{place}/{index}")
        if len(leading) != len(given):
            yield f"{place}: {len(given)} items of their own {self._unexpected}, only {len(leading)}"
        allowed, possible = outer.schema.get("items"), inner.schema.get("items", {})
        if isinstance(allowed, dict) and isinstance(possible, dict) and "array" in _types(inner.schema):
            yield from self.between(outer.inner(allowed), inner.inner(possible), f"{place}/*")

    def _members(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        allowed, possible = outer.schema, inner.schema
        needed, there = allowed.get("required", []), possible.get("required", [])
        said = "is required now" if self._reading is Reading.REQUEST else "may be left out now"
        known = allowed.get("properties", {})
        for name, schema in possible.get("properties", {}).items():
            if name in known:
                yield from self.between(outer.inner(known[name]), inner.inner(schema), f"{place}/{name}")
                if name in needed and name not in there:
                    yield f"{place}/{name}: {said}"
            elif self._reading is Reading.REQUEST:
                yield f"{place}/{name}: is gone"
        gone = [name for name in known if name not in possible.get("properties", {})]
        if self._reading is Reading.RESPONSE:
            yield from (f"{place}/{name}: is gone" for name in gone)
        else:
            yield from (f"{place}/{name}: is new and required" for name in gone if name in needed)
        yield from self._others(outer, inner, place)

    def _others(self, outer: Shapes, inner: Shapes, place: str) -> Iterator[str]:
        """Members without a name of their own; an answer may always say more than it did."""
        allowed = outer.schema.get("additionalProperties", True)
        possible = inner.schema.get("additionalProperties", True)
        if isinstance(allowed, dict) and isinstance(possible, dict):
            yield from self.between(outer.inner(allowed), inner.inner(possible), f"{place}/*")
        elif isinstance(allowed, dict) and possible is True and "object" in _types(inner.schema):
            yield f"{place}/*: anything {self._unexpected}, only {_told(allowed)}"
        elif allowed is False and possible is not False and self._reading is Reading.REQUEST:
            yield f"{place}/*: other members {self._unexpected}"

    def _default(self, outer: Any, inner: Any, place: str) -> Iterator[str]:
        if self._reading is Reading.REQUEST and "default" in inner and outer.get("default") != inner["default"]:
            yield f"{place}: the default {inner['default']!r} is now {outer.get('default')!r}"

    @property
    def _unexpected(self) -> str:
        return "is not taken any more" if self._reading is Reading.REQUEST else "is new to callers"


def _ways(shape: Shapes) -> list[Shapes]:
    """The alternatives of a schema, each without any of its own."""
    if "anyOf" not in shape.schema:
        return [shape]
    return [way for one in shape.schema["anyOf"] for way in _ways(shape.inner(one).resolved())]


def _values(schema: Json) -> list[Any] | None:
    """The only values that a schema allows, where it lists them."""
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _types(schema: Json) -> set[str]:
    if (values := _values(schema)) is not None:
        return {_type_of(one) for one in values}
    found = schema.get("type", ["object", "array", "string", "number", "boolean", "null"])
    return {found} if isinstance(found, str) else set(found)


def _type_of(value: object) -> str:
    names: dict[type, str] = {bool: "boolean", str: "string", int: "integer", float: "number", type(None): "null"}
    return names[type(value)]


def _is_within(possible: set[str], allowed: set[str]) -> bool:
    return possible <= (allowed | {"integer"} if "number" in allowed else allowed)


def _kind_of(shape: Shapes) -> tuple[str, ...]:
    """What tells alternatives of a schema apart: their types, and of objects the title."""
    types = tuple(sorted("number" if one == "integer" else one for one in _types(shape.schema)))
    return (*types, shape.schema.get("title", "")) if types == ("object",) else types


def _told(schema: Json) -> str:
    if (values := _values(schema)) is not None:
        return " or ".join(repr(one) for one in values)
    return " or ".join(sorted(_types(schema))) if len(_types(schema)) < len("object") else "anything"
