"""Moments of several processes over one PostgreSQL: a decision sees exactly what training will say that it saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import psycopg
import pytest

from features.database_location import DatabaseLocation
from features.event_store import SqlEventLog
from features.ingest import Ingestor
from features.moments import SharedMoments
from features.store import MemoryStore
from serving.observe import Observer
from tests.histories import FEATURE_SETS, MINUTE_US, TAXONOMY, event
from tests.postgres_servers import postgres_database
from tests.unit.features.test_ingest import Consents, document

PROCESSES = 3
ROUNDS = 25
_TOTAL = FEATURE_SETS["application"].names.index("customer_events_total")


@pytest.fixture(scope="module")
def database() -> Iterator[DatabaseLocation]:
    """An empty database with our tables."""
    with postgres_database() as location:
        yield location


def _clock() -> int:
    return time.time_ns() // 1000


class _Process:
    """What one worker process has of its own: connections, moments and ingestor."""

    def __init__(self, log: SqlEventLog) -> None:
        self.log = log
        self.moments = SharedMoments(log, _clock)
        store = MemoryStore()  # its own: what is rebuilt from the log is what counts here
        self.ingestor = Ingestor(log, store, FEATURE_SETS, TAXONOMY, Consents(), [].extend, self.moments)
        self.observer = Observer(
            feature_sets=FEATURE_SETS, store=store, log=log, rebuild=self.ingestor.rebuild, moments=self.moments
        )

    def sent(self, event_id: str) -> None:
        """One more event of the customer, of a minute ago."""
        one = event(event_id, customer_id="c1", at=_clock() - MINUTE_US)
        self.ingestor.ingest([document(one)], source="web", arrived_at=_clock())

    def asked(self) -> tuple[int, float]:
        """The moment of a question, and how many events its features saw."""
        at = self.moments.question(_clock())
        observed = self.observer.observe("c1", "application", at=at)
        return at, float(np.nan_to_num(observed.vector[_TOTAL]))


@pytest.fixture
def processes(database: DatabaseLocation) -> Iterator[list[_Process]]:
    """Some processes over the one database."""
    with ExitStack() as opened:
        logs = [opened.enter_context(closing(SqlEventLog(database))) for _ in range(PROCESSES)]
        yield [_Process(log) for log in logs]


def test_a_question_sees_all_that_arrived_before_it_and_nothing_else(processes: list[_Process]) -> None:
    """While every process takes events of one customer and asks, each answer is what the log says of its moment."""

    def work(number: int) -> list[tuple[int, float]]:
        process, answers = processes[number % PROCESSES], []
        for one in range(ROUNDS):
            if number < PROCESSES:
                process.sent(f"e-{number}-{one}")
            else:
                answers.append(process.asked())
        return answers

    with ThreadPoolExecutor(2 * PROCESSES) as pool:
        answers = [answer for found in pool.map(work, range(2 * PROCESSES)) for answer in found]

    arrivals = [logged.event.arrived_at for page in processes[0].log.read() for logged in page]
    assert arrivals == sorted(set(arrivals))
    assert len(arrivals) == PROCESSES * ROUNDS
    assert [seen for _, seen in answers] == [float(sum(arrived < at for arrived in arrivals)) for at, _ in answers]


def test_a_question_waits_for_what_another_process_is_appending(
    processes: list[_Process], database: DatabaseLocation
) -> None:
    """It is asked while an event is on its way into the log, and sees it; meanwhile nothing is answered."""
    a, b, _ = processes
    begun, let_go = threading.Event(), threading.Event()

    def slowly(newest: int) -> int:
        begun.set()
        assert let_go.wait(20)
        return max(_clock(), newest + 1)

    before = b.log.head()
    with ThreadPoolExecutor(2) as pool:
        appending = pool.submit(partial(a.log.append, [event("slow", customer_id="c9")], stamp=slowly))
        assert begun.wait(20)
        asking = pool.submit(b.moments.question, _clock())
        while not _is_waiting(database):
            time.sleep(0.01)  # another session is waited for: there is nothing else to wait on
        assert not asking.done()
        let_go.set()
        at = asking.result(20)
        appending.result(20)

    assert b.log.head() == before + 1
    assert b.log.arrived_at(b.log.head()) < at


def _is_waiting(database: DatabaseLocation) -> bool:
    """Whether any session waits for a lock of ours."""
    with psycopg.connect(database.url) as session:
        asked = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return asked.fetchone() != (0,)
