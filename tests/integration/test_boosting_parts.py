"""Boosters on some rows of a table that others share."""

from __future__ import annotations

import numpy as np
import pytest

from models.boosting import Boosting, Part, TrainingTable, boosted, boosted_together

BOOSTING = Boosting(rounds=20, patience=20, num_leaves=4, min_rows=20, learning_rate=0.2, max_bin=31)


def a_table(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed features, one of them the same in the first half of the rows, and an outcome that follows one."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=n), rng.exponential(size=n) ** 3, np.where(np.arange(n) < n // 2, 0.0, 1.0)])
    return x, (rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))).astype(np.float64)


def test_a_booster_on_a_part_is_the_one_of_a_table_of_those_rows_alone() -> None:
    """Other rows of the table change nothing, not even where features are cut into bins."""
    x, y = a_table(600, seed=3)
    rows = np.arange(300)

    on_part = boosted(TrainingTable(x, max_bin=31), y, objective="binary", boosting=BOOSTING, seed=1, rows=rows)

    alone = boosted(
        TrainingTable(x[:300], max_bin=31), y[:300], objective="binary", boosting=BOOSTING, seed=1, rows=rows
    )
    assert on_part.text() == alone.text()


def test_the_held_out_loss_is_that_of_the_scores_on_the_held_out_rows() -> None:
    """Held-out rows go down the trees by the bins of the rows that were trained on."""
    x, y = a_table(600, seed=4)
    part = Part(rows=np.arange(400), held_out=np.arange(400, 600), label=y)

    fits, losses = boosted_together(TrainingTable(x, max_bin=31), [part], objective="binary", boosting=BOOSTING, seed=1)

    chance = 1 / (1 + np.exp(-fits[0].raw(x[400:])))
    expected = -np.mean(y[400:] * np.log(chance) + (1 - y[400:]) * np.log(1 - chance))
    assert losses[-1] / 200 == pytest.approx(expected, rel=1e-6)
