"""``python -m tests.benchmarks.load``: sends requests to a server at a rate of its own, whatever comes back.

A process of its own, so that what is measured does not wait for it. It reads a plan as JSON from standard input and
writes what became of the requests to standard output. A request that no connection was free for within the deadline
counts as missed: its caller would have gone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send.

    Attributes:
        requests: whole HTTP requests by kind; each kind goes through its own again and again.
        order: kinds in the order in which they are sent, again and again.
        rate: requests a second, over connections that are opened as they are needed; 0: each connection sends its
            next request once it has an answer.
        seconds: for so long.
        connections: so many, at most.
        deadline: seconds; an answer that comes later is none.
        probe: a request that is sent every half second beside the others, on a connection of its own.
    """

    port: int
    requests: dict[str, list[str]]
    order: list[str]
    rate: float
    seconds: float
    connections: int
    deadline: float
    probe: str


@dataclass(slots=True)
class Found:
    """What became of the requests.

    Attributes:
        results: how many by kind and result: ``good`` within the deadline, ``weak`` without a choice for lack of time,
            ``late``, ``missed``, ``after`` the end of the plan, or the status.
        good_seconds: times of good answers by kind, from the moment when they were due.
        probe_seconds: times of the probes; infinite where none came.
    """

    results: dict[str, Counter[str]] = field(default_factory=dict)
    good_seconds: dict[str, list[float]] = field(default_factory=dict)
    probe_seconds: list[float] = field(default_factory=list)

    def note(self, kind: str, result: str, seconds: float) -> None:
        """Count one request."""
        self.results.setdefault(kind, Counter())[result] += 1
        if result == "good":
            self.good_seconds.setdefault(kind, []).append(seconds)


class _Connection(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._received = b""
        self._kind, self._due = "", 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sender.free(self)

    def send(self, kind: str, request: bytes, due: float) -> None:
        """Send a request."""
        assert self._transport is not None
        self._kind, self._due = kind, due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        kind, self._received, self._kind = self._kind, b"", ""
        self._sender.answered(kind, head[9:12].decode(), body, time.perf_counter() - self._due)
        self._sender.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._kind:
            self._sender.found.note(self._kind, "lost", 0.0)
        self._sender.lost(self)


class _Sender:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._bytes = {kind: [one.encode() for one in requests] for kind, requests in plan.requests.items()}
        self._sent: Counter[str] = Counter()
        self._count = 0
        self._started = time.perf_counter()
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[str, float]] = deque()
        self._opening: list[asyncio.Future[None]] = []
        self._connections = 0
        self.found = Found()

    @property
    def _is_over(self) -> bool:
        return time.perf_counter() - self._started > self._plan.seconds

    def answered(self, kind: str, status: str, body: bytes, seconds: float) -> None:
        """Count an answer."""
        result = status
        if status == "200":
            result = "weak" if b'"deadline_exceeded"' in body else "good" if seconds <= self._plan.deadline else "late"
        if result == "good" and self._is_over:
            result = "after"  # what waited at the end would come on top of what can be done in the time
        self.found.note(kind, result, seconds)

    def free(self, connection: _Connection) -> None:
        """Send what has waited longest on a connection, if it is not too late for it."""
        if self._plan.rate == 0:
            if not self._is_over:
                self._send(connection, self._next_kind(), time.perf_counter())
            return
        while self._waiting:
            kind, due = self._waiting.popleft()
            if time.perf_counter() - due <= self._plan.deadline:
                self._send(connection, kind, due)
                return
            self.found.note(kind, "missed", 0.0)
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        """Do without a connection that the server closed, as it does with idle ones."""
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._is_over and (self._plan.rate == 0 or self._waiting):
            self._open_one()

    def _open_one(self) -> None:
        if self._connections < self._plan.connections:
            self._connections += 1
            self._opening.append(asyncio.ensure_future(self._opened()))

    async def _opened(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self._plan.port)

    def _next_kind(self) -> str:
        self._count += 1
        return self._plan.order[(self._count - 1) % len(self._plan.order)]

    def _send(self, connection: _Connection, kind: str, due: float) -> None:
        requests = self._bytes[kind]
        connection.send(kind, requests[self._sent[kind] % len(requests)], due)
        self._sent[kind] += 1

    async def run(self) -> Found:
        """Send all of it, and wait for what is on its way."""
        plan = self._plan
        probing = asyncio.create_task(self._probe())
        for _ in range(plan.connections if plan.rate == 0 else 0):
            self._connections += 1
            await self._opened()
        self._started = started = time.perf_counter()
        while plan.rate and not self._is_over:
            due = started + self._count / plan.rate
            if (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            kind = self._next_kind()
            if self._idle:
                self._send(self._idle.pop(), kind, due)
            else:
                self._waiting.append((kind, due))
                self._open_one()
        await asyncio.sleep(plan.deadline + (0 if plan.rate else plan.seconds))
        for kind, _ in self._waiting:
            self.found.note(kind, "missed", 0.0)
        probing.cancel()
        return self.found

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            asked = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
            writer.write(self._plan.probe.encode())
            is_well = (await reader.readline()).split()[1:2] == [b"200"]
            self.found.probe_seconds.append(time.perf_counter() - asked if is_well else float("inf"))
            writer.close()


def request(method: str, path: str, key: str, body: Any = None) -> str:
    """A whole HTTP request."""
    content = "" if body is None else json.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: headway", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", content]
    return "\r\n".join(lines)


def main(text: str) -> str:
    """What became of a plan, both as JSON."""
    found = uvloop.run(_Sender(Plan(**json.loads(text))).run())
    return json.dumps(
        {"results": found.results, "good_seconds": found.good_seconds, "probe_seconds": found.probe_seconds}
    )


def kinds(shares: dict[str, int]) -> Sequence[str]:
    """Kinds by how many of a hundred they are, evenly mixed.

    >>> kinds({"a": 50, "b": 50})[:4]
    ['a', 'b', 'a', 'b']
    """
    due = [((place + 0.5) / count, kind) for kind, count in shares.items() for place in range(count)]
    return [kind for _, kind in sorted(due)]


if __name__ == "__main__":
    sys.stdout.write(main(sys.stdin.read()))
