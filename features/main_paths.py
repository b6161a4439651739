"""A first journey out of a process log: where cases start, the steps most take on the way, and where they end well.

Rules of thumb, to be edited by a person: they only see what happened, not what is wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

from features.durations import MICROSECONDS

END_SHARE: Final = 0.05
"""An ending of fewer cases is no candidate for the goal."""
STEP_SHARE: Final = 0.5
"""A step that fewer of the cases take that reach the goal is no stage."""
EXIT_SHARE: Final = 0.01
EXIT_ENDS: Final = 0.8
"""A kind that ends so many of the cases that have it, and so many of all, is a way out."""
START_SHARE: Final = 0.99
"""The most frequent starts that make up so many cases open the journey."""
MOST_STAGES: Final = 12
STALL_QUANTILE: Final = 0.9

Steps = Sequence[tuple[int, str]]
"""Time and kind of each event of a case, in order."""


@dataclass(frozen=True, slots=True)
class MainPath:
    """A drafted journey.

    Attributes:
        entry: kinds that start cases, most frequent first.
        stages: kinds in order, with how long nine of ten cases take to get further, microseconds.
        goal: where it wants to end.
        exits: kinds that end cases otherwise.
        abandon_after: a silence that hardly any case comes back from, microseconds.
    """

    entry: tuple[str, ...]
    stages: Mapping[str, int]
    goal: str
    exits: tuple[str, ...]
    abandon_after: int


def main_path(cases: Sequence[Steps]) -> MainPath | None:
    """The journey that cases seem to make; None where they have fewer than two kinds.

    The goal is, of the kinds that end at least one case in twenty, the one whose cases go through most different kinds:
    the usual ending may well be a refusal, but what got furthest was let through.
    """
    starts = Counter(case[0][1] for case in cases)
    kinds = {kind for case in cases for _, kind in case}
    start = _most(starts)
    goal = _goal(cases, start, kinds)
    if goal is None:
        return None
    firsts = [_first_times(case) for case in cases]
    ways_out = _exits(cases, firsts, {start, goal})
    stages = [start, *_steps([first for first in firsts if goal in first], {start, goal, *ways_out})]
    stall_after = {stage: _stall_after(stage, stages[place + 1 :], goal, firsts) for place, stage in enumerate(stages)}
    longest = max(stall_after.values())
    silence = _rounded(_quantile([b[0] - a[0] for case in cases for a, b in pairwise(case)], 0.99))
    return MainPath(
        entry=tuple(kind for kind in _openings(starts) if kind != goal and kind not in ways_out) or (start,),
        stages=stall_after,
        goal=goal,
        exits=tuple(ways_out),
        abandon_after=_rounded(max(silence, 2 * longest, MICROSECONDS["d"])),
    )


def _most(counts: Counter[str]) -> str:
    return min(counts, key=lambda kind: (-counts[kind], kind))


def _goal(cases: Sequence[Steps], start: str, kinds: set[str]) -> str | None:
    if len(kinds) < 2:
        return None
    ends = Counter(case[-1][1] for case in cases)
    frequent = [kind for kind, count in ends.items() if kind != start and count >= END_SHARE * len(cases)]
    candidates = frequent or [kind for kind in ends if kind != start] or sorted(kinds - {start})
    lengths: dict[str, list[int]] = {kind: [0] for kind in candidates}
    for case in cases:
        if case[-1][1] in lengths:
            lengths[case[-1][1]].append(len({kind for _, kind in case}))
    reach = {kind: sum(each) / max(len(each) - 1, 1) for kind, each in lengths.items()}
    return min(candidates, key=lambda kind: (-reach[kind], -ends[kind], kind))


def _first_times(case: Steps) -> dict[str, tuple[int, int]]:
    """Place and time of the first event of each kind."""
    first: dict[str, tuple[int, int]] = {}
    for place, (at, kind) in enumerate(case):
        first.setdefault(kind, (place, at))
    return first


def _exits(cases: Sequence[Steps], firsts: Sequence[Mapping[str, tuple[int, int]]], others: set[str]) -> list[str]:
    ends = Counter(case[-1][1] for case in cases)
    having = Counter(kind for first in firsts for kind in first)
    return sorted(
        kind
        for kind, count in ends.items()
        if kind not in others and count >= EXIT_SHARE * len(cases) and count >= EXIT_ENDS * having[kind]
    )


def _steps(reaching: Sequence[Mapping[str, tuple[int, int]]], others: set[str]) -> list[str]:
    places: dict[str, list[int]] = {}
    for first in reaching:
        for kind, (place, _) in first.items():
            places.setdefault(kind, []).append(place)
    usual = [kind for kind, where in places.items() if kind not in others and len(where) >= STEP_SHARE * len(reaching)]
    most_usual = sorted(usual, key=lambda kind: (-len(places[kind]), median(places[kind]), kind))[: MOST_STAGES - 1]
    return sorted(most_usual, key=lambda kind: (median(places[kind]), kind))


def _stall_after(stage: str, later: Sequence[str], goal: str, firsts: Sequence[Mapping[str, tuple[int, int]]]) -> int:
    """How long nine of ten of the cases that went further took for it."""
    waits = []
    for first in firsts:
        if stage not in first:
            continue
        at = first[stage][1]
        further = [first[kind][1] - at for kind in (*later, goal) if kind in first and first[kind][1] >= at]
        if further:
            waits.append(min(further))
    return _rounded(_quantile(waits, STALL_QUANTILE))


def _openings(starts: Counter[str]) -> list[str]:
    openings: list[str] = []
    covered, total = 0, sum(starts.values())
    for kind in sorted(starts, key=lambda each: (-starts[each], each)):
        if covered >= START_SHARE * total:
            break
        openings.append(kind)
        covered += starts[kind]
    return openings


def _quantile(values: list[int], share: float) -> int:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)] if values else 0


def _rounded(microseconds: int) -> int:
    """Up to a whole number of minutes, hours or days, whichever a person would say."""
    unit = "d" if microseconds > 2 * MICROSECONDS["d"] else "h" if microseconds > 2 * MICROSECONDS["h"] else "m"
    return max(-(-microseconds // MICROSECONDS[unit]), 1) * MICROSECONDS[unit]
