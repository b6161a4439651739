"""Events out of our own JSON documents: those that ``POST /v1/events`` takes, and those that ``dump_event`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from features.errors import InvalidInput, Problem
from features.events import (
    FUTURE_SKEW_US,
    MAX_ID_CHARACTERS,
    WIRE_VERSION,
    JourneyEvent,
    dump_timestamp,
    parse_event,
    parse_timestamp,
    shown,
)
from features.taxonomy import Taxonomy

_LOGGED_ONLY: Final = ("v", "source", "arrived_at", "day")
"""What a logged event says beyond what a caller sends."""

_LAST_DAY: Final = 2_932_896
"""The last day of the year 9999, after which no timestamp is."""


def event_of_document(
    document: object, *, taxonomy: Taxonomy, source: str, latest: int, position: int, path: str = "event"
) -> JourneyEvent:
    """The event that a document means: with ``v`` one of a log, exactly as it was there, else one as callers send it.

    Args:
        document: the decoded document.
        taxonomy: the vocabulary it must keep to.
        source: who sent it, where it does not say so itself; such an event arrived when it occurred.
        latest: the newest moment that can have happened, in microseconds since the epoch.
        position: its position in the file, which orders equal times where no ``sequence`` is given.
        path: where the document stands, for messages.

    Raises:
        InvalidInput: with every bad field, its value and what was expected.
    """
    if not isinstance(document, dict) or "v" not in document:
        event = parse_event(document, taxonomy=taxonomy, source=source, arrived_at=latest, position=position, path=path)
        return replace(event, arrived_at=event.occurred_at)
    problems = list(_logged_problems(document, latest, path))
    sent = {key: value for key, value in document.items() if key not in _LOGGED_ONLY}
    try:
        event = parse_event(sent, taxonomy=taxonomy, source="", arrived_at=latest, position=position, path=path)
    except InvalidInput as error:
        raise InvalidInput(error.headline, [*problems, *error.problems]) from error
    if problems:
        raise InvalidInput(f"{path} is not a logged event", problems)
    return replace(
        event,
        source=document["source"],
        arrived_at=parse_timestamp(document["arrived_at"]),
        day=document["day"],
    )


def _logged_problems(document: Mapping[str, Any], latest: int, path: str) -> list[Problem]:
    """What is wrong with the fields that only a logged event has."""
    source, day = document.get("source"), document.get("day")
    problems = []
    if document["v"] != WIRE_VERSION:
        problems.append(Problem(f"{path}.v", shown(document["v"]), f"the version {WIRE_VERSION} of the format"))
    if not isinstance(source, str) or not 0 < len(source) <= MAX_ID_CHARACTERS or "\0" in source:
        expected = f"text of 1 to {MAX_ID_CHARACTERS} characters without NUL"
        problems.append(Problem(f"{path}.source", shown(source), expected))
    if isinstance(day, bool) or not isinstance(day, int) or not 0 <= day <= _LAST_DAY:
        # A sender's clock may have shown any: the day is that of the timestamp as sent.
        problems.append(Problem(f"{path}.day", shown(day), f"days since 1970, a whole number from 0 to {_LAST_DAY}"))
    if not _is_past(document.get("arrived_at"), latest):
        expected = f"an ISO 8601 timestamp with an offset, from 1970 until {dump_timestamp(latest)}"
        problems.append(Problem(f"{path}.arrived_at", shown(document.get("arrived_at")), expected))
    return problems


def _is_past(text: object, latest: int) -> bool:
    try:
        return isinstance(text, str) and 0 <= parse_timestamp(text) <= latest + FUTURE_SKEW_US
    except (ValueError, OverflowError):
        return False
