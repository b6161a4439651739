"""Decisions as the doors ask for them: admitted, in their turn, within their deadline, counted and told.

Where the stores are files of this machine a decision is made in the thread of the event loop and only its commit is
waited for, so that commits of many callers share a transaction. Whatever must wait or rebuild goes to a thread, and so
does everything where a store is across a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, cast

from features.errors import StoreUnavailable
from models.records import Committed, LostRace, RecordStore
from serving.auth import Principal
from serving.decide import Answered, Commit, Decider
from serving.observe import NotAtHand
from serving.pace import Pace
from serving.recording import Asking
from serving.requests import parse_decision_request
from serving.schemas import DecisionRequest
from serving.surroundings import Surroundings
from serving.telemetry import Metrics, log_event
from serving.turns import Turns, result_within
from serving.workers import Workers

LEAST_COMMIT_SECONDS: Final = 0.25
"""So long a commit is waited for in any case: its answer is worth more than its retry."""

TOGETHER: Final = 8
"""So many commits are written together at most, while others wait for their turn: the first should not wait long."""

_NOT_IN_TIME: Final = (
    "the decision is not on disk within its deadline; expected it to be: the same request gives its answer later"
)


class DecisionDesk:
    """Answers requests for decisions.

    Args:
        decider: decides.
        records: keeps decisions.
        workers: threads for what must wait.
        pace: admits.
        metrics: counts answers.
        surroundings: time and chance.
        is_local: all stores are files of this machine.

    Attributes:
        pace: how the answering goes.
    """

    def __init__(
        self,
        *,
        decider: Decider,
        records: RecordStore,
        workers: Workers,
        pace: Pace,
        metrics: Metrics,
        surroundings: Surroundings,
        is_local: bool,
    ) -> None:
        self._decider = decider
        self._records = records
        self._workers = workers
        self._metrics = metrics
        self._surroundings = surroundings
        self._timer = surroundings.timer
        self._is_local = is_local
        self._turns = Turns(self._write_left, timer=surroundings.timer)
        self._left = 0
        self.pace = pace

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return self._turns.waiting

    async def answer(
        self, read: Callable[[], object], principal: Principal, *, idempotency_key: str | None, arrived: float
    ) -> bytes:
        """The answer to a request.

        Args:
            read: gives the decoded body.
            principal: who asks.
            idempotency_key: the header, if any.
            arrived: when the request came, by the timer.

        Raises:
            TooManyRequests: too many are under way.
            StoreUnavailable: the commit did not come back in time, among other causes; a retry gives its answer.
            HeadwayError: as ``read``, ``parse_decision_request`` and ``Decider.decide``.
        """
        self.pace.begin()
        try:
            if self._is_local:
                await self._turns.take()
            self._metrics.time_stage("wait", self._timer() - arrived)
            made_id = f"r-{self._surroundings.randomness(12).hex()}"
            request = parse_decision_request(read(), idempotency_key=idempotency_key, new_request_id=made_id)
            asking = Asking(
                source=principal.source,
                now=self._surroundings.clock(),
                arrived=int(arrived * 1_000_000),
                may_be_known=request.request_id != made_id,
            )
            answered = await self._answered(request, asking)
        finally:
            self.pace.end()
        self._tell(request, answered)
        return answered.answer

    async def _answered(self, request: DecisionRequest, asking: Asking) -> Answered:
        if self._is_local and request.as_of is None:
            with suppress(NotAtHand):
                return await self._at_hand(request, asking)
        begun = self._timer()
        deciding = self._workers.run(self._decider.answered, request, asking)
        try:
            answered = await asyncio.wait_for(deciding, self._seconds_left(request, asking))
        except TimeoutError as error:
            raise StoreUnavailable(_NOT_IN_TIME) from error
        self._metrics.time_stage("decide", self._timer() - begun)
        return answered

    async def _at_hand(self, request: DecisionRequest, asking: Asking) -> Answered:
        steps = self._decider.at_hand(request, asking)
        pending: Future[Committed] | None = None
        begun = self._timer()
        try:
            commit = next(steps)
            while True:
                submitted = self._timer()
                self._metrics.time_stage("decide", submitted - begun)
                self._turns.worked(submitted - begun)
                pending = self._leave(commit)
                try:
                    committed = await result_within(pending, self._seconds_left(request, asking))
                except LostRace as race:
                    begun = self._timer()
                    commit = steps.throw(race)
                else:
                    self._metrics.time_stage("commit", self._timer() - submitted)
                    commit = steps.send(committed)
        except StopIteration as end:
            return cast(Answered, end.value)
        except TimeoutError as error:
            raise StoreUnavailable(_NOT_IN_TIME) from error
        finally:
            if pending is None or pending.done():
                steps.close()
            else:  # the request stays in flight until its commit is known
                pending.add_done_callback(lambda _: steps.close())

    def _leave(self, commit: Commit) -> Future[Committed]:
        """Commits of a crowd are written together: each transaction takes CPU of its own."""
        pending = self._records.leave_commit(*commit)
        self._left += 1
        if self._left >= TOGETHER or not self._turns.is_taken:
            self._write_left()
        return pending

    def _write_left(self) -> None:
        if self._left:
            self._left = 0
            self._records.write_left()

    def _seconds_left(self, request: DecisionRequest, asking: Asking) -> float:
        """Until the deadline, and at least what a commit is worth waiting for."""
        gone = self._timer() - asking.arrived / 1_000_000
        return max(self._decider.deadline_ms(request) / 1000 - gone, LEAST_COMMIT_SECONDS)

    def _tell(self, request: DecisionRequest, answered: Answered) -> None:
        essence = answered.essence
        self._metrics.count_decision(
            chosen=essence.chosen,
            arm=essence.arm,
            degraded=essence.degraded,
        )
        if essence.age_seconds is not None:
            self._metrics.observe_age(essence.age_seconds)
        log_event(
            "decision_answered",
            decision_id=essence.decision_id,
            request_id=request.request_id,
            mode=request.mode,
            degraded=essence.degraded,
        )
