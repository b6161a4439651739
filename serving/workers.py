"""Threads for the work that waits on stores, so that the event loop never does; a bounded number may wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

from features.errors import StoreError
from serving.pace import Pace

P = ParamSpec("P")
T = TypeVar("T")

WAITING_PER_THREAD: Final = 64


class Workers:
    """A pool of threads that refuses work rather than let it pile up.

    Args:
        threads: so many work at once.
        waiting_per_thread: so many more may wait.
        timer: a monotonic clock, seconds.

    Attributes:
        pace: how the work goes.
    """

    def __init__(
        self,
        threads: int,
        *,
        waiting_per_thread: int = WAITING_PER_THREAD,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="headway")
        self._threads = threads
        self.pace = Pace(most=threads * (1 + waiting_per_thread), longest_wait=math.inf, timer=timer)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` gives, done in a thread.

        Raises:
            TooManyRequests: too much is waiting; ``work`` was not begun.
        """
        self.pace.begin()
        future = self._pool.submit(work, *args, **kwargs)
        # A caller that goes away must not free the place of work that goes on.
        future.add_done_callback(self._finished)
        return await asyncio.wrap_future(future)

    def later(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have ``work`` done beside the requests, once a thread is free; not at all where any request waits for one.

        For what will be asked for again if it is not done: errors of the stores are let go.
        """
        if not self.pace.begin_beside(at_most=self._threads):
            return

        def attempt() -> None:
            with suppress(StoreError):
                work(*args, **kwargs)

        self._pool.submit(attempt).add_done_callback(self._finished)

    def close(self) -> None:
        """Finish what is under way."""
        self._pool.shutdown(wait=True)

    def _finished(self, _: Future[Any]) -> None:
        self.pace.end()
