"""What goes on beside the requests: one piece of work that fails stops no other, and all have ended at the end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial

import pytest

from serving.bootstrap import _beside_requests


def test_one_that_fails_is_said_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The others go on, and end in order when the service does."""
    ended: list[str] = []

    async def failing() -> None:
        raise ValueError("nobody foresaw it")

    async def going_on(name: str, steps: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(steps):
                await asyncio.sleep(0)
            ended.append(name)

    async def served() -> bool:
        watching = _beside_requests(failing, partial(going_on, "quick", 0), partial(going_on, "slow", 10))
        await asyncio.sleep(0.01)
        is_going_on = not watching.done()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return is_going_on

    with caplog.at_level(logging.ERROR, logger="headway"):
        assert asyncio.run(served())

    assert ended == ["quick", "slow"]
    assert "background_work_failed" in caplog.text


def test_what_ends_before_it_begins_leaves_nothing_behind() -> None:
    """A service that is closed in the very moment of its opening has begun none of it."""
    begun: list[str] = []

    async def going_on() -> None:
        begun.append("going on")

    async def closed_at_once() -> None:
        watching = _beside_requests(going_on)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    asyncio.run(closed_at_once())
    assert begun == []
