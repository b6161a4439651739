"""Explanations for callers: made in a process of their own, one at a time, that is kept warm between them.

The models' own contributions need LightGBM, which takes seconds to import and aborts on a broken file: it never comes
into the process that decides.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from features.errors import StoreUnavailable
from models.actions import NO_ACTION
from models.decision import DecisionRecord, dump_record
from models.explanation_requests import ExplanationReply, ExplanationRequest
from serving.problems import NotExplainable, TooManyRequests
from serving.queries import Query, Words
from serving.schemas import Timestamp
from serving.telemetry import log_event

PARAMETERS: Final = ("action",)
CHILD: Final = (sys.executable, "-m", "models.explanation_process")
MAKING_SECONDS: Final = 60.0
"""An explanation that takes longer is given up: the first one waits for imports, and on new homes for compilers."""

WAITING_AT_MOST: Final = 4
"""How many callers may have an explanation made, each holding a thread that could decide."""

_PIECE: Final = 1 << 16


class StatedReasonView(msgspec.Struct, frozen=True, kw_only=True):
    """One reason in words.

    Attributes:
        contribution: of the reason's features together, on the scale of the quantity.
    """

    code: str
    text: str
    contribution: float
    talking_points: tuple[str, ...]


class ContributionView(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature contributed.

    Attributes:
        value: of the feature; null where it was unknown.
        value_text: the same as people read it.
        contribution: positive raises the quantity.
    """

    feature: str
    value: float | None
    value_text: str
    contribution: float


