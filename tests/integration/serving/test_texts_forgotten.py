"""The service forgets raw texts of feedback once their time is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from features.errors import StoreUnavailable
from features.event_log import MemoryEventLog
from serving import retention
from tests.histories import START_AT, event

DAY_US = 86_400_000_000


class _Stumbling(MemoryEventLog):
    """Does not answer when it is asked first."""

    asked = 0

    def forget_texts(self, *, arrived_before: int) -> int:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable("down")
        return super().forget_texts(arrived_before=arrived_before)


def test_texts_older_than_their_time_go_and_younger_stay() -> None:
    """From the start on, and again after a log that did not answer."""
    log = _Stumbling()
    arrivals = (("old", START_AT), ("new", START_AT + 1))
    log.append([replace(event(name, arrived_at=at), text=name) for name, at in arrivals])

    async def until_asked_again() -> None:
        forgetting = asyncio.create_task(
            retention.forget_texts(log, lambda: START_AT + 1 + DAY_US, DAY_US, pause_seconds=0.0)
        )
        while log.asked < 3:
            await asyncio.sleep(0)
        forgetting.cancel()

    asyncio.run(asyncio.wait_for(until_asked_again(), timeout=20))

    assert {one.event.event_id: one.event.text for one in log.of_customer("c1")} == {"old": None, "new": "new"}
