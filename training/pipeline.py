"""The steps from a home to judged, unregistered bundles. The commands and the pipeline's stages call the same ones."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import NotEnoughData, Refused
from features.events import dump_timestamp
from features.history import whole_table
from features.home import Home
from features.kernel import Floats
from features.schema import FeatureSet, feature_set
from features.subjects import subject_buckets
from models.boosting import lightgbm_raw_scores
from models.bundle import member_texts, write_bundle
from models.configuration import Configuration
from models.manifest import Lineage
from models.registry import model_name
from training.dataset import Frames, build_frames, read_frames, write_frames
from training.evaluate import evaluation
from training.evaluation_report import evaluation_page
from training.fit import JourneyFit, fit_journey
from training.kept_frames import forget_key, frames_key, kept_frames, write_key
from training.params import Params
from training.report_page import write_page
from training.reports import page_file, plot_points, plots_folder, write_evaluations, write_figures, write_json
from training.snapshot import EVENTS_FILE, RECORDS_FILE, Snapshot, freeze, read_snapshot, restore

GOLDEN_ROWS: Final = 32
CANDIDATE: Final = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The bundle of one journey, judged but not registered.

    Attributes:
        name: of the registered model, ``nba-<journey_id>``.
        bundle: its folder.
        evaluation: how it was judged.
        lineage: what its manifest says of it.
    """

    journey_id: str
    name: str
    bundle: Path
    evaluation: Mapping[str, Any]
    lineage: Lineage


def say(text: str) -> None:
    """Tell a person what is going on; never part of a command's answer."""
    print(text, file=sys.stderr)


def params_version(params: Params) -> str:
    """Content hash of the parameters that a bundle depends on, not of when to train or how it is watched and judged."""
    bundled = params.model_dump(mode="json", exclude={"drift", "experiment", "gate", "retrain"})
    document = json.dumps(bundled, sort_keys=True)
    return hashlib.blake2b(document.encode(), digest_size=6).hexdigest()


def snapshot_step(home: Home, configuration: Configuration, *, at: int) -> Snapshot:
    """The snapshot that ``snapshot.json`` names, exported again, or a new one where it names none.

    Args:
        home: where it is frozen.
        configuration: that holds for it.
        at: now, microseconds since the epoch.

    Raises:
        UnknownObject: the home holds no events.
        Refused: the home no longer holds the rows that are named.
    """
    named = read_snapshot(home)
    if named is None:
        return freeze(home, configuration, at=at)
    restore(home, named)
    return named


def frames_step(home: Home, configuration: Configuration, params: Params, snapshot: Snapshot) -> dict[str, Frames]:
    """The frames of every journey, built from the snapshot's files and kept under ``frames/``.

    Those that are there already are taken where they would come out the same; see ``training.kept_frames``.
    """
    _same_configuration(configuration, snapshot)
    key = frames_key(configuration, params, snapshot)
    kept = kept_frames(home, configuration, key)
    if kept is not None:
        say("the frames of the last training are those of these rows")
        return kept
    forget_key(home)
    events = home.snapshot / EVENTS_FILE
    table = whole_table(events, configuration.taxonomy)
    frames = {}
    for journey in configuration.journeys.journeys:
        frames[journey.id] = build_frames(
            events,
            home.snapshot / RECORDS_FILE,
            table=table,
            feature_set=feature_set(configuration.taxonomy, journey),
            journey=journey,
            catalogue=configuration.catalogue,
            observed_until=snapshot.watermark.observed_until,
            params=params.moments,
        )
        write_frames(frames[journey.id], home.frames / journey.id)
    write_key(home, key)
    return frames


def _same_configuration(configuration: Configuration, snapshot: Snapshot) -> None:
    for name in ("taxonomy", "journeys", "actions"):
        if configuration.versions[name] != snapshot.configuration.get(name):
            raise Refused(
                f"the snapshot was frozen under {name} {snapshot.configuration.get(name)}, expected "
                f"{configuration.versions[name]}, which holds now: run `headway snapshot` to freeze again"
            )


def read_all_frames(home: Home, configuration: Configuration) -> dict[str, Frames]:
    """The frames that ``frames_step`` kept."""
    return {
        journey.id: read_frames(journey.id, home.frames / journey.id) for journey in configuration.journeys.journeys
    }


