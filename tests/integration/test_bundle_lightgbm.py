"""From fits to a served score: the bundle gives what LightGBM's own boosters give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.boosting import Boosting, lightgbm_raw_scores
from models.bundle import load_bundle, member_texts, write_bundle
from models.hazards import Course, Periods
from models.heads import FittedHeads
from models.scoring import Scorer
from models.stall import Slice, StallParams, fit_stall
from models.uplift import UpliftParams, fit_uplift
from tests.boosters import lineage

PERIODS = Periods((4, 10, 30), 1)
NAMES = ("dwell_hours", "n_contacts", "channel_code", "nps")
SMALL = Boosting(rounds=20, patience=5, num_leaves=5, min_rows=30)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Four features, a tenth of the values unknown."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2400, 4))
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


@pytest.fixture(scope="module")
def fits(rows: np.ndarray) -> tuple[FittedHeads, FittedHeads]:
    """A stall and an uplift fit on the same customers."""
    rng = np.random.default_rng(1)
    known = np.nan_to_num(rows)
    progress = rng.exponential(10 * np.exp(-2 * known[:, 0]))
    abandon = rng.exponential(40, 2400)
    course = Course(
        np.where(progress <= abandon, progress, np.inf),
        np.where(abandon < progress, abandon, np.inf),
        np.full(2400, 99.0),
    )
    slices = [
        Slice(rows, part, Course(*(column[part] for column in course)), part)
        for part in (np.arange(1600), np.arange(1600, 2400))
    ]
    stall = fit_stall(*slices, periods=PERIODS, params=StallParams(boosting=SMALL), seed=2)
    arm = rng.integers(0, 2, 2400)
    chance = 0.3 + arm * np.where(known[:, 1] > 0, 0.3, -0.1)
    uplift = fit_uplift(
        rows,
        arm,
        (rng.random(2400) < chance).astype(np.float64),
        outcome_id="visit",
        arm_ids=("no_action", "email"),
        binary=True,
        selection_probability=np.full(2400, 0.5),
        params=UpliftParams(response=SMALL, effect=SMALL),
        seed=2,
    )
    return stall, uplift.fitted


def test_a_fitted_bundle_is_written_proven_and_scores(
    fits: tuple[FittedHeads, FittedHeads], rows: np.ndarray, tmp_path: Path
) -> None:
    """The golden rows carry LightGBM's scores; the served effect follows the feature that moves it."""
    texts, _, n_timed = member_texts(fits)
    assert list(texts)[:n_timed] == ["progress", "abandon"]
    write_bundle(
        tmp_path / "bundle",
        lineage=replace(lineage(), feature_names=NAMES),
        fitted=fits,
        golden_rows=rows[:64],
        golden_raw=lightgbm_raw_scores(list(texts.values()), rows[:64], n_timed=n_timed, n_periods=len(PERIODS)),
    )
    scorer = Scorer(load_bundle(tmp_path / "bundle", NAMES))
    persuadable, sleeping = np.array([0.0, 1.5, 0.0, 0.0]), np.array([0.0, -1.5, 0.0, 0.0])
    (gain,), (loss,) = (scorer.effects(x, [("visit", "email")]) for x in (persuadable, sleeping))
    assert gain.source == "model"
    assert gain.uplift > 0.1 > 0.05 > loss.uplift
    assert scorer.stall(np.array([-2.0, 0, 0, 0])).stall_propensity > 0.7
    assert scorer.stall(np.array([2.0, 0, 0, 0])).stall_propensity < 0.3
