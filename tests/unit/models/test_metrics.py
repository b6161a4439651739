"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.effect_metrics import effect_slope
from models.metrics import (
    auc,
    auuc,
    bootstrap_interval,
    brier,
    calibration_slope,
    ece,
    log_loss,
    qini_curve,
    qini_sklift,
    random_qini,
)
from models.uplift_metrics import UpliftRanking


def a(*values: float) -> np.ndarray:
    """An array of floats."""
    return np.array(values, dtype=np.float64)


# Six rows, best uplift first: outcomes 1 0 1 0 0 1, treated 1 0 1 0 1 0.
Y, UPLIFT, TREATED = a(1, 0, 1, 0, 0, 1), a(6, 5, 4, 3, 2, 1), a(1, 0, 1, 0, 1, 0)


def test_auc_counts_ties_half() -> None:
    """Of the four pairs two are won, one is tied, one is lost."""
    assert auc(a(0, 0, 1, 1), a(0.2, 0.5, 0.2, 0.9)) == pytest.approx(2.5 / 4)


def test_auc_of_one_kind_is_unknown() -> None:
    """Without negatives there is nothing to rank against."""
    assert np.isnan(auc(a(1, 1), a(0.1, 0.2)))


def test_brier_is_the_mean_square() -> None:
    """(0.2 squared + 0.4 squared) / 2."""
    assert brier(a(1, 0), a(0.8, 0.4)) == pytest.approx(0.1)


def test_log_loss_is_in_nats_and_finite() -> None:
    """A half costs log 2; a certain mistake costs much, not infinity."""
    assert log_loss(a(1), a(0.5)) == pytest.approx(np.log(2))
    assert np.isfinite(log_loss(a(1), a(0.0)))


def test_ece_weighs_bins_of_equal_mass() -> None:
    """Two bins of two: mean gaps |0.5 - 0.2| and |1 - 0.7|, so 0.3; in one bin of all |0.75 - 0.45| = 0.3."""
    happened, probability = a(0, 1, 1, 1), a(0.1, 0.3, 0.6, 0.8)
    assert ece(happened, probability, n_bins=2) == pytest.approx(0.3)
    assert ece(a(0, 1), a(0.5, 0.5), n_bins=1) == pytest.approx(0.0)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_calibration_slope_finds_how_far_the_odds_were_stretched(slope: float) -> None:
    """Outcomes drawn at slope times the predicted log odds give that slope back."""
    rng = np.random.default_rng(0)
    margin = rng.normal(size=40_000)
    happened = (rng.random(40_000) < 1 / (1 + np.exp(-slope * margin))).astype(np.float64)
    assert calibration_slope(happened, 1 / (1 + np.exp(-margin))) == pytest.approx(slope, abs=0.05)


def test_calibration_slope_of_a_constant_is_unknown() -> None:
    """A constant has no slope."""
    assert np.isnan(calibration_slope(a(0, 1, 1), a(0.5, 0.5, 0.5)))


def test_the_qini_curve_scales_the_controls_to_the_treated() -> None:
    """After 6 rows: 2 treated outcomes - 1 control outcome * 3/3 = 1; after 3: 2 - 0 * 2/1 = 2."""
    x, gained = qini_curve(Y, UPLIFT, TREATED)
    assert x.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert gained.tolist() == pytest.approx([0, 1, 1, 2, 2, 2, 1])


def test_qini_sklift_is_the_area_above_random_over_the_perfect_one() -> None:
    """Curve area 8.5, random 3; perfect (treated outcomes, then blanks, then the control outcome) 10.

    The perfect scores are 1 (two rows), 0 (three rows), -1 (one row): its points are (0,0) (2,2) (5,2) (6,1), area
    2 + 6 + 1.5 = 9.5. So (8.5 - 3) / (9.5 - 3).
    """
    assert qini_sklift(Y, UPLIFT, TREATED) == pytest.approx(5.5 / 6.5)


def test_qini_sklift_of_the_perfect_ranking_is_one_and_of_a_constant_zero() -> None:
    """A constant takes all rows at once: the random line."""
    assert qini_sklift(Y, Y * TREATED - Y * (1 - TREATED), TREATED) == pytest.approx(1.0)
    assert qini_sklift(Y, np.zeros(6), TREATED) == pytest.approx(0.0)


