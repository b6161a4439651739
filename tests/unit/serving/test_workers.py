"""Workers: work in threads, and a bound on what may wait."""

from __future__ import annotations

import asyncio
import threading

import pytest

from features.errors import StoreUnavailable
from serving.problems import TooManyRequests
from serving.workers import Workers


def test_work_is_done_in_a_thread() -> None:
    """The event loop's own thread stays free."""

    async def elsewhere() -> bool:
        workers = Workers(1)
        try:
            return await workers.run(threading.get_ident) != threading.get_ident()
        finally:
            workers.close()

    assert asyncio.run(elsewhere())


def test_what_can_wait_is_done_beside_the_requests() -> None:
    """It is begun before the workers are closed, and a store that fails it fails nobody else."""
    done: list[str] = []

    def fail() -> None:
        done.append("failed")
        raise StoreUnavailable("down")

    workers = Workers(1)
    workers.later(fail)
    workers.later(done.append, "done")
    workers.close()

    assert done == ["failed", "done"]


def test_what_can_wait_is_left_out_while_requests_wait() -> None:
    """Nobody waits longer for it than for a request."""

    async def crowded() -> list[str]:
        done: list[str] = []
        workers, gate = Workers(1), threading.Event()
        begun = [asyncio.create_task(workers.run(gate.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0)
        workers.later(done.append, "left out")
        gate.set()
        await asyncio.gather(*begun)
        workers.close()
        return done

    assert asyncio.run(crowded()) == []


def test_too_much_work_is_refused_and_begun_work_is_finished() -> None:
    """One runs and one waits; the third is told to come back, and afterwards there is room again."""

    async def crowded() -> list[object]:
        workers, gate = Workers(1, waiting_per_thread=1), threading.Event()
        begun = [asyncio.create_task(workers.run(gate.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="2 requests are under way, expected at most 2"):
            await workers.run(int)
        gate.set()
        results: list[object] = [*await asyncio.gather(*begun)]
        await asyncio.sleep(0)
        results.append(await workers.run(int))
        workers.close()
        return results

    assert asyncio.run(crowded()) == [True, True, 0]


def test_an_error_comes_back() -> None:
    """What work raises is raised where it is awaited."""

    async def failing() -> None:
        workers = Workers(1)
        try:
            await workers.run(int, "x")
        finally:
            workers.close()

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(failing())
