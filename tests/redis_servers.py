"""Redis for tests: a database of a server that runs already, used by one test at a time and left empty."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from features.online_location import RedisLocation

ADDRESS = "127.0.0.1:6379"
_DATABASES = range(4, 16)


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
    """A Redis of its own on a free port, with these options; gone at the end.

    The test is skipped where there is no redis-server, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """
    program = shutil.which("redis-server")
    if program is None:
        reason = "there is no redis-server: install it"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--loglevel", "warning")
        server = subprocess.Popen([program, *place, *options], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port, server)
            yield RedisLocation.of(f"redis://127.0.0.1:{port}/0")
        finally:
            server.terminate()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    retry = Retry(ConstantBackoff(0.05), 200)
    with redis.Redis(port=port, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
        client.ping()
    assert server.poll() is None


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
