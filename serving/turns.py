"""Turns in the thread of the event loop: one piece of work in each round of the loop, in the order of arrival.

What only reads local files is done sooner in the loop's own thread than handed to another and back: threads take turns
in Python, and sixteen of them took twice the time of one. But a crowd that is served in one round would keep answers,
new requests and health checks waiting until the last of it is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """Lets one piece of work run in each round of the event loop. Used by one loop only.

    Args:
        at_end: called after a turn behind which nobody waits.
    """

    def __init__(self, at_end: Callable[[], None] = lambda: None) -> None:
        self._at_end = at_end
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
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was given already: who goes away passes it on
                    self._pass_on()
                raise
        self._is_taken = True
        loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._is_taken = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its caller may have gone
                self._is_taken = True
                turn.set_result(None)
                return
        self._at_end()


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
