"""ReadinessCheck: the stores take work now, not a while ago, and looking is cheap."""

from __future__ import annotations

import asyncio
import threading

from features.errors import StoreUnavailable
from serving.readiness import ReadinessCheck


class _Stores:
    """Stores whose check is counted, and fails or hangs on demand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.is_down = False
        self.hangs: threading.Event | None = None

    def check(self) -> None:
        self.looks += 1
        if self.hangs is not None:
            self.hangs.wait(10)
        if self.is_down:
            raise StoreUnavailable("down")

    def readiness(self) -> ReadinessCheck:
        return ReadinessCheck(self.check, lambda: self.now, patience_seconds=5.0 if self.hangs is None else 0.05)


def test_a_service_is_ready_as_long_as_its_stores_take_work() -> None:
    """It stops and starts being so within a second, by itself."""

    async def looking() -> list[bool]:
        stores = _Stores()
        ready = stores.readiness()
        found = [await ready.is_ready()]
        for down in (True, False):
            stores.is_down = down
            stores.now += 1.0
            found.append(await ready.is_ready())
        return found

    assert asyncio.run(looking()) == [True, False, True]


def test_looking_often_looks_once_a_second() -> None:
    """Anybody may ask, without a key."""

    async def looking() -> int:
        stores = _Stores()
        ready = stores.readiness()
        for _ in range(100):
            assert await ready.is_ready()
        return stores.looks

    assert asyncio.run(looking()) == 1


def test_stores_that_hang_are_not_ready_and_hang_one_thread() -> None:
    """Every look would otherwise leave a thread behind."""

    async def looking() -> tuple[list[bool], int]:
        stores = _Stores()
        stores.hangs = threading.Event()
        ready = stores.readiness()
        found = []
        for _ in range(3):
            found.append(await ready.is_ready())
            stores.now += 1.0
        looks = stores.looks
        stores.hangs.set()
        found.append(await ready.is_ready())
        return found, looks

    assert asyncio.run(looking()) == ([False, False, False, True], 1)


def test_a_service_that_is_stopping_is_not_ready() -> None:
    """Whatever the stores say."""

    async def looking() -> tuple[bool, bool]:
        ready = _Stores().readiness()
        before = await ready.is_ready()
        ready.stop()
        return before, await ready.is_ready()

    assert asyncio.run(looking()) == (True, False)
