"""Fields that an object of a JSON text has twice: decoders keep the last one, others the first, and nobody is told."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from features.errors import path_step
from serving.problems import pointer

_TEXT: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def repeated_field(body: bytes, n_fields: int) -> str | None:
    """The JSON pointer of a field that is there twice, or None.

    Args:
        body: valid JSON.
        n_fields: how many fields the objects have that were decoded from it.
    """
    # Outside of texts every colon is a field's; most bodies have few texts with one, or none.
    if body.count(b":") == n_fields or _TEXT.sub(b"", body).count(b":") == n_fields:
        return None
    return _first_twice(json.loads(body, object_pairs_hook=_Fields), "")


class _Fields(tuple[tuple[str, Any], ...]):
    """The fields of an object, as they stand in the text."""

    __slots__ = ()


def _first_twice(value: object, path: str) -> str | None:
    if isinstance(value, _Fields):
        seen: set[str] = set()
        for name, _ in value:
            if name in seen:
                return pointer(_inside(path, name))
            seen.add(name)
        inside = [(_inside(path, name), one) for name, one in value]
    elif isinstance(value, list):
        inside = [(f"{path}[{place}]", one) for place, one in enumerate(value)]
    else:
        return None
    found = (_first_twice(one, place) for place, one in inside)
    return next((one for one in found if one is not None), None)


def _inside(path: str, name: str) -> str:
    return f"{path}.{path_step(name)}" if path else path_step(name)
