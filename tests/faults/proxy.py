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

    Attributes:
        delay_seconds: before each piece of an answer is passed.
        lost_question: bytes at which a connection breaks before the server has them; None for none.
        lost_answer: bytes after which a connection breaks once the server has answered; None for none.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        self._is_cut = False
        self.delay_seconds = 0.0
        self.lost_question: bytes | None = None
        self.lost_answer: bytes | None = None
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
            answer_is_lost = threading.Event()
            for pass_on in (self._ask, self._answer):
                threading.Thread(target=pass_on, args=(caller, server, answer_is_lost), daemon=True).start()

    def _break(self) -> None:
        while self._open:
            one = self._open.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _ask(self, caller: socket.socket, server: socket.socket, answer_is_lost: threading.Event) -> None:
        with suppress(OSError):
            while data := caller.recv(65_536):
                if self.lost_question is not None and self.lost_question in data:
                    break
                if self.lost_answer is not None and self.lost_answer in data:
                    answer_is_lost.set()
                server.sendall(data)
        _end(caller, server)

    def _answer(self, caller: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65_536)) and not is_lost.is_set():
                if self.delay_seconds:
                    threading.Event().wait(self.delay_seconds)
                caller.sendall(data)
        _end(caller, server)


def _end(*ends: socket.socket) -> None:
    for one in ends:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
