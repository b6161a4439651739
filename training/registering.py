"""Register judged bundles: locally, which is what serves, and in MLflow, one run each with all that it came from."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final, Protocol

from features.events import dump_timestamp
from features.home import Home
from features.schema import feature_set
from models.configuration import Configuration, load_configuration
from models.promotions import free_challenger, had_its_turn
from models.registry import LocalRegistry, model_name
from models.rollouts import WAITING, alias_of_new
from training.params import Params
from training.pipeline import Trained, say
from training.reports import evaluation_file, figures_folder, page_file, plots_folder
from training.snapshot import Snapshot, read_snapshot
from training.tracked_aliases import version_tags, wanted_aliases, warn_of
from training.tracking import job

PACKAGES: Final = ("headway", "lightgbm", "numpy", "pandas", "pyarrow", "scikit-learn", "numba", "duckdb", "mlflow")
"""Whose versions are tags of a run; those of everything installed are in its ``environment/packages.txt``."""


class Tracking(Protocol):
    """Where runs are recorded; see ``training.tracking.TrackingProcess``."""

    def record(
        self, jobs: Sequence[Mapping[str, Any]], aliases: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """As ``TrackingProcess.record``."""
        ...


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


def register(
    home: Home,
    configuration: Configuration,
    params: Params,
    trained: Sequence[Trained],
    tracking: Tracking,
    *,
    at: int,
) -> list[Registered]:
    """Register judged bundles locally and in MLflow; the first of a name becomes its champion, a later one challenger.

    While a challenger is being rolled out a new version waits, also where that began while the new one was trained.

    A bundle that is byte for byte the newest version of its name is not registered again. It gets its alias when MLflow
    has its run, so that nothing serves untracked, and the next training takes up a version that was left without one.
    One that was promoted or rolled back from has had its turn, and stays as it is.

    MLflow's aliases are put where the local ones are, also where nothing new is registered.
    """
    registry = LocalRegistry(home.bundles)
    names = [model_name(journey.id) for journey in configuration.journeys.journeys]
    for name in names:
        free_challenger(registry, name)
    facts = _run_facts(home, configuration, params)
    kept, jobs = [], []
    for one in trained:
        versions = registry.versions(one.name)
        newest = versions[-1] if versions else None
        is_same = newest is not None and _same_bundle(registry.path(one.name, newest), one.bundle)
        if is_same and newest is not None and had_its_turn(registry, one.name, newest):
            say(f"{one.name}: nothing changed, version {newest} stays the newest")
            continue
        tags = {**lineage_tags(one), **facts.tags}
        version = newest if is_same and newest is not None else registry.register(one.bundle, one.name, tags)
        alias = alias_of_new(registry, one.name, _present_share(home))
        bundle = registry.path(one.name, version)
        kept.append((one, version, alias))
        jobs.append(
            job(
                journey_id=one.journey_id,
                name=one.name,
                bundle=bundle,
                alias=alias,
                at=at,
                tags={**tags, **version_tags(bundle, version)},
                params=dict(flat(params.model_dump(mode="json"))),
                metrics=run_metrics(one, facts.snapshot),
                artifacts={
                    "evaluation": evaluation_file(home),
                    "report": page_file(home),
                    "plots": plots_folder(home),
                    "figures": figures_folder(home),
                },
                texts={**facts.texts, "features.json": feature_list(configuration, one)},
            )
        )
    moving = {(one.name, alias): version for one, version, alias in kept if alias != WAITING}
    runs, problems = tracking.record(jobs, wanted_aliases(registry, names, moving=moving, at=at))
    warn_of(problems)
    placed = [_alias_put(registry, one.name, version, _present_share(home), at) for one, version, _ in kept]
    if placed != [alias for _, _, alias in kept]:
        _, problems = tracking.record([], wanted_aliases(registry, names))
        warn_of(problems)
    return [
        Registered(name=one.name, version=version, alias=alias, run_id=run["run_id"], evaluation=one.evaluation)
        for (one, version, _), alias, run in zip(kept, placed, runs, strict=True)
    ]


def _present_share(home: Home) -> float:
    """The challengers' share by now: a rollout may have begun since the training did."""
    return load_configuration(home, os.environ).policy.experiment.challenger


