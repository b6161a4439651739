"""Drift of features and scores: pinned methods, planted shifts, and what is missing or was never seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.schema import FeatureSpec
from tests.drifting import decided, frame
from training.drift_features import (
    STALL_SCORE,
    FeatureDrift,
    comparable,
    feature_drift,
    feature_reasons,
    pinned_method,
)
from training.params import ColumnDriftParams, load_params

PARAMS = load_params().drift
SPECS = {
    "stage": FeatureSpec("stage", "index", "furthest stage", "never NaN"),
    "stalled": FeatureSpec("stalled", "flag", "whether it stalled", "never NaN"),
    "hours": FeatureSpec("hours", "hours", "since the last event", "never NaN"),
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")


def _rows(seed: int, n: int = 1_000, **changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        STALL_SCORE: rng.random(n),
        "stage": rng.integers(0, 4, n).astype(np.float64),
        "stalled": (rng.random(n) < 0.3).astype(np.float64),
        "hours": rng.gamma(2, 10, n),
    }
    return pd.DataFrame({**columns, **changes})


def _found(current: pd.DataFrame) -> FeatureDrift:
    return feature_drift(_rows(1), current, SPECS, PARAMS)


def _codes(current: pd.DataFrame) -> set[tuple[str, str, str]]:
    return {(one.code, one.calls_for, one.subject) for one in feature_reasons(_found(current), PARAMS)}


def test_each_kind_of_column_has_its_method() -> None:
    """Numbers by the stability index, categories and flags by a distance; the parameters have the last word."""
    found = {one.name: (one.method, one.threshold) for one in _found(_rows(2)).columns}
    assert found == {
        STALL_SCORE: ("psi", 0.2),
        "stage": ("jensenshannon", 0.15),
        "stalled": ("jensenshannon", 0.15),
        "hours": ("psi", 0.2),
    }
    own = ColumnDriftParams(method="wasserstein", threshold=0.3)
    assert pinned_method("hours", SPECS, PARAMS.model_copy(update={"overrides": {"hours": own}})) == own


def test_an_override_is_what_is_computed() -> None:
    """A shift by three standard deviations is 3 by the normed Wasserstein distance."""
    own = ColumnDriftParams(method="wasserstein", threshold=0.3)
    params = PARAMS.model_copy(update={"overrides": {"hours": own}})
    before = _rows(1)
    after = before.assign(hours=before["hours"] + 3 * before["hours"].std())
    found = {one.name: one for one in feature_drift(before, after, SPECS, params).columns}["hours"]
    assert (found.method, found.has_drifted) == ("wasserstein", True)
    assert found.value == pytest.approx(3, rel=0.01)


def test_one_population_gives_no_reason() -> None:
    """Of a thousand rows each."""
    assert _codes(_rows(2)) == set()


def test_features_alone_are_looked_into() -> None:
    """Two of three shifted, and the models say what they said."""
    n = 1_000
    shifted = _rows(2, hours=np.random.default_rng(3).uniform(20, 60, n), stage=np.full(n, 3.0))
    assert _codes(shifted) == {("features.drifted", "investigate", "")}


def test_features_that_move_the_scores_call_for_training() -> None:
    """Then the models are asked about others than they learned from."""
    n = 1_000
    rng = np.random.default_rng(3)
    shifted = _rows(2, hours=rng.uniform(20, 60, n), stage=np.full(n, 3.0)).assign(**{STALL_SCORE: rng.random(n) ** 4})
    assert _codes(shifted) == {
        ("features.drifted", "retrain", ""),
        ("scores.drifted", "investigate", STALL_SCORE),
    }


def test_scores_alone_are_looked_into() -> None:
    """They moved though no feature did."""
    moved = _rows(2).assign(**{STALL_SCORE: np.random.default_rng(3).random(1_000) ** 4})
    assert _codes(moved) == {("scores.drifted", "investigate", STALL_SCORE)}


def test_missing_values_are_looked_into() -> None:
    """From none to a third; what is known looks as before."""
    some = _rows(2)
    hidden = some["hours"].where(np.random.default_rng(3).random(1_000) > 0.33)
    assert _codes(some.assign(hours=hidden)) == {("columns.missing", "investigate", "hours")}


def test_a_column_that_vanished_is_looked_into() -> None:
    """It counts among what drifted, and is named."""
    found = _codes(_rows(2, hours=np.full(1_000, np.nan)))
    assert ("columns.vanished", "investigate", "hours") in found
    assert not any(code == "columns.missing" for code, _, _ in found)


def test_new_categories_and_ranges_are_looked_into() -> None:
    """A stage that nobody was in before, hours that nobody had."""
    rng = np.random.default_rng(3)
    some = _rows(2)
    stage = some["stage"].where(rng.random(1_000) > 0.03, 7.0)
    hours = some["hours"].where(rng.random(1_000) > 0.08, 5_000.0)
    assert ("columns.unseen", "investigate", "stage") in _codes(some.assign(stage=stage))
    assert ("columns.outside", "investigate", "hours") in _codes(some.assign(hours=hours))


def test_columns_that_appear_or_vanish_are_named_and_not_scored() -> None:
    """An index over bins cannot be computed against nothing."""
    known, nothing = [1.0, 2.0, 3.0], [np.nan] * 3
    reference = pd.DataFrame({"both": known, "new": nothing, "gone": known, "constant": [1.0] * 3})
    current = pd.DataFrame({"both": known, "new": known, "gone": nothing, "constant": [1.0] * 3})
    assert comparable(reference, current, smallest=2) == (["both"], ["new"], ["gone"])


def test_nothing_to_compare_is_no_share_of_anything() -> None:
    """Unknown, not 0."""
    empty = pd.DataFrame({"hours": np.full(5, np.nan)})
    found = feature_drift(empty, empty, SPECS, PARAMS)
    assert (found.columns, feature_reasons(found, PARAMS)) == ((), [])
    assert np.isnan(found.drifted_share)
    assert np.isnan(found.largest_index)


def test_the_sample_is_the_same_whatever_the_order() -> None:
    """Chosen by the hash of each decision: another order of the log changes nothing."""
    side = decided(3_000, 1)
    turned = side.where(np.arange(3_000)[::-1])
    assert sorted(side.sample(500).at.tolist()) == sorted(turned.sample(500).at.tolist())
    assert frame(side, 500).equals(frame(replace(side), 500))
