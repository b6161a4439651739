"""Redis for tests: a database of a server that runs already, used by one test at a time and left empty."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from features.online_location import RedisLocation

ADDRESS = "127.0.0.1:6379"
_DATABASES = range(4, 16)
_COMMAND = shutil.which("redis-server") or ""


@contextmanager
def redis_database() -> Iterator[RedisLocation]:
    """An empty database of the server at ``ADDRESS``, nobody else's until the end.

    The test is skipped where no server answers, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """
    if not redis_answers():
        reason = f"no Redis answers at {ADDRESS}: start redis-server"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with empty_database() as location:
        yield location


def redis_answers() -> bool:
    """Whether a server answers at ``ADDRESS``."""
    with redis.Redis.from_url(f"redis://{ADDRESS}") as client:
        try:
            client.ping()
        except redis.ConnectionError:
            return False
    return True


@contextmanager
def empty_database() -> Iterator[RedisLocation]:
    """An empty database that no other test or benchmark uses meanwhile; emptied again at the end."""
    with _free_database() as number:
        location = RedisLocation.of(f"redis://{ADDRESS}/{number}")
        with redis.Redis.from_url(location.url) as own:
            own.flushdb()
            try:
                yield location
            finally:
                own.flushdb()


@contextmanager
def private_redis(*options: str) -> Iterator[RedisLocation]:
    """A Redis of its own with these options; gone at the end."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), *options) as server:
        yield server.location


@contextmanager
def _free_database() -> Iterator[int]:
    """A number that no other test process holds; those that are in use are not waited for."""
    for number in _DATABASES:
        with (Path(tempfile.gettempdir()) / f"headway-test-redis-{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield number
            return
    raise RuntimeError(f"all databases {_DATABASES} of {ADDRESS} are in use by tests; expected one to be free")


class RedisServer:
    """A Redis of a test's own, on a port that nobody uses; nothing is kept between starts but what is saved.

    Args:
        folder: where it works, and keeps its dump.
        options: of ``redis-server``, such as ``--maxmemory 3mb``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port: int = found.getsockname()[1]
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start(*options)

    @property
    def location(self) -> RedisLocation:
        """Its first database."""
        return RedisLocation.of(f"redis://127.0.0.1:{self.port}/0")

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers; a dump that lies in its folder is loaded."""
        fixed = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "")
        self._process = subprocess.Popen(
            [_COMMAND, *fixed, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.wait_until_answering()

    def wait_until_answering(self) -> None:
        """Wait until it answers."""
        with self.client() as client:
            for _ in range(1_000):
                with suppress(redis.ConnectionError, redis.BusyLoadingError):
                    client.ping()
                    return
                time.sleep(0.01)  # another process is waited for: there is nothing else to wait on
        raise RuntimeError(f"no Redis answers at port {self.port}")

    def client(self) -> redis.Redis:
        """A client of its first database."""
        return redis.Redis(port=self.port)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A Redis of a test's own.

    The test is skipped where there is no ``redis-server``, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """
    if not _COMMAND:
        reason = "there is no redis-server: install it"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()
