"""The SDKs of Segment and RudderStack as they are published, with nothing but the host changed, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from serving.api.app import application
from serving.runtime import Runtime
from tests.doors import World

START_SECONDS = 30.0
SDKS: dict[str, Callable[..., Any]] = {"segment": SegmentClient, "rudder": RudderClient}


@contextmanager
def served(world: World) -> Iterator[str]:
    """The URL of the application behind a real server, over stores in memory."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Runtime]:
        runtime = world.runtime()
        yield runtime
        runtime.workers.close()

    server = uvicorn.Server(uvicorn.Config(application(opened), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < until:
        thread.join(0.05)  # another thread is waited for: there is nothing else to wait on
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """The client of one of the SDKs."""
    return SDKS[request.param]


def _used(client: Any) -> None:
    at = datetime.now(UTC) - timedelta(hours=2)
    client.identify(
        "c-7", {"regionCode": "N", "region": "north", "appUser": True}, anonymous_id="cookie-1", timestamp=at
    )
    client.track("c-7", "Application Submitted", {"product": "classic", "Requested Limit": 2500}, timestamp=at)
    client.page("c-7", name="Fees", properties={"path": "/fees"}, timestamp=at)
    client.alias("old-7", "c-7", timestamp=at)
    client.track("c-7", "Danced", timestamp=at)


def test_events_attributes_and_links_are_there(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """What was sent with an SDK as it is."""
    world = World(tmp_path)
    errors: list[Any] = []
    with served(world) as url:
        client = sdk(world.key("web", "caller"), host=url, on_error=lambda *told: errors.append(told), gzip=True)
        _used(client)
        client.shutdown()

    events = [logged.event for page in world.log.read() for logged in page]
    print([(e.kind, e.customer_id, dict(e.facts), e.channel, e.source) for e in events], errors)
    assert errors == []
    assert [one.kind for one in events] == []
