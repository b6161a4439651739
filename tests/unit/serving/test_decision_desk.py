"""The desk of decisions: deadlines from the arrival on, and commits that are waited for within them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from features.commit_figures import CommitFigures
from features.errors import InFlight, StoreUnavailable
from features.store import CustomerRow, MemoryStore
from models.decision import DEADLINE, DecisionRecord
from models.memory_records import MemoryRecordStore
from models.records import Committed, LostRace, Reservation
from serving.auth import Principal
from serving.problems import TooManyRequests
from serving.recording import RECORDS_SLOW
from serving.runtime import Runtime
from serving.settings import Settings
from tests.doors import NOW, World, event
from tests.faults.failing_store import FailingStore

CALLER = Principal("k", "web", frozenset({"caller"}))


class _HeldRecords(MemoryRecordStore):
    """A record store whose commits wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []
        self.delay_seconds = 0.0
        self.races: list[LostRace] = []
        self.holds = True

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        future: Future[Committed] = Future()
        if self.races:
            future.set_exception(self.races.pop())
            return future

        def let_go() -> None:
            future.set_result(self.commit(record, answer, reservation))

        if self.holds:
            self.held.append(let_go)
        else:
            let_go()
        return future

    def commits(self) -> CommitFigures:
        return CommitFigures(delay_seconds=self.delay_seconds)

    def let_go(self) -> None:
        while self.held:
            self.held.pop()()


def _run(world: World, work: Callable[[Runtime], Awaitable[None]]) -> None:
    runtime = world.runtime()

    async def running() -> None:
        await work(runtime)

    try:
        asyncio.run(running())
    finally:
        runtime.workers.close()


async def _ask(runtime: Runtime, *, ago: float = 0.0, **fields: Any) -> dict[str, Any]:
    """The answer to a request that came some seconds ago."""
    body = {"customer_id": "c-1"} | fields
    answer = await runtime.desk.answer(lambda: body, CALLER, idempotency_key=None, arrived=runtime.timer() - ago)
    decoded: dict[str, Any] = json.loads(answer)
    return decoded


def _stalled(runtime: Runtime) -> None:
    granted = {"kind": "consent_changed", "channel": None, "facts": {"consent": "email", "state": "granted"}}
    told = [event("e-1", hours_ago=72), event("e-2", hours_ago=72, **granted)]
    assert runtime.ingest.ingest(told, source="web", arrived_at=NOW).accepted == 2


def test_the_time_before_its_turn_counts_against_the_deadline(tmp_path: Path) -> None:
    """A request that waited too long is answered at once, without a choice, and recorded like any other."""
    world = World(tmp_path)

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        late = await _ask(runtime, ago=0.3, deadline_ms=200)
        in_time = await _ask(runtime, ago=0.1, deadline_ms=200)

        stored = world.records.decision(late["decision_id"])
        assert DEADLINE in late["degraded"]
        assert (late["selected"], late["ranked_actions"]) == ([], [])
        assert {"scoring.deadline"} == {one["rule_id"] for one in late["dropped"] if one["stage"] == "scoring"}
        assert stored.record.degraded == tuple(late["degraded"])
        assert late["latency_ms"] == pytest.approx(300)
        assert DEADLINE not in in_time["degraded"]
        assert in_time["ranked_actions"]

    _run(world, work)


def test_a_commit_that_does_not_come_back_is_unavailable_and_its_retry_gives_its_answer(tmp_path: Path) -> None:
    """Until its outcome is known the request stays in flight: nobody decides it a second time."""
    records = _HeldRecords()
    world = World(tmp_path, records=records)

    async def work(runtime: Runtime) -> None:
        with pytest.raises(StoreUnavailable, match="not on disk within its deadline"):
            await _ask(runtime, request_id="r-1", deadline_ms=1)
        with pytest.raises(InFlight):
            await _ask(runtime, request_id="r-1", deadline_ms=1)
        records.let_go()
        again = await _ask(runtime, request_id="r-1", deadline_ms=1)

        stored = records.decision_of_request("web", "r-1")
        assert stored is not None
        assert json.loads(stored.answer) == again
        assert len(next(iter(records.read()))) == 1

    _run(world, work)


def test_a_render_is_answered_within_its_deadline_and_the_next_one_shows_what_was_decided(tmp_path: Path) -> None:
    """Though the store takes longer: whoever renders shows the default meanwhile, and nothing is decided twice."""
    records = _HeldRecords()
    world = World(tmp_path, records=records)
    send = {"send_id": "camp-7/c-1", "activate": False, "channel": "email"}

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="not on disk within its deadline"):
            await _ask(runtime, request_id="r-1", deadline_ms=400, **send)
        took = time.monotonic() - begun
        records.let_go()
        records.holds = False
        shown = [await _ask(runtime, request_id=f"r-{number}", deadline_ms=400, **send) for number in (2, 3)]

        assert 0.25 < took < 1.0
        assert [one["request_id"] for one in shown] == ["r-1", "r-1"]
        assert shown[0] == shown[1]
        assert len(next(iter(records.read()))) == 1

    _run(world, work)


def test_a_lost_race_is_decided_again(tmp_path: Path) -> None:
    """As it is in a thread."""
    records = _HeldRecords()
    records.holds = False
    world = World(tmp_path, records=records)

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        first = await _ask(runtime, mode="dry_run")
        records.races.append(LostRace(first["ranked_actions"][0]["treatment_id"], "cap.one"))
        answer = await _ask(runtime)

        assert {"stage": "capacity", "rule_id": "cap.one"}.items() <= next(
            one for one in answer["dropped"] if one["rule_id"] == "cap.one"
        ).items()

    _run(world, work)