def _alias_put(registry: LocalRegistry, name: str, version: int, share: float, at: int) -> str:
    """The alias that a new version has by now, put on it where it is one that serves."""
    alias = alias_of_new(registry, name, share)
    if alias != WAITING:
        registry.set_alias(name, alias, version, at=at)
    return alias


def _same_bundle(registered: Path, candidate: Path) -> bool:
    return (registered / "manifest.json").read_bytes() == (candidate / "manifest.json").read_bytes()


def lineage_tags(one: Trained) -> dict[str, str]:
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
        "seed": str(training["seed"]),
        **{f"{name}_version": version for name, version in one.lineage.configuration.items()},
    }


@dataclass(frozen=True, slots=True)
class _RunFacts:
    """What all runs of one training have in common.

    Attributes:
        snapshot: what was trained on; None where the home names none.
        tags: of the code and its surroundings.
        texts: artefacts by path: the configuration's files, the parameters, everything that is installed.
    """

    snapshot: Snapshot | None
    tags: Mapping[str, str]
    texts: Mapping[str, str]


def _run_facts(home: Home, configuration: Configuration, params: Params) -> _RunFacts:
    packages = installed_packages()
    versions = {f"package.{name}": packages[name] for name in PACKAGES if name in packages}
    listed = "".join(f"{name}=={version}\n" for name, version in packages.items())
    texts = {
        **{f"configuration/{part}.yaml": text for part, text in configuration.texts.items()},
        "params.json": json.dumps(params.model_dump(mode="json"), indent=1) + "\n",
        "environment/packages.txt": listed,
    }
    tags = {**git_tags(Path(__file__)), **versions, "python": platform.python_version()}
    return _RunFacts(read_snapshot(home), tags, texts)


def installed_packages() -> dict[str, str]:
    """Version of every distribution that is installed, by its name in lower case, in alphabetical order."""
    found = {(one.metadata["Name"] or "").lower(): one.version for one in distributions()}
    return dict(sorted(found.items()))


def git_tags(file: Path) -> dict[str, str]:
    """The commit that the code is at, and whether tracked files differ from it; nothing where git does not track it.

    Args:
        file: a file of the code. One that git does not track may lie in a work tree of something else.
    """
    commit = _git(file.parent, "rev-parse", "HEAD")
    if commit is None or _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return {}
    changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": "unknown" if changed is None else str(bool(changed)).lower()}


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run(  # noqa: S603  # git by its full path, with constant arguments and a file of ours
        [git, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def feature_list(configuration: Configuration, one: Trained) -> str:
    """The features that a bundle sees, in the order of its vector, with what each means, as JSON."""
    journey = configuration.journeys.by_id[one.journey_id]
    known = {spec.name: spec for spec in feature_set(configuration.taxonomy, journey).specs}
    listed = [
        {"name": name, **({"unit": known[name].unit, "meaning": known[name].meaning} if name in known else {})}
        for name in one.lineage.feature_names
    ]
    return json.dumps({"version": one.lineage.features_version, "features": listed}, indent=1) + "\n"


def run_metrics(one: Trained, snapshot: Snapshot | None) -> dict[str, float]:
    """Every number of a judgement under a dotted path, and how much was learned from; what is unknown is left out."""
    training = one.lineage.training
    counts = {
        **({} if snapshot is None else dict(snapshot.counts)),
        "moments": training["n_moments"],
        "decisions_learned_from": training["n_decisions"],
        "features": len(one.lineage.feature_names),
    }
    judged = flat({key: one.evaluation[key] for key in ("stall", "uplift", "policy")})
    found = {**dict(judged), **{f"count.{name}": count for name, count in counts.items()}}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


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
