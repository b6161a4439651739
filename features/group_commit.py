"""Group commit: one thread at a time writes a store; jobs that wait together share a transaction and an fsync.

Measured on two cores: 32 callers reach five times the rate of a commit each. A caller that waits for its job and finds
nobody writing commits it itself, since changing threads twice costs more than the transaction. Whoever must not wait
for a disk, as an event loop, leaves jobs, runs their statements itself, and leaves only the commit to the writing
thread: each statement gives the interpreter away and waits to have it back, which of a thread that is always busy took
a third of all CPU.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from features.commit_figures import CommitFigures
from features.errors import StoreUnavailable

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

MAX_WAITING = 10_000
MAX_GROUP = 256
"""Jobs in one transaction; bounds how long the first of them waits."""

_ATTEMPTS: Final = 3


class Transactions(Protocol[C_co]):
    """The transactions of one connection that writes, for any thread but one at a time."""

    @property
    def connection(self) -> C_co:
        """What jobs run their statements on."""

    def begin(self, keys: Collection[str]) -> None:
        """Begin one in which nobody else, of this process or another, touches what some keys stand for."""

    def commit(self) -> None:
        """Keep what was done."""

    def roll_back(self) -> None:
        """Undo what was done; harmless where there is nothing, or nobody to tell."""

    def is_open(self) -> bool:
        """Whether one was begun and neither kept nor undone; the driver, or a lost connection, may have undone it."""

    def mark(self) -> None:
        """Remember this place; the one before was kept or undone."""

    def keep_since_mark(self) -> None:
        """Keep what was done since; the place is of no use any more."""

    def undo_since_mark(self) -> None:
        """Undo what was done since; likewise."""

    def may_try_again(self, error: Exception) -> bool:
        """Whether all of one that was not committed may go well if it is done again."""

    def failure(self, error: BaseException) -> BaseException:
        """What an error means for the store; the error itself where it is none of the driver's."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[Any], Any]
    future: Future[Any]
    since: float
    keys: Collection[str]
    is_left: bool


@dataclass(slots=True)
class _Done:
    future: Future[Any]
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """Jobs that were run in a transaction that is still open, and what became of each."""

    group: list[_Job]
    done: list[_Done]


