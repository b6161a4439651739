"""Effects: the same doubly robust mean as EconML on the same rows, and single effects no worse than causalml's."""

from __future__ import annotations

import numpy as np
import pytest

from models.forest import forest_from_text, raw_scores_block
from models.heads import effect_head, head_table, head_values
from models.uplift import FittedUplift, UpliftParams, fit_uplift
from tests.crosscheck.worlds import Floats, World, library, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries warn of their own dependencies
SEEDS = range(3)


def _ours(known: World, seed: int) -> FittedUplift:
    return fit_uplift(
        known.x,
        known.treated.astype(np.int64),
        known.y,
        outcome_id="y",
        arm_ids=("no_action", "nudge"),
        binary=True,
        selection_probability=np.full(len(known.y), 0.5),
        params=UpliftParams(),
        seed=seed,
    )


def _effects(fitted: FittedUplift, x: Floats) -> Floats:
    heads = fitted.fitted
    table = head_table(heads.heads, tuple(heads.boosters))
    forest = forest_from_text(list(heads.boosters.values()), n_features=x.shape[1])
    values, _ = head_values(table, raw_scores_block(forest, x))
    column: Floats = values[:, table.names.index(effect_head("y", "nudge"))]
    return column


def _error(known: World, effects: Floats) -> float:
    return float(np.sqrt(np.mean((effects - known.effect) ** 2)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mean_effect_is_econmls(seed: int) -> None:
    """Two doubly robust estimates on the same rows differ by far less than their standard error."""
    dr = library("econml.dr")
    known = world(seed)
    learner = dr.LinearDRLearner(random_state=seed)
    learner.fit(known.y, known.treated, X=known.x)

    arm = _ours(known, seed).arms[0]

    assert arm.mean_effect == pytest.approx(float(learner.ate(known.x)), abs=0.5 * arm.mean_se)


def test_single_effects_are_no_worse_than_causalmls_x_learner() -> None:
    """Root mean squared error against the truth, averaged over the seeds; theirs is LightGBM as it comes."""
    meta = library("causalml.inference.meta")
    lightgbm = library("lightgbm")
    ours, theirs = [], []
    for seed in SEEDS:
        known = world(seed)
        learner = meta.BaseXRegressor(lightgbm.LGBMRegressor(n_jobs=1, verbosity=-1, random_state=seed))
        found = learner.fit_predict(known.x, known.treated, known.y, p=np.full(len(known.y), 0.5))
        theirs.append(_error(known, found[:, 0]))
        ours.append(_error(known, _effects(_ours(known, seed), known.x)))

    assert np.mean(ours) < np.mean(theirs)
