"""The work of a durable job, as the process that does it sees it: the contract of job kinds.

A kind is one row of ``serving.job_kinds.KINDS``: its name, and the words of the command of the console script that does
it. The service runs that command as a child process of its own, with ``HEADWAY_HOME`` and all other settings in its
environment, behind whatever else the machine has to do, and one job at a time. The command calls ``job_work`` first:

    with job_work() as work:
        work.spec                                    # what was asked, a JSON object: check it as input
        work.checkpoints                             # a folder, found as the attempt before left it
        work.results                                 # a folder, empty, of this attempt alone
        work.tell("ranking", done=10, total=2_000)   # as often as it likes: told on at most once a second
        work.finish({"rows": 2_000}, file="audience.csv")

What goes over the pipes, if a command is to do without it:

- Standard input: one line of JSON, ``{"job", "kind", "attempt", "checkpoints", "results", "spec"}``; then an empty line
  for each time that the service has kept its lease. The end of the input, or ``SILENCE_SECONDS`` without a line, means
  that another process may have the job by now: the command must end at once (``job_work`` sees to it). An attempt
  that begins waits until the one before has let go of its folder.
- Standard output: one JSON object a line, ``{"progress": {"step", "done", "total"}}``, and at last ``{"result": {...},
  "file": "name in results, or null"}``. Other lines are passed over.
- Exit code 0 with a result: the job has succeeded. Exit code 1 or 2 with an error of ours on standard error
  (``HEADWAY_ERRORS=json``): it has failed with that error; but where a store did not answer (``StoreUnavailable``), or
  another process writes what it needs (``HomeLocked``), it is tried again. 2 without one: it has failed. Whatever
  else, such as death by a signal: it is tried again, up to the number of attempts that jobs have.

A command may be killed at any moment, and is then run again with the same ``spec`` and ``checkpoints``: it goes on from
there, or begins anew, to one result. So what it leaves in ``checkpoints`` must be whole (``features.whole_files``), and
what it does to stores must be harmless twice. To cancel, the process is sent SIGTERM, and SIGKILL some seconds later.

The file must be on disk when ``finish`` is called with its name, which syncs it. Its content type is told by its
ending: ``.csv``, ``.parquet``, ``.json`` or ``.jsonl``. The summary is shown to whoever may see the job: counts and
names of configuration, no personal data, at most ``MOST_SUMMARY_BYTES`` of JSON.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from features.durable_files import sync_folder
from features.errors import HomeLocked, Refused
from features.home import FileLock, lock_file

SILENCE_SECONDS: Final = 20.0
"""So long a child goes on without word that its service holds the lease."""

WAIT_SECONDS: Final = SILENCE_SECONDS + 10.0
"""So long an attempt waits for the end of the one before, which may not have heard yet that it has lost the job."""

TOLD_SECONDS: Final = 1.0
"""Between two words on how far a step has come."""

MOST_SUMMARY_BYTES: Final = 64 << 10
"""Of a result's summary, as JSON."""

_GOES_FIRST: Final = Path("/proc/self/oom_score_adj")
_LOOK_SECONDS: Final = 0.1
_CHUNK: Final = 1 << 16


