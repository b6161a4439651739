"""Load on the two stores of a database: facts that are told until they are answered, and an account of the answers."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import wraps
from multiprocessing.connection import Connection
from typing import Any, Literal

import psycopg

from features import event_rows, event_writes, postgres_store
from features.database_location import DatabaseLocation
from features.errors import StoreError, StoreUnavailable
from features.event_store import SqlEventLog
from features.sql_text import SqlConnection
from models.record_store import SqlRecordStore
from models.records import CapacityNeed, CapacityWindow, LostRace
from tests.decision_records import DECIDED_AT, cap, contact, record, reservation
from tests.histories import event

CALLS = CapacityWindow("calls", 7)
UNITS = 200
CONTACTS_A_PERSON = 2
_ONE = 1_000_000


@dataclass(slots=True)
class Account:
    """What was answered.

    Attributes:
        events: ids of the events that are in the log, by what its answers say.
        answers: the bytes of each request.
        errors: by the kind of the error, how often something was not answered.
        outage: the longest time without any answer, seconds.
    """

    events: set[str] = field(default_factory=set)
    answers: dict[str, bytes] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    outage: float = 0.0
    last_answer: float = field(default_factory=time.monotonic)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def answered(self) -> None:
        """Note that something was answered just now."""
        with self._guard:
            now = time.monotonic()
            self.outage = max(self.outage, now - self.last_answer)
            self.last_answer = now


def tell(
    log: SqlEventLog, records: SqlRecordStore, numbers: Iterator[int], account: Account, *, is_over: threading.Event
) -> None:
    """Append an event and commit a decision for each number, again and again until each is answered."""
    for number in numbers:
        if is_over.is_set():
            return
        _until_answered(lambda n=number: _append(log, n, account), account, is_over)  # type: ignore[misc]  # n is bound
        _until_answered(lambda n=number: _decide(records, n, account), account, is_over)  # type: ignore[misc]  # likewise


def _until_answered(work: Any, account: Account, is_over: threading.Event) -> None:
    while not is_over.is_set():
        try:
            work()
        except StoreError as error:
            account.errors[type(error).__name__] += 1
            if not isinstance(error, StoreUnavailable):
                raise
            is_over.wait(0.02)
            continue
        account.answered()
        return


def _append(log: SqlEventLog, number: int, account: Account) -> None:
    log.append([event(f"e{number}")])
    account.events.add(f"e{number}")


def _decide(records: SqlRecordStore, number: int, account: Account) -> None:
    """A decision for one of many people; each time it is asked it would have other bytes, were it not committed."""
    made = record(number, customer_id=f"c{number % 40}", decided_at=DECIDED_AT)
    needs = (CapacityNeed(0, CALLS, _ONE, UNITS * _ONE),)
    held = replace(reservation(contact(made), caps=(cap(CONTACTS_A_PERSON),)), needs=needs)
    told = b"%d at %d" % (number, time.monotonic_ns())
    try:
        answer = records.commit(made, told, held).answer
    except LostRace:
        answer = records.commit(made, told, None).answer
    kept = account.answers.setdefault(made.request_id, answer)
    assert kept == answer


def check(location: DatabaseLocation, account: Account) -> None:
    """Every answered fact is there, none twice, counters equal a count, and no cap is exceeded."""
    with closing(SqlEventLog(location, readonly=True)) as log:
        logged = [one for page in log.read() for one in page]
    assert account.events <= {one.event.event_id for one in logged}
    assert [one.position for one in logged] == list(range(1, len(logged) + 1))
    assert set(Counter(one.event.event_id for one in logged).values()) <= {1}
    with closing(SqlRecordStore(location, readonly=True)) as records:
        kept = {request_id: records.decision_of_request("crm", request_id) for request_id in account.answers}
        used = records.capacity_used([CALLS], now=DECIDED_AT).get("calls", 0.0)
    assert {one: kept[one].answer if kept[one] else None for one in kept} == account.answers  # type: ignore[union-attr]  # not None
    with psycopg.connect(location.url) as connection:
        contacts = connection.execute("SELECT customer_id FROM contacts").fetchall()
    assert used == len(contacts) <= UNITS
    assert max(Counter(contacts).values(), default=0) <= CONTACTS_A_PERSON


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Where a process kills itself: before or after the n-th call of a method of the transactions."""

    method: str
    when: Literal["before", "after"]
    count: int


def serve(url: str, point: KillPoint, first: int, tell_parent: Connection) -> None:
    """Be a process under load that dies at a point; each answer is told before the next thing is asked."""
    _arm(point)
    location = DatabaseLocation.of(url)
    log, records = SqlEventLog(location), SqlRecordStore(location)
    numbers = itertools.count(first)
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                number = next(numbers)
            account = Account()
            _append(log, number, account)
            with guard:
                tell_parent.send(("event", f"e{number}", b""))
            _decide(records, number, account)
            with guard:
                for request_id, answer in account.answers.items():
                    tell_parent.send(("answer", request_id, answer))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def hold(url: str, tell_parent: Connection) -> None:
    """Append an event without an end, and say so."""

    def job(connection: SqlConnection) -> None:
        lost = [event("lost"), event("lost too")]
        event_writes.append(connection, [event_rows.event_row(one) for one in lost], lost, frozenset())
        tell_parent.send("holding")
        threading.Event().wait(120)

    with closing(SqlEventLog(DatabaseLocation.of(url))) as log:
        log._store.run(job, keys=event_writes.APPENDING)


def _arm(point: KillPoint) -> None:
    owner = postgres_store.PostgresTransactions
    method = getattr(owner, point.method)
    numbers = itertools.count(1)

    @wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        is_due = next(numbers) == point.count
        if is_due and point.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if is_due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, point.method, called)
