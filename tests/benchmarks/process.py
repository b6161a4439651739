"""Processes that are measured over HTTP: started, waited for, called over one connection, timed by their CPU, ended."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from features.home import HOME_VARIABLE, Home, use_numba_cache
from tests.benchmarks.world import KEY

ROOT = Path(__file__).parents[2]
START_SECONDS = 180
_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A process that answers HTTP on a port of this machine."""

    def __init__(self, command: Sequence[str], *, port: int, env: Mapping[str, str], log: Path) -> None:
        self.port = port
        self.started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, env=dict(env), stdout=output, stderr=output, cwd=ROOT)
        self._log = log

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def wait_for(self, path: str, *, status: int = 200) -> None:
        """Wait until ``path`` answers so."""
        while time.perf_counter() - self.started < START_SECONDS:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self._log.read_text()[-2000:]}")
            asking = closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5))
            with suppress(OSError, http.client.HTTPException), asking as connection:
                connection.request("GET", path)
                if connection.getresponse().status == status:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"not ready in {START_SECONDS} s: {self._log.read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """CPU that the process and those it started have used."""
        return sum(_cpu_seconds(pid) for pid in [self._process.pid, *_descendants(self._process.pid)])

    def stop(self) -> None:
        """End it, and whatever of it does not end by itself."""
        below = _descendants(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        for pid in [self._process.pid, *below]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

    def get(self, path: str) -> bytes:
        """The body of a successful answer."""
        return self._answer("GET", path, None)

    def post(self, path: str, body: Any) -> bytes:
        """Likewise."""
        return self._answer("POST", path, json.dumps(body))

    def _answer(self, method: str, path: str, body: str | None) -> bytes:
        self._connection.request(method, path, body=body, headers=self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {data[:500]!r}")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def service(home: Home, *, compiled: Home, durability: str = "full", database: str = "sqlite") -> Iterator[Server]:
    """Headway's service with the trivial route beside its own, on a free port, ready."""
    port = free_port()
    env = {
        **os.environ,
        HOME_VARIABLE: str(home.root),
        "HEADWAY_BOOTSTRAP_KEY": KEY,
        "HEADWAY_PORT": str(port),
        "HEADWAY_DURABILITY": durability,
        "HEADWAY_DATABASE": database,
        "BENTOML_HOME": str(home.root / "cache" / "bentoml"),
    }
    use_numba_cache(compiled, env)
    target = "tests.benchmarks.served:HeadwayService"
    bentoml = [sys.executable, "-m", "bentoml", "serve", "--quiet", target, "--working-dir", str(ROOT)]
    log = home.root / "serve.log"
    server = Server([*bentoml, "--host", "127.0.0.1", "--port", str(port)], port=port, env=env, log=log)
    try:
        server.wait_for("/readyz")
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _cpu_seconds(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(words[11]) + int(words[12])) / _TICKS


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]
