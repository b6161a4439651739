"""Refusals within the HTTP protocol, over real sockets: the same answers as the ordinary way gives, and no others."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from serving.api.app import application
from serving.api.calls import RUNTIME
from serving.gate import Gate
from serving.refusals import Refusals
from serving.runtime import Runtime
from serving.shedding import SheddingProtocol
from tests.doors import BOOTSTRAP, World

ROOM = 2 * 65
"""Requests that may be under way with two threads."""

KEEP_ALIVE_SECONDS = 1
BODY = b'{"customer_id": "c-1", "mode": "dry_run"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection, on which bytes are sent as they are."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            assert name not in headers
            headers[name] = value
        return Answer(status=status, headers=headers, body=self._file.read(int(headers["content-length"])))

    def is_closed_by_server(self) -> bool:
        """Wait for the other side to close the connection, without a further byte."""
        return self._file.read(1) == b""

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Service:
    """A running server.

    Attributes:
        seen: paths that came as far as the gate.
    """

    runtime: Runtime
    port: int
    seen: list[str]

    def crowd(self, share: float = 1.0) -> None:
        """Have so much of the room taken."""
        for _ in range(round(share * ROOM)):
            self.runtime.desk.pace.begin()

    def disperse(self) -> None:
        """Have none of it taken."""
        while self.runtime.desk.pace.under_way:
            self.runtime.desk.pace.end()

    def asked(self, *requests: bytes) -> list[Answer]:
        """Answers to requests, one after the other on one connection."""
        line = Line(self.port)
        try:
            found = []
            for one in requests:
                line.send(one)
                found.append(line.answer())
            return found
        finally:
            line.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The gate and what stands behind it, over an installation in memory."""
    world = World(tmp_path)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Runtime]:
        runtime = world.runtime()
        yield runtime
        runtime.workers.close()
        runtime.errands.close()

    app = application(opened)
    seen: list[str] = []

    class Protocol(SheddingProtocol):
        def refusals(self) -> Refusals | None:
            runtime: Runtime | None = app.state.get(RUNTIME)
            return None if runtime is None else runtime.refusals

    gate: Any = Gate(app, runtime=lambda: app.state[RUNTIME], api=app)  # type: ignore[arg-type]  # ASGI, typed twice

    async def door(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(scope["path"])
            await gate(scope, receive, send)
        else:
            await app(scope, receive, send)

    config = uvicorn.Config(
        door, port=0, http=Protocol, log_level="critical", server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS
    )
    with _running(uvicorn.Server(config)) as port:
        yield Service(app.state[RUNTIME], port, seen)


@contextmanager
def _running(server: uvicorn.Server) -> Iterator[int]:
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            thread.join(0.02)  # another thread is waited for: there is nothing else to wait on
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def _request(method: str, path: str, body: bytes = b"", *lines: str) -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: headway", f"Authorization: Bearer {BOOTSTRAP}", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _chunked(method: str, path: str, body: bytes) -> bytes:
    """The same request in an encoding that is read the ordinary way only."""
    head = [f"{method} {path} HTTP/1.1", "Host: headway", f"Authorization: Bearer {BOOTSTRAP}"]
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return "\r\n".join([*head, "Transfer-Encoding: chunked", "", ""]).encode() + chunk


CALLS = [
    ("POST", "/v1/decisions", BODY),
    ("POST", "/v1/events", b'{"events": []}'),
    ("POST", "/v1/track", b"{}"),
    ("GET", "/v1/decisions/d-1/explanation", b""),
    ("GET", "/v1/decisions?limit=3", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), [*CALLS, ("POST", "/rank", BODY)])
def test_a_refusal_is_the_one_of_the_ordinary_way(method: str, path: str, body: bytes, service: Service) -> None:
    """To the header and the word; only the time to come back is chance's. No request is made of it."""
    service.crowd()
    ordinary_request = _chunked(method, path, body) if body else _request(method, path, body, "Expect: nothing")

    (quick,) = service.asked(_request(method, path, body))
    assert service.seen == []
    (ordinary,) = service.asked(ordinary_request)
    assert len(service.seen) == 1

    assert quick.status == ordinary.status == 429
    assert json.loads(quick.body) == json.loads(ordinary.body)
    assert quick.headers.keys() == ordinary.headers.keys() >= {"date", "retry-after", "content-type"}
    changing = {"date", "retry-after"}
    assert {k: v for k, v in quick.headers.items() if k not in changing} == {
        k: v for k, v in ordinary.headers.items() if k not in changing
    }
    assert 1 <= int(quick.headers["retry-after"]) <= 60


def test_a_connection_goes_on_after_a_refusal(service: Service) -> None:
    """And before it: whoever comes back on the same connection is answered."""
    ask = _request("POST", "/v1/decisions", BODY)
    line = Line(service.port)
    found = []
    for is_crowded in (False, True, True, False):
        service.disperse()
        service.crowd(float(is_crowded))
        line.send(ask)
        found.append(line.answer().status)
    line.close()

    assert found == [200, 429, 429, 200]


def test_an_idle_connection_is_closed_after_a_refusal_too(service: Service) -> None:
    """A crowd that was refused does not hold its connections for ever."""
    service.crowd()
    line = Line(service.port)
    line.send(_request("POST", "/v1/decisions", BODY))
    answer, begun = line.answer(), time.monotonic()

    assert answer.status == 429
    assert line.is_closed_by_server()
    assert time.monotonic() - begun >= KEEP_ALIVE_SECONDS / 2
    line.close()


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_a_request_in_pieces_is_refused_once(cut: int, service: Service) -> None:
    """The ordinary way: what has begun to be read is read by the one that began."""
    service.crowd()
    ask = _request("POST", "/v1/decisions", BODY)
    line = Line(service.port)
    line.send(ask[:cut])
    time.sleep(0.05)  # the first piece has arrived alone
    line.send(ask[cut:])
    first = line.answer().status
    line.send(ask)
    second = line.answer().status
    line.close()

    assert (first, second) == (429, 429)
    assert len(service.seen) == 1


def test_requests_in_one_piece_are_each_refused(service: Service) -> None:
    """In their order, whatever their kinds; health between them is answered."""
    service.crowd()
    line = Line(service.port)
    ask = _request("POST", "/v1/decisions", BODY)
    line.send(ask + _request("GET", "/livez") + ask)
    found = [line.answer().status for _ in range(3)]
    line.close()

    assert found == [429, 200, 429]


def test_a_page_can_read_its_refusal(service: Service) -> None:
    """A browser's request goes the ordinary way, which knows the origins."""
    service.crowd()
    (answer,) = service.asked(_request("POST", "/v1/events", b"{}", "Origin: https://www.example.com"))

    assert (answer.status, service.seen) == (429, ["/v1/events"])


@pytest.mark.parametrize(
    ("share", "refused"),
    [(0.0, []), (0.3, [3]), (0.6, [3, 4]), (0.8, [1, 2, 3, 4]), (1.0, [0, 1, 2, 3, 4])],
)
def test_the_order_of_giving_up_is_the_same(share: float, refused: list[int], service: Service) -> None:
    """Explanations first, then reports, events, and decisions last; health, metrics and unknown paths never."""
    service.crowd(share)
    answers = service.asked(*(_request(*call) for call in CALLS))
    others = service.asked(*(_request("GET", path) for path in ("/livez", "/readyz", "/metrics", "/nowhere")))

    assert [place for place, answer in enumerate(answers) if answer.status == 429] == refused
    assert [answer.status for answer in others] == [200, 200, 200, 404]


def test_what_is_refused_is_counted(service: Service) -> None:
    """By kind, and in the audit as calls of nobody known; it took no time that is worth a figure."""
    service.crowd()
    service.asked(*(_request(*call) for call in CALLS * 2))
    (told,) = service.asked(_request("GET", "/metrics"))
    lines = told.body.decode().splitlines()

    for kind, count in (("explanations", 2), ("reports", 2), ("events", 4), ("decisions", 2)):
        assert f'headway_refused_total{{kind="{kind}"}} {count}.0' in lines
    assert not [line for line in lines if line.startswith("headway_request_seconds_count") and '"429"' in line]
    service.runtime.audit.write(all_minutes=True)
    noted = {(line.call, line.calls) for line in service.runtime.audit.lines() if line.status == 429}
    assert noted >= {("POST /v1/decisions", 2), ("POST /v1/track", 2)}


def test_the_service_speaks_by_it() -> None:
    """BentoML lets uvicorn choose its protocol and its loop, and uvicorn chooses these."""
    program = (
        "import uvicorn, serving.service as service, serving.accepting as accepting; "
        "config = uvicorn.Config(service.app, log_config=None); config.load(); "
        "print(config.http_protocol_class is service.Protocol and config.get_loop_factory() is accepting.Loop)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "True"
