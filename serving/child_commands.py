"""Commands of the console script, run for callers in processes of their own: one of a kind at a time, behind the rest.

What measures and promotes needs frameworks that never come into the process that decides, and takes seconds to minutes.
A command says the same to a caller as to an operator: its JSON, or its error as the error that it is. Whoever asks for
what takes longer than a request may is told that it is under way, and gets its result by asking the same again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import (
    ConfigurationError,
    HeadwayError,
    HomeLocked,
    InFlight,
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

PATIENCE_SECONDS: Final = 45.0
"""So long a caller waits for a result: BentoML answers 504 after 60 s, and many a proxy does."""

KEPT_SECONDS: Final = 600.0
"""So long a result that nobody fetched is kept for who asks the same again."""

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
        files: options of files, with what these hold; no other user can read them, and they are gone when it ends.
    """

    kind: str
    words: tuple[str, ...]
    seconds: float
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command came to.

    Attributes:
        is_done: exit code 0; else it printed why not, such as a gate that refuses.
        document: what it printed, as JSON values.
    """

    is_done: bool
    document: Any


@dataclass(slots=True, eq=False)
class _Job:
    """A command under way, or over and not fetched yet."""

    command: Command
    over: threading.Event = field(default_factory=threading.Event)
    child: subprocess.Popen[bytes] | None = None
    finished: Finished | None = None
    error: Exception | None = None
    over_at: float = 0.0


RunCommand = Callable[[Command], Finished]


class ChildCommands:
    """Runs commands in child processes.

    Args:
        env: the environment, which names the home.
        folder: where files of commands lie while these run; the system's own for such files if None.
        command: what the words are given to.
        patience_seconds: so long a caller waits.
        ending_seconds: so long a child that is told to end may take.
        timer: a monotonic clock, seconds.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        folder: Path | None = None,
        command: Sequence[str] = CHILD,
        patience_seconds: float = PATIENCE_SECONDS,
        ending_seconds: float = ENDING_SECONDS,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        kept = {name: value for name, value in env.items() if name not in SECRETS}
        self._env = {**kept, "HEADWAY_ERRORS": "json"}
        self._folder, self._command, self._timer = folder, tuple(command), timer
        self._patience, self._ending_seconds = patience_seconds, ending_seconds
        self._guard = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def run(self, command: Command) -> Finished:
        """What a command came to. It may take as long as a caller waits: call it in a thread.

        Raises:
            InFlight: it is still running; asking the same again gives its result.
            TooManyRequests: another of its kind is running, here or elsewhere.
            UnknownObject: something that it names is not there.
            InvalidInput: with every bad field.
            CommandRefused: it refuses what was asked.
            NotEnoughData: there is too little to compute it from.
            StoreUnavailable: it failed, took too long, or was stopped.
        """
        job = self._job(command)
        if not job.over.wait(self._patience):
            raise InFlight(f"the {command.kind} is still running, expected patience: ask the same again for its result")
        with self._guard:
            if self._jobs.get(command.kind) is job:
                del self._jobs[command.kind]
        if job.error is not None:
            raise job.error
        if job.finished is None:
            raise StoreUnavailable(f"the {command.kind} came to nothing; ask again later")
        return job.finished

    def close(self) -> None:
        """Stop what is running, and run no more."""
        with self._guard:
            self._is_closed = True
            children = [job.child for job in self._jobs.values() if job.child is not None]
            threads = list(self._threads)
        end_children([child for child in children if child.returncode is None], self._ending_seconds)
        for thread in threads:
            thread.join()

    def _job(self, command: Command) -> _Job:
        """The job of a command: one under way or over that is the same, else a new one."""
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the service is closing, expected one that serves: ask again later")
            job = self._jobs.get(command.kind)
            if job is not None and not job.over.is_set() and job.command != command:
                raise TooManyRequests(f"another {command.kind} is running, expected one at a time: ask again later")
            is_stale = job is not None and job.over.is_set() and self._timer() - job.over_at > KEPT_SECONDS
            if job is not None and job.command == command and not is_stale:
                return job
            job = self._jobs[command.kind] = _Job(command)
            thread = threading.Thread(target=self._work, args=(job,), name=f"headway-{command.kind}")
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()
            return job

    def _work(self, job: _Job) -> None:
        command = job.command
        try:
            with self._files(command.files) as words:
                code, printed, said = self._exchanged(job, [*command.words, *words])
            job.finished = _finished(code, printed)
            if job.finished is None:
                job.error = _error_of(command, code, said)
        except Exception as error:  # told to who asked, who is in another thread
            job.error = error
        finally:
            job.over_at = self._timer()
            job.over.set()

    @contextmanager
    def _files(self, files: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
        """Words that name files with these contents, which nobody else may read, until the end."""
        if not files:
            yield []
            return
        try:
            with tempfile.TemporaryDirectory(prefix="headway-", dir=self._folder) as made:  # for its owner alone
                words = []
                for option, text in files:
                    file = Path(made) / f"{option.strip('-')}.yaml"
                    file.touch(0o600)
                    file.write_text(text, encoding="utf-8")
                    words += [option, str(file)]
                yield words
        except OSError as error:
            said = f"cannot write to {self._folder}: {error.strerror}; expected a writable folder"
            raise StoreUnavailable(said) from error

    def _exchanged(self, job: _Job, words: Sequence[str]) -> tuple[int, bytes, bytes]:
        command, pipe = job.command, subprocess.PIPE
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the service is closing, expected one that serves: ask again later")
            child = job.child = subprocess.Popen(  # noqa: S603  # our own interpreter and command, no shell
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                env=self._env,
                start_new_session=True,  # so that it ends together with the processes that it starts
            )
        try:
            printed, complained = child.communicate(timeout=command.seconds)
        except subprocess.TimeoutExpired as error:
            log_event("command_given_up", command=command.kind, seconds=command.seconds)
            said = f"the {command.kind} took longer than {command.seconds:g} s; ask for less"
            raise StoreUnavailable(said) from error
        finally:
            if child.returncode is None:
                end_children([child], self._ending_seconds)
                child.communicate()
        return child.returncode, printed, complained


def _finished(code: int, printed: bytes) -> Finished | None:
    """What was printed, as a result; None where it is none."""
    if code in (0, _FAILED) and printed.strip():
        with suppress(ValueError):
            return Finished(is_done=code == 0, document=_result_in(printed))
    return None


def end_children(children: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
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


@dataclass(frozen=True, slots=True)
class ToldError:
    """An error that a command has said: the name of its type, its message, and every bad field."""

    error: str
    message: str
    problems: tuple[Problem, ...]


def told_error(said: bytes) -> ToldError | None:
    """The last error in what a command has said, after which a library may have warned; None where there is none."""
    lines = said.decode(errors="replace").strip().split("\n")[-_LAST_LINES:]
    return next((told for line in reversed(lines) if line.startswith("{") and (told := _told(line))), None)


def last_line(said: bytes) -> str:
    """The end of what a command has said, where that is no error of ours."""
    return said.decode(errors="replace").strip().rpartition("\n")[2][:500]


def _told(line: str) -> ToldError | None:
    """The error that a line is; None where it is none."""
    try:
        # Through text that every store and answer can hold: names of files may have bytes that are none.
        text = json.dumps(json.loads(line), ensure_ascii=False).encode(errors="replace")
        found = msgspec.json.decode(text, type=ToldError)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return replace(found, problems=tuple(map(_of_body, found.problems)))


def _error_of(command: Command, code: int, said: bytes) -> HeadwayError:
    """The error that a command ended with, as it is to be told."""
    found = told_error(said)
    if found is None:
        log_event("command_failed", command=command.kind, code=code, said=last_line(said))
        return StoreUnavailable(f"the {command.kind} failed with exit code {code}: {last_line(said)}")
    name, message, problems = found.error, found.message, found.problems
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


def _of_body(problem: Problem) -> Problem:
    """A problem of an option as a problem of the field that it was made of."""
    if not problem.path.startswith("--"):
        return problem
    return replace(problem, path=problem.path.removeprefix("--").replace("-", "_"))
