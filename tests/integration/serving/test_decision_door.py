"""The door of decisions answers what the framework's route for the same call answers."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.api.app import application
from serving.gate import Gate
from serving.problems import Stopping
from serving.runtime import Runtime
from serving.settings import Settings
from tests.doors import BOOTSTRAP, World
from tests.gated import client_of, doors

KEY = {"Authorization": f"Bearer {BOOTSTRAP}"}
SOON = ("1", "2", "3")
"""Who is refused together is not to come back together."""

SEEN = ("content-type", "content-length", "retry-after", "www-authenticate")


def _seen(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    return answer.status_code, answer.content, {name: answer.headers[name] for name in SEEN if name in answer.headers}


BODY = json.dumps({"customer_id": "c-1", "request_id": "r-1"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "query"),
    [
        (200, BODY, KEY, ""),
        (200, gzip.compress(BODY, mtime=0), KEY | {"Content-Encoding": "gzip"}, ""),
        (200, b'{"customer_id": "c-1"}', KEY | {"Idempotency-Key": "r-1"}, ""),
        (401, BODY, {}, ""),
        (401, BODY, {"Authorization": "Bearer hw_wrong_wrong_wrong"}, ""),
        (400, b'{"customer_id": ', KEY, ""),
        (400, b"no gzip", KEY | {"Content-Encoding": "gzip"}, ""),
        (413, b" " * 2_000, KEY, ""),
        (415, BODY, KEY | {"Content-Encoding": "br"}, ""),
        (422, b"[]", KEY, ""),
        (422, b'{"customer_id": 7, "channel": "fax"}', KEY, ""),
        (422, BODY, KEY | {"Idempotency-Key": "another"}, ""),
        (422, BODY, KEY, "?wish=1"),
    ],
)
def test_both_answer_alike(tmp_path: Path, status: int, body: bytes, headers: Mapping[str, str], query: str) -> None:
    """Status, body to the byte, and the headers that a caller acts upon."""
    world = World(tmp_path, settings=Settings(bootstrap_key=BOOTSTRAP, threads=2, max_body_bytes=1_024))

    async def both() -> list[Any]:
        async with doors(world) as (_, *clients):
            sent = {"content": body, "headers": dict(headers)}
            return [_seen(await client.post(f"/v1/decisions{query}", **sent)) for client in clients]

    door, framework = asyncio.run(both())

    assert door[0] == status
    assert door == framework


def test_both_refuse_a_key_without_the_role(tmp_path: Path) -> None:
    """Before anything is read."""
    world = World(tmp_path)
    key = world.key("warehouse", "analyst")

    async def both() -> list[Any]:
        async with doors(world) as (_, *clients):
            headers = {"Authorization": f"Bearer {key}"}
            return [_seen(await client.post("/v1/decisions", content=BODY, headers=headers)) for client in clients]

    door, framework = asyncio.run(both())

    assert door[0] == 403
    assert door == framework


def test_both_refuse_two_keys_and_publishable_ones(tmp_path: Path) -> None:
    """A proxy may have read another of two headers; a page may not ask for decisions."""
    world = World(tmp_path)
    page = {
        "Authorization": f"Bearer {world.key('shop', origins=['https://a.example'])}",
        "Origin": "https://a.example",
    }
    twice = [*KEY.items(), *KEY.items()]

    async def both(headers: Any) -> list[Any]:
        async with doors(world) as (_, *clients):
            return [_seen(await client.post("/v1/decisions", content=BODY, headers=headers)) for client in clients]

    for headers, status in ((twice, 401), (page, 403)):
        door, framework = asyncio.run(both(headers))
        assert door[0] == status
        assert door == framework


@pytest.mark.parametrize(("role", "status"), [("caller", 404), ("analyst", 403), (None, 401)])
def test_the_door_of_bentoml_is_for_the_same_roles(tmp_path: Path, role: str | None, status: int) -> None:
    """What it lets pass goes on to BentoML, which is not here."""
    world = World(tmp_path)
    headers = {} if role is None else {"Authorization": f"Bearer {world.key('crm', role)}"}

    async def asked() -> int:
        async with doors(world) as (_, door, _app):
            return (await door.post("/rank", content=BODY, headers=headers)).status_code

    assert asyncio.run(asked()) == status


def test_both_are_noted_in_the_audit_log(tmp_path: Path) -> None:
    """Counted, with who asked and how it ended; who is not known is nobody."""
    world = World(tmp_path)

    async def both() -> list[Any]:
        async with doors(world) as (runtime, *clients):
            for client in clients:
                for headers in (KEY, {}):
                    await client.post("/v1/decisions", content=BODY, headers=headers)
            runtime.audit.write(all_minutes=True)
            return list(runtime.audit.lines())

    told = {(one.who, one.call, one.status, one.calls) for one in asyncio.run(both())}
    assert told == {("bootstrap", "POST /v1/decisions", 200, 2), ("nobody", "POST /v1/decisions", 401, 2)}


def test_both_count_their_answers(tmp_path: Path) -> None:
    """By the route's template and the status."""

    async def both() -> str:
        async with doors(World(tmp_path)) as (runtime, *clients):
            for client in clients:
                await client.post("/v1/decisions", content=BODY, headers=KEY)
            return runtime.metrics.exposition().decode()

    assert 'headway_request_seconds_count{route="/v1/decisions",status="200"} 2.0' in asyncio.run(both())


def test_a_backlog_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """Both say when to come back, and health is answered all the same."""

    class Body:
        def __init__(self) -> None:
            self.taken = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            self.taken += 1
            yield BODY

    async def both() -> list[Any]:
        async with doors(World(tmp_path, settings=Settings(bootstrap_key=BOOTSTRAP, threads=1))) as (
            runtime,
            *clients,
        ):
            for _ in range(65):
                runtime.desk.pace.begin()
            found: list[Any] = []
            for client in clients:
                body = Body()
                answer = await client.post("/v1/decisions", content=body, headers=KEY)
                found.append((answer.status_code, answer.headers["retry-after"] in SOON, body.taken))
            found.append((await clients[0].get("/readyz")).status_code)
            return found

    assert asyncio.run(both()) == [(429, True, 0), (429, True, 0), 200]


def test_a_service_that_is_not_open_says_so(tmp_path: Path) -> None:
    """503 with Retry-After at every path, and no error in the log: nothing failed."""

    async def asked() -> list[Any]:
        def closed() -> Runtime:
            raise Stopping("closed")

        app = application(lambda: None)  # type: ignore[arg-type,return-value]  # never opened
        async with client_of(Gate(app, runtime=closed, api=app)) as client:  # type: ignore[arg-type]  # as above
            found = []
            for path in ("/v1/decisions", "/rank", "/readyz"):
                answer = await client.post(path, content=BODY, headers=KEY)
                found.append((answer.status_code, answer.headers["retry-after"] in SOON))
            return found

    assert asyncio.run(asked()) == [(503, True)] * 3
