"""Drift reports over whole homes: simulated history, recorded decisions, planted changes, and nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import Refused, UnknownObject
from features.home import HOME_VARIABLE, Home
from models.configuration import Configuration, load_configuration
from tests.drift_homes import grown_home
from tests.drifting import decided, frame
from training.drift import (
    DECISIONS,
    MOMENTS,
    NOTHING,
    SINCE,
    decision_drift,
    drift_folder,
    drift_step,
    latest_verdict,
    one_each,
)
from training.drift_features import feature_drift, feature_reasons
from training.drift_sources import FrozenSource, LiveSource
from training.drift_verdict import verdict_of
from training.params import Params, load_params
from training.snapshot import read_snapshot

JOURNEY = "credit_card_application"
AT = 1_790_000_000_000_000
QUIET = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")
pytestmark = QUIET


@pytest.fixture(scope="module")
def params() -> Params:
    """The shipped parameters, with few columns, and halves where nothing came since the training."""
    shipped = load_params()
    changes = {"columns": 5, "recent_share": 0.5}
    return shipped.model_copy(update={"drift": shipped.drift.model_copy(update=changes)})


@pytest.fixture
def home(trained_home: Home, tmp_path: Path) -> Home:
    """A copy of the trained home, to write reports into."""
    copy = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, copy.root)
    return copy


def _report(home: Home, configuration: Configuration, params: Params) -> dict[str, Any]:
    with LiveSource(home, read_snapshot(home)) as source:
        return drift_step(home, configuration, params, source, at=AT)[JOURNEY]


def _codes(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(reason["code"], reason["subject"]) for reason in document["reasons"]}


Grown = Callable[..., tuple[Home, Configuration]]


@pytest.fixture
def grown(tmp_path: Path) -> Grown:
    """A home of 3,000 recorded decisions before the training and as many since."""
    return lambda **changes: grown_home(tmp_path / "grown", before=3_000, lately=3_000, **changes)


def test_a_simulated_history_has_not_drifted(home: Home, params: Params) -> None:
    """Nothing came since the training: the latest decisions are compared, and the verdict is to go on."""
    found = _report(home, load_configuration(home, {}), params)
    assert (found["verdict"], found["comparison"]) == ("nothing", DECISIONS)
    assert found["features"]["columns"].keys() > {"score:stall_propensity", "score:control_response:progress_7d"}
    kept = json.loads((drift_folder(home) / f"{JOURNEY}.json").read_text())
    assert kept == found
    assert latest_verdict(home, JOURNEY) == "nothing"


def test_the_snapshot_gives_the_same_answer_twice(home: Home, params: Params) -> None:
    """To the byte, page and document: the pipeline's stage reads nothing that moves."""
    snapshot = read_snapshot(home)
    assert snapshot is not None
    answers = []
    for _ in range(2):
        drift_step(home, load_configuration(home, {}), params, FrozenSource(home, snapshot), at=AT)
        answers.append([(drift_folder(home) / f"{JOURNEY}.{ext}").read_bytes() for ext in ("json", "html")])
    assert answers[0] == answers[1]


def test_live_and_frozen_tell_the_same(home: Home, params: Params) -> None:
    """Of a home to which nothing was added since its snapshot."""
    snapshot = read_snapshot(home)
    assert snapshot is not None
    configuration = load_configuration(home, {})
    frozen = drift_step(home, configuration, params, FrozenSource(home, snapshot), at=AT)[JOURNEY]
    assert _report(home, configuration, params) == frozen


def test_too_few_rows_are_not_judged(home: Home, params: Params) -> None:
    """The report says so instead of calling noise a drift."""
    demanding = params.model_copy(update={"drift": params.drift.model_copy(update={"smallest": 10**6})})
    found = _report(home, load_configuration(home, {}), demanding)
    assert (found["verdict"], found["features"], found["rates"]) == ("too few", None, None)
    assert found["comparison"] == MOMENTS
    assert "too little" in (drift_folder(home) / f"{JOURNEY}.html").read_text()


def test_without_decisions_moments_are_compared(home: Home, params: Params) -> None:
    """What the features and the stall propensity say needs no decision."""
    home.records_db.unlink()
    lenient = params.model_copy(update={"drift": params.drift.model_copy(update={"smallest": 100})})
    found = _report(home, load_configuration(home, {}), lenient)
    assert (found["comparison"], found["rates"], found["effects"]) == (MOMENTS, None, [])
    assert [one["name"] for one in found["calibration"]] == ["stall"]
    assert found["features"]["columns"]


def test_without_frames_there_is_nothing_to_compare(home: Home, params: Params) -> None:
    """And no error."""
    home.records_db.unlink()
    shutil.rmtree(home.frames)
    found = _report(home, load_configuration(home, {}), params)
    assert (found["comparison"], found["verdict"]) == (NOTHING, "too few")


def test_decisions_since_the_training_that_are_alike_give_no_reason(grown: Grown, params: Params) -> None:
    """Recorded decisions, events and outcomes through the databases, in one population."""
    home, configuration = grown()
    found = _report(home, configuration, params)
    assert (found["verdict"], _codes(found), found["comparison"]) == ("nothing", set(), SINCE)
    assert (found["n_reference"], found["n_current"]) == (3_000, 3_000)
    assert {one["action_id"] for one in found["effects"]} == {"nudge_documents", "remind_next_step"}
    headline = found["headline"]
    assert headline["no_action_rate"] == pytest.approx(1 / 3, abs=0.05)
    assert headline["calibration_slope"] == pytest.approx(1, abs=0.4)
    assert headline["effect_drifted"] == 0


