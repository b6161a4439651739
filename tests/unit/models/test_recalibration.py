"""Recalibration: what a measured slope makes of an effect and of its deviation."""

from __future__ import annotations

import numpy as np
import pytest

from models.recalibration import Recalibration, _misfit


def measured(**changes: float) -> Recalibration:
    """A slope of 2 with a standard error of 1/2, on an ensemble of variance 4 around 10."""
    found = {
        "slope": 2.0,
        "slope_se": 0.5,
        "centre": 10.0,
        "variance": 4.0,
        "jackknife": 1.0,
        "misfit": 0.0,
        "shared": 0.25,
        "n_rows": 1_000,
    }
    return Recalibration(**{**found, **changes})  # type: ignore[arg-type]  # n_rows is whole


def test_a_slope_is_shrunk_by_its_own_noise() -> None:
    """2 * (1 - 1/16)."""
    assert measured().served_slope == pytest.approx(1.875)


@pytest.mark.parametrize(("slope", "slope_se"), [(-1.0, 0.1), (0.0, 0.0), (0.4, 0.5)])
def test_an_order_that_is_noise_or_backwards_is_not_served(slope: float, slope_se: float) -> None:
    """The mean is left; an order is never turned around."""
    assert measured(slope=slope, slope_se=slope_se).served_slope == 0.0


def test_the_arms_mean_stays_where_it_is() -> None:
    """What is served is mean + slope * weight * (ensemble - centre)."""
    line = measured().calibration(mean=3.0, weight=0.8)
    ensemble = np.array([10.0, 12.0])
    assert line.apply(0.8 * ensemble + 0.2 * 3.0).tolist() == pytest.approx([3.0, 3.0 + 1.875 * 0.8 * 2.0])


def test_members_that_do_not_differ_need_no_line() -> None:
    """The identity."""
    assert measured(variance=0.0).calibration(3.0, 0.8).kind == "identity"


def test_the_deviation_is_of_groups_and_of_the_line() -> None:
    """A quarter of the jackknife is shared; the slope is wrong by .5/1.875, the line by 1/4."""
    assert measured().spread_scale == pytest.approx(0.25)
    assert measured().relative_se == pytest.approx(np.hypot(0.5 / 1.875, 0.25))


def test_no_interval_is_narrower_than_groups_were_off() -> None:
    """Groups that were off by .03 beyond noise beside a mean that is off by .04; without a misfit there is no floor."""
    assert measured(misfit=0.0009).sigma_floor(0.04) == pytest.approx(0.05)
    assert measured().sigma_floor(0.04) == 0.0


def test_a_bend_that_all_members_share_is_measured() -> None:
    """Residuals of a parabola around its line, beside noise: the mean square of what is not noise, and 0 of noise."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(-1, 1, 40_000)
    noise, people = rng.normal(size=40_000), np.arange(40_000)
    bend = 0.3 * (predicted**2 - 1 / 3)
    weight = np.ones(40_000)
    assert _misfit(bend + noise, predicted, weight, people) == pytest.approx(float(np.mean(bend**2)), rel=0.25)
    assert _misfit(noise, predicted, weight, people) < 1e-4