def test_a_slow_record_store_is_said_as_long_as_it_is_slow(tmp_path: Path) -> None:
    """It heals by itself."""
    records = _HeldRecords()
    records.holds = False
    world = World(tmp_path, records=records)

    async def work(runtime: Runtime) -> None:
        found = []
        for delay in (0.0, 3.0, 0.0):
            records.delay_seconds = delay
            found.append(RECORDS_SLOW in (await _ask(runtime))["degraded"])

        assert found == [False, True, False]
        assert 'headway_degraded_decisions_total{reason="record_store_slow"} 1.0' in _metrics(runtime)

    _run(world, work)


def test_what_must_be_rebuilt_is_rebuilt_in_a_thread(tmp_path: Path) -> None:
    """The event loop reads what is at hand and no more."""
    world = World(tmp_path)
    threads: list[int] = []

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        world.features.forget(["c-1"])
        rebuild = runtime.ingest.rebuild  # type: ignore[attr-defined]  # of the ingestor behind the port

        def noting(*args: Any, **kwargs: Any) -> Any:
            threads.append(threading.get_ident())
            return rebuild(*args, **kwargs)

        runtime.decider._observer._rebuild = noting  # type: ignore[attr-defined]  # the seam stands below the runtime
        answer = await _ask(runtime)

        assert "features_rebuilt" in answer["degraded"]
        assert threads
        assert threading.get_ident() not in threads

    _run(world, work)


def test_a_feature_store_that_is_down_is_said_counted_and_forgotten_once_it_is_back(tmp_path: Path) -> None:
    """The answers are the same all along: what the store would have told is rebuilt from the log."""
    is_down = [False]
    world = World(tmp_path, features=FailingStore(MemoryStore(), lambda _: "before" if is_down[0] else ""))

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        answers = []
        for down in (False, True, True, False):
            is_down[0] = down
            answers.append(await _ask(runtime, mode="dry_run"))

        said = ["feature_store_unavailable" in answer["degraded"] for answer in answers]
        assert said == [False, True, True, False]
        assert [answer["journey"] for answer in answers] == [answers[0]["journey"]] * 4
        assert [answer["features"] for answer in answers] == [answers[0]["features"]] * 4
        assert 'headway_degraded_decisions_total{reason="feature_store_unavailable"} 2.0' in _metrics(runtime)

    _run(world, work)


def test_stores_across_a_network_are_asked_in_a_thread(tmp_path: Path) -> None:
    """The event loop never waits for a network."""
    threads: list[int] = []

    class Far(MemoryStore):
        def read(self, customer_id: str, journey_id: str) -> CustomerRow:
            threads.append(threading.get_ident())
            return super().read(customer_id, journey_id)

    world = World(tmp_path, features=Far(), are_local=False)

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        threads.clear()  # of the test's own ingest
        first = await _ask(runtime, request_id="r-1")
        again = await _ask(runtime, request_id="r-1")

        assert again == first
        assert threads
        assert threading.get_ident() not in threads

    _run(world, work)


def test_an_earlier_moment_is_decided_in_a_thread(tmp_path: Path) -> None:
    """It is always rebuilt from the log."""
    world = World(tmp_path)

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        answer = await _ask(runtime, mode="dry_run", as_of="2026-02-28T12:00:00Z")

        assert answer["features"]["as_of"] == "2026-02-28T12:00:00.000000Z"

    _run(world, work)


def test_a_crowd_is_refused_before_it_piles_up(tmp_path: Path) -> None:
    """Commits that hang leave as many under way as are allowed, and everybody else is told to come back."""
    records = _HeldRecords()
    world = World(tmp_path, records=records, settings=Settings(threads=1))

    async def work(runtime: Runtime) -> None:
        allowed = 65
        crowd = [asyncio.create_task(_ask(runtime, request_id=f"r-{number}")) for number in range(allowed + 5)]
        while len(records.held) < allowed:
            await asyncio.sleep(0)
        refused = [task for task in crowd if task.done()]
        assert len(refused) == 5
        for task in refused:
            with pytest.raises(TooManyRequests):
                await task
        with pytest.raises(TooManyRequests):
            runtime.desk.pace.admit()
        assert 'headway_under_way{kind="decisions"} 65.0' in _metrics(runtime)
        assert 'headway_refused_total{kind="decisions"} 6.0' in _metrics(runtime)

        records.let_go()
        await asyncio.gather(*(task for task in crowd if not task.done()))
        runtime.desk.pace.admit()

    _run(world, work)


def test_stages_and_ages_are_counted(tmp_path: Path) -> None:
    """One decision with events, one of somebody unknown."""
    world = World(tmp_path)

    async def work(runtime: Runtime) -> None:
        _stalled(runtime)
        await _ask(runtime)
        await _ask(runtime, customer_id="nobody")

        lines = _metrics(runtime)
        for stage in ("wait", "decide", "commit"):
            assert f"headway_decision_{stage}_seconds_count 2.0" in lines
        assert "headway_features_age_seconds_count 1.0" in lines
        assert 'headway_bundle_info{bundle="none",journey="credit_card_application"} 1.0' in lines

    _run(world, work)


def _metrics(runtime: Runtime) -> list[str]:
    return runtime.metrics.exposition().decode().splitlines()
