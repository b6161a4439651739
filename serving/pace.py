"""How fast requests get done, and from that how long the next one would wait: what admission is decided by."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from serving.problems import TooManyRequests

LONGEST_RETRY_SECONDS: Final = 60
_WEIGHT: Final = 0.05
"""Of the newest interval in the running mean: of about the last forty requests, since those that share a commit get
done together."""


class Pace:
    """Counts requests under way, and measures how often one gets done.

    While there is something to do, the time between two that get done is what one more adds to the wait of the next,
    however many are worked on at once.

    Args:
        most: so many may be under way.
        longest_wait: seconds; whoever would wait for longer is refused.
        least: so many may be under way however long they wait: where a disk is slow the wait is the disk's, and fewer
            at once would be no sooner done.
        timer: a monotonic clock, seconds.

    Attributes:
        under_way: begun and not ended.
        refused: how many were refused until now.
    """

    def __init__(self, *, most: int, longest_wait: float, timer: Callable[[], float], least: int = 0) -> None:
        self._most = most
        self._longest_wait = longest_wait
        self._least = least
        self._timer = timer
        self._interval = 0.0
        self._measured = 0
        self._last = 0.0
        self._guard = threading.Lock()
        self.under_way = 0
        self.refused = 0

    @property
    def expected_wait(self) -> float:
        """Seconds until all that is under way is done."""
        return self.under_way * self._interval

    @property
    def load(self) -> float:
        """Share of what may be under way, or of the longest wait, that is taken, whichever is more."""
        return self.load_behind(0)

    def load_behind(self, others: int) -> float:
        """``load`` once so many more, who are known to come, are under way."""
        under_way = self.under_way + others
        return max(under_way / self._most, under_way * self._interval / self._longest_wait)

    def is_full_behind(self, others: int) -> bool:
        """Whether one more behind them would wait too long, or too many are under way."""
        under_way = self.under_way + others
        is_soon = under_way * self._interval <= self._longest_wait or under_way < self._least
        return under_way >= self._most or not is_soon

    def admit(self) -> None:
        """Pass where one more can be done in time.

        Raises:
            TooManyRequests: it would wait too long, or too many are under way; it says when to come back.
        """
        if self.is_full_behind(0):
            self.refused += 1
            raise self.refusal()

    def refusal(self) -> TooManyRequests:
        """What is said to one more while it is full."""
        wait = self.expected_wait
        waiting = f", and a wait of {wait:.1f} s, expected at most {self._longest_wait:g} s"
        return TooManyRequests(
            f"{self.under_way} requests are under way, expected at most {self._most}"
            f"{waiting if math.isfinite(self._longest_wait) else ''}: ask again later",
            retry_after=min(max(1, math.ceil(wait)), LONGEST_RETRY_SECONDS),
        )

    def begin(self) -> None:
        """One more is under way.

        Raises:
            TooManyRequests: as ``admit``.
        """
        with self._guard:
            self.admit()
            self._begin()

    def begin_beside(self, *, at_most: int) -> bool:
        """One more is under way, unless more than ``at_most`` are already; whether it is."""
        with self._guard:
            if self.under_way > at_most:
                return False
            self._begin()
            return True

    def _begin(self) -> None:
        if self.under_way == 0:
            self._last = self._timer()
        self.under_way += 1

    def end(self) -> None:
        """One of those under way is done."""
        with self._guard:
            self.under_way -= 1
            now = self._timer()
            self._measured += 1
            weight = max(_WEIGHT, 1 / self._measured)
            self._interval += weight * (now - self._last - self._interval)
            self._last = now
