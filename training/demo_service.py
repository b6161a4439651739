"""The service as the demo sees it: a child process that is started and stopped, and a door on the loopback."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from features.errors import HeadwayError

READY_WITHIN_SECONDS: Final = 90.0
STOPPED_WITHIN_SECONDS: Final = 15.0
_LOOPBACK: Final = "127.0.0.1"
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the loopback needs no proxy


class ServiceFailed(HeadwayError):
    """The service did not start, or did not answer as it must."""


class DemoService:
    """A ``headway serve`` of its own, with a bootstrap key that exists only for it.

    Attributes:
        key: the bootstrap key.
        url: where it answers.
    """

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self.key = f"hw_{secrets.token_urlsafe(24)}"
        self._port = _free_port()
        self.url = f"http://{_LOOPBACK}:{self._port}"
        self._log = log
        settings = {"HEADWAY_BOOTSTRAP_KEY": self.key, "HEADWAY_PORT": str(self._port), "HEADWAY_HOST": _LOOPBACK}
        self._env = {**env, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._before: Any = None

    def __enter__(self) -> Self:
        """Nothing runs before ``start``; whatever runs at the end is stopped, also at the end by SIGTERM."""
        if threading.current_thread() is threading.main_thread():  # signals are the main thread's
            self._before = signal.signal(signal.SIGTERM, _terminated)
        return self

    def start(self) -> None:
        """Start it; it is ready some seconds later."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own command, without a shell
                command_line("serve"),
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, gracefully if it lets us."""
        try:
            self._stop()
        finally:
            if self._before is not None:
                signal.signal(signal.SIGTERM, self._before)

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait_until(self, what: str, *, bundle: str | None = None) -> None:
        """Wait until it is ready and, where a bundle is named, decides with it.

        Args:
            what: what we wait for, for the message.
            bundle: registered name of the bundle that must be loaded.

        Raises:
            ServiceFailed: it ended, or did not get there in time; the message names its log.
        """
        give_up = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < give_up:
            if self._process is not None and self._process.poll() is not None:
                raise ServiceFailed(f"the service ended with code {self._process.returncode}; see {self._log}")
            if self._is_ready(bundle):
                return
            time.sleep(0.2)
        raise ServiceFailed(f"{what}: not within {READY_WITHIN_SECONDS:g} s; see {self._log}")

    def _is_ready(self, bundle: str | None) -> bool:
        try:
            status = self.call("GET", "/readyz")
        except (ServiceFailed, OSError):
            return False
        labels = [label for label in status["bundles"].values() if label is not None]
        return bundle is None or any(label.startswith(f"{bundle}@") for label in labels)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The decoded answer to one call.

        Raises:
            ServiceFailed: it answered with an error; the message holds its problem details.
        """
        request = urllib.request.Request(  # noqa: S310  # the loopback address above
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=30) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            raise ServiceFailed(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        return answer

    def wait_until_stopped(self) -> None:
        """Wait until somebody stops it."""
        if self._process is not None:
            self._process.wait()


def command_line(*words: str) -> list[str]:
    """How to run ``headway`` with these words as a child of this process, in the same environment."""
    return [sys.executable, "-c", "from features.cli import main; main()", *words]


def _terminated(number: int, _: object) -> None:
    """End as by an error, so that whatever was begun is ended too."""
    raise SystemExit(128 + number)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port