class GroupCommit(Generic[C]):
    """The one writer of one store in this process.

    Args:
        name: of the store, for messages.
        connect: opens the writing connection; called once.
        max_waiting: jobs that may wait; more are refused at once.
        timer: a monotonic clock, seconds.

    Attributes:
        groups: transactions that were tried until now.
        jobs: jobs in them; by groups, the size of one.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Transactions[C]],
        *,
        max_waiting: int = MAX_WAITING,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._timer = timer
        self._writing_since: float | None = None  # since when the first job of the group waits that is being written
        self.groups = 0
        self.jobs = 0
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._door = threading.Lock()
        self._is_closed = False
        self._transactions = connect()
        self._freed = threading.Condition(self._door)
        self._is_taken = False  # by whoever writes
        self._begun: _Begun | None = None  # what the writing thread is to keep; its turn goes on
        self._work: queue.SimpleQueue[None] = queue.SimpleQueue()  # so often somebody left a job to the writing thread
        self._thread = threading.Thread(target=self._write, name=f"writer of {name}", daemon=True)
        self._thread.start()

    @property
    def figures(self) -> CommitFigures:
        """How the writing goes."""
        return CommitFigures(groups=self.groups, jobs=self.jobs, waiting=self.waiting, delay_seconds=self.delay)

    @property
    def waiting(self) -> int:
        """How many jobs nobody has begun."""
        return len(self._waiting)

    @property
    def delay(self) -> float:
        """Seconds that the oldest job waits that is not on disk yet; 0 where there is none."""
        since = self._writing_since
        if since is None:
            if not self._waiting:
                return 0.0
            try:
                since = self._waiting[0].since
            except IndexError:  # also where another thread took it just now
                return 0.0
        return self._timer() - since

    def run(self, job: Callable[[C], T], *, keys: Collection[str] = ()) -> T:
        """What ``job`` gives, once its transaction is on disk; done in this thread where nobody is writing.

        A job that raises is undone alone, and this raises the same. It may be run again where its transaction was lost.

        Args:
            job: what is done on the connection.
            keys: of what it reads and then writes, which other processes may do as well.

        Raises:
            StoreUnavailable: if the transaction failed, if too many jobs wait, or if the writer was closed. Nothing of
                the job was kept; or, of a database that was lost while it committed, all of it: whoever asks again must
                get the same.
        """
        future = self._put(job, keys)
        if self._take_turn():
            try:
                self._commit(self._taken())
            finally:
                self._end_turn()
        if not future.done():
            self._work.put(None)
        return future.result()

    def submit(self, job: Callable[[C], T], *, keys: Collection[str] = ()) -> Future[T]:
        """Have ``job`` run in the writing thread; the future resolves once its transaction is on disk.

        A job that raises is undone alone, and its future raises the same. The future raises ``StoreUnavailable``
        where the transaction failed, as of ``run``.

        Raises:
            StoreUnavailable: if too many jobs wait, or the writer was closed.
        """
        future = self._put(job, keys)
        self._work.put(None)
        return future

    def leave(self, job: Callable[[C], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``submit`` of a job that nobody begins until ``write_left``, or until a job behind it is written.

        So jobs that come one after the other share a transaction, where whoever brings them knows of the next one.

        Raises:
            StoreUnavailable: if too many jobs wait, or the writer was closed.
        """
        return self._put(job, keys, is_left=True)

    def write_left(self) -> None:
        """Have everything written that was left: run in this thread where nobody is writing, and kept by another."""
        begun = None
        try:
            if self._take_turn():
                try:
                    begun = self._run_all(self._taken(only_left=True))
                finally:
                    self._end_turn(hands_on=begun)
        finally:  # also for those behind a job that Ctrl-C met
            self._work.put(None)

    def close(self) -> None:
        """Finish every job that was accepted, then close the connection; closing twice is harmless."""
        with self._door:
            self._is_closed = True
        self._work.put(None)
        self._thread.join()

    def _put(self, job: Callable[[C], T], keys: Collection[str], *, is_left: bool = False) -> Future[T]:
        future: Future[T] = Future()
        with self._door:
            if self._is_closed:
                raise StoreUnavailable(f"{self._name} was closed; expected to be open: open the store again")
            if len(self._waiting) >= self._max_waiting:
                raise StoreUnavailable(
                    f"{self._name}: {self._max_waiting} writes wait already; expected fewer: send again later"
                )
            self._waiting.append(_Job(job, future, self._timer(), keys, is_left))
        return future

    def _take_turn(self) -> bool:
        """Take the turn, if nobody has it."""
        with self._door:
            is_free = not self._is_taken
            self._is_taken = True
            return is_free

    def _await_turn(self) -> _Begun | None:
        """Wait for the turn, or for one that is handed on: then with what is to be kept."""
        with self._door:
            while self._is_taken and self._begun is None:
                self._freed.wait()
            self._is_taken = True
            begun, self._begun = self._begun, None
            return begun

    def _end_turn(self, *, hands_on: _Begun | None = None) -> None:
        """End the turn, or hand it on to the writing thread with what is to be kept."""
        with self._door:
            self._begun = hands_on
            self._is_taken = hands_on is not None
            self._freed.notify()

    def _write(self) -> None:
        """Do for each piece of work one of these: keep what was begun, or commit all that waits."""
        is_open = True
        while is_open:
            self._work.get()
            is_open = not self._is_closed
            begun = self._await_turn()
            try:
                if begun is not None:
                    with suppress(BaseException):  # whoever waits is told, and the thread must go on for the others
                        self._keep(begun)
                while self._waiting and (begun is None or not is_open):
                    with suppress(BaseException):
                        self._commit(self._taken())
            finally:
                self._end_turn()
        self._transactions.close()

    def _taken(self, *, only_left: bool = False) -> list[_Job]:
        """The jobs that wait now, up to ``MAX_GROUP``; of those left only, none behind one that was not."""
        group: list[_Job] = []
        while self._waiting and len(group) < MAX_GROUP and (self._waiting[0].is_left or not only_left):
            job = self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                group.append(job)
        return group

    def _commit(self, group: list[_Job]) -> None:
        if begun := self._run_all(group):
            self._keep(begun)

    def _run_all(self, group: list[_Job]) -> _Begun | None:
        """Run jobs in one transaction; None where there are none, or their transaction was lost, as they are told."""
        if not group:
            return None
        self.groups += 1
        self.jobs += len(group)
        self._writing_since = group[0].since
        try:
            return _Begun(group, self._done(group))
        except BaseException as error:
            self._lose(group, error)
            if not isinstance(error, Exception):  # Ctrl-C met the thread of a caller
                raise
            return None

    def _keep(self, begun: _Begun) -> None:
        """Commit a transaction, and tell each job what became of it."""
        try:
            if len(begun.group) > 1 or begun.done[0].error is None:  # else it is undone already
                self._transactions.commit()
        except BaseException as error:
            self._lose(begun.group, error)
            if not isinstance(error, Exception):
                raise
            return
        self._writing_since = None
        # Refusals too wait for the commit: they may rest on what an earlier job of the same group wrote.
        for outcome in begun.done:
            if outcome.error is None:
                outcome.future.set_result(outcome.value)
            else:
                outcome.future.set_exception(outcome.error)

    def _lose(self, group: list[_Job], error: BaseException) -> None:
        """Undo a transaction, and tell each job of it; what ends a thread or a process is told as a lost write."""
        lost: BaseException = StoreUnavailable(
            f"{self._name}: a write was interrupted by {type(error).__name__}; expected none: send again"
        )
        lost.__cause__ = error
        try:
            self._transactions.roll_back()
            if isinstance(error, Exception):
                lost = self._transactions.failure(error)
        finally:
            self._writing_since = None
            for job in group:
                job.future.set_exception(lost)

    def _done(self, group: list[_Job]) -> list[_Done]:
        """What became of each job, all of them in one transaction that is still open."""
        keys = {key for job in group for key in job.keys}
        run = self._run if len(group) > 1 else self._run_alone
        for attempt in range(_ATTEMPTS):
            try:
                self._transactions.begin(keys)
                return [run(job) for job in group]
            except Exception as error:
                if attempt + 1 == _ATTEMPTS or not self._transactions.may_try_again(error):
                    raise
                self._transactions.roll_back()
        raise AssertionError("the last attempt returns or raises")

    def _run(self, job: _Job) -> _Done:
        transactions = self._transactions
        transactions.mark()
        try:
            value = job.run(transactions.connection)
        except Exception as error:
            # A full disk or an I/O error has rolled back the other jobs too.
            if not transactions.is_open() or transactions.may_try_again(error):
                raise
            transactions.undo_since_mark()
            return _Done(job.future, error=transactions.failure(error))
        transactions.keep_since_mark()
        return _Done(job.future, value=value)

    def _run_alone(self, job: _Job) -> _Done:
        """``_run`` without a mark, which takes a tenth of a small transaction: nothing else could be undone."""
        transactions = self._transactions
        try:
            return _Done(job.future, value=job.run(transactions.connection))
        except Exception as error:
            if not transactions.is_open() or transactions.may_try_again(error):
                raise
            transactions.roll_back()
            return _Done(job.future, error=transactions.failure(error))
