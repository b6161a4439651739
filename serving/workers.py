"""Threads for the work that waits on stores, so that the event loop never does; a bounded number may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from serving.problems import TooManyRequests

P = ParamSpec("P")
T = TypeVar("T")

WAITING_PER_THREAD: Final = 64


class Workers:
    """A pool of threads that refuses work rather than let it pile up."""

    def __init__(self, threads: int, *, waiting_per_thread: int = WAITING_PER_THREAD) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="headway")
        self._most = threads * (1 + waiting_per_thread)
        self._under_way = 0

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` gives, done in a thread. Call it from one event loop only.

        Raises:
            TooManyRequests: too much is waiting; ``work`` was not begun.
        """
        if self._under_way >= self._most:
            raise TooManyRequests(f"{self._under_way} requests are under way, expected at most {self._most}")
        self._under_way += 1
        # A caller that goes away must not free the place of work that goes on.
        future = self._pool.submit(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _soon(loop, self._finished))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what is under way."""
        self._pool.shutdown(wait=True)

    def _finished(self) -> None:
        self._under_way -= 1


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
