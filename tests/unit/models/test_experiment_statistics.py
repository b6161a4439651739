"""What arms differ by, against numbers computed by hand and scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm, ttest_ind

from models.experiment_statistics import (
    Looks,
    PairedArms,
    always_valid_multiplier,
    arm_mean,
    difference,
    ratio_of_differences,
    sample_size,
    spread_of,
)

LOOKS = Looks(planned=1_000, smallest_arm=2)


def test_equal_probabilities_give_plain_means() -> None:
    """Whatever the probability is: mean and squared standard error are the usual ones."""
    y = np.array([1.0, 3.0, 8.0])

    found = arm_mean(y, np.full(3, 0.2))

    assert (found.n, found.mean) == (3, 4.0)
    assert found.variance == pytest.approx(y.var(ddof=1) / 3)


def test_who_was_unlikely_counts_for_more() -> None:
    """Half as likely, twice the weight: (2 * 6 + 1 * 0) / 3."""
    found = arm_mean(np.array([6.0, 0.0]), np.array([0.25, 0.5]))

    assert found.mean == pytest.approx(4.0)
    # 2 (4 (6-4)^2 + 1 (0-4)^2) / 9, in weights of 2 and 1
    assert found.variance == pytest.approx(2 * (4 * 4 + 16) / 9)


def test_a_difference_has_the_interval_of_welch() -> None:
    """Of many people: that of scipy's t-test with unequal variances."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(1.0, 2.0, 4_000), rng.normal(0.5, 1.0, 900)

    found = difference(arm_mean(one, np.full(4_000, 0.8)), arm_mean(other, np.full(900, 0.2)), LOOKS)

    reference = ttest_ind(one, other, equal_var=False)
    low, high = reference.confidence_interval(0.95)
    assert found.estimate == pytest.approx(one.mean() - other.mean())
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))
    assert found.always_low < found.low < found.high < found.always_high


def test_none_of_a_few_is_not_certain() -> None:
    """Without a yes among 98 the share is taken as 1 in 100 for the spread."""
    found = arm_mean(np.zeros(98), np.full(98, 0.5), is_binary=True)

    assert (found.mean, found.variance) == (0.0, pytest.approx(0.01 * 0.99 / 98))
    assert arm_mean(np.zeros(98), np.full(98, 0.5)).variance == 0.0


def test_too_few_tell_nothing() -> None:
    """Below the smallest arm, and of nobody, everything is unknown."""
    few = arm_mean(np.arange(10.0), np.full(10, 0.5))
    nobody = arm_mean(np.zeros(0), np.zeros(0))
    looks = Looks(smallest_arm=11)

    assert all(math.isnan(one) for one in difference(few, few, looks))
    assert all(math.isnan(one) for one in spread_of(few, looks))
    assert math.isnan(nobody.mean)
    assert math.isnan(difference(nobody, few, LOOKS).estimate)


def test_many_looks_cost_least_at_the_planned_number() -> None:
    """The width is smallest there among all ways to mix, and only its share of the plan counts."""

    def squared_width(x: float) -> float:
        return (1 + 1 / x) * (math.log1p(x) - 2 * math.log(0.05))

    best = minimize_scalar(squared_width, bounds=(0.1, 100), method="bounded").fun

    assert always_valid_multiplier(1_000, LOOKS) == pytest.approx(math.sqrt(best), rel=1e-6)
    assert always_valid_multiplier(1_000, LOOKS) == pytest.approx(3.035, abs=0.001)
    assert always_valid_multiplier(50, Looks(planned=100)) == pytest.approx(always_valid_multiplier(500, LOOKS))
    assert always_valid_multiplier(1e9, LOOKS) > always_valid_multiplier(1_000, LOOKS) > LOOKS.z


def test_gain_for_each_unit_spent() -> None:
    """Three more gained for one more spent, and the interval holds it."""
    rng = np.random.default_rng(2)
    first = np.arange(4_000) < 3_000
    spend = np.where(first, rng.uniform(0.5, 1.5, 4_000), 0.0)
    gain = 3 * spend + rng.normal(5.0, 1.0, 4_000)

    found = ratio_of_differences(PairedArms(gain, spend, np.where(first, 0.75, 0.25), first), LOOKS)

    assert found.always_low < found.low < 3.0 < found.high < found.always_high
    # Spends are known well, so it is nearly the error of the gain over the spend.
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(1 / 3_000 + 1 / 1_000), rel=0.15)


def test_no_interval_where_nothing_may_have_been_spent() -> None:
    """Spends that may be the same bound no ratio; equal ones give none."""
    rng = np.random.default_rng(3)
    first = np.arange(200) < 100
    gain = rng.normal(size=200)
    probability = np.full(200, 0.5)

    loose = ratio_of_differences(PairedArms(gain, rng.normal(size=200), probability, first), LOOKS)
    none = ratio_of_differences(PairedArms(gain, np.zeros(200), probability, first), LOOKS)

    assert not math.isnan(loose.estimate)
    assert math.isnan(loose.low)
    assert math.isnan(none.estimate)


def test_the_sample_size_of_a_textbook() -> None:
    """Two equal arms at 50 % and 5 points: 1,570 in each, at 80 % power."""
    n = 10_000
    variance = 2 * 0.25 / (n / 2)

    found = sample_size(variance, n, 0.05, Looks(planned=4_000), power=0.8)

    each = 2 * 0.25 * (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 / 0.05**2
    assert found.people == pytest.approx(2 * each)
    assert round(found.people / 2) == 1_570
    assert found.smallest_now == pytest.approx(0.05 * math.sqrt(found.people / n))


def test_looking_at_any_time_takes_more_people() -> None:
    """So many that the interval for many looks leaves 0 out with the power asked for."""
    looks = Looks(planned=4_000)
    found = sample_size(0.0001, 10_000, 0.05, looks, power=0.8)

    error = math.sqrt(0.0001 * 10_000 / found.people_if_looking)
    margin = (always_valid_multiplier(found.people_if_looking, looks) + norm.ppf(0.8)) * error
    assert margin == pytest.approx(0.05, rel=1e-3)
    assert found.people_if_looking > found.people


def test_people_with_many_ids_do_not_shift_the_holdout() -> None:
    """They are twice as likely to be in it and answer more often anyway: plain means differ, weighted ones do not."""
    rng = np.random.default_rng(5)
    has_many = rng.random(40_000) < 0.5
    holdout = np.where(has_many, 0.4, 0.1)
    is_holdout = rng.random(40_000) < holdout
    y = (rng.random(40_000) < np.where(has_many, 0.5, 0.2)).astype(np.float64)

    held = arm_mean(y[is_holdout], holdout[is_holdout], is_binary=True)
    others = arm_mean(y[~is_holdout], 1 - holdout[~is_holdout], is_binary=True)

    assert y[is_holdout].mean() - y[~is_holdout].mean() > 0.1
    found = difference(held, others, LOOKS)
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.05