class ExplainedView(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity, taken apart: ``baseline``, contributions and ``others`` add up to ``raw``.

    Attributes:
        value: as it was served and recorded; null where it was not estimated.
        raw: the value before link, calibration and clipping.
        contributions: of the features that contribute most, the strongest first.
        others: of all other features together.
    """

    value: float | None
    raw: float
    baseline: float
    contributions: tuple[ContributionView, ...]
    others: float
    reasons: tuple[StatedReasonView, ...]
    talking_points: tuple[str, ...]


class ChangeView(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a treatment which, changed alone, makes it win.

    Attributes:
        present: what it was.
        bound: at exactly this value its priority equals the rival's.
        sense: the side of the bound on which it wins.
    """

    quantity: str
    present: float | None
    bound: float
    sense: str


class TreatmentChangesView(msgspec.Struct, frozen=True, kw_only=True):
    """What one treatment of the action lacked.

    Attributes:
        dropped: the stage of the funnel that dropped it; null for one that was scored.
        rule_ids: all of them would have had to pass.
        priority: null where it was not scored.
        changes: by quantity; null where no value of that quantity alone can do it.
    """

    treatment_id: str
    dropped: str | None
    rule_ids: tuple[str, ...]
    priority: float | None
    changes: dict[str, ChangeView | None]


class FlipView(msgspec.Struct, frozen=True, kw_only=True):
    """One feature which, changed alone, puts the action first.

    Attributes:
        present: null where it was unknown.
        changed: the nearest value that does it.
        steps: how many of the models' splits of this feature lie between.
        priority: of the action's best treatment then.
    """

    feature: str
    present: float | None
    changed: float | None
    steps: int
    priority: float


class ToWinView(msgspec.Struct, frozen=True, kw_only=True):
    """What would have had to be different for an action to stand first.

    Attributes:
        wins: it stands first as it is.
        rival: the treatment that it would have to beat.
    """

    action_id: str
    wins: bool
    rival: str
    rival_priority: float
    treatments: tuple[TreatmentChangesView, ...]
    flips: tuple[FlipView, ...]


class DecisionExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a decision came out as it did: statements about the models, not about the world.

    Attributes:
        largest_difference: between what was recorded and the same scored again; 0 is expected.
        stall: the log odds of no progress within the horizon; null where no stall was estimated.
        control: by outcome, the response under no action.
        effects: by action that was scored, what it changes of its outcome.
        to_win: of the action that was asked about; not there where none was.
    """

    decision_id: str
    decided_at: Timestamp
    journey_id: str
    scope: str
    versions: dict[str, str]
    largest_difference: float | None
    selected: str
    explored: bool
    stall: ExplainedView | None
    control: dict[str, ExplainedView]
    effects: dict[str, ExplainedView]
    to_win: ToWinView | None = None


class ExplanationDesk:
    """Gives explanations.

    Args:
        make: asks whoever has LightGBM.
    """

    def __init__(self, make: Callable[[ExplanationRequest], ExplanationReply]) -> None:
        self._make = make

    def explanation(self, record: DecisionRecord, words: Words) -> bytes:
        """The explanation of a decision as JSON. It may take seconds: call it in a thread.

        Args:
            record: the decision.
            words: the query parameters, each with every value given.

        Raises:
            InvalidInput: with every bad parameter.
            NotExplainable: no model that is here made this decision.
            TooManyRequests: others are waiting already.
            StoreUnavailable: it could not be made this time.
        """
        query = Query.of_words(words, PARAMETERS)
        action_id = query.text("action")
        known = dict.fromkeys(one.action_id for one in record.candidates if one.action_id != NO_ACTION)
        if action_id is not None and action_id not in known:
            query.add("action", action_id, f"a candidate of the decision: {', '.join(known) or 'there were none'}")
        query.refuse("the decision cannot be explained like this")
        reply = self._make(ExplanationRequest(record=dump_record(record), action_id=action_id))
        if reply.kind == "explained":
            return bytes(reply.document)
        if reply.kind == "refused":
            raise NotExplainable(reply.message)
        log_event("explanation_failed", decision_id=record.decision_id, said=reply.message)
        raise StoreUnavailable(f"decision {record.decision_id} could not be explained: {reply.message}")


class ChildExplanations:
    """Asks a child process, which is started when it is needed and again when it has ended.

    Args:
        env: the environment, which names the home.
        command: of the child; it answers each line of standard input by one on standard output.
        seconds: how long an answer may take.
        waiting: how many may wait, the one whose turn it is included.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        command: Sequence[str] = CHILD,
        seconds: float = MAKING_SECONDS,
        waiting: int = WAITING_AT_MOST,
    ) -> None:
        self._env, self._command, self._seconds, self._waiting = dict(env), tuple(command), seconds, waiting
        self._room = threading.BoundedSemaphore(waiting)
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def made(self, request: ExplanationRequest) -> ExplanationReply:
        """The reply to a request.

        Raises:
            TooManyRequests: others are waiting already.
            StoreUnavailable: the child failed, took too long, or was stopped.
        """
        if not self._room.acquire(blocking=False):
            raise TooManyRequests(f"{self._waiting} explanations are under way, expected fewer: ask again later")
        try:
            with self._turn:
                return self._asked(msgspec.json.encode(request) + b"\n")
        finally:
            self._room.release()

    def _asked(self, line: bytes) -> ExplanationReply:
        child = self._running()
        try:
            answer = _exchanged(child, line, time.monotonic() + self._seconds)
            return msgspec.json.decode(answer, type=ExplanationReply)
        except TimeoutError as error:
            raise StoreUnavailable(f"the explanation took longer than {self._seconds:g} s; ask again later") from error
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise StoreUnavailable(f"the process that explains has failed: {error}; ask again later") from error
        finally:
            if sys.exc_info()[0] is not None:
                _end(child)  # whatever it may still say belongs to nobody

    def _running(self) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the service is closing, expected one that serves: ask again later")
            if self._child is None or self._child.poll() is not None:
                if self._child is not None:
                    _end(self._child)
                self._child = subprocess.Popen(  # noqa: S603  # our own interpreter and module, no shell
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._env,
                )
            return self._child

    def close(self) -> None:
        """Stop what is being made, and make no more."""
        with self._guard:
            self._is_closed = True
            if self._child is not None:
                _end(self._child)


def _exchanged(child: subprocess.Popen[bytes], line: bytes, until: float) -> bytes:
    """The child's answer to a line.

    Raises:
        TimeoutError: there was none in time.
        EOFError: the child has ended.
    """
    stdin: Any = child.stdin
    stdout: Any = child.stdout
    unsent = memoryview(line)
    os.set_blocking(stdin.fileno(), False)
    while unsent:
        _wait(stdin, select.POLLOUT, until)
        unsent = unsent[os.write(stdin.fileno(), unsent) :]
    answer = bytearray()
    while not answer.endswith(b"\n"):
        _wait(stdout, select.POLLIN, until)
        piece = os.read(stdout.fileno(), _PIECE)
        if not piece:
            raise EOFError(f"it ended with code {child.wait(1)}")
        answer += piece
    return bytes(answer)


def _wait(pipe: Any, event: int, until: float) -> None:
    poll = select.poll()  # select itself takes no file beyond the 1,024th
    poll.register(pipe, event)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()  # it holds nothing that it would have to put away
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
