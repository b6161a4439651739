"""The SDKs of Segment and RudderStack as they are published, with nothing but the host changed, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from features.errors import StoreUnavailable
from features.event_log import Appended, MemoryEventLog
from features.events import JourneyEvent, moment_of
from serving.api.app import application
from serving.runtime import Runtime
from tests.doors import HOUR_US, NOW, World

START_SECONDS = 30.0
SDKS: dict[str, Callable[..., Any]] = {"segment": SegmentClient, "rudder": RudderClient}
AT = moment_of(NOW - 2 * HOUR_US)


class Door:
    """The application behind a port: what it was sent and answered, and how often to break off in the middle."""

    def __init__(self, world: World) -> None:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Runtime]:
            runtime = world.runtime()
            yield runtime
            runtime.workers.close()

        self._app = application(opened)
        self.statuses: list[int] = []
        self.largest = 0
        self.break_next = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, and note it; uvicorn closes the connection of an answer that has no end."""
        is_broken = scope["type"] == "http" and self.break_next > 0
        self.break_next -= is_broken
        lengths = [int(value) for name, value in scope.get("headers", ()) if name == b"content-length"]
        self.largest = max(self.largest, *lengths, 0)

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            if message["type"] != "http.response.body" or not is_broken:
                await send(message)

        await self._app(scope, receive, noting)


@contextmanager
def served(door: Door) -> Iterator[str]:
    """The URL of a door behind a real server."""
    server = uvicorn.Server(uvicorn.Config(door, host="127.0.0.1", port=0, log_level="critical"))
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


def _send(
    sdk: Callable[..., Any], world: World, use: Callable[[Any], object], *, door: Door | None = None, **options: Any
) -> tuple[Door, list[Exception]]:
    """What was answered to a client that does something and is shut down, and the errors that it told."""
    door, errors = door or Door(world), []
    key = options.pop("key", None) or world.key("website", "caller")
    with served(door) as url:
        client = sdk(key, host=url, on_error=lambda error, _: errors.append(error), upload_interval=0.2, **options)
        use(client)
        client.shutdown()
    return door, errors


def _lived(client: Any) -> None:
    traits = {"region": "north", "appUser": True, "shoeSize": 43}
    client.identify("c-7", traits, anonymous_id="cookie-1", timestamp=AT, message_id="m-1")
    client.track("c-7", "Application Submitted", {"product": "classic"}, timestamp=AT, message_id="m-2")
    client.page("c-7", name="Fees", properties={"path": "/fees"}, timestamp=AT, message_id="m-3")
    client.screen("c-7", name="Home", timestamp=AT, message_id="m-4")
    client.group("c-7", "g-1", timestamp=AT, message_id="m-5")
    client.alias("old-7", "c-7", timestamp=AT, message_id="m-6")
    client.track("c-7", "Danced", timestamp=AT, message_id="m-7", integrations={"Headway": False})


def _events(world: World) -> list[JourneyEvent]:
    return [logged.event for page in world.log.read() for logged in page]


def test_events_attributes_and_links_are_there(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """All six calls of each SDK; what the taxonomy has no place for is not."""
    world = World(tmp_path)

    door, errors = _send(sdk, world, _lived, gzip=True)

    events = _events(world)
    assert (errors, set(door.statuses)) == ([], {200})
    assert [(one.kind, dict(one.facts)) for one in events] == [
        ("identity_linked", {"alias": "cookie-1"}),
        ("profile_updated", {"region": "north", "app_user": True}),
        ("application_submitted", {"product": "classic"}),
        ("page_viewed", {"page": "Fees"}),
        ("identity_linked", {"alias": "old-7"}),
    ]
    assert {(one.source, one.customer_id) for one in events} == {("website", "c-7")}
    assert world.log.person("c-7", at=NOW).linked_ids == ("cookie-1", "old-7")


def test_sending_twice_changes_nothing(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """Nor by the other SDK: the ids are the messages' own."""
    world = World(tmp_path)
    key = world.key("website", "caller")
    _send(sdk, world, _lived, key=key)
    kept = _events(world)

    _send(sdk, world, _lived, key=key)
    _send(next(one for one in SDKS.values() if one is not sdk), world, _lived, key=key)

    assert len(kept) == 5
    assert _events(world) == kept


def test_a_clock_that_is_wrong_is_set_right(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """The machine that sends is months ahead of the one that takes: what happens now happens now."""
    world = World(tmp_path)

    _send(sdk, world, lambda client: client.track("c-7", "Application Submitted", {"product": "classic"}))

    (submitted,) = _events(world)
    assert NOW - HOUR_US / 60 < submitted.occurred_at <= NOW


def test_a_connection_that_breaks_loses_and_doubles_nothing(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """The batch was taken and the SDK never heard of it: it sends it again."""
    world = World(tmp_path)
    door = Door(world)
    door.break_next = 1

    _, errors = _send(sdk, world, _lived, door=door)

    assert errors == []
    assert len(door.statuses) >= 2
    assert len(_events(world)) == 5


class _FlakyLog(MemoryEventLog):
    """An event log that is down at first."""

    is_down = True

    def append(self, events: Any, **named: Any) -> list[Appended]:
        """Append, from the second time on."""
        if self.is_down:
            self.is_down = False
            raise StoreUnavailable("down")
        return super().append(events, **named)


def test_a_store_that_is_down_for_a_moment_loses_nothing(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """The SDK is told to come back, and does."""
    world = World(tmp_path, log=_FlakyLog())

    door, errors = _send(sdk, world, _lived)

    assert errors == []
    assert (door.statuses[0], door.statuses[-1]) == (503, 200)
    assert len(_events(world)) == 5


def test_a_wrong_key_is_told_once(sdk: Callable[..., Any], tmp_path: Path) -> None:
    """The SDK understands the problem, and does not try again."""
    door, errors = _send(sdk, World(tmp_path), lambda client: client.identify("c-7"), key="hw_00000000_0")

    assert door.statuses == [401]
    assert [(error.status, error.code) for error in errors] == [(401, "unauthenticated")]  # type: ignore[attr-defined]


def test_the_largest_batch_that_segments_sdk_sends_is_taken(tmp_path: Path) -> None:
    """It fills a batch to 475,000 bytes and one call more."""
    world = World(tmp_path)
    about = {"product": "classic", "note": "x" * 31_300}

    def use(client: Any) -> None:
        for n in range(16):
            client.track("c-7", "Application Submitted", about, timestamp=AT - timedelta(minutes=n))

    door, errors = _send(SegmentClient, world, use, upload_size=1_000)

    assert (errors, door.statuses) == ([], [200])
    assert door.largest > 500_000
    assert len(_events(world)) == 16
