"""A disk that is full: reads go on, the service is not ready and refuses what it cannot keep, and then goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from features.errors import StoreUnavailable
from serving.auth import Principal
from serving.bootstrap import open_runtime
from serving.runtime import Runtime
from tests.faults.full_disk import full_disk

CALLER = Principal("k", "web", frozenset({"caller"}))


async def _ask(runtime: Runtime, request_id: str) -> str:
    body = {"customer_id": "c-1", "request_id": request_id}
    answer = await runtime.desk.answer(lambda: body, CALLER, idempotency_key=None, arrived=runtime.timer())
    return str(json.loads(answer)["request_id"])


def test_a_full_disk_is_not_ready_and_heals(tmp_path: Path) -> None:
    """What was refused was not kept, and is answered when it is asked again."""

    async def running() -> list[object]:
        found: list[object] = []
        async with open_runtime({"HEADWAY_HOME": str(tmp_path), "HEADWAY_LOG_LEVEL": "error"}) as runtime:
            found += [await runtime.readiness.is_ready(), await _ask(runtime, "r-1")]
            await asyncio.sleep(1.0)  # a look at the stores holds for a second
            with full_disk():
                found.append(await runtime.readiness.is_ready())
                with pytest.raises(StoreUnavailable):
                    await _ask(runtime, "r-2")
                found.append(await _ask(runtime, "r-1"))
            await asyncio.sleep(1.0)
            found += [await runtime.readiness.is_ready(), await _ask(runtime, "r-2")]
            found.append(sum(map(len, runtime.records.read())))
        return found

    assert asyncio.run(running()) == [True, "r-1", False, "r-1", True, "r-2", 2]
