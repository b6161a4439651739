"""Lengths of time as people write them (``2d``, ``6h``, ``90m``, ``30s``), held inside as whole microseconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

MICROSECONDS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}
"""Microseconds in one of each unit that a duration may use."""

EXPECTED = 'a duration: a whole number and one of the units w, d, h, m, s, as in "2d", "6h", "90m", "30s"'
"""What a refused duration should have looked like; every message about durations says the same."""

DURATION_PATTERN = "^[0-9]{1,9}\\s*[wdhms]$"
"""The same for a JSON Schema."""

_WRITTEN = re.compile(r"(\d{1,9})\s*([wdhms])")


def parse_duration(text: str) -> int:
    """Microseconds in a written duration.

    >>> parse_duration("2d")
    172800000000
    >>> parse_duration("90m") == parse_duration("5400s")
    True

    Raises:
        ValueError: if the text is not a whole number followed by one known unit.
    """
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(EXPECTED)
    return int(written[1]) * MICROSECONDS[written[2]]


def dump_duration(microseconds: int) -> str:
    """The shortest way to write a length of time, in the largest unit that divides it.

    >>> dump_duration(172_800_000_000)
    '2d'
    >>> dump_duration(5_400_000_000)
    '90m'

    Raises:
        ValueError: if it is negative or not a whole number of seconds.
    """
    if microseconds < 0 or microseconds % MICROSECONDS["s"]:
        raise ValueError(f"got {microseconds} microseconds, expected a whole, non-negative number of seconds")
    if microseconds == 0:
        return "0s"
    # Weeks are read but never written: "14d" is what people compare with the other numbers in the file.
    unit = next(unit for unit in "dhms" if microseconds % MICROSECONDS[unit] == 0)
    return f"{microseconds // MICROSECONDS[unit]}{unit}"


def _from_yaml(value: object) -> int:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError(EXPECTED)


Duration = Annotated[
    int,
    BeforeValidator(_from_yaml),
    Field(ge=0),
    PlainSerializer(dump_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "description": EXPECTED}),
]
"""A length of time in a configuration model: text outside, whole microseconds inside."""
