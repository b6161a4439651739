"""Interleaved timing: what is compared is measured in turns, so that a busy machine is busy for both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[int], object]
"""One piece of work; its argument counts up, so that it need not be the same customer twice."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each call."""

    seconds: tuple[float, ...]

    def milliseconds(self, share: float) -> float:
        """The quantile ``share``, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    @property
    def median_ms(self) -> float:
        """In milliseconds."""
        return 1000 * statistics.median(self.seconds)

    @property
    def spread_ms(self) -> tuple[float, float, float]:
        """Least, median and most, in milliseconds."""
        return (1000 * min(self.seconds), self.median_ms, 1000 * max(self.seconds))


def interleaved(
    works: Mapping[str, Work],
    *,
    rounds: int,
    calls: int | Mapping[str, int] = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Times of each work, ``calls`` of each in turn, ``rounds`` times; one call of each beforehand does not count.

    ``clock`` may be the process's CPU time, for work that waits for nothing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    counters = dict.fromkeys(works, 0)
    for work in works.values():
        work(-1)
    for _ in range(rounds):
        for name, work in works.items():
            for _ in range(calls if isinstance(calls, int) else calls[name]):
                started = clock()
                work(counters[name])
                seconds[name].append(clock() - started)
                counters[name] += 1
    return {name: Times(tuple(found)) for name, found in seconds.items()}
