"""``headway features parity``: that it finds nothing where serving sees what training reads, and finds what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace as replaced

from features.cli import run
from features.event_tables import EventTable
from features.events import dump_timestamp
from features.history import reads_at
from features.home import HOME_VARIABLE, Home
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from models.configuration import Configuration
from models.record_store import SqlRecordStore
from serving.bootstrap import feature_sets_of
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from tests.decision_records import record
from tests.replays import HOUR_US, Replay, events_in, installed, serving_over, with_anonymous_past

COMMANDS = [EntryPoint("features", "models.feature_commands:features", "headway.commands")]
CUSTOMERS, DECISIONS, SEED = 40, 120, 7
LATER = 3_000_000_000_000_000
Parity = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Parity:
    """Runs the command over a home: exit code, report and message."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)

    def compared(home: Home, *arguments: str) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setenv(HOME_VARIABLE, str(home.root))
        capsys.readouterr()
        stderr = StringIO()
        code = run(["features", "parity", "--json", *arguments], {}, commands=COMMANDS, stderr=stderr)
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}, stderr.getvalue()

    return compared


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which simulated customers were served, with late, doubled and disordered events. Copy it to write.

    Half of them were anonymous first.
    """
    from training.simulate_commands import simulate

    root = tmp_path_factory.mktemp("lived")
    simulate(root / "simulation", customers=CUSTOMERS, seed=SEED)
    home = Home(root / "home")
    configuration = installed(home)
    rng = np.random.default_rng(SEED)
    known = events_in(root / "simulation" / "events.parquet", "simulated", configuration)
    events = with_anonymous_past(known, rng)
    contexts: tuple[dict[str, Any], ...] = (
        {},
        {"device": "mobile"},
        {"device": "desktop", "shelf": 3},
        {"device": None},
    )
    with serving_over(home, configuration) as (world, client):
        Replay(batch=40, decisions=DECISIONS, context=contexts).run(world, client, events, rng)
    return home


def _copy(home: Home, folder: Path) -> tuple[Home, Configuration]:
    copied = Home(folder / "home")
    shutil.copytree(home.root, copied.root)
    return copied, installed(copied)


def test_serving_sees_what_training_reads(lived: Home, parity: Parity) -> None:
    """Every feature of every decision is the same to the bit, whatever came in late, twice or by a clock gone back."""
    code, report, message = parity(lived)

    (features,) = feature_sets_of(installed(lived)).values()
    with closing(SqlRecordStore(lived.records_db, readonly=True)) as records:
        linked = sum(bool(record.linked_ids) for page in records.read() for record in page)
    assert linked > DECISIONS / 10, "too few decisions on people of several ids"
    assert (code, message) == (0, "")
    assert report["decisions"] == DECISIONS
    assert report["features"] == len(features.names)
    assert {name: report[name] for name in ("mismatch", "missing", "extra", "behind")} == {
        "mismatch": 0,
        "missing": 0,
        "extra": 0,
        "behind": 0,
    }
    assert (report["by_feature"], report["examples"], report["skipped"]) == ({}, [], {})


def test_threads_see_what_training_reads(parity: Parity, tmp_path: Path) -> None:
    """Events of a customer that arrive while it is decided on are seen exactly if they arrived before."""
    home = Home(tmp_path / "home")

    def work(runtime: Runtime, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for i in range(80):
            customer_id = f"c-{int(rng.integers(2))}"
            now = LATER + int(rng.integers(3))  # one clock, three microseconds: ties and steps back all the time
            if rng.random() < 0.5:
                said: dict[str, Any] = {"event_id": f"{seed}-{i}", "customer_id": customer_id}
                said |= {"kind": "app_opened", "channel": "app"}
                said["occurred_at"] = dump_timestamp(now - int(rng.integers(1, HOUR_US)))
                taken = runtime.ingest.ingest([said], source="web", arrived_at=now)
                assert taken.accepted == 1, taken
            else:
                asked = DecisionRequest(request_id=f"{seed}-{i}", customer_id=customer_id, mode="shadow")
                runtime.decider.decide(asked, source="web", now=now)

    with serving_over(home, installed(home)) as (world, _), ThreadPoolExecutor(4) as threads:
        runtime = world.runtime()
        list(threads.map(work, [runtime] * 4, range(4)))
        runtime.workers.close()

    code, report, _ = parity(home)

    assert report["decisions"] > 100
    assert (code, report["by_feature"], report["behind"]) == (0, {}, 0)


def test_a_restart_under_an_earlier_clock_changes_nothing(parity: Parity, tmp_path: Path) -> None:
    """What arrives after it cannot look as if an earlier decision had overlooked it, or a later one missed it."""
    home = Home(tmp_path / "home")
    opened = {"kind": "app_opened", "channel": "app", "customer_id": "c-1"}
    configuration = installed(home)
    for n, now in enumerate((LATER, LATER - HOUR_US, LATER - 2 * HOUR_US)):
        with serving_over(home, configuration) as (world, client):
            world.now, world.chance = now, 1_000 * n
            said = {**opened, "event_id": f"e-{n}", "occurred_at": dump_timestamp(now - HOUR_US)}
            client.done("/v1/decisions", {"customer_id": "c-1"})
            client.done("/v1/events", {"events": [said]})
            client.done("/v1/decisions", {"customer_id": "c-1"})

    code, report, _ = parity(home)

    assert (code, report["decisions"], report["by_feature"], report["behind"]) == (0, 6, {}, 0)


def test_a_sample_is_the_same_each_time(lived: Home, parity: Parity) -> None:
    """And no larger than asked for."""
    code, report, _ = parity(lived, "--sample", "40")

    assert (code, report["decisions"]) == (0, 40)
    assert parity(lived, "--sample", "40")[1] == report


def test_a_period_without_decisions_proves_nothing(lived: Home, parity: Parity) -> None:
    """That nothing was compared is said, and is not success."""
    code, report, message = parity(lived, "--since", "2040-01-01T00:00:00Z")

    assert (code, report["decisions"], report["features"]) == (2, 0, 0)
    assert message == (
        "Error: no decision could be compared, expected one at least: ask for a decision, or for another period\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "2026-03-01"], "--since: got 2026-03-01, expected an ISO 8601 timestamp with an offset"),
        (["--journey", "mortgage"], "--journey: got mortgage, expected one of credit_card_application"),
        (["--sample", "0"], "Invalid value for '--sample'"),
    ],
)
def test_a_bad_option_is_named(lived: Home, parity: Parity, arguments: list[str], message: str) -> None:
    """With what was expected, and exit code 2."""
    code, _, said = parity(lived, *arguments)

    assert code == 2
    assert message in said


def test_what_cannot_be_compared_is_counted(lived: Home, parity: Parity, tmp_path: Path) -> None:
    """Decisions of other systems have no vector, and those of other features another one; neither is passed over."""
    home, configuration = _copy(lived, tmp_path)
    journey_id = configuration.journeys.journeys[0].id
    with closing(SqlRecordStore(home.records_db)) as records:
        records.append_imported(
            [
                record(1, mode="imported", journey_id=journey_id),
                record(2, vector=(), journey_id=journey_id),
                record(3, versions={"features": "older"}, journey_id=journey_id),
                record(4, journey_id="gone"),
            ]
        )

    code, report, _ = parity(home)

    assert (code, report["decisions"]) == (0, DECISIONS)
    assert report["skipped"] == {
        "journey_not_declared": 1,
        "mode_imported": 1,
        "no_vector": 1,
        "other_features_version": 1,
    }


def test_a_decision_on_nobody_known_is_compared(parity: Parity, tmp_path: Path) -> None:
    """Also in a home without a single event, where everything is unknown both ways."""
    home = Home(tmp_path / "home")
    with serving_over(home, installed(home)) as (_, client):
        client.done("/v1/decisions", {"customer_id": "nobody", "context": {"device": "mobile"}})

    code, report, _ = parity(home)

    assert (code, report["decisions"], report["mismatch"], report["missing"]) == (0, 1, 0, 0)


def test_a_home_without_decisions_is_refused(parity: Parity, tmp_path: Path) -> None:
    """Saying what makes some."""
    code, report, message = parity(Home(tmp_path / "home"))

    assert (code, report) == (2, {})
    assert "import or serve first" in message


def test_a_state_behind_the_log_is_found(lived: Home, parity: Parity, tmp_path: Path) -> None:
    """A decision on a state that lacked what had arrived is told apart, and never excused."""
    home, _ = _copy(lived, tmp_path)
    with closing(SqlRecordStore(home.records_db)) as records:
        seen = next(one for page in records.read() for one in page if one.log_position)
        records.append_imported(
            [replaced(seen, decision_id="d-0", request_id="again", log_position=seen.log_position - 1)]
        )

    code, report, _ = parity(home)

    assert (code, report["behind"], report["by_feature"]) == (1, 1, {})


def test_a_state_that_was_damaged_is_found(lived: Home, parity: Parity, tmp_path: Path) -> None:
    """A slot that is not what the events say makes the features that read it differ, and the command fail."""
    home, configuration = _copy(lived, tmp_path)
    ((journey_id, features),) = feature_sets_of(configuration).items()
    with serving_over(home, configuration) as (world, client):
        world.now, world.chance = LATER, 1_000_000
        customer_id = world.log.person(next(world.log.read(page=1))[0].event.customer_id, at=LATER).customer_id
        state = world.features.read(customer_id, journey_id).state
        assert state is not None
        vector = np.array(state.vector)
        slots = next(one.slots for one in features.fields if one.name == "flow")
        features.split(vector)["flow"][slots.index("digital_to_offline")] += 1.0
        world.features.write([replace(state, vector=vector)], [])
        decision_id = client.done("/v1/decisions", {"customer_id": customer_id})["decision_id"]

    code, report, _ = parity(home)

    assert code == 1
    assert (report["mismatch"], report["missing"], report["extra"]) == (1, 0, 0)
    assert list(report["by_feature"]) == ["digital_to_offline_switches"]
    assert report["by_feature"]["digital_to_offline_switches"]["mismatch_rate"] == pytest.approx(1 / (DECISIONS + 1))
    (example,) = report["examples"]
    assert (example["decision_id"], example["served"] - example["recomputed"]) == (decision_id, 1.0)


LEAKED = "customer_events_total"


def test_a_leak_from_the_future_in_serving_is_found(lived: Home, parity: Parity, tmp_path: Path) -> None:
    """A decision that was served a feature as it came to be later is named, with that feature alone."""
    home, configuration = _copy(lived, tmp_path)
    ((_, features),) = feature_sets_of(configuration).items()
    place = features.names.index(LEAKED)
    with closing(SqlRecordStore(home.records_db)) as records:
        known = [one for page in records.read() for one in page if one.vector]
        early, late = next(
            (one, other)
            for one in known
            for other in known
            if one.customer_id == other.customer_id
            and one.as_of < other.as_of
            and one.vector[place] < other.vector[place]
        )
        leaking = (*early.vector[:place], late.vector[place], *early.vector[place + 1 :])
        records.append_imported([replaced(early, decision_id="d-leak", request_id="leak", vector=leaking)])

    code, report, _ = parity(home)

    assert code == 1
    assert list(report["by_feature"]) == [LEAKED]
    (example,) = report["examples"]
    assert (example["decision_id"], example["served"], example["recomputed"]) == (
        "d-leak",
        late.vector[place],
        early.vector[place],
    )
    assert (report["mismatch"], report["missing"], report["extra"], report["behind"]) == (1, 0, 0, 0)


def test_a_leak_from_the_future_in_training_is_found(
    lived: Home, parity: Parity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training that reads a feature one event too far differs on every decision after which that event came."""
    ((_, features),) = feature_sets_of(installed(lived)).items()
    place = features.names.index(LEAKED)
    leaked = []

    def reading_too_far(table: EventTable, feature_set: FeatureSet, customer_ids: pa.Array, at: Integers) -> Floats:
        honest = reads_at(table, feature_set, customer_ids, at)
        too_far = reads_at(table, feature_set, customer_ids, _after_next_event(table, customer_ids, at))
        leaked.append(int((honest[:, place] != too_far[:, place]).sum()))
        honest[:, place] = too_far[:, place]
        return honest

    monkeypatch.setattr("models.served_features.reads_at", reading_too_far)

    code, report, _ = parity(lived)

    assert sum(leaked) > DECISIONS / 10, "too few decisions with an own event of the customer next"
    assert code == 1
    assert list(report["by_feature"]) == [LEAKED]
    assert (report["mismatch"], report["missing"], report["extra"]) == (sum(leaked), 0, 0)
    assert report["by_feature"][LEAKED]["mismatch_rate"] == pytest.approx(sum(leaked) / DECISIONS)


def _after_next_event(table: EventTable, customer_ids: pa.Array, at: Integers) -> Integers:
    """Just after the next event of each customer became known; the moment itself where there is none."""
    found = np.array(at, dtype=np.int64)
    place = {customer_id: i for i, customer_id in enumerate(table.customers.to_pylist())}
    for row, customer_id in enumerate(customer_ids.to_pylist()):
        if (i := place.get(customer_id)) is not None:
            known = table.known_at[table.starts[i] : table.starts[i + 1]]
            later = known[known >= at[row]]
            found[row] = at[row] if not len(later) else int(later.min()) + 1
    return found