def test_qini_sklift_without_controls_is_unknown() -> None:
    """There is no increment to count."""
    assert np.isnan(qini_sklift(a(1, 0), a(1, 2), a(1, 1)))


def test_auuc_averages_the_normalised_gain() -> None:
    """Worked out row by row.

    Lift after k rows (first control at 2): k=1 interpolated to 0.5 of k=2. k=2: 1-0=1; k=3: 1-0; k=4: 1-0;
    k=5: 2/3-0; k=6: 2/3-1/3. Gains 0, .5, 2, 3, 4, 10/3, 2, over the last (2), averaged over 7.
    """
    assert auuc(Y, UPLIFT, TREATED) == pytest.approx((0 + 0.5 + 2 + 3 + 4 + 10 / 3 + 2) / 2 / 7)


def test_uplift_at_k_compares_inside_the_best() -> None:
    """Of the best half one control (0) and two treated (1, 1)."""
    assert UpliftRanking(Y, UPLIFT, TREATED).uplift_at(0.5) == pytest.approx(1.0)
    assert np.isnan(UpliftRanking(Y, UPLIFT, TREATED).uplift_at(1 / 6))


def test_a_random_ranking_gains_nothing() -> None:
    """The baseline lies near 0 on a randomised table."""
    rng = np.random.default_rng(1)
    treated = (rng.random(4000) < 0.5).astype(np.float64)
    y = (rng.random(4000) < 0.2 + 0.1 * treated).astype(np.float64)
    assert random_qini(y, treated, seed=2) == pytest.approx(0.0, abs=0.02)


def test_the_effect_slope_is_a_regression_on_the_predictions() -> None:
    """Scores that are twice the predictions plus a constant have slope 2."""
    assert effect_slope(a(3, 5, 7), a(1, 2, 3)) == pytest.approx(2.0)
    assert np.isnan(effect_slope(a(1, 2), a(1, 1)))
    assert np.isnan(effect_slope(np.arange(399.0), np.full(399, 0.07031193063)))


def test_the_bootstrap_interval_of_a_mean_has_its_known_width() -> None:
    """1.96 standard errors on each side, within a tenth."""
    values = np.random.default_rng(3).normal(size=900)
    found = bootstrap_interval(lambda rows: float(values[rows].mean()), 900, clusters=None, seed=4, n_resamples=1000)
    assert found.estimate == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 30, rel=0.1)


def test_clusters_are_drawn_whole() -> None:
    """Ten copies of each customer carry no more information than one."""
    values = np.random.default_rng(5).normal(size=100)
    copies, customers = np.repeat(values, 10), np.repeat(np.arange(100), 10)
    one = bootstrap_interval(lambda rows: float(values[rows].mean()), 100, clusters=None, seed=6)
    ten = bootstrap_interval(lambda rows: float(copies[rows].mean()), 1000, clusters=customers, seed=6)
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))


def test_one_customer_has_no_bounds() -> None:
    """Drawn again it is the same customer: an interval without width would be certainty from nothing."""
    values = np.arange(9.0)
    found = bootstrap_interval(lambda rows: float(values[rows].mean()), 9, clusters=np.zeros(9), seed=6)
    assert found.estimate == 4.0
    assert np.isnan([found.low, found.high]).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    """Chance comes from the seed alone."""
    values = np.arange(50.0)

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    assert bootstrap_interval(mean, 50, clusters=None, seed=7) == bootstrap_interval(mean, 50, clusters=None, seed=7)


def test_a_statistic_that_is_mostly_unknown_has_no_bounds() -> None:
    """Bounds from a few lucky resamples would be a lie."""
    found = bootstrap_interval(lambda rows: float("nan"), 10, clusters=None, seed=8)
    assert np.isnan([found.estimate, found.low, found.high]).all()


def test_no_rows_are_refused() -> None:
    """There is nothing to judge on."""
    with pytest.raises(NotEnoughData, match="no rows"):
        bootstrap_interval(lambda rows: 0.0, 0, clusters=None, seed=9)
