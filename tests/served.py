"""The application of ``doors.World`` behind a real server, for whatever speaks HTTP itself."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import uvicorn

from models.explanation_process import reply
from serving.api.app import application
from serving.runtime import Runtime
from tests.doors import JOURNEY, World

START_SECONDS: Final = 30.0
REPORT: Final = "ope-0123456789abcdef"


def reported_world(folder: Path) -> World:
    """An installation that explains decisions, and keeps an evaluation and a drift report."""
    world = World(folder)
    world.explain = lambda request: reply(world.home, msgspec.json.encode(request))
    world.home.create()
    for path, document in (
        (world.home.evaluation_reports / f"{REPORT}.json", {"id": REPORT}),
        (world.home.drift_reports / f"{JOURNEY}.json", {"headline": {"verdict": "steady"}}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(document))
    return world


@contextmanager
def served(world: World) -> Iterator[str]:
    """The URL of an installation in memory, served on a port of its own until the end."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Runtime]:
        runtime = world.runtime()
        yield runtime
        runtime.workers.close()
        runtime.errands.close()

    server = uvicorn.Server(uvicorn.Config(application(opened), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < until:
        thread.join(0.05)  # another thread is waited for: there is nothing else to wait on
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