def test_effects_that_change_call_for_training(grown: Grown, params: Params) -> None:
    """An action that helped by 0.2 and now harms by 0.1, on decisions left to chance."""
    home, configuration = grown(effects=(-0.1, 0.05))
    found = _report(home, configuration, params)
    assert found["verdict"] == "retrain"
    assert ("effect.drifted", "nudge_documents") in _codes(found)
    assert found["headline"]["effect_drifted"] == 1
    assert latest_verdict(home, JOURNEY) == "retrain"
    effect = next(one for one in found["effects"] if one["action_id"] == "nudge_documents")
    assert effect["before"][1] < 0.2 < effect["before"][2]
    assert effect["lately"][1] < -0.1 < effect["lately"][2]


def test_features_that_move_are_found(grown: Grown, params: Params) -> None:
    """By two standard deviations, of everything that the models see."""
    home, configuration = grown(shift=2.0)
    found = _report(home, configuration, params)
    assert ("features.drifted", "") in _codes(found)
    assert found["headline"]["largest_psi"] > 0.2


def test_a_step_that_vanished_is_looked_into(grown: Grown, params: Params) -> None:
    """Customers progress by another step than before."""
    home, configuration = grown(kind="card_offer_accepted")
    codes = _codes(_report(home, configuration, params))
    assert {("process.vanished", "identity_verified"), ("process.new", "card_offer_accepted")} <= codes


def test_other_features_than_trained_on_call_for_training(grown: Grown, params: Params) -> None:
    """A bundle that reads other columns can say nothing of these."""
    home, configuration = grown()
    for name in ("taxonomy.yaml", "policy.yaml"):
        text = (home.config / name).read_text()
        (home.config / name).write_text(text.replace("tenure_years", "years_with_us"))
    found = _report(home, load_configuration(home, {}), params)
    assert found["verdict"] == "retrain"
    assert ("features.changed", JOURNEY) in _codes(found)
    assert configuration.versions["taxonomy"] != load_configuration(home, {}).versions["taxonomy"]


def test_nothing_trained_names_the_next_step(tmp_path: Path, params: Params) -> None:
    """There is nothing to compare with."""
    home = Home(tmp_path / "home").create()
    with pytest.raises(UnknownObject, match="run `headway train`"):
        _report(home, load_configuration(home, {}), params)


def test_the_command_keeps_a_history(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints is what it keeps; without a receiver nobody is told."""
    from training.commands import drift

    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    drift(as_json=True)
    printed = json.loads(capsys.readouterr().out)[JOURNEY]
    lines = (drift_folder(home) / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == [printed["verdict"]]
    assert printed["alert"]["status"] == "off"
    assert json.loads((drift_folder(home) / f"{JOURNEY}.json").read_text()) == printed


def test_a_receiver_that_is_down_does_not_lose_the_report(
    grown: Grown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends well; standard error and the history say that nobody was told, and not where."""
    from training import alerts
    from training.commands import drift

    home, _ = grown(effects=(-0.1, 0.05))
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    monkeypatch.setenv("HEADWAY_DRIFT_WEBHOOK_URL", "http://127.0.0.1:9/secret-path")
    monkeypatch.setenv("HEADWAY_DRIFT_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    monkeypatch.setattr(alerts.deliver, "__kwdefaults__", {**alerts.deliver.__kwdefaults__, "pauses": ()})
    drift()
    said = capsys.readouterr()
    assert "retrain" in said.out
    assert "was not delivered" in said.err
    assert "secret-path" not in said.out + said.err
    entry = json.loads((drift_folder(home) / "history.jsonl").read_text())
    assert (entry["verdict"], entry["alert"]["status"]) == ("retrain", "failed")


@pytest.mark.parametrize("text", ["{", "[]", '{"verdict": "maybe"}', "{}"])
def test_a_damaged_report_is_refused(tmp_path: Path, text: str) -> None:
    """Whoever trains by it must not guess."""
    home = Home(tmp_path)
    drift_folder(home).mkdir(parents=True)
    (drift_folder(home) / "card.json").write_text(text)
    with pytest.raises(Refused, match="run"):
        latest_verdict(home, "card")
    assert latest_verdict(home, "loan") is None


def test_a_customer_with_many_moments_counts_once() -> None:
    """Of those asked for, one each, the same ones every time, and no more customers than asked for."""
    customers = np.array(["a"] * 50 + ["b", "c", "d"])
    rows = np.flatnonzero(customers != "d")
    found = one_each(customers, rows, 9, seed=1)
    assert sorted(customers[found]) == ["a", "b", "c"]
    assert np.array_equal(found, one_each(customers, rows, 9, seed=1))
    assert len(one_each(customers, rows, 2, seed=1)) == 2


def _same_population(n: int, seed: int) -> str:
    params = load_params().drift
    before, lately = decided(n, 2 * seed), decided(n, 2 * seed + 1)
    reasons = [
        *decision_drift(before, lately, [True], params, seed=seed).reasons,
        *feature_reasons(feature_drift(frame(before), frame(lately), {}, params), params),
    ]
    return verdict_of(reasons, is_judged=True)


def test_ten_pairs_of_one_population_give_no_alarm() -> None:
    """Of 2,000 decisions each: features, scores, calibration, effects, and how decisions come out."""
    assert [_same_population(2_000, seed) for seed in range(1, 11)] == ["nothing"] * 10


@pytest.mark.slow
def test_ten_large_pairs_of_one_population_give_no_alarm() -> None:
    """Of 200,000: no test may alarm because there is more to see."""
    assert [_same_population(200_000, seed) for seed in range(1, 11)] == ["nothing"] * 10
