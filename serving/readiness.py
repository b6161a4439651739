"""Whether the service takes work: its stores answer and can be written, and it is not about to end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from features.errors import StoreError
from serving.turns import result_within

FRESH_SECONDS: Final = 1.0
"""So long a finding holds: whoever asks more often, without a key, must not keep the disk busy."""

PATIENCE_SECONDS: Final = 2.0
"""A store that takes longer takes no work."""


class ReadinessCheck:
    """Tells whether the service takes work.

    Args:
        check: raises ``StoreError`` where a store does not take work; it may take its time.
        timer: a monotonic clock, seconds.
        patience_seconds: a check that takes longer is taken for a failure.
    """

    def __init__(
        self, check: Callable[[], None], timer: Callable[[], float], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._check = check
        self._timer = timer
        self._patience_seconds = patience_seconds
        self._checking: Future[bool] | None = None
        self._found = False
        self._found_at: float | None = None
        self._is_stopping = False

    def stop(self) -> None:
        """Not ready from now on: the process is about to end."""
        self._is_stopping = True

    async def is_ready(self) -> bool:
        """Whether work is taken; looked at again where the last look is a second old."""
        if self._is_stopping:
            return False
        now = self._timer()
        if self._found_at is not None and now - self._found_at < FRESH_SECONDS:
            return self._found
        if self._checking is None:
            self._checking = _in_thread_of_its_own(self._takes_work)
        checking = self._checking
        try:
            self._found = await result_within(checking, self._patience_seconds)
        except TimeoutError:  # the look goes on; no second one is begun beside it
            self._found = False
        else:
            self._checking = None
        self._found_at = now
        return self._found and not self._is_stopping

    def _takes_work(self) -> bool:
        try:
            self._check()
        except StoreError:
            return False
        return True


def _in_thread_of_its_own(look: Callable[[], bool]) -> Future[bool]:
    """Not one of those that requests wait for, and one that the end of the process does not wait for."""
    future: Future[bool] = Future()

    def run() -> None:
        try:
            future.set_result(look())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="readiness", daemon=True).start()
    return future
