"""Groups beside the rest: means, differences, and errors over whole customers."""

from __future__ import annotations

import numpy as np
import pytest

from models.group_differences import group_means, mean_intervals, simultaneous_interval


def test_a_customer_is_drawn_as_a_whole() -> None:
    """Decisions of one customer that say the same are worth one: repeating them makes nothing surer."""
    rng = np.random.default_rng(1)
    once, people = rng.normal(size=(300, 1)), np.arange(300)

    (single,) = mean_intervals(once, people, seed=5, n_resamples=300, level=0.95)
    (repeated,) = mean_intervals(np.repeat(once, 9, axis=0), np.repeat(people, 9), seed=5, n_resamples=300, level=0.95)

    assert repeated == pytest.approx(single)


def test_the_error_is_that_of_two_independent_means() -> None:
    """``sqrt(s1^2 / n1 + s2^2 / n2)`` where every customer has one row."""
    rng = np.random.default_rng(2)
    labels = np.where(np.arange(1200) % 3 == 0, "a", "b")
    values = rng.normal(size=1200)

    first, _ = group_means(values[:, None], labels, np.arange(1200), seed=3, n_resamples=2000)

    expected = np.sqrt(sum(values[labels == one].var() / (labels == one).sum() for one in "ab"))
    assert first.difference[0] == pytest.approx(values[labels == "a"].mean() - values[labels == "b"].mean())
    assert first.error[0] == pytest.approx(expected, rel=0.06)  # 2,000 resamples know a deviation to 1.6 %


def test_differences_of_no_effect_are_called_so() -> None:
    """Of 200 worlds in which four groups do not differ, at most about 5 % have any interval off zero."""
    rng = np.random.default_rng(7)
    wrong = 0
    for world in range(200):
        labels = rng.choice(["a", "b", "c", "d"], size=400)
        people = rng.integers(0, 150, size=400)
        values = rng.normal(size=150)[people] + rng.normal(size=400)
        groups = group_means(values[:, None], labels, people, seed=world, n_resamples=200)
        found = [
            simultaneous_interval(float(one.difference[0]), float(one.error[0]), comparisons=4, level=0.95)
            for one in groups
        ]
        wrong += any(one.low > 0 or one.high < 0 for one in found)

    assert wrong <= 20  # 10 expected, three standard deviations above it


def test_a_group_without_a_rest_differs_from_nothing() -> None:
    """Unknown is NaN."""
    (only,) = group_means(np.ones((5, 1)), np.full(5, "a"), np.arange(5), seed=1, n_resamples=20)

    assert (only.mean[0], np.isnan(only.difference[0]), np.isnan(only.error[0])) == (1.0, True, True)


def test_of_one_customer_the_mean_has_no_bounds() -> None:
    """However many decisions there are of them."""
    (found,) = mean_intervals(np.arange(4.0)[:, None], np.array(["a"] * 4), seed=1, n_resamples=50, level=0.95)
    assert found.estimate == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_of_a_group_of_one_customer_the_error_is_unknown() -> None:
    """It is the same whenever it is drawn, so its resamples say that it is certain."""
    labels, people = np.array(["a", "a", "b", "b", "b"]), np.array(["x", "x", "y", "z", "z"])
    one, rest = group_means(np.arange(5.0)[:, None], labels, people, seed=1, n_resamples=100)
    assert (one.people, one.difference[0]) == (1, -2.5)
    assert np.isnan([one.error[0], rest.error[0]]).all()


def test_few_customers_make_a_wider_interval() -> None:
    """Five equal customers have four degrees of freedom, as in a textbook's table; one large one leaves hardly any."""
    labels = np.array(["a"] * 5 + ["b"] * 50)
    one, _ = group_means(np.arange(55.0)[:, None], labels, np.arange(55), seed=1, n_resamples=50)
    assert one.freedom == pytest.approx(4.0)
    assert simultaneous_interval(0.0, 1.0, comparisons=1, level=0.95, freedom=4.0).high == pytest.approx(
        2.776, abs=1e-3
    )

    many = np.array(["a"] * 104 + ["b"] * 50)
    people = np.r_[np.zeros(100), np.arange(1, 55)]
    unequal, _ = group_means(np.arange(154.0)[:, None], many, people, seed=1, n_resamples=50)
    assert (unequal.people, unequal.freedom) == (5, 1.0)