@dataclass(slots=True)
class JobWork:
    """One attempt of a job.

    Attributes:
        attempt: 1 for the first.
        spec: what was asked.
        checkpoints: what an attempt leaves there the next one finds.
        results: for the file of the result; of this attempt alone.
    """

    job_id: str
    kind: str
    attempt: int
    spec: Mapping[str, Any]
    checkpoints: Path
    results: Path
    _target: BinaryIO
    _timer: Callable[[], float]
    _told_step: str | None = field(default=None, init=False)
    _told_at: float = field(default=0.0, init=False)

    def tell(self, step: str, *, done: int = 0, total: int | None = None) -> None:
        """Say how far the job has come; within a step not oftener than is worth it.

        Args:
            step: what is being done, for people.
            done: of ``total``, in the step's own unit.
            total: None where it is not known.
        """
        now = self._timer()
        if step == self._told_step and done != total and now - self._told_at < TOLD_SECONDS:
            return
        self._told_step, self._told_at = step, now
        self._say({"progress": {"step": step, "done": done, "total": total}})

    def finish(self, summary: Mapping[str, Any], *, file: str | None = None) -> None:
        """Say what the job came to. Nothing is done for it after that.

        Args:
            summary: JSON values, for whoever may see the job.
            file: name of the result in ``results``, which is whole; it is on disk afterwards, for its owner only.

        Raises:
            Refused: the summary is too large.
            OSError: the file is not there, or cannot be brought to the disk.
        """
        if (size := len(json.dumps(summary))) > MOST_SUMMARY_BYTES:
            raise Refused(f"the summary has {size:,} characters of JSON; expected at most {MOST_SUMMARY_BYTES:,}")
        if file is not None:
            descriptor = os.open(self.results / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o600)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_folder(self.results)
        self._say({"result": dict(summary), "file": file})

    def _say(self, document: Mapping[str, Any]) -> None:
        sys.stdout.flush()
        # Behind a line break of its own: what a library has printed before may lack one.
        self._target.write(b"\n" + json.dumps(document).encode() + b"\n")
        self._target.flush()


@contextmanager
def job_work(
    *,
    source: int = 0,
    target: BinaryIO | None = None,
    silence_seconds: float = SILENCE_SECONDS,
    wait_seconds: float = WAIT_SECONDS,
    end: Callable[[], None] | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Iterator[JobWork]:
    """The attempt that this process was started for; the process ends with the lease that it works under.

    Args:
        source: descriptor that is read from.
        target: what is written to; standard output if None.
        silence_seconds: so long it goes on without a word.
        wait_seconds: so long it waits for the attempt before to end.
        end: ends the process; with all that it started if None.
        timer: a monotonic clock, seconds.

    Raises:
        Refused: nobody said what to do.
        HomeLocked: the attempt before goes on.
    """
    os.umask(0o077)
    with suppress(OSError):  # where the kernel has it: for want of memory this process goes before any that decides
        _GOES_FIRST.write_text("500")
    told = _told(source)
    target = sys.stdout.buffer if target is None else target
    with _watched(source, silence_seconds, end or _end), _alone_in(Path(told["checkpoints"]), wait_seconds, timer):
        yield JobWork(
            job_id=told["job"],
            kind=told["kind"],
            attempt=told["attempt"],
            spec=told["spec"],
            checkpoints=Path(told["checkpoints"]),
            results=Path(told["results"]),
            _target=target,
            _timer=timer,
        )


def _told(source: int) -> dict[str, Any]:
    """The first line, which says what to do."""
    expected = "expected the line of JSON that the service gives: ask for jobs by its HTTP API"
    if os.isatty(source):
        raise Refused(f"standard input is a terminal; {expected}")
    data = b""
    while b"\n" not in data and (chunk := os.read(source, _CHUNK)):
        data += chunk
    try:
        told: dict[str, Any] = json.loads(data.partition(b"\n")[0])
    except ValueError as error:
        raise Refused(f"standard input holds no job ({error}); {expected}") from error
    return told


@contextmanager
def _watched(source: int, silence_seconds: float, end: Callable[[], None]) -> Iterator[None]:
    over, is_over = os.pipe()

    def watch() -> None:
        while True:
            ready, _, _ = select.select([source, over], [], [], silence_seconds)
            if over in ready:
                return
            if source not in ready or not os.read(source, _CHUNK):
                end()
                return

    watching = threading.Thread(target=watch, name="headway-lease", daemon=True)
    watching.start()
    try:
        yield
    finally:
        os.close(is_over)
        watching.join()
        os.close(over)


def _end() -> None:
    """End this process at once, and what it started, where the service has made it the first of a group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


@contextmanager
def _alone_in(folder: Path, wait_seconds: float, timer: Callable[[], float]) -> Iterator[None]:
    until = timer() + wait_seconds
    while True:
        try:
            lock: FileLock = lock_file(folder)
        except HomeLocked:
            if timer() >= until:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            break
    with lock:
        yield
