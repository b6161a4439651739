"""The whole service under simulated faults, crashes and clocks keeps its promises; and a bug in it would be found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.event_store import SqlEventLog
from features.ingest import Ingestor
from features.sql_text import written
from features.store import StateRow
from models import capacity_tables, contact_rows, memory_records, record_writes
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.records import Stored
from serving import activations, decide, sends
from tests.postgres_servers import postgres_database
from tests.simulation.drawing import Plan, plan_of
from tests.simulation.installation import StoreKind
from tests.simulation.seeds import failing_seeds
from tests.simulation.shrinking import shrunk
from tests.simulation.simulation import Run, simulated, warmed_up

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warmed_up()


def _failing(seeds: range, *, kind: StoreKind = "sqlite") -> list[str]:
    """What is told of those among a few short runs that fail."""
    return failing_seeds(seeds, kind=kind, steps=60, tell=print)


def test_thirty_seeds_on_files_keep_every_promise() -> None:
    """Restarts and crashes among them; of a seed that fails, ``python -m tests.simulation`` tells all."""
    assert _failing(range(30)) == []


def test_twenty_seeds_in_memory_keep_every_promise() -> None:
    """The stores for tests and trials keep the same promises."""
    assert _failing(range(30, 50), kind="memory") == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_two_thousand_seeds_keep_every_promise(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Other ones than those that run with every change, and longer; what fails is told when it does."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    seeds = range(10_000 + 100 * part, 10_100 + 100 * part)
    kind: StoreKind = "memory" if part % 4 == 3 else "sqlite"

    failed = failing_seeds(seeds, kind=kind, steps=120, tell=tell)

    assert not failed, "\n".join(failed)


@pytest.mark.slow
def test_twenty_seeds_on_postgresql_keep_every_promise() -> None:
    """The database keeps what a killed process told; what it holds of its own goes with its connections."""
    with postgres_database() as database:
        failed = failing_seeds(range(50, 70), kind="postgres", steps=60, tell=print, database=database)

    assert not failed, "\n".join(failed)


def test_of_a_seed_that_fails_the_command_that_shows_it_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once and in the end, with the store and the steps that it failed with; and how far the run is."""
    _answers_rebuilt(monkeypatch)
    told: list[str] = []

    failed = failing_seeds(range(6), kind="memory", steps=40, tell=told.append, every=6)

    assert failed
    assert told[:-1] == failed
    assert told[-1].startswith("6 of 6 seeds from 0 in ")
    seed = int(failed[0].split()[1])
    again = f"python -m tests.simulation --seeds 1 --first-seed {seed} --steps 40 --store memory --trace"
    assert failed[0].endswith(f"\n  again: {again}")


def test_a_seed_gives_the_same_trace_again() -> None:
    """Byte for byte, also where the service is killed, its clock jumps and its disk is full."""
    seed = next(one for one in range(100) if _kinds(one) >= {"crash", "disk_full", "clock", "together", "fault"})

    first, again = (simulated(plan_of(seed, steps=80)) for _ in range(2))

    assert len(first.trace) == 81
    assert (first.digest, first.trace) == (again.digest, again.trace)


@pytest.mark.slow
def test_another_process_gives_the_same_trace() -> None:
    """Nothing in a run hangs on the order of a set or on the time of day."""
    code = "from tests.simulation.test_simulation import digest_of; print(digest_of(7))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    }

    assert told == {f"{digest_of(7)}\n"}


def digest_of(seed: int) -> str:
    """The digest of a run of 120 steps."""
    return simulated(plan_of(seed, steps=120)).digest


def test_leaving_out_a_step_changes_nothing_of_what_others_draw() -> None:
    """So that what chance makes fail still fails in a shorter run."""
    asked = [
        {"do": "decide", "request": {"request_id": f"q-{number}", "customer_id": f"c-{number}", "mode": "dry_run"}}
        for number in range(3)
    ]
    whole = Plan(7, 0, tuple(asked))

    def drawn(plan: Plan) -> list[str]:
        return [line.partition(" -> ")[2] for line in simulated(plan).trace]

    assert drawn(replace(whole, steps=tuple(asked[1:]))) == drawn(whole)[1:]


def _kinds(seed: int) -> set[str]:
    return {step["do"] for step in plan_of(seed, steps=80).steps}


def _no_cap_check(patch: pytest.MonkeyPatch) -> None:
    """A commit does not look whether the caps still have room: two decisions at once take the same place."""
    for module in (record_writes, memory_records):
        patch.setattr(module, "check_caps", lambda *args, **named: None)


def _answers_rebuilt(patch: pytest.MonkeyPatch) -> None:
    """A request that is asked again gets an answer that is made anew."""
    for store in (SqlRecordStore, MemoryRecordStore):
        found: Callable[..., Stored | None] = store.decision_of_request

        def rebuilt(
            self: Any, source: str, request_id: str, found: Callable[..., Stored | None] = found
        ) -> Stored | None:
            stored = found(self, source, request_id)
            return stored and replace(stored, answer=stored.answer.replace(b'"latency_ms":0.', b'"latency_ms":1.'))

        patch.setattr(store, "decision_of_request", rebuilt)


