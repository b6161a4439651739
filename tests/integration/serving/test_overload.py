"""A service that is asked for too much: who is refused first, who is answered always, what a limited key is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.key_limits import KeyLimit
from serving.keys import KeyFile
from serving.runtime import Runtime
from tests.doors import BOOTSTRAP, World, event
from tests.gated import doors

KEY = {"Authorization": f"Bearer {BOOTSTRAP}"}
QUESTION = {"customer_id": "c-1", "mode": "dry_run"}
ROOM = 2 * 65
"""Requests that may be under way with two threads."""


async def _statuses(door: httpx.AsyncClient) -> dict[str, int]:
    asked = {
        "explanation": door.get("/v1/decisions/d-1/explanation", headers=KEY),
        "search": door.get("/v1/decisions", headers=KEY),
        "events": door.post("/v1/events", json={"events": [event()]}, headers=KEY),
        "decision": door.post("/v1/decisions", json=QUESTION, headers=KEY),
        "livez": door.get("/livez"),
        "readyz": door.get("/readyz"),
        "metrics": door.get("/metrics", headers=KEY),
    }
    return {name: (await answer).status_code for name, answer in asked.items()}


@pytest.mark.parametrize(
    ("share", "refused"),
    [
        (0.0, set()),
        (0.3, {"explanation"}),
        (0.6, {"explanation", "search"}),
        (0.8, {"explanation", "search", "events"}),
        (1.0, {"explanation", "search", "events", "decision"}),
    ],
)
def test_decisions_are_given_up_last_and_health_never(share: float, refused: set[str], tmp_path: Path) -> None:
    """At each share of the room that waiting decisions take."""

    async def asked() -> dict[str, int]:
        async with doors(World(tmp_path)) as (runtime, door, _):
            for _ in range(round(share * ROOM)):
                runtime.desk.pace.begin()
            return await _statuses(door)

    statuses = asyncio.run(asked())

    assert {name for name, status in statuses.items() if status == 429} == refused
    assert (statuses["livez"], statuses["readyz"], statuses["metrics"]) == (200, 200, 200)


def test_what_was_given_up_is_counted_by_kind(tmp_path: Path) -> None:
    """Under the names that operators watch, and without a word of who asked."""

    async def told() -> str:
        async with doors(World(tmp_path)) as (runtime, door, _):
            for _ in range(ROOM):
                runtime.desk.pace.begin()
            await _statuses(door)
            return (await door.get("/metrics", headers=KEY)).text

    lines = asyncio.run(told()).splitlines()

    for kind in ("explanations", "reports", "events", "decisions"):
        assert f'headway_refused_total{{kind="{kind}"}} 1.0' in lines
    assert "headway_key_limited_total 0.0" in lines


def _limited(world: World) -> dict[str, str]:
    limit = KeyLimit(per_second=1.0, burst=2)
    key = world.keys.create(source="crm", roles=["caller"], secret=world.random_bytes(36), at=world.now, limit=limit)
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/decisions", QUESTION),
        ("POST", "/v1/events", {"events": [event()]}),
        ("POST", "/v1/batch", {"batch": [{"type": "track", "userId": "c-1", "event": "Card Activated"}]}),
        ("GET", "/v1/decisions", None),
    ],
)
def test_a_key_that_asks_too_often_is_told_so(method: str, path: str, body: Any, tmp_path: Path) -> None:
    """By every door, with what is left for it; other keys are answered, and it is itself a second later."""

    async def asked() -> list[httpx.Response]:
        world = World(tmp_path)
        limited = _limited(world)
        async with doors(world) as (_, door, _):
            answers = [await door.request(method, path, json=body, headers=limited) for _ in range(3)]
            answers.append(await door.request(method, path, json=body, headers=KEY))
            world.now += 1_000_000
            return [*answers, await door.request(method, path, json=body, headers=limited)]

    first, second, third, other, later = asyncio.run(asked())

    assert [one.status_code for one in (first, second, third, other, later)] == [200, 200, 429, 200, 200]
    assert [one.headers["ratelimit"] for one in (first, second, third)] == [
        '"key";r=1;t=1',
        '"key";r=0;t=2',
        '"key";r=0;t=2',
    ]
    assert third.headers["ratelimit-policy"] == '"key";q=2;w=2'
    assert third.headers["retry-after"] in ("1", "2", "3")
    assert third.json()["type"] == "/docs/problems/key-limit-reached"
    assert "ratelimit" not in other.headers


def test_a_refusal_by_key_reads_no_body(tmp_path: Path) -> None:
    """It costs the service nothing but its headers."""

    class Body:
        taken = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            self.taken += 1
            yield b"{}"

    async def asked() -> list[tuple[int, int]]:
        world = World(tmp_path)
        limited = _limited(world)
        found = []
        async with doors(world) as (_, door, framework):
            for client in (door, framework):
                for _ in range(3):
                    body = Body()
                    answer = await client.post("/v1/decisions", content=body, headers=limited)
                found.append((answer.status_code, body.taken))
        return found

    assert asyncio.run(asked()) == [(429, 0), (429, 0)]


def test_a_limit_is_kept_with_its_key_and_changed_at_once(tmp_path: Path) -> None:
    """A file without limits is read as before."""
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.create(source="crm", roles=["caller"], secret=bytes(range(36)), at=0)
    key_id = key.split("_")[1]
    keys.limit(key_id, KeyLimit(per_second=5.0, burst=9))

    found = KeyFile(tmp_path / "keys.json").holder(key, at=0)

    assert found is not None
    assert found.limit == KeyLimit(per_second=5.0, burst=9)
    assert keys.limit(key_id, None).limit is None


def test_a_slow_body_holds_no_place(tmp_path: Path) -> None:
    """While a crowd of senders dawdles, the others find the service idle."""

    async def asked() -> tuple[int, int, int]:
        async with doors(World(tmp_path)) as (runtime, door, _):
            end = asyncio.Event()

            async def dawdling() -> AsyncIterator[bytes]:
                yield b'{"customer_id": '
                await end.wait()
                yield b'"c-1", "mode": "dry_run"}'

            slow = [
                asyncio.create_task(door.post(path, content=dawdling(), headers=KEY))
                for path in ("/v1/decisions", "/v1/events") * 2 * ROOM
            ]
            await asyncio.sleep(0)
            status = (await door.post("/v1/decisions", json=QUESTION, headers=KEY)).status_code
            under_way = _under_way(runtime)
            end.set()
            return status, under_way, len([one for one in await asyncio.gather(*slow) if one.status_code == 200])

    status, under_way, answered = asyncio.run(asked())

    assert (status, under_way) == (200, 0)
    assert answered >= ROOM


def _under_way(runtime: Runtime) -> int:
    return runtime.desk.pace.under_way + runtime.workers.pace.under_way
