"""Moments of arrivals and of questions in one order, whatever the machine's clock does.

Training reads features from what had arrived strictly before the moment of a decision. Serving reads them from what is
in the log when it looks. The two are the same only if every arrival that a decision can see is stamped before its
moment, and every other one is not: a clock that steps back, two threads, and two calls in one microsecond all break
that, unless somebody hands the moments out.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from features.errors import StoreUnavailable

_PATIENCE_SECONDS: Final = 10.0
"""A commit of 10,000 events takes less than one."""

_IDS_REMEMBERED: Final = 100_000
"""Of the newest arrivals; what was asked before all of these is answered the slow way."""


class ArrivalLog(Protocol):
    """An event log that several processes append to, one after another."""

    def newest_arrival(self) -> int:
        """When the newest event arrived, once all that is being appended is there."""

    def arrived_at(self, position: int) -> int:
        """When the event at a position arrived."""


class Moments:
    """Hands out the moments of one process; all of its doors share one.

    - A question is later than every arrival that was stamped before it was asked.
    - An arrival is never earlier than a question that was asked before it was stamped, nor than another arrival.

    Args:
        after: the newest moment that was handed out before this process, microseconds since the epoch.
    """

    def __init__(self, *, after: int = 0) -> None:
        self._newest = after
        self._newest_arrival = after
        self._under_way: dict[int, tuple[int, frozenset[str]]] = {}
        self._numbers = itertools.count()
        self._arrivals: deque[tuple[int, frozenset[str]]] = deque()
        self._remembered = 0
        self._forgotten_until = after
        self._changed = threading.Condition()

    @property
    def stamp(self) -> Callable[[int], int] | None:
        """What the log is to ask for the moment of an arrival; None where ``arriving`` says it."""
        return None

    @property
    def newest_arrival(self) -> int:
        """The newest moment that an arrival was stamped with."""
        return self._newest_arrival

    @contextmanager
    def arriving(self, customer_ids: Collection[str], *, now: int) -> Iterator[int]:
        """The moment at which events of some customers arrive; inside, they are put into the log.

        Args:
            customer_ids: every id that the events name.
            now: what the clock says, microseconds since the epoch.
        """
        with self._changed:
            self._newest = self._newest_arrival = at = max(now, self._newest)
            number = next(self._numbers)
            self._under_way[number] = arrival = (at, frozenset(customer_ids))
            self._remember(arrival)
        try:
            yield at
        finally:
            with self._changed:
                del self._under_way[number]
                self._changed.notify_all()

    def question(self, now: int) -> int:
        """The moment of a question that is asked when the clock says ``now``."""
        with self._changed:
            at = max(now, self._newest_arrival + 1)
            self._newest = max(self._newest, at)
            return at

    def has_arrived(self, customer_ids: Collection[str], *, since: int, position: int) -> bool:
        """Whether anything of some customers may have arrived at a moment or later, in the log already or not.

        Args:
            customer_ids: their ids.
            since: the moment.
            position: of what arrived last of them, in the log. Here it does not tell: of two that arrive at once, the
                later one may be written first.
        """
        if self._newest_arrival < since:
            return False
        with self._changed:
            if since <= self._forgotten_until:
                return True
            newer = itertools.takewhile(lambda arrival: arrival[0] >= since, reversed(self._arrivals))
            return any(not ids.isdisjoint(customer_ids) for _, ids in newer)

    def is_under_way(self, customer_ids: Collection[str]) -> bool:
        """Whether anything of some customers is on its way into the log: ``settle`` may have to wait for it."""
        if not self._under_way:  # what begins after this look is stamped later than every question before it
            return False
        with self._changed:
            return any(not ids.isdisjoint(customer_ids) for _, ids in self._under_way.values())

    def settle(self, customer_ids: Collection[str], *, before: int) -> None:
        """Wait until all that arrived for some customers before a moment is in the log, or will never be.

        Raises:
            StoreUnavailable: the log takes too long.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_settled(customer_ids, before), _PATIENCE_SECONDS):
                raise StoreUnavailable(
                    f"the event log took longer than {_PATIENCE_SECONDS:g} s to keep what arrived; "
                    f"expected it to take milliseconds: look at its disk, and ask again"
                )

    def _remember(self, arrival: tuple[int, frozenset[str]]) -> None:
        self._arrivals.append(arrival)
        self._remembered += len(arrival[1])
        while self._remembered > _IDS_REMEMBERED:
            self._forgotten_until, ids = self._arrivals.popleft()
            self._remembered -= len(ids)

    def _is_settled(self, customer_ids: Collection[str], before: int) -> bool:
        return all(at >= before or ids.isdisjoint(customer_ids) for at, ids in self._under_way.values())


class SharedMoments(Moments):
    """Hands out the moments of one of several processes that append to one log; the log is what they have in common.

    What is appended is stamped while no other process appends, later than all that is there. A question waits for what
    is being appended, so that what it does not see is stamped after it. That holds as far as the processes have one
    clock, which does not step back between a question and the next arrival.

    Args:
        log: the log.
        clock: now, microseconds since the epoch.
        after: the newest moment that was handed out before this process.
    """

    def __init__(self, log: ArrivalLog, clock: Callable[[], int], *, after: int = 0) -> None:
        super().__init__(after=after)
        self._log = log
        self._clock = clock

    @property
    def stamp(self) -> Callable[[int], int]:
        """The moment of an arrival, asked for while nobody else appends."""
        return lambda newest: max(self._clock(), newest + 1)

    def question(self, now: int) -> int:
        """The moment of a question that is asked when the clock says ``now``.

        Raises:
            StoreUnavailable: the log does not answer, or takes too long.
        """
        # Not later than what this process is appending, as other questions are: it is stamped anew when it is its turn.
        return max(now, self._log.newest_arrival() + 1)

    def has_arrived(self, customer_ids: Collection[str], *, since: int, position: int) -> bool:
        """Whether what arrived last of some customers, by its position in the log, did at a moment or later."""
        return self._log.arrived_at(position) >= since

    def is_under_way(self, customer_ids: Collection[str]) -> bool:
        """Nothing that is earlier than a question is."""
        return False

    def settle(self, customer_ids: Collection[str], *, before: int) -> None:
        """Nothing: the question has waited."""
