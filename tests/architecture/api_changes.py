"""What of a description of an API (OpenAPI 3.1) breaks callers of an earlier one.

Requests may only come to take more, answers may only come to say more of the same: a new description must take whatever
the old one took, and answer with nothing that a caller of the old one was not told of. Shapes are compared by
``schema_changes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tests.architecture.schema_changes import Reading, Shapes, differences

Json = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Everything in ``new`` that breaks a caller who was written against ``old``, one line each."""
    return list(_broken(old, new))


def _broken(old: Json, new: Json) -> Iterator[str]:
    for path, operations in old["paths"].items():
        for method in (name for name in METHODS if name in operations):
            call = f"{method.upper()} {path}"
            found = new["paths"].get(path, {}).get(method)
            if found is None:
                yield f"{call}: is gone"
                continue
            for change in _Comparison(old, new).of_operation(operations[method], found):
                yield f"{call}{change}"


class _Comparison:
    """One operation of two descriptions."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new

    def of_operation(self, old: Json, new: Json) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f": operationId {old['operationId']!r} is now {new['operationId']!r}"
        yield from self._security(old, new)
        yield from self._parameters(old.get("parameters", []), new.get("parameters", []))
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(old["responses"], new["responses"])

    def _security(self, old: Json, new: Json) -> Iterator[str]:
        demanded = new.get("security", self._new.get("security", [])) or [{}]
        for accepted in old.get("security", self._old.get("security", [])) or [{}]:
            if not any(_is_satisfied(one, accepted) for one in demanded):
                yield f": {' and '.join(sorted(accepted)) or 'a call without a key'} is no longer enough"

    def _parameters(self, old: list[Json], new: list[Json]) -> Iterator[str]:
        before, after = _by_place(old), _by_place(new)
        for place, parameter in before.items():
            said = f" {place}"
            found = after.get(place)
            if found is None:
                yield f"{said}: is gone"
                continue
            if found.get("required", False) and not parameter.get("required", False):
                yield f"{said}: is required now"
            yield from self._request(parameter["schema"], found["schema"], said)
        for place, parameter in after.items():
            if place not in before and parameter.get("required", False):
                yield f" {place}: is new and required"

    def _body(self, old: Json | None, new: Json | None) -> Iterator[str]:
        if old is None:
            if new is not None and new.get("required", False):
                yield " body: is new and required"
            return
        if new is None:
            yield " body: is gone"
            return
        if new.get("required", False) and not old.get("required", False):
            yield " body: is required now"
        for media_type, content in old["content"].items():
            if media_type not in new["content"]:
                yield f" body: {media_type} is not taken any more"
            else:
                yield from self._request(content["schema"], new["content"][media_type]["schema"], " body")

    def _answers(self, old: Json, new: Json) -> Iterator[str]:
        for status, answer in old.items():
            if status not in new:
                yield f" {status}: is gone"
                continue
            for header in answer.get("headers", {}):
                if header not in new[status].get("headers", {}):
                    yield f" {status}: the header {header} is gone"
            after = new[status].get("content", {})
            for media_type, content in answer.get("content", {}).items():
                if media_type not in after:
                    yield f" {status}: {media_type} is gone"
                else:
                    yield from self._response(content["schema"], after[media_type]["schema"], f" {status}")
            for media_type in after:
                if media_type not in answer.get("content", {}):
                    yield f" {status}: {media_type} is new"
        for status in new:
            if status not in old and status.startswith(("2", "3")):
                yield f" {status}: is new, and a success that callers do not know"

    def _request(self, old: Any, new: Any, place: str) -> Iterator[str]:
        yield from differences(Shapes(new, self._new), Shapes(old, self._old), place, reading=Reading.REQUEST)

    def _response(self, old: Any, new: Any, place: str) -> Iterator[str]:
        yield from differences(Shapes(old, self._old), Shapes(new, self._new), place, reading=Reading.RESPONSE)


def _is_satisfied(demanded: Json, held: Json) -> bool:
    return set(demanded) <= set(held)


def _by_place(parameters: list[Json]) -> dict[str, Json]:
    return {f"{one['in']} {one['name']}": one for one in parameters}
