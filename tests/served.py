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
from models.jobs import Succeeded
from serving.api.app import application
from serving.runtime import Runtime
from tests.doors import JOURNEY, World
from tests.job_records import claim, submission

START_SECONDS: Final = 30.0
REPORT: Final = "ope-0123456789abcdef"


def reported_world(folder: Path) -> World:
    """An installation that explains decisions, and keeps an evaluation, a drift report, and a job that is done."""
    world = World(folder)
    world.explain = lambda request: reply(world.home, msgspec.json.encode(request))
    world.home.create()
    for path, document in (
        (world.home.evaluation_reports / f"{REPORT}.json", {"id": REPORT}),
        (world.home.drift_reports / f"{JOURNEY}.json", {"headline": {"verdict": "steady"}}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(document))
    _do_job(world)
    return world


def _do_job(world: World) -> None:
    world.jobs.submit(submission(), most_queued=1, now=world.now)
    job = world.jobs.claim(claim(), now=world.now)
    assert job is not None
    folder = world.home.jobs / job.job_id / str(job.token)
    folder.mkdir(parents=True)
    (folder / "audience.csv").write_text("customer_id,action_id\nc-7,nudge_documents\n")
    world.jobs.end(job.job_id, job.token, Succeeded(b'{"rows":1}', f"{job.token}/audience.csv"), now=world.now)


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
