"""Turns in the thread of the event loop: a little work in each round of the loop, in the order of arrival.

What only reads local files is done sooner in the loop's own thread than handed to another and back: threads take turns
in Python, and sixteen of them took twice the time of one. But a crowd that is served in one round would keep answers,
new requests and health checks waiting until the last of it is done. So a round has one piece of work; and where the
rest of the round takes long, since a thousand requests are being refused, as many more as that is worth: with one piece
a round, refusing alone would keep the loop busy.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

SHARE: Final = 4.0
"""So many times as long as a round took for everything else, the next may work; within the bound below."""

LONGEST_SECONDS: Final = 0.004
"""So long a round works at most. A decision takes about six rounds from its arrival to its answer, and so does a health
check; new connections are accepted a few a round."""

_WEIGHT: Final = 0.05
"""Of the newest piece of work in the running mean of their times."""


class Turns:
    """Lets a little work run in each round of the event loop. Used by one loop only.

    Args:
        at_end: called after a turn behind which nobody waits.
        timer: a monotonic clock, seconds.
    """

    def __init__(
        self, at_end: Callable[[], None] = lambda: None, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._at_end = at_end
        self._timer = timer
        self._piece = 0.0
        self._worked = 0.0
        self._began = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def is_taken(self) -> bool:
        """Whether somebody has the turn: its end is still to come."""
        return self._is_taken

    async def take(self) -> None:
        """Wait for the turn; it is over at the next wait for anything."""
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            self._began, self._worked = self._timer(), 0.0
            loop.call_soon(self._pass_on)

    def worked(self, seconds: float) -> None:
        """Say how long the piece of work of a turn took."""
        self._piece += seconds if self._piece == 0.0 else _WEIGHT * (seconds - self._piece)
        self._worked += seconds

    def _pass_on(self) -> None:
        """Give the next turns away: called behind those who have one, who may also have gone."""
        self._is_taken = False
        room = self._pieces_in_next_round()
        while self._waiting and room:
            turn = self._waiting.popleft()
            if not turn.done():  # its caller may have gone
                turn.set_result(None)
                room -= 1
                self._is_taken = True
        if self._is_taken:
            asyncio.get_running_loop().call_soon(self._pass_on)
        else:
            self._at_end()

    def _pieces_in_next_round(self) -> int:
        now = self._timer()
        others = max(0.0, now - self._began - self._worked)
        self._began, self._worked = now, 0.0
        if self._piece == 0.0:
            return 1
        return max(1, int(min(SHARE * others, LONGEST_SECONDS) / self._piece))


async def result_within(future: Future[T], seconds: float) -> T:
    """The result of a future of another thread.

    Raises:
        TimeoutError: it took longer; the work goes on.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def told(_: Future[T]) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, waiter, None)

    future.add_done_callback(told)
    timer = loop.call_later(seconds, _settle, waiter, TimeoutError())
    try:
        await waiter
    finally:
        timer.cancel()
    return future.result()


def _settle(waiter: asyncio.Future[None], error: Exception | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)
