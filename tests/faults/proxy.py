"""A small TCP proxy that can be cut: between the product and a server that goes on."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Passes bytes between whoever connects to ``port`` and a server, until it is cut.

    Args:
        host: the server's host.
        port: the server's port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        with self._guard:
            self._is_cut = True
            self._break()

    def mend(self) -> None:
        """Pass new connections again."""
        with self._guard:
            self._is_cut = False

    def close(self) -> None:
        """Stop listening and break what is open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                if self._is_cut:
                    caller.close()
                    continue
                server = socket.create_connection(self._server)
                self._open += (caller, server)
            for source, target in ((caller, server), (server, caller)):
                threading.Thread(target=_pass, args=(source, target), daemon=True).start()

    def _break(self) -> None:
        while self._open:
            one = self._open.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
