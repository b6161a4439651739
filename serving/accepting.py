"""The server's event loop, which takes several new connections in each of its rounds.

libuv accepts one a round and listener. While decisions are made in the rounds themselves, a crowd of a thousand new
connections waited for seconds, and behind it whoever asked whether the service is well: measured at four times the
peak, the slowest health check took 2.3 s, and 0.1 s with eight listeners on the one socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import uvloop

LISTENERS: Final = 8
"""On each socket: so many new connections a round."""


class Loop(uvloop.Loop):
    """uvloop's, with several listeners on each socket that is handed to it."""

    async def create_server(  # type: ignore[override]  # overloads that differ by what is passed on as it is
        self, protocol_factory: Any, *args: Any, sock: socket.socket | None = None, **options: Any
    ) -> asyncio.AbstractServer:
        """Serve connections to an address, or to a socket."""
        if sock is None:
            return await super().create_server(protocol_factory, *args, **options)
        listening = [sock, *(sock.dup() for _ in range(LISTENERS - 1))]
        servers: list[asyncio.AbstractServer] = []
        try:
            for one in listening:
                server = await super().create_server(protocol_factory, *args, sock=one, **options)
                servers.append(server)  # where one fails, those before it are closed
        except BaseException:
            for server in servers:
                server.close()
            for one in listening[max(1, len(servers)) :]:  # nobody closes these, and the first is the caller's
                one.close()
            raise
        return _Servers(servers)


class _Servers(asyncio.AbstractServer):
    """Several servers that are one to whoever opened them."""

    def __init__(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> tuple[Any, ...]:
        """What they listen on."""
        return tuple(one for server in self._servers for one in cast(asyncio.Server, server).sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of all of them."""
        return self._servers[0].get_loop()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return any(server.is_serving() for server in self._servers)

    async def start_serving(self) -> None:
        """Accept connections from now on."""
        for server in self._servers:
            await server.start_serving()

    async def serve_forever(self) -> None:
        """Accept connections until cancelled."""
        await asyncio.gather(*(server.serve_forever() for server in self._servers))

    def close(self) -> None:
        """Accept no more."""
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        """Wait until all of them are closed."""
        for server in self._servers:
            await server.wait_closed()


def loop_factory(*, use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes the loop; as uvicorn asks for it."""
    return Loop
