"""Time and chance, as the process has them; tests give their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where time and chance come from.

    Attributes:
        clock: now, microseconds since the epoch.
        randomness: so many random bytes.
        timer: a monotonic clock, seconds.
    """

    clock: Callable[[], int]
    randomness: Callable[[int], bytes]
    timer: Callable[[], float]

    @classmethod
    def of_process(cls) -> Surroundings:
        """The machine's own."""
        return cls(clock=lambda: time.time_ns() // 1000, randomness=os.urandom, timer=time.perf_counter)
