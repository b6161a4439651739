"""Offsets of a time zone over the years, as arrays that jitted code can search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(2256, 1, 1, tzinfo=UTC)
"""Times in the state are exact until then."""

_STEP: Final = timedelta(days=7)
"""Shorter than any time between two changes of a zone."""


@lru_cache(maxsize=64)
def offsets_of_zone(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """From when on each offset of a zone holds, and the offsets: both in microseconds, from 1970 to 2255.

    >>> starts, offsets = offsets_of_zone("Europe/Amsterdam")
    >>> starts[0], offsets[0] // 3_600_000_000
    (0, 1)

    Raises:
        ValueError: there is no such zone.
    """
    zone = ZoneInfo(name)
    n_steps = (LAST - FIRST) // _STEP
    moments = [FIRST + i * _STEP for i in range(n_steps + 1)]
    starts, offsets = [FIRST], [_offset(zone, FIRST)]
    for before, after in pairwise(moments):
        if _offset(zone, after) != offsets[-1]:
            starts.append(_change(zone, before, after))
            offsets.append(_offset(zone, after))
    microsecond = timedelta(microseconds=1)
    return tuple((start - FIRST) // microsecond for start in starts), tuple(each // microsecond for each in offsets)


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second in ``(before, after]`` that has the offset of ``after``."""
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if _offset(zone, middle) == _offset(zone, after):
            after = middle
        else:
            before = middle
    return after
