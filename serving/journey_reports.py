"""Journey reports for callers: one made at a time, in a process of its own, and kept until the log goes on.

A report reads the whole event log, for seconds to minutes. In a process of its own it takes no time of the threads that
decide, gives its memory back, and goes behind everything else that the machine has to do.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from features.errors import InvalidInput, Problem, StoreUnavailable, UnknownObject
from features.events import shown
from features.journey_question import Question, question_of
from features.taxonomy import Taxonomy
from models.configuration import Configuration
from models.journey_reports import KeptReports, ReportRequest
from serving.problems import TooManyRequests
from serving.telemetry import log_event

PARAMETERS: Final = ("since", "until", "group_by", "top")
CHILD: Final = (sys.executable, "-m", "models.journey_reports")
MAKING_SECONDS: Final = 600.0
"""A report that takes longer is given up."""

TIDYING_SECONDS: Final = 10.0
"""So long a child that is told to end may take to remove its copy of the log."""


class ReportDesk:
    """Gives journey reports: kept ones at once, a new one if none is being made.

    Args:
        configuration: the configuration that is served.
        head: the last position of the event log.
        kept: where finished reports are.
        make: makes a report.
    """

    def __init__(
        self,
        *,
        configuration: Callable[[], Configuration],
        head: Callable[[], int],
        kept: KeptReports,
        make: Callable[[ReportRequest], bytes],
    ) -> None:
        self._configuration, self._head, self._kept, self._make = configuration, head, kept, make
        self._making = threading.Lock()

    def report(self, journey_id: str, words: Mapping[str, Sequence[str]]) -> bytes:
        """The report on a journey as JSON. It may take long: call it in a thread.

        Args:
            journey_id: as the configuration names it.
            words: the query parameters, each with every value given.

        Raises:
            UnknownObject: the configuration has no such journey.
            InvalidInput: with every bad parameter.
            TooManyRequests: another report is being made.
            StoreError: the log does not answer, or the report could not be made.
        """
        configuration = self._configuration()
        known = configuration.journeys.by_id
        if journey_id not in known:
            raise UnknownObject(f"no journey {shown(journey_id)}; expected one of {', '.join(known)}")
        request = ReportRequest(
            journey_id=journey_id,
            question=self._question(words, configuration.taxonomy),
            configuration=configuration.version,
            until_position=self._head(),
        )
        return self._kept.given(request, self._made_alone)

    def _question(self, words: Mapping[str, Sequence[str]], taxonomy: Taxonomy) -> Question:
        problems = [
            Problem(f"?{name}", shown(values[0]), f"one of {', '.join(PARAMETERS)}")
            for name, values in words.items()
            if name not in PARAMETERS
        ]
        problems += [
            Problem(f"?{name}", shown(list(values)), "one value")
            for name, values in words.items()
            if name in PARAMETERS and len(values) > 1
        ]
        try:
            question = question_of(taxonomy, **{name: words[name][0] for name in PARAMETERS if name in words})
        except InvalidInput as error:
            problems += [_of_query(problem) for problem in error.problems]
            raise InvalidInput(error.headline, problems) from error
        if problems:
            raise InvalidInput("the call has query parameters that it does not take", problems)
        return question

    def _made_alone(self, request: ReportRequest) -> bytes:
        if not self._making.acquire(blocking=False):
            raise TooManyRequests("another journey report is being made, expected one at a time: ask again later")
        try:
            return self._make(request)
        finally:
            self._making.release()


def _of_query(problem: Problem) -> Problem:
    """A problem of a word as a problem of the query parameter of that name."""
    return Problem(f"?{problem.path}", problem.value, problem.expected)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=TIDYING_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


class ChildReports:
    """Makes reports in a child process.

    Args:
        env: the environment, which names the home.
        command: of the child; it reads a request from standard input and writes the report to standard output.
        seconds: how long it may take.
    """

    def __init__(
        self, env: Mapping[str, str], *, command: Sequence[str] = CHILD, seconds: float = MAKING_SECONDS
    ) -> None:
        self._env, self._command, self._seconds = dict(env), tuple(command), seconds
        self._guard = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def made(self, request: ReportRequest) -> bytes:
        """The report that a request asks for.

        Raises:
            StoreUnavailable: the child failed, took too long, or was stopped.
        """
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the service is closing, expected one that serves: ask again later")
            pipe = subprocess.PIPE
            self._child = child = subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env
            )
        try:
            report, said = child.communicate(msgspec.json.encode(request), timeout=self._seconds)
        except subprocess.TimeoutExpired as error:
            _end(child)
            raise StoreUnavailable(f"the report took longer than {self._seconds:g} s; ask for a later since") from error
        if child.returncode:
            words = said.decode(errors="replace").strip().rpartition("\n")[2]
            log_event("journey_report_failed", journey_id=request.journey_id, code=child.returncode, said=words)
            raise StoreUnavailable(f"the report could not be made (exit code {child.returncode}): {words}")
        return report

    def close(self) -> None:
        """Stop what is being made, and make no more."""
        with self._guard:
            self._is_closed = True
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()
