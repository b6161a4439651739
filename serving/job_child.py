"""The process that does one attempt of a job, seen from the service; ``models.job_work`` is the other side.

Nothing here waits for it: what it says is read by threads as it comes, and what it is told is written by another.
"""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any, Final

import msgspec

from models.job_work import MOST_SUMMARY_BYTES
from models.jobs import JobProgress
from serving.child_commands import end_children

_LONGEST_LINE: Final = MOST_SUMMARY_BYTES + (16 << 10)
_LONGEST_STEP: Final = 200
_SAID_CHUNKS: Final = 16
_CHUNK: Final = 8 << 10
_WORD: Final = b"\n"
_LARGEST: Final = 2**53
_LAST_WORDS_SECONDS: Final = 5.0
"""So long is read on when it is over: a process that it started and that left its group may hold the pipes."""


class JobChild:
    """One child process under way, or over.

    Args:
        command: its words.
        env: its environment.
        told: what it is to do, one line.
        changed: called when it is over, in a thread of its own.

    Attributes:
        progress: the newest that it said; None before it said anything.
        result: the summary that it came to, and the name of its file; None where it said none.
        code: its exit code; None while it runs.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], told: bytes, *, changed: Callable[[], None]
    ) -> None:
        pipe = subprocess.PIPE
        self.progress: JobProgress | None = None
        self.result: tuple[dict[str, Any], str | None] | None = None
        self.code: int | None = None
        self._changed = changed
        self._said: deque[bytes] = deque(maxlen=_SAID_CHUNKS)
        self._words: SimpleQueue[bytes | None] = SimpleQueue()
        self._child = subprocess.Popen(  # noqa: S603  # our own interpreter and command, no shell
            list(command), stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env), start_new_session=True
        )
        self._words.put(told + _WORD)
        reading = [
            threading.Thread(target=work, args=(stream,), name="headway-job-child", daemon=True)
            for work, stream in ((self._hear, self._child.stdout), (self._listen, self._child.stderr))
        ]
        telling = threading.Thread(target=self._tell, args=(self._child.stdin,), name="headway-job-child", daemon=True)
        for thread in (*reading, telling):
            thread.start()
        threading.Thread(target=self._wait, args=(reading,), name="headway-job-child", daemon=True).start()

    @property
    def said(self) -> bytes:
        """The end of what it said on standard error."""
        return b"".join(self._said)

    def is_over(self) -> bool:
        """Whether it has ended, and everything it said is heard."""
        return self.code is not None

    def word(self) -> None:
        """Tell it that it may go on."""
        self._words.put(_WORD)

    def end(self, seconds: float) -> None:
        """End it, and whatever it has started: by asking, and after some seconds by force."""
        end_children([self._child], seconds)

    def _wait(self, reading: Sequence[threading.Thread]) -> None:
        code = self._child.wait()
        end_children([self._child], 0.0)  # what it has started may hold its pipes
        for thread in reading:
            thread.join(_LAST_WORDS_SECONDS)
        self._words.put(None)
        self.code = code
        self._changed()

    def _tell(self, stream: IO[bytes]) -> None:
        with suppress(OSError), stream:  # it may be gone
            while (word := self._words.get()) is not None:
                stream.write(word)
                stream.flush()

    def _hear(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(
                line
            )  # which, unlike `json`, takes no text that a store cannot keep, but for NUL
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # a library's
        match said:
            case {"progress": {"step": str(step), "done": int(done), "total": int() | None as total}}:
                if 0 <= done < _LARGEST and (total is None or 0 <= total < _LARGEST):
                    self.progress = JobProgress(step.replace("\0", "")[:_LONGEST_STEP], done, total)
            case {"result": dict(summary), "file": str() | None as file}:
                self.result = (summary, file)

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := stream.read1(_CHUNK):  # type: ignore[attr-defined]  # it is buffered
                self._said.append(chunk)
