"""Whether a training is worth its time: the reasons of ``headway train --if-needed``."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from features.event_store import SqlEventLog
from features.home import HOME_VARIABLE, Home
from models.configuration import Configuration, install_texts, load_configuration
from models.record_store import SqlRecordStore
from models.registry import LocalRegistry, model_name
from tests.histories import event
from training.params import Params, load_params
from training.schedule import Reason, reason_to_train
from training.snapshot import read_snapshot

JOURNEY = "credit_card_application"
DAY_US = 86_400_000_000


@pytest.fixture
def home(trained_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of the trained home without what is large and not asked for."""
    copy = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, copy.root, ignore=shutil.ignore_patterns("mlflow", "offline", "frames", "cache"))
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return copy


def with_retrain(**changes: Any) -> Params:
    """The parameters with other thresholds."""
    params = load_params()
    return params.model_copy(update={"retrain": params.retrain.model_copy(update=changes)})


def asked(home: Home, params: Params | None = None, *, days: float = 1.0) -> Reason:
    """The reason, some days after the snapshot."""
    snapshot = read_snapshot(home)
    at = 0 if snapshot is None else snapshot.watermark.frozen_at + round(days * DAY_US)
    return reason_to_train(home, load_configuration(home, {}), params or load_params(), at=at)


def add_events(home: Home, n: int) -> None:
    """Append so many events."""
    kind = configuration_of(home).journeys.by_id[JOURNEY].entry[0]
    with closing(SqlEventLog(home.events_db)) as log:
        log.append([event(f"new-{number}", customer_id=f"new-{number}", kind=kind) for number in range(n)])


def configuration_of(home: Home) -> Configuration:
    """What holds in a home."""
    return load_configuration(home, {})


def add_decisions(home: Home, n: int, mode: str = "live") -> None:
    """Append so many decisions, later than all there are."""
    with closing(SqlRecordStore(home.records_db)) as store:
        newest = next(store.read_back(page=1))[0]
        store.append_imported(
            [
                msgspec.structs.replace(
                    newest, decision_id=f"{newest.decision_id}{number:04}", request_id=f"new-{number}", mode=mode
                )
                for number in range(n)
            ]
        )


def report_drift(home: Home, verdict: str, *, older_by_us: int = 0) -> None:
    """A drift report, as the command writes it, as old as the snapshot or older."""
    file = home.reports / "drift" / f"{JOURNEY}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"journey_id": JOURNEY, "verdict": verdict}))
    written = home.snapshot_file.stat().st_mtime_ns - older_by_us * 1_000
    os.utime(file, ns=(written, written))


def test_nothing_new_needs_nothing(home: Home) -> None:
    """However old the snapshot is."""
    found = asked(home, days=400)
    assert (found.is_needed, found.code, found.new_events, found.new_decisions) == (False, "nothing_new", 0, 0)


def test_a_little_that_is_new_is_not_enough(home: Home) -> None:
    """The text says how much is missing."""
    add_events(home, 1)
    add_decisions(home, 2)
    found = asked(home)
    assert (found.is_needed, found.code, found.new_events, found.new_decisions) == (False, "few_new", 1, 2)
    assert "1 new events" in found.text
    assert "2 new decisions (500 are)" in found.text


def test_enough_new_decisions_are_a_reason(home: Home) -> None:
    """Exactly as many as are asked for."""
    add_decisions(home, 3)
    assert asked(home, with_retrain(smallest_new_decisions=4)).code == "few_new"
    assert asked(home, with_retrain(smallest_new_decisions=3)).code == "new_decisions"


def test_decisions_that_nothing_is_learned_from_do_not_count(home: Home) -> None:
    """Shadow decisions reached nobody."""
    add_decisions(home, 3, mode="shadow")
    assert asked(home, with_retrain(smallest_new_decisions=1)).code == "nothing_new"


def test_a_share_of_new_events_is_a_reason(home: Home) -> None:
    """Of the events that were trained on."""
    snapshot = read_snapshot(home)
    assert snapshot is not None
    add_events(home, 10)
    share = 10 / snapshot.counts["events"]
    assert asked(home, with_retrain(smallest_new_share=share * 1.01)).code == "few_new"
    assert asked(home, with_retrain(smallest_new_share=share * 0.99)).code == "new_events"


def test_an_old_snapshot_needs_one_new_row(home: Home) -> None:
    """After so many days."""
    add_events(home, 1)
    assert asked(home, days=29.9).code == "few_new"
    found = asked(home, days=30)
    assert (found.code, found.age_days) == ("age", 30.0)


def test_drift_is_a_reason_once(home: Home) -> None:
    """Where the report is newer than the snapshot, and there is something new to learn from."""
    report_drift(home, "retrain")
    assert asked(home).code == "nothing_new"

    add_events(home, 1)
    assert asked(home).code == "drift"

    report_drift(home, "retrain", older_by_us=1)
    assert asked(home).code == "few_new"


@pytest.mark.parametrize("verdict", ["no drift", "drift", "too few"])
def test_other_verdicts_are_no_reason(home: Home, verdict: str) -> None:
    """Only the one that asks for a training."""
    add_events(home, 1)
    report_drift(home, verdict)
    assert asked(home).code == "few_new"


def test_a_damaged_drift_report_is_no_reason(home: Home) -> None:
    """Nor an error."""
    add_events(home, 1)
    report_drift(home, "retrain")
    (home.reports / "drift" / f"{JOURNEY}.json").write_text("[")
    assert asked(home).code == "few_new"


def test_other_parameters_are_a_reason(home: Home) -> None:
    """A bundle is a function of them; of thresholds for training and promoting it is none."""
    params = load_params()
    assert asked(home, params.model_copy(update={"seed": params.seed + 1})).code == "parameters_changed"
    assert asked(home, with_retrain(smallest_new_decisions=7)).code == "nothing_new"


def test_another_configuration_is_a_reason(home: Home) -> None:
    """The text names the part."""
    texts = {f"{part}.yaml": text for part, text in configuration_of(home).texts.items()}
    policy = yaml.safe_load(texts["policy.yaml"])
    policy["experiment"]["random_eligible"] = 0.123
    install_texts(home, {**texts, "policy.yaml": yaml.safe_dump(policy)})
    found = asked(home)
    assert (found.code, found.text.partition(" ")[0]) == ("configuration_changed", "policy")


def test_the_first_training_is_always_needed(home: Home) -> None:
    """Without a snapshot, its files, or a champion."""
    home.champion_file.rename(home.champion_file.with_name("gone"))
    assert asked(home).code == "first_training"
    (home.snapshot / "events.parquet").unlink()
    assert asked(home).code == "first_training"
    home.snapshot_file.unlink()
    assert asked(home).code == "first_training"


def test_a_damaged_bundle_is_a_reason(home: Home) -> None:
    """It cannot tell what it was trained on."""
    name = model_name(JOURNEY)
    (LocalRegistry(home.bundles).path(name, 1) / "forest.npz").write_bytes(b"")
    found = asked(home)
    assert (found.is_needed, found.code) == (True, "bundle_damaged")


def test_a_bundle_whose_run_could_not_be_recorded_is_a_reason(home: Home) -> None:
    """It was registered, and never got an alias."""
    registry, name = LocalRegistry(home.bundles), model_name(JOURNEY)
    registry.register(registry.path(name, 1), name, {})
    assert asked(home).code == "untracked"
