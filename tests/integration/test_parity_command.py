"""``headway features parity``: that it finds nothing where serving sees what training reads, and finds what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.cli import run
from features.home import HOME_VARIABLE, Home
from models.configuration import Configuration
from serving.bootstrap import feature_sets_of
from tests.replays import Replay, events_in, installed, serving_over

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
    """A home in which simulated customers were served, with late, doubled and disordered events. Copy it to write."""
    from training.simulate_commands import simulate

    root = tmp_path_factory.mktemp("lived")
    simulate(root / "simulation", customers=CUSTOMERS, seed=SEED)
    home = Home(root / "home")
    configuration = installed(home)
    events = events_in(root / "simulation" / "events.parquet", "simulated", configuration)
    contexts: tuple[dict[str, Any], ...] = (
        {},
        {"device": "mobile"},
        {"device": "desktop", "shelf": 3},
        {"device": None},
    )
    with serving_over(home, configuration) as (world, client):
        Replay(batch=40, decisions=DECISIONS, context=contexts).run(world, client, events, np.random.default_rng(SEED))
    return home


def _copy(home: Home, folder: Path) -> tuple[Home, Configuration]:
    copied = Home(folder / "home")
    shutil.copytree(home.root, copied.root)
    return copied, installed(copied)


def test_serving_sees_what_training_reads(lived: Home, parity: Parity) -> None:
    """Every feature of every decision is the same to the bit, whatever came in late, twice or by a clock gone back."""
    code, report, message = parity(lived)

    (features,) = feature_sets_of(installed(lived)).values()
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


def test_a_sample_is_the_same_each_time(lived: Home, parity: Parity) -> None:
    """And no larger than asked for."""
    code, report, _ = parity(lived, "--sample", "40")

    assert (code, report["decisions"]) == (0, 40)
    assert parity(lived, "--sample", "40")[1] == report


def test_a_state_that_was_damaged_is_found(lived: Home, parity: Parity, tmp_path: Path) -> None:
    """A slot that is not what the events say makes the features that read it differ, and the command fail."""
    home, configuration = _copy(lived, tmp_path)
    ((journey_id, features),) = feature_sets_of(configuration).items()
    with serving_over(home, configuration) as (world, client):
        world.now, world.chance = LATER, 1_000_000
        customer_id = next(world.log.read(page=1))[0].event.customer_id
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
