"""The flat forest scores as LightGBM does, whatever its trees look like."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from models.boosting import lightgbm_raw_scores
from models.forest import PERIOD, column_name, forest_from_text, raw_scores, raw_scores_block


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Amounts, codes of sixty and of three categories, one value in ten unknown and one in ten zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 8))
    x[:, 1], x[:, 2] = rng.integers(0, 60, 1500), rng.integers(0, 3, 1500)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = 0.0
    return x


@pytest.fixture(scope="module")
def label(rows: np.ndarray) -> np.ndarray:
    """A label that depends on an amount, on a set of codes and on what is unknown."""
    noise = np.random.default_rng(1).normal(size=len(rows))
    known = np.nan_to_num(rows)
    return (known[:, 0] + (known[:, 1] % 3 == 0) + np.isnan(rows[:, 3]) + noise > 0.5).astype(np.float64)


def trained(rows: np.ndarray, label: np.ndarray, categorical: list[int], **params: Any) -> lgb.Booster:
    """A booster of twenty trees."""
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    return lgb.train({**fixed, **params}, lgb.Dataset(rows, label, categorical_feature=categorical), 20)


@pytest.mark.parametrize("categorical", [[], [1, 2]])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"min_data_in_leaf": 2000},
        {"num_leaves": 2},
        {"boosting": "dart"},
        {"objective": "regression"},
        {"max_cat_to_onehot": 1, "min_data_per_group": 5, "cat_smooth": 1},
    ],
)
def test_raw_scores_equal_lightgbms(
    rows: np.ndarray, label: np.ndarray, categorical: list[int], params: dict[str, Any]
) -> None:
    """Within 1e-12, on rows with unknown, zero, unseen, negative and infinite values."""
    booster = trained(rows, label, categorical, **params)
    asked = rows.copy()
    asked[:6, 1] = [999, -3, np.inf, -np.inf, 1e12, -0.5]
    asked[6] = np.nan
    asked[7] = 0.0
    scores = raw_scores_block(forest_from_text([booster.model_to_string()], rows.shape[1]), asked)
    assert np.abs(scores[:, 0] - booster.predict(asked, raw_score=True, num_threads=1)).max() < 1e-12


def test_several_boosters_are_scored_in_one_call(rows: np.ndarray, label: np.ndarray) -> None:
    """Each column is its booster, also one cut to its first trees."""
    first, second = trained(rows, label, [1]), trained(rows, 1 - label, [], num_leaves=7)
    forest = forest_from_text([first.model_to_string(), second.model_to_string(num_iteration=5)])
    expected = [
        float(booster.predict(rows[:1], raw_score=True, num_threads=1, num_iteration=rounds)[0])
        for booster, rounds in ((first, -1), (second, 5))
    ]
    assert raw_scores(forest, rows[0]).tolist() == pytest.approx(expected, abs=1e-12)


def test_timed_members_give_one_score_a_period(rows: np.ndarray, label: np.ndarray) -> None:
    """One walk down a tree gives what LightGBM gives when it is asked period by period; others stand beside."""
    periods = np.random.default_rng(2).integers(0, 5, len(rows)).astype(np.float64)
    later = (label + periods > 2).astype(np.float64)
    some = [0, 1, 3, 7]
    seen = np.column_stack([rows[:, some], periods])
    timed = lgb.train(
        {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 15},
        lgb.Dataset(seen, later, feature_name=[*map(column_name, some), PERIOD], categorical_feature=[1]),
        30,
    )
    other = trained(rows, label, [])
    texts = [timed.model_to_string(), other.model_to_string()]
    forest = forest_from_text(texts, rows.shape[1], n_timed=1, n_periods=5)

    found = raw_scores_block(forest, rows)

    for period in range(5):
        asked = np.column_stack([rows[:, some], np.full(len(rows), float(period))])
        assert np.allclose(found[:, period], timed.predict(asked, raw_score=True), rtol=0, atol=1e-12)
    assert np.allclose(found[:, 5], other.predict(rows, raw_score=True), rtol=0, atol=1e-12)
    assert np.allclose(found, lightgbm_raw_scores(texts, rows, n_timed=1, n_periods=5), rtol=0, atol=1e-12)
