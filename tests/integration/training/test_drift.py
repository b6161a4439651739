"""Drift: compared with what was trained on, by a pinned method, and silent where there is too little."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.home import Home
from features.schema import feature_set
from models.configuration import load_configuration
from models.record_store import SqlRecordStore
from tests.decision_records import record
from training.dataset import Frames, read_frames
from training.drift import (
    DECISIONS,
    MOMENTS,
    NOTHING,
    SINCE,
    STALL_SCORE,
    comparable,
    comparison,
    drift_step,
    recent_vectors,
    sampled,
)
from training.params import Params, load_params

JOURNEY = "credit_card_application"


@pytest.fixture(scope="module")
def params() -> Params:
    """The shipped parameters with small samples."""
    shipped = load_params()
    return shipped.model_copy(update={"drift": shipped.drift.model_copy(update={"sample": 400, "columns": 5})})


@pytest.fixture(scope="module")
def home(trained_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A copy of the trained home, to write reports into."""
    copy = Home(tmp_path_factory.mktemp("drift") / "home")
    shutil.copytree(trained_home.root, copy.root)
    return copy


@pytest.fixture(scope="module")
def frames(trained_home: Home) -> Frames:
    """The frames of the trained home."""
    return read_frames(JOURNEY, trained_home.frames / JOURNEY)


def test_a_fresh_import_compares_the_latest_moments(trained_home: Home, frames: Frames, params: Params) -> None:
    """No decision was recorded by a service yet, so it says that it compares moments."""
    journey = load_configuration(trained_home, {}).journeys.by_id[JOURNEY]
    assert comparison(frames, journey, params).what == MOMENTS


def test_recorded_decisions_are_compared_with_earlier_ones(trained_home: Home, frames: Frames, params: Params) -> None:
    """Once the service has made enough decisions, they are what came in lately."""
    journey = load_configuration(trained_home, {}).journeys.by_id[JOURNEY]
    decisions = frames.decisions
    latest = np.argsort(decisions.at, kind="stable")[-params.drift.smallest :]
    recorded = np.zeros(len(decisions), dtype=np.bool_)
    recorded[latest] = True
    pair = comparison(replace(frames, decisions=replace(decisions, recorded=recorded)), journey, params)
    assert (pair.what, len(pair.current)) == (DECISIONS, params.drift.smallest)


def test_decisions_since_the_training_are_what_came_in_lately(home: Home, frames: Frames, params: Params) -> None:
    """Live decisions of the present features behind the snapshot, the latest of them; not what was trained on."""
    configuration = load_configuration(home, {})
    journey = configuration.journeys.by_id[JOURNEY]
    features = feature_set(configuration.taxonomy, journey)
    n = params.drift.sample + 10
    fields: dict[str, Any] = {"journey_id": JOURNEY, "vector": (0.0,) * len(features.names)}
    changes: list[dict[str, Any]] = [{}] * n + [{"mode": "shadow"}, {"versions": {"features": "old"}}]
    made = [
        record(i, **{**fields, "decision_id": f"d-9{i:06d}", "versions": {"features": features.version}, **one})
        for i, one in enumerate(changes)
    ]
    with closing(SqlRecordStore(home.records_db)) as store:
        store.append_imported(made)

    recent = recent_vectors(home, configuration, params)[JOURNEY]
    pair = comparison(frames, journey, params, recent=recent)

    assert recent.shape == (params.drift.sample, len(features.names))
    assert (pair.what, len(pair.current), len(pair.reference)) == (SINCE, len(recent), len(frames.decisions))
    assert comparison(frames, journey, params, recent=recent[:10]).what == MOMENTS


def test_a_flat_history_has_nothing_to_compare(trained_home: Home, frames: Frames, params: Params) -> None:
    """Where all moments have one time there is no lately."""
    journey = load_configuration(trained_home, {}).journeys.by_id[JOURNEY]
    flat = replace(frames.moments, at=np.zeros_like(frames.moments.at))
    assert comparison(replace(frames, moments=flat), journey, params).what == NOTHING


def test_samples_are_bounded_and_seeded() -> None:
    """The verdict does not depend on how much there is, nor on the day."""
    rows = np.arange(20.0).reshape(10, 2)
    assert np.array_equal(sampled(rows, 4, seed=1), sampled(rows, 4, seed=1))
    assert sampled(rows, 4, seed=1).shape == (4, 2)
    assert sampled(rows, 99, seed=1).shape == (10, 2)


def test_columns_that_appear_or_vanish_are_named_and_not_scored() -> None:
    """An index over bins cannot be computed against nothing."""
    known, nothing = [1.0, 2.0, 3.0], [np.nan] * 3
    reference = pd.DataFrame({"both": known, "new": nothing, "gone": known, "constant": [1.0] * 3})
    current = pd.DataFrame({"both": known, "new": known, "gone": nothing, "constant": [1.0] * 3})
    assert comparable(reference, current, smallest=2) == (["both"], ["new"], ["gone"])


def test_too_few_rows_are_not_judged(home: Home, params: Params) -> None:
    """The report says so instead of calling noise a drift."""
    demanding = params.model_copy(update={"drift": params.drift.model_copy(update={"smallest": 10**9})})
    found = drift_step(home, load_configuration(home, {}), demanding)[JOURNEY]
    assert (found["verdict"], found["columns"]) == ("too few", 0)
    assert "Too few rows" in (home.reports / "drift" / f"{JOURNEY}.html").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")
def test_evidently_judges_every_compared_column(home: Home, params: Params) -> None:
    """The features that the trees use and the stall score, each with its index; a page for people beside it."""
    found = drift_step(home, load_configuration(home, {}), params)[JOURNEY]
    assert STALL_SCORE in found["by_column"]
    assert len(found["by_column"]) == found["columns"] <= params.drift.columns + 1
    assert found["drifted"] == sum(score >= found["threshold"] for score in found["by_column"].values())
    kept = json.loads((home.reports / "drift" / f"{JOURNEY}.json").read_text())
    assert kept == found
    page = (home.reports / "drift" / f"{JOURNEY}.html").read_text()
    assert STALL_SCORE in page
