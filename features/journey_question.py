"""What a journey report is asked for, and the words that ask it. Light to import: the service reads questions, too."""

from __future__ import annotations

from typing import Final

import msgspec

from features.errors import InvalidInput, Problem
from features.events import moment_of, parse_timestamp, shown
from features.taxonomy import Taxonomy

DEFAULT_TOP: Final = 20
LARGEST_TOP: Final = 1_000

ENTRY_CHANNEL: Final = "channel"
NPS_BAND: Final = "nps_band"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to report on.

    Attributes:
        since: instances entered from here on, microseconds since the epoch; None for all.
        until: the end of the observation, if before the newest event.
        group_by: an attribute, ``channel`` or ``nps_band``; None for no groups.
        top: the longest that a ranked list gets.
    """

    since: int | None = None
    until: int | None = None
    group_by: str | None = None
    top: int = DEFAULT_TOP


def question_of(
    taxonomy: Taxonomy,
    *,
    since: str | None = None,
    until: str | None = None,
    group_by: str | None = None,
    top: str | int | None = None,
) -> Question:
    """The question that words ask.

    Args:
        taxonomy: whose attributes can make groups.
        since: ISO 8601 with an offset.
        until: likewise.
        group_by: an attribute, ``channel`` or ``nps_band``.
        top: a number.

    Raises:
        InvalidInput: with every bad word.
    """
    problems: list[Problem] = []
    moments = {name: _moment(name, text, problems) for name, text in (("since", since), ("until", until))}
    start, end = moments["since"], moments["until"]
    if start is not None and end is not None and start >= end:
        problems.append(Problem("since", shown(since), f"a time before until, {until}"))
    allowed = groupings(taxonomy)
    if group_by is not None and group_by not in allowed:
        problems.append(Problem("group_by", shown(group_by), f"one of {', '.join(allowed)}"))
    number = _top(top, problems)
    if problems:
        raise InvalidInput("the report cannot be made as asked", problems)
    return Question(since=start, until=end, group_by=group_by, top=number)


def groupings(taxonomy: Taxonomy) -> tuple[str, ...]:
    """What instances can be grouped by: entry channel, NPS band, and every category or boolean that is not personal."""
    attributes = (
        name for name, one in taxonomy.attributes.items() if one.dtype in ("category", "boolean") and not one.pii
    )
    return (ENTRY_CHANNEL, NPS_BAND, *(name for name in attributes if name not in (ENTRY_CHANNEL, NPS_BAND)))


def _moment(name: str, text: str | None, problems: list[Problem]) -> int | None:
    if text is None:
        return None
    try:
        at = parse_timestamp(text)
        moment_of(at + 1)
    except (ValueError, OverflowError):
        at = -1
    if at < 0:
        expected = "an ISO 8601 timestamp with an offset, from 1970 on, such as 2026-03-01T09:30:00Z"
        problems.append(Problem(name, shown(text), expected))
        return None
    return at


def _top(given: str | int | None, problems: list[Problem]) -> int:
    if given is None:
        return DEFAULT_TOP
    try:
        number = int(given) if str(given).isascii() else 0
    except ValueError:
        number = 0
    if not 1 <= number <= LARGEST_TOP:
        problems.append(Problem("top", shown(given), f"a number from 1 to {LARGEST_TOP}"))
    return number