def fit_step(
    home: Home, configuration: Configuration, params: Params, snapshot: Snapshot, frames: Mapping[str, Frames]
) -> list[Trained]:
    """A judged bundle for every journey that there is enough data for, under ``bundles/candidate/``, and the reports.

    Raises:
        NotEnoughData: no journey can be fitted; the message says why for each.
    """
    trained: list[Trained] = []
    evaluations: dict[str, Mapping[str, Any]] = {}
    reliability: list[dict[str, Any]] = []
    qini: list[dict[str, Any]] = []
    refusals: list[str] = []
    for journey in configuration.journeys.journeys:
        ours = frames[journey.id]
        try:
            fit = fit_journey(ours, journey, configuration.catalogue, params)
        except NotEnoughData as error:
            refusals.append(str(error))
            continue
        evaluations[journey.id] = evaluation(
            fit,
            ours,
            journey=journey,
            features=feature_set(configuration.taxonomy, journey),
            catalogue=configuration.catalogue,
            policy=configuration.policy,
            params=params,
        )
        trained.append(_packed(home, configuration, params, snapshot, ours, fit, evaluations[journey.id]))
        curves = plot_points(journey.id, fit, ours.decisions, params)
        reliability += curves[0]
        qini += curves[1]
    if not trained:
        raise NotEnoughData("; ".join(refusals))
    for refusal in refusals:
        say(refusal)
    write_evaluations(home, evaluations)
    write_json(plots_folder(home) / "reliability.json", reliability)
    write_json(plots_folder(home) / "qini.json", qini)
    told = evaluation_page(configuration, evaluations, reliability, qini, about=_made_from(snapshot))
    write_page(page_file(home), told.text)
    write_figures(home, told.figures)
    return trained


def _made_from(snapshot: Snapshot) -> str:
    """What was learned from, in a line."""
    counts = ", ".join(f"{count:,} {name}" for name, count in snapshot.counts.items())
    until = dump_timestamp(snapshot.watermark.observed_until)[:10]
    return f"Made from {counts}, observed until {until}; data fingerprint {snapshot.fingerprint}."


def _packed(
    home: Home,
    configuration: Configuration,
    params: Params,
    snapshot: Snapshot,
    frames: Frames,
    fit: JourneyFit,
    judged: Mapping[str, Any],
) -> Trained:
    """The bundle of a fit, written in place of the last candidate."""
    journey = configuration.journeys.by_id[frames.journey_id]
    name = model_name(journey.id)
    lineage = lineage_of(
        configuration, params, snapshot, frames, feature_set(configuration.taxonomy, journey), fit, judged
    )
    rows = golden_rows(frames)
    texts, periods, n_timed = member_texts(fit.parts)
    folder = home.bundle(CANDIDATE, name)
    shutil.rmtree(folder, ignore_errors=True)
    write_bundle(
        folder,
        lineage=lineage,
        fitted=fit.parts,
        golden_rows=rows,
        golden_raw=lightgbm_raw_scores(
            list(texts.values()), rows, n_timed=n_timed, n_periods=len(periods) if periods is not None else 0
        ),
    )
    return Trained(journey_id=journey.id, name=name, bundle=folder, evaluation=judged, lineage=lineage)


def lineage_of(
    configuration: Configuration,
    params: Params,
    snapshot: Snapshot,
    frames: Frames,
    features: FeatureSet,
    fit: JourneyFit,
    judged: Mapping[str, Any],
) -> Lineage:
    """What a bundle's manifest says of where it comes from. The same data, parameters and code give the same bundle."""
    watermark = snapshot.watermark
    return Lineage(
        name=model_name(frames.journey_id),
        journey_id=frames.journey_id,
        # The moment of the snapshot, not of the fit: a bundle is a function of what it was fitted on.
        created_at=watermark.frozen_at,
        feature_names=features.names,
        features_version=features.version,
        configuration=dict(configuration.versions),
        training={
            "fingerprint": snapshot.fingerprint,
            "log_head": watermark.log_head,
            "last_decision_id": watermark.last_decision_id,
            "observed_until": watermark.observed_until,
            "n_moments": len(frames.moments.at),
            "n_decisions": len(frames.decisions),
            "subject_buckets": subject_buckets(frames.customer_ids()),
            "cut_off": None if fit.stall is None else fit.stall.test_from,
            "params_version": params_version(params),
            "seed": params.seed,
        },
        metrics={key: judged[key] for key in ("stall", "uplift", "policy")},
    )


def golden_rows(frames: Frames) -> Floats:
    """``(n, n_features)`` rows that prove a bundle: spread over the moments and the decisions, and one all unknown."""
    x = np.concatenate([_spread(frames.moments.x), _spread(frames.decisions.x)])
    unknown = np.full((1, len(frames.feature_names)), np.nan)
    return np.concatenate([x, unknown])


def _spread(x: Floats) -> Floats:
    if not len(x):
        return x
    return x[np.unique(np.linspace(0, len(x) - 1, GOLDEN_ROWS // 2).round().astype(np.int64))]
