"""Turns: one piece of work in each round of the event loop, in order; and waiting for another thread, within bounds."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from serving.turns import Turns, result_within


def test_a_crowd_is_served_one_by_one_in_order() -> None:
    """Between two turns the loop goes round, so that answers leave and health checks are heard."""

    async def crowd() -> list[object]:
        turns, seen = Turns(), list[object]()
        loop = asyncio.get_running_loop()

        async def caller(number: int) -> None:
            await turns.take()
            seen.append(number)
            loop.call_soon(seen.append, "round")

        await asyncio.gather(*(caller(number) for number in range(3)))
        assert turns.waiting == 0
        return seen

    assert asyncio.run(crowd())[:5] == [0, "round", 1, "round", 2]


def test_who_went_away_gives_no_turn_away() -> None:
    """The next in line gets it."""

    async def crowd() -> list[int]:
        turns, seen = Turns(), list[int]()

        async def caller(number: int) -> None:
            await turns.take()
            seen.append(number)

        tasks = [asyncio.create_task(caller(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        return seen

    assert asyncio.run(crowd()) == [0, 2, 3]


def test_who_goes_away_when_the_turn_has_come_passes_it_on() -> None:
    """The turn was given, and its taker went before it woke up: nobody else would ever get one."""

    async def crowd() -> list[int]:
        turns, seen = Turns(), list[int]()
        tasks: list[asyncio.Task[None]] = []

        async def caller(number: int) -> None:
            await turns.take()
            seen.append(number)
            if number == 0:
                # Right behind the end of this turn, which gives the next one away.
                asyncio.get_running_loop().call_soon(tasks[1].cancel)

        tasks.extend(asyncio.create_task(caller(number)) for number in range(4))
        await asyncio.wait(tasks, timeout=1)
        assert not turns.is_taken
        return seen

    assert asyncio.run(crowd()) == [0, 2, 3]


def test_the_result_of_another_thread_is_waited_for() -> None:
    """Its value, or its error."""

    async def waiting() -> int:
        good: Future[int] = Future()
        threading.Timer(0.01, good.set_result, (7,)).start()
        bad: Future[int] = Future()
        bad.set_exception(KeyError("x"))
        with pytest.raises(KeyError):
            await result_within(bad, 5)
        return await result_within(good, 5)

    assert asyncio.run(waiting()) == 7


def test_a_result_that_does_not_come_is_not_waited_for() -> None:
    """The work goes on, and its late result harms nobody."""

    async def waiting() -> None:
        late: Future[int] = Future()
        with pytest.raises(TimeoutError):
            await result_within(late, 0.01)
        late.set_result(1)
        await asyncio.sleep(0)

    asyncio.run(waiting())


def test_the_end_is_told_once_nobody_waits() -> None:
    """What a crowd left is then done together."""

    async def crowd() -> list[object]:
        seen = list[object]()
        turns = Turns(lambda: seen.append("end"))

        async def caller(number: int) -> None:
            await turns.take()
            seen.append(number)

        await asyncio.gather(*(caller(number) for number in range(3)))
        await asyncio.sleep(0)
        assert not turns.is_taken
        return seen

    assert asyncio.run(crowd()) == [0, 1, 2, "end"]


def test_a_round_that_is_long_for_others_works_longer() -> None:
    """Ten milliseconds of refusals are worth four of work, of half a millisecond a piece: eight turns in one round."""
    now = [0.0]

    async def crowd() -> list[list[int]]:
        turns = Turns(timer=lambda: now[0])
        loop = asyncio.get_running_loop()
        rounds: list[list[int]] = [[]]

        def others() -> None:
            now[0] += 0.010
            rounds.append([])
            if any(not task.done() for task in tasks):
                loop.call_soon(others)

        async def caller(number: int) -> None:
            await turns.take()
            now[0] += 0.0005
            turns.worked(0.0005)
            rounds[-1].append(number)

        tasks = [asyncio.create_task(caller(number)) for number in range(25)]
        loop.call_soon(others)
        await asyncio.gather(*tasks)
        return [one for one in rounds if one]

    served = asyncio.run(crowd())

    assert [number for one in served for number in one] == list(range(25))
    assert max(map(len, served)) == 8


def test_a_round_with_nothing_else_has_one_piece_of_work() -> None:
    """However short it is: whoever arrives meanwhile is heard before the next."""

    async def crowd() -> list[object]:
        turns, seen = Turns(timer=lambda: 0.0), list[object]()

        async def caller(number: int) -> None:
            await turns.take()
            turns.worked(0.001)
            seen.append(number)
            asyncio.get_running_loop().call_soon(seen.append, "round")

        await asyncio.gather(*(caller(number) for number in range(3)))
        return seen

    assert asyncio.run(crowd())[:5] == [0, "round", 1, "round", 2]
