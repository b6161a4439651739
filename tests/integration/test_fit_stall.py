"""The stall estimator finds what moves a stall, is calibrated later, and is the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.boosting import Boosting
from models.forest import forest_from_text, raw_scores_block
from models.heads import FittedHeads, head_table, head_values
from models.metrics import auc, calibration_slope, ece
from models.stall import StallParams, fit_stall

PARAMS = StallParams(boosting=Boosting(rounds=60, patience=10, num_leaves=7, min_rows=40))
Slice = tuple[np.ndarray, np.ndarray, np.ndarray]


def moments(n: int, seed: int) -> Slice:
    """Rows whose first feature drives progress and whose second drives leaving; some of both unknown."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    progressed = rng.random(n) < 1 / (1 + np.exp(-1.5 * x[:, 0]))
    abandoned = ~progressed & (rng.random(n) < 1 / (1 + np.exp(1 - 1.5 * x[:, 1])))
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, progressed, abandoned


def predicted(fitted: FittedHeads, x: np.ndarray) -> np.ndarray:
    """``(n, 2)`` stall and abandon."""
    forest = forest_from_text(list(fitted.boosters.values()), x.shape[1])
    return head_values(head_table(fitted.heads, list(fitted.boosters)), raw_scores_block(forest, x))[0]


@pytest.fixture(scope="module")
def fitted() -> FittedHeads:
    """Fitted on 3,000 moments, calibrated on 1,500 later ones."""
    return fit_stall(*moments(3000, 0), calibration=moments(1500, 1), params=PARAMS, seed=7)


def test_later_moments_are_ranked_and_calibrated(fitted: FittedHeads) -> None:
    """On moments that neither slice held."""
    x, progressed, abandoned = moments(4000, 2)
    for column, happened in enumerate((~progressed, abandoned)):
        probability = predicted(fitted, x)[:, column]
        assert auc(happened.astype(np.float64), probability) > 0.75
        assert ece(happened.astype(np.float64), probability) < 0.03
        assert calibration_slope(happened.astype(np.float64), probability) == pytest.approx(1.0, abs=0.2)


def test_the_same_seed_gives_the_same_models(fitted: FittedHeads) -> None:
    """To the last character of the boosters."""
    again = fit_stall(*moments(3000, 0), calibration=moments(1500, 1), params=PARAMS, seed=7)
    assert again == fitted


def test_facts_say_what_was_fitted_on(fitted: FittedHeads) -> None:
    """Counts of both slices and the choice made."""
    facts = fitted.head("stall").facts
    assert (facts["n_rows"], facts["n_calibration"], facts["choice"]) == (3000, 1500, "boosted")


def test_where_nobody_leaves_the_base_rate_is_said() -> None:
    """A journey without exits still has a stall model; the abandon head is a small constant and says why."""
    x, progressed, _ = moments(600, 3)
    later = moments(400, 4)
    nobody = np.zeros(600, dtype=np.bool_)
    fitted = fit_stall(x, progressed, nobody, calibration=(later[0], later[1], nobody[:400]), params=PARAMS, seed=7)
    assert fitted.head("abandon").facts["choice"] == "base_rate"
    assert list(fitted.boosters) == ["stall"]
    assert predicted(fitted, x)[:, 1].tolist() == pytest.approx([0.5 / 1001] * 600)


def test_moments_that_all_progress_cannot_be_fitted() -> None:
    """The message says which slice and what to do."""
    x, progressed, abandoned = moments(100, 5)
    everyone = np.ones(100, dtype=np.bool_)
    with pytest.raises(NotEnoughData, match="100 of 100 calibration moments made progress"):
        fit_stall(x, progressed, abandoned, calibration=(x, everyone, abandoned), params=PARAMS, seed=7)
