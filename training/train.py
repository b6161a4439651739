"""Train: freeze, build frames, fit, judge, register. What ``headway train`` does, and the pipeline's stage."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.events import dump_timestamp
from features.home import Home
from features.schema import feature_set
from models.bundle import load_bundle
from models.configuration import Configuration
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name, read_champions
from models.rollouts import WAITING, alias_of_new
from training.dataset import Frames
from training.feature_check import FeatureCheck
from training.params import Params
from training.pipeline import Trained, fit_step, frames_step, params_version, say
from training.reports import evaluation_file, plots_folder
from training.snapshot import EVENTS_FILE, Snapshot, freeze, is_current, read_snapshot, training_lock
from training.tracking import TrackingProcess, job


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A bundle that is registered.

    Attributes:
        alias: ``champion`` for the first of its name, else ``challenger``; ``waiting`` while another is rolled out.
        run_id: of its MLflow run.
        evaluation: how it was judged.
    """

    name: str
    version: int
    alias: str
    run_id: str
    evaluation: Mapping[str, Any]


def train(home: Home, configuration: Configuration, params: Params, *, at: int) -> tuple[Snapshot, list[Registered]]:
    """Train on everything that the home holds now, and register what came of it.

    Args:
        home: of the installation.
        configuration: that holds for it.
        params: of the experiment.
        at: now, microseconds since the epoch.

    Raises:
        UnknownObject: the home holds no events.
        HomeLocked: another training runs in this home.
        NotEnoughData: no model can be fitted.
        StoreCorrupted: Feast reads other features than serving will read.
    """
    home.create()
    with training_lock(home):
        say("freezing the snapshot")
        snapshot = freeze(home, configuration, at=at)
        return snapshot, _trained(home, configuration, params, snapshot, at)


def _trained(home: Home, configuration: Configuration, params: Params, snapshot: Snapshot, at: int) -> list[Registered]:
    with TrackingProcess(home) as tracking, FeatureCheck(home, home.snapshot / EVENTS_FILE) as check:
        say("building the frames")
        frames = frames_step(home, configuration, params, snapshot)
        say("fitting and judging")
        trained = fit_and_say(home, configuration, params, snapshot, frames)
        check.passed()
        say("registering")
        share = configuration.policy.experiment.challenger
        return register(home, params, trained, tracking, at=at, share=share)


def fit_and_say(
    home: Home, configuration: Configuration, params: Params, snapshot: Snapshot, frames: Mapping[str, Frames]
) -> list[Trained]:
    """``fit_step``, telling a person what could not be done and why."""
    trained = fit_step(home, configuration, params, snapshot, frames)
    for one in trained:
        for note in one.evaluation["about"]["notes"]:
            say(f"note ({one.journey_id}): {note}")
    return trained


def register(
    home: Home,
    params: Params,
    trained: Sequence[Trained],
    tracking: TrackingProcess,
    *,
    at: int,
    share: float = 0.0,
) -> list[Registered]:
    """Register judged bundles locally and in MLflow; the first of a name becomes its champion, later ones challengers.

    While a challenger is being rolled out, ``share`` being its part of the customers, a new version waits.

    A bundle that is byte for byte the newest version of its name is not registered again. It gets its alias when MLflow
    has its run, so that nothing serves untracked, and the next training takes up a version that was left without one.
    """
    registry = LocalRegistry(home.bundles)
    commit = git_commit(Path(__file__).parent)
    kept, jobs = [], []
    for one in trained:
        versions = registry.versions(one.name)
        newest = versions[-1] if versions else None
        is_same = newest is not None and _same_bundle(registry.path(one.name, newest), one.bundle)
        if is_same and newest in [registry.alias(one.name, alias) for alias in (CHAMPION, CHALLENGER)]:
            say(f"{one.name}: nothing changed, version {newest} stays the newest")
            continue
        tags = lineage_tags(one, commit)
        version = newest if is_same and newest is not None else registry.register(one.bundle, one.name, tags)
        alias = alias_of_new(registry, one.name, share)
        kept.append((one, version, alias))
        jobs.append(
            job(
                journey_id=one.journey_id,
                name=one.name,
                bundle=registry.path(one.name, version),
                alias=alias,
                at=at,
                tags={**tags, "local_version": str(version)},
                params=dict(flat(params.model_dump(mode="json"))),
                metrics={
                    key: float(value)
                    for key, value in flat({key: one.evaluation[key] for key in ("stall", "uplift", "policy")})
                    if isinstance(value, int | float)
                },
                artifacts={"evaluation": evaluation_file(home), "plots": plots_folder(home)},
            )
        )
    runs = tracking.record(jobs) if jobs else []
    for one, version, alias in kept:
        if alias != WAITING:
            registry.set_alias(one.name, alias, version, at=at)
    return [
        Registered(name=one.name, version=version, alias=alias, run_id=run["run_id"], evaluation=one.evaluation)
        for (one, version, alias), run in zip(kept, runs, strict=True)
    ]


def _same_bundle(registered: Path, candidate: Path) -> bool:
    return (registered / "manifest.json").read_bytes() == (candidate / "manifest.json").read_bytes()


def lineage_tags(one: Trained, commit: str | None) -> dict[str, str]:
    """Where a bundle comes from, as tags of its run and of its version."""
    training = one.lineage.training
    return {
        "journey_id": one.journey_id,
        "fingerprint": str(training["fingerprint"]),
        "log_head": str(training["log_head"]),
        "last_decision_id": str(training["last_decision_id"]),
        "observed_until": dump_timestamp(training["observed_until"]),
        "features_version": one.lineage.features_version,
        "params_version": str(training["params_version"]),
        **{f"{name}_version": version for name, version in one.lineage.configuration.items()},
        **({"git_commit": commit} if commit else {}),
    }


def is_needed(home: Home, configuration: Configuration, params: Params) -> bool:
    """Whether there is something to learn: new rows, other parameters or another configuration, or no bundle yet."""
    snapshot = read_snapshot(home)
    if snapshot is None or not is_current(home, snapshot):
        return True
    registry = LocalRegistry(home.bundles)
    newest = []
    for journey in configuration.journeys.journeys:
        versions = registry.versions(model_name(journey.id))
        if versions:
            lineage = load_bundle(registry.path(model_name(journey.id), versions[-1]), None).lineage
            newest.append(
                lineage.training.get("fingerprint") == snapshot.fingerprint
                and lineage.training.get("params_version") == params_version(params)
                and lineage.features_version == feature_set(configuration.taxonomy, journey).version
                and dict(lineage.configuration) == dict(configuration.versions)
            )
    return not newest or not all(newest) or not read_champions(home.champion_file)


def flat(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested JSON values under a dotted path; lists count as text.

    >>> dict(flat({"a": {"b": 1}, "c": [1, 2]}))
    {'a.b': 1, 'c': '[1, 2]'}
    """
    if isinstance(document, Mapping):
        for key, part in document.items():
            yield from flat(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, str(document) if isinstance(document, list | tuple) else document


def git_commit(folder: Path) -> str | None:
    """The commit that the code is at, if it is in a git work tree and git is installed."""
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(  # noqa: S603  # git by its full path, with constant arguments
        [git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
