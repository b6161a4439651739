"""Drift: does what comes in now still look like what the models were trained on? HTML for people, JSON for machines.

The population stability index with a stated threshold is pinned for every column: Evidently's own choice of a test
changes with the number of rows, and its p-values alarm on any large sample.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from features.errors import UnknownObject
from features.home import Home
from features.journeys import Journey
from features.kernel import Floats
from features.schema import feature_set
from models.bundle import load_bundle
from models.configuration import Configuration
from models.record_store import SqlRecordStore
from models.registry import model_name
from models.scoring import Scorer
from training.dataset import Frames, read_frames
from training.params import DriftParams, Params
from training.pipeline import CANDIDATE
from training.reports import write_json
from training.snapshot import read_snapshot
from training.split import is_flat, time_split

METHOD: Final = "psi"
STALL_SCORE: Final = "score:stall_propensity"
SINCE: Final = "decisions since the training against those trained on"
DECISIONS: Final = "recent decisions against earlier ones"
MOMENTS: Final = "latest moments against the moments trained on"
NOTHING: Final = "nothing to compare"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Two samples of feature vectors, each ``(n, n_features)``.

    Attributes:
        what: which comparison it is.
        reference: what was trained on.
        current: what came in lately.
    """

    what: str
    reference: Floats
    current: Floats


def drift_step(
    home: Home,
    configuration: Configuration,
    params: Params,
    journey_id: str | None = None,
    *,
    recent: Mapping[str, Floats] | None = None,
) -> dict[str, dict[str, Any]]:
    """The drift of every journey that was trained (or of one), with reports under ``reports/drift/``.

    Args:
        home: of the installation.
        configuration: that holds for it.
        params: of the experiment.
        journey_id: only this one.
        recent: by journey, vectors that came in since the frames were built, as ``recent_vectors`` gives them; without
            them the frames alone are looked at, which never change by themselves.

    Raises:
        UnknownObject: nothing was trained yet, or not this journey.
    """
    found = {}
    for journey in configuration.journeys.journeys:
        bundle = home.bundle(CANDIDATE, model_name(journey.id))
        if journey_id not in (None, journey.id) or not bundle.is_dir():
            continue
        frames = read_frames(journey.id, home.frames / journey.id)
        scorer = Scorer(load_bundle(bundle, frames.feature_names))
        # Another taxonomy since the training means other columns, which cannot be compared.
        is_same = scorer.bundle.lineage.features_version == feature_set(configuration.taxonomy, journey).version
        since = (recent or {}).get(journey.id) if is_same else None
        pair = comparison(frames, journey, params, recent=since)
        found[journey.id] = _report(home, journey, pair, frames.feature_names, scorer, params)
    if not found:
        wanted = "nothing" if journey_id is None else f"the journey {journey_id!r:.100}"
        raise UnknownObject(f"{wanted} was trained in {home.root}, so there is nothing to compare: run `headway train`")
    return found


def recent_vectors(home: Home, configuration: Configuration, params: Params) -> dict[str, Floats]:
    """By journey, the feature vectors of the latest live decisions since the snapshot, each ``(n, n_features)``."""
    snapshot = read_snapshot(home)
    sets = [feature_set(configuration.taxonomy, journey) for journey in configuration.journeys.journeys]
    latest: dict[str, deque[tuple[float, ...]]] = {one.journey_id: deque(maxlen=params.drift.sample) for one in sets}
    versions = {one.journey_id: one.version for one in sets}
    if home.records_db.exists():
        with closing(SqlRecordStore(home.records_db, readonly=True)) as store:
            for page in store.read(after="" if snapshot is None else snapshot.watermark.last_decision_id):
                for record in page:
                    fits = record.versions.get("features") == versions.get(record.journey_id, "")
                    if record.mode == "live" and fits:
                        latest[record.journey_id].append(record.vector)
    return {one.journey_id: np.array(latest[one.journey_id]).reshape(-1, len(one.names)) for one in sets}


def comparison(frames: Frames, journey: Journey, params: Params, *, recent: Floats | None = None) -> Comparison:
    """What there is to compare: decisions that the service recorded, if there are enough, else the latest moments.

    Decisions since the training (``recent``) go before those that were trained on themselves.
    """
    decisions, moments = frames.decisions, frames.moments
    if recent is not None and min(len(recent), len(decisions)) >= params.drift.smallest:
        return Comparison(SINCE, decisions.x, recent)
    recorded = np.flatnonzero(decisions.recorded)
    if len(recorded) >= params.drift.smallest:
        latest = recorded[np.argsort(decisions.at[recorded], kind="stable")][-params.drift.sample :]
        earlier = decisions.at < decisions.at[latest].min()
        if earlier.sum() >= params.drift.smallest:
            return Comparison(DECISIONS, decisions.x[earlier], decisions.x[latest])
    if is_flat(moments.at):
        empty = np.empty((0, len(frames.feature_names)))
        return Comparison(NOTHING, empty, empty)
    split = time_split(
        moments.at,
        moments.after.is_known(journey.horizon),
        train_share=params.split.train_share,
        calibration_share=params.split.calibration_share,
        window_us=journey.horizon,
    )
    return Comparison(MOMENTS, moments.x[split.train], moments.x[split.test])


