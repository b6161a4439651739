"""From a home's history to a judged, registered bundle."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.cli import COMMAND_GROUP, run
from features.errors import Refused, StoreError
from features.home import HOME_VARIABLE, Home
from features.schema import feature_set
from features.subjects import SUBJECTS_FILE, subject_buckets
from models.bundle import load_bundle
from models.configuration import load_configuration
from models.promotion_log import Shares
from models.promotions import Promoter
from models.registry import LocalRegistry, read_champion
from models.rollouts import write_share
from models.scoring import Scorer
from training.dataset import read_frames
from training.params import load_params
from training.pipeline import CANDIDATE, Trained
from training.registering import register
from training.reports import evaluation_file, figures_folder, page_file
from training.snapshot import EVENTS_FILE, RECORDS_FILE, fingerprint, read_snapshot, restore, training_lock
from training.train import train

JOURNEY = "credit_card_application"
NAME = f"nba-{JOURNEY}"


@pytest.fixture
def home(trained_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of the trained home, for tests that write; the environment names it."""
    copy = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, copy.root)
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return copy


def headway(*arguments: str) -> int:
    """The exit code of a command line."""
    return run(arguments, os.environ, commands=entry_points(group=COMMAND_GROUP))


def test_the_first_bundle_is_the_champion(trained_home: Home) -> None:
    """It is registered, verified, and pointed at by the file that workers watch."""
    champion = read_champion(trained_home.champion_file, NAME)
    assert champion is not None
    assert champion.version == 1
    configuration = load_configuration(trained_home, {})
    names = feature_set(configuration.taxonomy, configuration.journeys.by_id[JOURNEY]).names
    bundle = load_bundle(champion.path, names, manifest_sha256=champion.manifest_sha256)
    assert bundle.lineage.journey_id == JOURNEY
    snapshot = read_snapshot(trained_home)
    assert snapshot is not None
    assert bundle.lineage.training["fingerprint"] == snapshot.fingerprint


