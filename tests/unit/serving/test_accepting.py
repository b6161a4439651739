"""The event loop of the server: a crowd that connects at once is let in within a few rounds."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from contextlib import ExitStack
from typing import cast

import pytest

from serving.accepting import LISTENERS, loop_factory

CROWD = 100
LOOP = loop_factory()


class _Counted(asyncio.Protocol):
    def __init__(self, seen: list[asyncio.BaseTransport]) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._seen.append(transport)


async def _rounds_until_accepted(listening: socket.socket) -> int:
    """How many rounds of the loop it takes until all of a crowd that waits is let in."""
    loop = asyncio.get_running_loop()
    seen: list[asyncio.BaseTransport] = []
    server = await loop.create_server(lambda: _Counted(seen), sock=listening)
    rounds = 0
    while len(seen) < CROWD and rounds < 10 * CROWD:
        await asyncio.sleep(0)
        rounds += 1
    server.close()
    for one in seen:
        one.close()
    await server.wait_closed()
    return rounds


def test_a_crowd_is_let_in_within_a_few_rounds() -> None:
    """So many a round as there are listeners, though the loop of uvloop accepts one."""
    with ExitStack() as stack:
        listening = socket.create_server(("127.0.0.1", 0), backlog=CROWD)
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        with asyncio.Runner(loop_factory=LOOP) as runner:
            rounds = runner.run(_rounds_until_accepted(listening))

    assert rounds <= math.ceil(CROWD / LISTENERS) + 5


def test_a_closed_server_accepts_nobody() -> None:
    """On none of its listeners: who connects then is refused."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()

    async def opened_and_closed() -> tuple[bool, bool]:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listening)
        await server.start_serving()
        was_serving = server.is_serving()
        server.close()
        await server.wait_closed()
        return was_serving, server.is_serving()

    with asyncio.Runner(loop_factory=LOOP) as runner:
        assert runner.run(opened_and_closed()) == (True, False)
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_where_a_listener_fails_nothing_is_left_open() -> None:
    """Nobody is let in by those that were there before it, and the caller's socket is still the caller's."""
    listening = socket.create_server(("127.0.0.1", 0))

    def open_files() -> set[str]:
        return set(os.listdir("/proc/self/fd"))

    async def refused() -> set[str]:
        loop = asyncio.get_running_loop()
        before = open_files()
        with pytest.raises(TypeError):
            await loop.create_server(asyncio.Protocol, sock=listening, ssl="no context")  # type: ignore[arg-type]
        await asyncio.sleep(0.01)  # the loop closes files in a round of its own
        return open_files() - before

    with asyncio.Runner(loop_factory=LOOP) as runner:
        assert runner.run(refused()) == set()
    assert listening.fileno() > 0
    listening.close()


def test_it_tells_what_it_listens_on() -> None:
    """As uvicorn asks of a socket that it was given by its number."""

    async def told() -> set[tuple[str, int]]:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=listening)
        names = {one.getsockname() for one in server.sockets}
        server.close()
        await server.wait_closed()
        return names

    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    with asyncio.Runner(loop_factory=LOOP) as runner:
        assert runner.run(told()) == {address}


def test_an_address_is_served_as_ever() -> None:
    """Only sockets that are handed over have several listeners."""

    async def answered() -> bytes:
        loop = asyncio.get_running_loop()

        class Greeting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                cast(asyncio.Transport, transport).write(b"hello")
                transport.close()

        server = await loop.create_server(Greeting, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        greeting = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return greeting

    with asyncio.Runner(loop_factory=LOOP) as runner:
        assert runner.run(answered()) == b"hello"