def sampled(rows: Floats, n: int, seed: int) -> Floats:
    """At most ``n`` rows, drawn without replacement, so that a verdict does not depend on how much there is."""
    if len(rows) <= n:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=n, replace=False)
    return rows[np.sort(chosen)]


def most_used(scorer: Scorer, names: tuple[str, ...], n: int) -> list[str]:
    """The features that the bundle's trees split on most, at most ``n``: a change in the others changes no decision."""
    uses = np.bincount(scorer.bundle.forest.feature, minlength=len(names))[: len(names)]  # the period is none
    return [names[i] for i in np.argsort(-uses, kind="stable")[:n] if uses[i] > 0]


def comparable(reference: pd.DataFrame, current: pd.DataFrame, smallest: int) -> tuple[list[str], list[str], list[str]]:
    """Columns known often enough on both sides and not constant; columns that appeared; columns that vanished."""
    in_reference, in_current = reference.notna().sum(), current.notna().sum()
    compared, appeared, vanished = [], [], []
    for name in reference.columns:
        known = (in_reference[name] >= smallest, in_current[name] >= smallest)
        if known == (False, True) and in_reference[name] == 0:
            appeared.append(name)
        elif known == (True, False) and in_current[name] == 0:
            vanished.append(name)
        elif known == (True, True) and pd.concat([reference[name], current[name]]).nunique() > 1:
            compared.append(name)
    return compared, appeared, vanished


def _report(
    home: Home, journey: Journey, pair: Comparison, feature_names: tuple[str, ...], scorer: Scorer, params: Params
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "journey_id": journey.id,
        "comparison": pair.what,
        "n_reference": len(pair.reference),
        "n_current": len(pair.current),
        "method": METHOD,
        "threshold": params.drift.psi_threshold,
        "verdict": "too few",
        "columns": 0,
        "drifted": 0,
        "by_column": {},
        "appeared": [],
        "vanished": [],
    }
    folder = home.reports / "drift"
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / f"{journey.id}.html"
    if min(len(pair.reference), len(pair.current)) < params.drift.smallest:
        fewest = min(len(pair.reference), len(pair.current))
        html.write_text(
            f"<!doctype html><meta charset='utf-8'><title>Drift of {journey.id}</title><p>Too few rows to judge drift: "
            f"{fewest}, expected at least {params.drift.smallest} on each side.</p>\n",
            encoding="utf-8",
        )
    else:
        names = most_used(scorer, feature_names, params.drift.columns)
        reference, current = (
            _frame(rows, feature_names, scorer, params)[[STALL_SCORE, *names]]
            for rows in (pair.reference, pair.current)
        )
        document |= _judged(reference, current, params.drift, html)
    write_json(folder / f"{journey.id}.json", document)
    return document


def _frame(rows: Floats, names: tuple[str, ...], scorer: Scorer, params: Params) -> pd.DataFrame:
    chosen = sampled(rows, params.drift.sample, params.seed)
    frame = pd.DataFrame(chosen, columns=list(names))
    frame[STALL_SCORE] = scorer.stall_block(chosen).stall_propensity
    return frame


def _judged(reference: pd.DataFrame, current: pd.DataFrame, params: DriftParams, html: Any) -> dict[str, Any]:
    compared, appeared, vanished = comparable(reference, current, params.smallest)
    scores = _evidently(reference[compared], current[compared], params, html) if compared else {}
    drifted = [name for name, score in scores.items() if score >= params.psi_threshold]
    changed = len(drifted) + len(appeared) + len(vanished)
    share = changed / max(len(compared) + len(appeared) + len(vanished), 1)
    return {
        "verdict": "drift" if share >= params.drift_share else "no drift",
        "columns": len(compared),
        "drifted": len(drifted),
        "by_column": dict(sorted(scores.items(), key=lambda item: -item[1])),
        "appeared": appeared,
        "vanished": vanished,
    }


def _evidently(reference: pd.DataFrame, current: pd.DataFrame, params: DriftParams, html: Any) -> Mapping[str, float]:
    from evidently import DataDefinition, Dataset, Report  # some ten seconds: only where there is something to judge
    from evidently.presets import DataDriftPreset

    columns = list(reference.columns)
    definition = DataDefinition(numerical_columns=columns)
    preset = DataDriftPreset(
        columns=columns,
        drift_share=params.drift_share,
        per_column_method=dict.fromkeys(columns, METHOD),
        per_column_threshold=dict.fromkeys(columns, params.psi_threshold),
        include_tests=False,
    )
    result = Report([preset]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    result.save_html(str(html))
    scores = {}
    for metric in json.loads(result.json())["metrics"]:
        column = metric.get("config", {}).get("column")
        if column in columns:
            scores[column] = float(metric["value"])
    return scores