def test_evaluate_prints_its_shape(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Three parts with the published keys, an interval beside each measure; standard output is JSON alone."""
    assert headway("evaluate", "--json") == 0
    judged = json.loads(capsys.readouterr().out)
    assert list(judged) == ["stall", "uplift", "policy"]
    assert set(judged["stall"]) == {"auc", "brier", "ece", "slope", "n", "by_stage"}
    assert set(judged["policy"]) == {"value", "interval", "best_single", "random", "ess"}
    measures = {"auuc", "uplift_at_10", "uplift_at_30", "mean_effect", "autoc", "calibration_slope"}
    arm = {"qini_sklift", "qini_interval", "qini_random", "n_treated", "n_control", "randomised"}
    arm |= measures | {f"{name}_interval" for name in measures}
    arms = [found for actions in judged["uplift"].values() for found in actions.values()]
    assert len(arms) >= 12
    assert all(set(found) == arm for found in arms)


def test_the_stall_model_separates_and_is_calibrated(trained_home: Home) -> None:
    """On later time than it was trained on; the simulated journeys can be told apart well above chance."""
    judged = json.loads(evaluation_file(trained_home).read_text())["journeys"][JOURNEY]["stall"]
    assert judged["auc"] > 0.65
    # A propensity that says nothing but the base rate has a Brier score of rate * (1 - rate), about .25 here.
    assert judged["brier"] < 0.24
    assert judged["ece"] < 0.1


def test_logged_probabilities_make_the_uplift_randomised(trained_home: Home) -> None:
    """The simulated decisions carry theirs, and a policy can be valued."""
    judged = json.loads(evaluation_file(trained_home).read_text())["journeys"][JOURNEY]
    compared = [arm for arms in judged["uplift"].values() for arm in arms.values() if arm["n_treated"]]
    assert all(arm["randomised"] for arm in compared)
    low, high = judged["policy"]["interval"]
    assert low <= judged["policy"]["value"] <= high


def test_evaluate_without_a_bundle_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and what to run."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "empty"))
    assert headway("evaluate", "--json") == 2
    assert "headway train" in capsys.readouterr().err


def test_train_without_events_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and what to run."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "empty"))
    assert headway("train") == 2
    assert "headway import" in capsys.readouterr().err


def test_train_if_needed_does_nothing_when_nothing_changed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """No new rows, parameters or configuration: no new version, and the reason is told to machines and people."""
    assert headway("train", "--if-needed", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trained"], told["registered"], told["reason"]["code"]) == (False, [], "nothing_new")
    assert LocalRegistry(home.bundles).versions(NAME) == (1,)

    assert headway("train", "--if-needed") == 0
    assert capsys.readouterr().out.startswith("Nothing to do: no new events")


def test_the_same_data_give_the_same_bundle(home: Home) -> None:
    """Trained again on the same rows it is the same to the byte, and no new version is registered."""
    assert headway("train") == 0
    assert LocalRegistry(home.bundles).versions(NAME) == (1,)


def test_the_snapshot_is_frozen(home: Home) -> None:
    """Its fingerprint is that of its rows; freezing again without new rows leaves the watermark where it is."""
    before = home.snapshot_file.read_bytes()
    snapshot = read_snapshot(home)
    assert snapshot is not None
    assert fingerprint(home.snapshot) == snapshot.fingerprint
    assert headway("snapshot") == 0
    assert home.snapshot_file.read_bytes() == before
    assert snapshot.counts["events"] == pq.read_metadata(home.snapshot / EVENTS_FILE).num_rows
    assert snapshot.counts["decisions"] == pq.read_metadata(home.snapshot / RECORDS_FILE).num_rows


def test_the_run_is_tracked_with_its_lineage(trained_home: Home) -> None:
    """MLflow's own database holds parameters, metrics, the data's fingerprint and the alias."""
    snapshot = read_snapshot(trained_home)
    assert snapshot is not None
    with sqlite3.connect(f"file:{trained_home.mlflow_db}?mode=ro", uri=True) as database:
        tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
        metrics = {key for (key,) in database.execute("SELECT key FROM metrics")}
        params = dict(database.execute("SELECT key, value FROM params").fetchall())
        alias = database.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
        digest = database.execute("SELECT digest FROM datasets").fetchall()
    database.close()
    assert tags["fingerprint"] == snapshot.fingerprint
    versions = {f"{part}_version" for part in ("features", "taxonomy", "journeys", "actions", "policy", "params")}
    assert versions | {"seed", "python", "package.lightgbm", "manifest_sha256", "local_version"} <= tags.keys()
    assert {"stall.auc", "policy.value", "count.events", "count.moments", "count.decisions_learned_from"} <= metrics
    assert params["seed"] == str(load_params().seed)
    assert alias == [(NAME, "champion", 1)]
    assert digest == [(snapshot.fingerprint,)]


def test_boosters_and_plots_are_logged(trained_home: Home) -> None:
    """The run's artefacts hold LightGBM's texts, the evaluation as data and as a page, and the points of the plots."""
    logged = {path.name for path in trained_home.mlflow_artifacts.rglob("*") if path.is_file()}
    assert {"0000.txt", "manifest.json", "evaluation.json", "evaluation.html", "reliability.json"} <= logged
    assert {f"{JOURNEY}-{name}.svg" for name in ("reliability", "policy", "drivers")} <= logged
    (points,) = trained_home.mlflow_artifacts.rglob("qini.json")
    assert all({"low", "high", "gain", "share"} <= point.keys() for point in json.loads(points.read_text()))


def test_what_a_run_was_made_with_is_logged(trained_home: Home) -> None:
    """The list of features with its version, the configuration's files, the parameters, and everything installed."""
    configuration = load_configuration(trained_home, {})
    features = feature_set(configuration.taxonomy, configuration.journeys.by_id[JOURNEY])
    (file,) = trained_home.mlflow_artifacts.rglob("features.json")
    listed = json.loads(file.read_text())
    assert listed["version"] == features.version
    assert [one["name"] for one in listed["features"]] == list(features.names)
    (policy,) = trained_home.mlflow_artifacts.rglob("configuration/policy.yaml")
    assert policy.read_text() == configuration.texts["policy"]
    (packages,) = trained_home.mlflow_artifacts.rglob("packages.txt")
    assert any(line.startswith("lightgbm==") for line in packages.read_text().splitlines())


def test_the_page_is_written_and_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """In sentences, with figures, and for each stage, action and outcome by its title."""
    text = page_file(home).read_text()
    assert text.count("<svg") == len(list(figures_folder(home).iterdir())) >= 3
    titles = ("Who will stall", "Whom an action helps", "Remind of the next step", "Application submitted")
    assert [title for title in titles if title not in text] == []

    assert headway("evaluate") == 0
    assert str(page_file(home)) in capsys.readouterr().out


def test_frames_come_back_as_they_were_written(trained_home: Home) -> None:
    """The champion, read from its file, scores the frames that the pipeline kept."""
    frames = read_frames(JOURNEY, trained_home.frames / JOURNEY)
    champion = read_champion(trained_home.champion_file, NAME)
    assert champion is not None
    scores = Scorer(load_bundle(champion.path, frames.feature_names)).stall_block(frames.moments.x)
    assert frames.decisions.arm_ids[0] == "no_action"
    assert np.isfinite(scores.stall_propensity).all()
    # The mean propensity over all moments that were seen for so long is near the share that really stalled.
    horizon = 7 * 86_400_000_000
    known = frames.moments.after.is_known(horizon)
    stalled = ~frames.moments.after.progressed(horizon)[known]
    assert abs(scores.stall_propensity[known].mean() - stalled.mean()) < 0.05


def test_what_was_derived_says_whose_rows_it_holds(trained_home: Home) -> None:
    """Snapshot, frames and bundle name the buckets of the customers in them, and no other bucket."""
    ids = pq.read_table(trained_home.snapshot / "events.parquet", columns=["customer_id"])["customer_id"]
    buckets = subject_buckets(ids.unique().to_pylist())
    bundle = json.loads((trained_home.bundle(NAME, 1) / "manifest.json").read_text())

    assert json.loads((trained_home.snapshot / SUBJECTS_FILE).read_text())["buckets"] == buckets
    written = json.loads((trained_home.frames / JOURNEY / SUBJECTS_FILE).read_text())["buckets"]
    assert int(written, 16) & ~int(buckets, 16) == 0
    assert int(written, 16) > 0
    assert bundle["training"]["subject_buckets"] == written


def test_a_later_bundle_is_the_challenger(home: Home) -> None:
    """Other parameters give another version; who serves changes by promotion, and MLflow's aliases with it."""
    params = load_params()
    other = params.model_copy(update={"seed": params.seed + 1})
    snapshot, registered = train(home, load_configuration(home, {}), other, at=1_800_000_000_000_000)
    assert [(one.name, one.version, one.alias) for one in registered] == [(NAME, 2, "challenger")]
    registry = LocalRegistry(home.bundles)
    assert (registry.alias(NAME, "champion"), registry.alias(NAME, "challenger")) == (1, 2)
    assert registry.tags(NAME, 2)["fingerprint"] == snapshot.fingerprint
    assert mlflow_aliases(home) == {("champion", 1), ("challenger", 2)}

    assert headway("promote", "--version", "2", "--force", "--reason", "a trial") == 0
    assert (registry.alias(NAME, "champion"), registry.alias(NAME, "challenger")) == (2, None)
    assert mlflow_aliases(home) == {("champion", 2)}

    assert headway("rollback") == 0
    assert mlflow_aliases(home) == {("champion", 1)}


def mlflow_aliases(home: Home) -> set[tuple[str, int]]:
    """Where MLflow's aliases are, from its own database."""
    with closing(sqlite3.connect(f"file:{home.mlflow_db}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()
    assert {name for name, _, _ in rows} == {NAME}
    return {(alias, version) for _, alias, version in rows}


class Tracking:
    """MLflow, up or down."""

    def __init__(self, *, up: bool) -> None:
        self.up = up
        self.jobs: list[dict[str, Any]] = []
        self.aliases: list[dict[str, Any]] = []

    def record(
        self, jobs: Sequence[Mapping[str, Any]], aliases: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """As ``TrackingProcess.record``."""
        if not self.up:
            raise StoreError("MLflow could not record the run")
        self.jobs += [dict(one) for one in jobs]
        self.aliases = [dict(one) for one in aliases]
        return [{"run_id": "r1", "mlflow_version": 1} for _ in jobs], []


def test_a_training_that_could_not_be_tracked_is_taken_up_by_the_next(home: Home) -> None:
    """Nothing serves untracked, and the same bundle again is not "nothing changed"."""
    candidate = home.bundle(CANDIDATE, NAME)
    shutil.rmtree(home.bundles / NAME)
    home.champion_file.unlink()
    evaluation = json.loads(evaluation_file(home).read_bytes())["journeys"][JOURNEY]
    lineage = load_bundle(candidate, None).lineage
    one = Trained(journey_id=JOURNEY, name=NAME, bundle=candidate, evaluation=evaluation, lineage=lineage)
    configuration, params, registry = load_configuration(home, {}), load_params(), LocalRegistry(home.bundles)

    with pytest.raises(StoreError):
        register(home, configuration, params, [one], Tracking(up=False), at=1)
    assert read_champion(home.champion_file, NAME) is None

    mended = Tracking(up=True)
    registered = register(home, configuration, params, [one], mended, at=2)
    assert [(found.version, found.alias) for found in registered] == [(1, "champion")]
    assert (registry.alias(NAME, "champion"), registry.versions(NAME)) == (1, (1,))
    assert [job["bundle"] for job in mended.jobs] == [str(registry.path(NAME, 1))]
    assert register(home, configuration, params, [one], mended, at=3) == []
    assert [(wanted["alias"], wanted["on"] and wanted["on"]["version"]) for wanted in mended.aliases] == [
        ("champion", 1),
        ("challenger", None),
    ]


def _judged(home: Home) -> Trained:
    """The candidate of the home's last training."""
    candidate = home.bundle(CANDIDATE, NAME)
    evaluation = json.loads(evaluation_file(home).read_bytes())["journeys"][JOURNEY]
    lineage = load_bundle(candidate, None).lineage
    return Trained(journey_id=JOURNEY, name=NAME, bundle=candidate, evaluation=evaluation, lineage=lineage)


def _begin_rollout(home: Home) -> None:
    """Let version 2 decide for a tenth of the customers."""
    Promoter(LocalRegistry(home.bundles)).give_share(
        NAME, 2, Shares(before=0.0, after=0.1), put=lambda share: write_share(home, {}, share), at=1, by="ann"
    )


def test_a_version_that_comes_during_a_rollout_waits(home: Home) -> None:
    """The challenger that people were given stays theirs; the new version is registered and tracked all the same."""
    registry, one = LocalRegistry(home.bundles), _judged(home)
    for _ in range(2):
        registry.register(one.bundle, NAME, {})
    _begin_rollout(home)
    tracking = Tracking(up=True)

    registered = register(home, load_configuration(home, {}), load_params(), [one], tracking, at=2)

    assert [(found.version, found.alias) for found in registered] == [(3, "waiting")]
    assert (registry.alias(NAME, "challenger"), [job["alias"] for job in tracking.jobs]) == (2, ["waiting"])
    assert not (home.bundles / "waiting.json").exists()
    ended = write_share(home, {}, 0.0)
    (after,) = register(home, ended, load_params(), [one], tracking, at=3)
    assert (after.version, after.alias, registry.alias(NAME, "challenger")) == (3, "challenger", 3)


class Meanwhile(Tracking):
    """MLflow, while somebody does something else."""

    def __init__(self, done: Callable[[], object]) -> None:
        super().__init__(up=True)
        self._done = done

    def record(
        self, jobs: Sequence[Mapping[str, Any]], aliases: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """As ``Tracking.record``."""
        if jobs:
            self._done()
        return super().record(jobs, aliases)


def test_a_rollout_that_began_during_a_training_keeps_its_share(home: Home) -> None:
    """Training takes minutes, and read the policy when it began: who was asked about decides, and the new one waits."""
    registry, one = LocalRegistry(home.bundles), _judged(home)
    for _ in range(2):
        registry.register(one.bundle, NAME, {})
    before = load_configuration(home, {})
    tracking = Meanwhile(lambda: _begin_rollout(home))

    (found,) = register(home, before, load_params(), [one], tracking, at=2)

    assert (found.version, found.alias, registry.alias(NAME, "challenger")) == (3, "waiting", 2)
    assert [(wanted["alias"], wanted["on"]["version"]) for wanted in tracking.aliases] == [
        ("champion", 1),
        ("challenger", 2),
    ]
    (again,) = register(home, before, load_params(), [one], Tracking(up=True), at=3)
    assert (again.version, again.alias, registry.alias(NAME, "challenger")) == (3, "waiting", 2)


def test_a_champion_that_was_made_during_a_training_stays(home: Home) -> None:
    """A first bundle becomes the champion only where there is none by then."""
    registry, one = LocalRegistry(home.bundles), _judged(home)
    registry.register(one.bundle, NAME, {})
    home.champion_file.unlink()

    promote = Meanwhile(lambda: registry.set_alias(NAME, "champion", 2, at=1))
    (found,) = register(home, load_configuration(home, {}), load_params(), [one], promote, at=2)

    assert (found.alias, registry.alias(NAME, "champion")) == ("challenger", 2)


def test_rows_that_changed_under_the_watermark_are_refused(home: Home) -> None:
    """The pipeline never trains on other rows than those that were named."""
    snapshot = read_snapshot(home)
    assert snapshot is not None
    with pytest.raises(Refused, match="no longer holds the rows"):
        restore(home, replace(snapshot, fingerprint="0" * 32))


def test_drift_without_a_bundle_names_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and what to run."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "empty"))
    assert headway("drift") == 2
    assert "headway train" in capsys.readouterr().err


def test_two_trainings_do_not_meet(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused and told whose turn it is."""
    with training_lock(home):
        assert headway("train") == 2
    assert "is being written by process" in capsys.readouterr().err
