"""Commands of the console script, run for callers in processes of their own: one of a kind at a time, behind the rest.

What measures and promotes needs frameworks that never come into the process that decides, and takes seconds to minutes.
A command says the same to a caller as to an operator: its JSON, or its error as the error that it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from features.errors import (
    ConfigurationError,
    HeadwayError,
    HomeLocked,
    InvalidInput,
    MappingError,
    NotEnoughData,
    Problem,
    Refused,
    StoreUnavailable,
    UnknownObject,
)
from serving.problems import CommandRefused, TooManyRequests
from serving.telemetry import log_event

CHILD: Final = (
    *(sys.executable, "-P", "-c"),
    "import os, sys; os.nice(10); sys.argv[0] = 'headway'; from features.cli import main; main()",
)
"""The console script, behind whatever else the machine has to do."""

ENDING_SECONDS: Final = 5.0
"""So long a child that is told to end may take; then it is killed."""

SECRETS: Final = ("HEADWAY_BOOTSTRAP_KEY", "HEADWAY_DRIFT_WEBHOOK_URL", "HEADWAY_DRIFT_WEBHOOK_SECRET")
"""Variables that no command run for a caller needs."""

_FAILED: Final = 1
_LAST_LINES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line.

    Attributes:
        kind: no two of a kind run at once.
        words: after ``headway``; no secret is ever among them, since every process of the machine may read them.
        seconds: how long it may take.
    """

    kind: str
    words: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command came to.

    Attributes:
        is_done: exit code 0; else it printed why not, such as a gate that refuses.
        document: what it printed, as JSON values.
    """

    is_done: bool
    document: Any


RunCommand = Callable[[Command], Finished]


class ChildCommands:
    """Runs commands in child processes.

    Args:
        env: the environment, which names the home.
        command: what the words are given to.
        ending_seconds: so long a child that is told to end may take.
    """

    def __init__(
        self, env: Mapping[str, str], *, command: Sequence[str] = CHILD, ending_seconds: float = ENDING_SECONDS
    ) -> None:
        kept = {name: value for name, value in env.items() if name not in SECRETS}
        self._env = {**kept, "HEADWAY_ERRORS": "json"}
        self._command, self._ending_seconds = tuple(command), ending_seconds
        self._guard = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}
        self._is_closed = False

    def run(self, command: Command) -> Finished:
        """What a command came to. It takes as long as that takes: call it in a thread.

        Raises:
            TooManyRequests: another of its kind is running, here or elsewhere.
            UnknownObject: something that it names is not there.
            InvalidInput: with every bad field.
            CommandRefused: it refuses what was asked.
            NotEnoughData: there is too little to compute it from.
            StoreUnavailable: it failed, took too long, or was stopped.
        """
        with self._alone(command.kind):
            code, printed, said = self._finished(command)
        if code == 0 or (code == _FAILED and printed.strip()):
            with suppress(ValueError):
                return Finished(is_done=code == 0, document=_result_in(printed))
        raise _error_of(command, code, said)

    def close(self) -> None:
        """Stop what is running, and run no more."""
        with self._guard:
            self._is_closed = True
            children = [child for child in self._running.values() if child is not None]
        _end(children, self._ending_seconds)

    @contextmanager
    def _alone(self, kind: str) -> Iterator[None]:
        with self._guard:
            if kind in self._running:
                raise TooManyRequests(f"another {kind} is running, expected one at a time: ask again later")
            self._running[kind] = None
        try:
            yield
        finally:
            with self._guard:
                del self._running[kind]

    def _finished(self, command: Command) -> tuple[int, bytes, bytes]:
        pipe = subprocess.PIPE
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the service is closing, expected one that serves: ask again later")
            child = subprocess.Popen(  # noqa: S603  # our own interpreter and command, no shell
                [*self._command, *command.words],
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                env=self._env,
                start_new_session=True,  # so that it ends together with the processes that it starts
            )
            self._running[command.kind] = child
        try:
            printed, complained = child.communicate(timeout=command.seconds)
        except subprocess.TimeoutExpired as error:
            log_event("command_given_up", command=command.kind, seconds=command.seconds)
            raise StoreUnavailable(
                f"the {command.kind} took longer than {command.seconds:g} s; ask for less"
            ) from error
        finally:
            if child.returncode is None:
                _end([child], self._ending_seconds)
                child.communicate()
        return child.returncode, printed, complained


def _end(children: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Ask children to end, and kill those that do not."""
    until = time.monotonic() + seconds
    for child in children:
        _signalled(child, signal.SIGTERM)
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, until - time.monotonic()))
        _signalled(child, signal.SIGKILL)  # what it started may have outlived it


def _signalled(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _result_in(printed: bytes) -> Any:
    """The JSON that a command ended with; what a library has printed before it is passed over.

    Raises:
        ValueError: there is none.
    """
    try:
        return json.loads(printed)
    except ValueError:
        start = printed.rindex(b"\n{\n")  # what stands inside is indented
        return json.loads(printed[start:])


def _told(line: str) -> tuple[str, str, list[Problem]] | None:
    """The name, message and problems of the error that a line is; None where it is none."""
    try:
        document = json.loads(line)
        return str(document["error"]), str(document["message"]), [Problem(**one) for one in document["problems"]]
    except (ValueError, KeyError, TypeError):
        return None


def _error_of(command: Command, code: int, said: bytes) -> HeadwayError:
    """The error that a command ended with, as it is to be told; a library may warn after it."""
    lines = said.decode(errors="replace").strip().split("\n")[-_LAST_LINES:]
    found = next((told for line in reversed(lines) if line.startswith("{") and (told := _told(line))), None)
    if found is None:
        log_event("command_failed", command=command.kind, code=code, said=lines[-1][:500])
        return StoreUnavailable(f"the {command.kind} failed with exit code {code}: {lines[-1]:.500}")
    name, message, problems = found
    if name == UnknownObject.__name__:
        return UnknownObject(message)
    if name in (InvalidInput.__name__, ConfigurationError.__name__, MappingError.__name__):
        return InvalidInput(message, problems)
    if name == NotEnoughData.__name__:
        return NotEnoughData(message)
    if name == HomeLocked.__name__:
        return TooManyRequests("another process is writing what this needs, expected one at a time: ask again later")
    if code == Refused.exit_code:
        return CommandRefused(message)
    log_event("command_failed", command=command.kind, code=code, said=f"{name}: {message}"[:500])
    return StoreUnavailable(f"the {command.kind} failed: {message}")