def _duplicates_counted(patch: pytest.MonkeyPatch) -> None:
    """An event that is sent twice is told to be new twice."""
    append = SqlEventLog.append
    patch.setattr(
        SqlEventLog,
        "append",
        lambda self, events, **named: [replace(one, duplicate=False) for one in append(self, events, **named)],
    )


def _late_folded_on_top(patch: pytest.MonkeyPatch) -> None:
    """An event that happened before what is folded already is folded as if it happened after it."""
    patch.setattr(StateRow, "order", property(lambda self: (-1, 0, "", "")))


def _leases_kept(patch: pytest.MonkeyPatch) -> None:
    """A send that is decided again keeps the lease that it had."""
    nothing = "UPDATE contacts SET status = status WHERE customer_id = :customer AND send_id = :send AND 1 = 0"
    patch.setattr(contact_rows, "_RELEASE_SEND", written(nothing))


def _sends_decided_again(patch: pytest.MonkeyPatch) -> None:
    """Each render of a send is a decision of its own, and may show something else."""
    patch.setattr(decide, "still_holds", lambda record, asked, records: False)


def _sends_of_others(patch: pytest.MonkeyPatch) -> None:
    """Whatever is asked about a send is answered by the decision that holds its place."""
    patch.setattr(sends, "same_question", lambda one, other: True)


def _objections_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What customers object to or withdraw is not put down where the next decision looks."""
    kept = SqlRecordStore.set_consents

    def forgotten(self: SqlRecordStore, customer_id: str, consents: dict[str, str], *, at: int) -> None:
        granted = {consent: state for consent, state in consents.items() if state == "granted"}
        kept(self, customer_id, granted, at=at)

    patch.setattr(SqlRecordStore, "set_consents", forgotten)


def _never_healed(patch: pytest.MonkeyPatch) -> None:
    """A customer whose features were lost is rebuilt for each decision, for ever."""
    patch.setattr(Ingestor, "refresh", lambda self, customer_ids: None)


def _newest_by_id(patch: pytest.MonkeyPatch) -> None:
    """A service that starts goes on after the decision of the highest id, which tells milliseconds only."""

    def newest(self: SqlRecordStore) -> int:
        return next((page[0].as_of for page in self.read_back(page=1)), 0)

    patch.setattr(SqlRecordStore, "newest_as_of", newest)


def _capacity_lost(patch: pytest.MonkeyPatch) -> None:
    """What a lease held of a capacity is given back when its time is over, though it was activated before."""
    nothing = "SELECT 0 WHERE :decision_id = :decision_id AND :action_id = :action_id"
    patch.setattr(capacity_tables, "_DROP_CONFIRMED", written(nothing))


def _consents_misread(patch: pytest.MonkeyPatch) -> None:
    """An activation takes every consent for withdrawn, so that it refuses whom nothing stands against."""
    patch.setattr(activations, "failing_consent", lambda channel, consent, consents: (f"consent.{channel}",))


def _found(patch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], seeds: int) -> tuple[int, Run]:
    """The first seed that fails with a bug that is planted."""
    plant(patch)
    for seed in range(seeds):
        run = simulated(plan_of(seed, steps=100))
        if run.failure is not None:
            return seed, run
    raise AssertionError(f"{plant.__name__} was not found by {seeds} seeds")


QUICK_BUGS = [
    (_answers_rebuilt, {"same_bytes"}),
    (_duplicates_counted, {"duplicates"}),
    (_late_folded_on_top, {"features", "parity"}),
    (_leases_kept, {"contacts", "cap"}),
    (_sends_decided_again, {"send_once"}),
    (_sends_of_others, {"send_question"}),
]
SLOW_BUGS = [
    (_no_cap_check, {"cap"}),
    (_objections_forgotten, {"consent", "objection", "activated_consent"}),
    (_never_healed, {"heals", "features_there"}),
    (_newest_by_id, {"parity"}),
    (_capacity_lost, {"capacity_counters"}),
    (_consents_misread, {"activation_refused"}),
]


@pytest.mark.parametrize(("plant", "promises"), QUICK_BUGS)
def test_a_planted_bug_is_found_and_seen_again(
    plant: Callable[[pytest.MonkeyPatch], None], promises: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within some ten seeds, by a promise that it breaks; the seed shows the same failure and trace again."""
    seed, run = _found(monkeypatch, plant, 20)

    assert run.failure is not None
    assert run.failure.promise in promises
    again = simulated(plan_of(seed, steps=100))
    assert (again.trace, again.failure) == (run.trace, run.failure)


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "promises"), [*QUICK_BUGS, *SLOW_BUGS])
def test_a_planted_bug_is_shown_in_few_steps(
    plant: Callable[[pytest.MonkeyPatch], None], promises: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortest run that is found breaks the same promise, with at most a dozen steps."""
    seed, run = _found(monkeypatch, plant, 200)

    plan, short = shrunk(plan_of(seed, steps=100), run, simulated)

    assert run.failure is not None
    assert short.failure is not None
    assert short.failure.promise == run.failure.promise
    assert short.failure.promise in promises
    assert len(plan.steps) <= 12
