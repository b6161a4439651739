"""Off-policy estimates, against numbers computed by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.off_policy import (
    EstimateParams,
    EstimatorName,
    doubly_robust_responses,
    dr_with_shrinkage,
    ips,
    off_policy_estimates,
    snips,
    switch_dr,
)
from models.off_policy_log import (
    Guard,
    Logged,
    UnsupportedPolicy,
    effective_sample_size,
    logged_decisions,
    refusals,
    weight_tail,
)


def test_only_the_arm_taken_is_corrected() -> None:
    """``q + (y - q) / e`` for the arm taken, ``q`` for the others."""
    scores = doubly_robust_responses(
        np.array([1.0, 0.0]), np.array([1, 0]), np.array([0.5, 0.25]), np.array([[0.2, 0.4], [0.2, 0.4]])
    )
    assert np.allclose(scores, [[0.2, 1.6], [-0.6, 0.4]])


def test_the_mean_is_right_though_the_predictions_are_wrong() -> None:
    """With exact probabilities the mean score is the arm's mean response, whatever was predicted."""
    rng = np.random.default_rng(1)
    n = 40_000
    taken = (rng.random(n) < 0.3).astype(np.int64)
    y = np.where(taken == 1, rng.random(n) < 0.6, rng.random(n) < 0.1).astype(np.float64)
    scores = doubly_robust_responses(y, taken, np.where(taken == 1, 0.3, 0.7), np.full((n, 2), 0.9))
    # Four standard errors of the noisier arm.
    assert np.allclose(scores.mean(axis=0), [0.1, 0.6], atol=0.02)


@pytest.mark.parametrize(("weights", "expected"), [([1.0, 1.0, 1.0], 3.0), ([1.0, 0.0], 1.0), ([0.0, 0.0], 0.0)])
def test_effective_sample_size(weights: list[float], expected: float) -> None:
    """Equal weights count each row; nothing followed counts nothing."""
    assert effective_sample_size(np.array(weights)) == expected


def a_log(**given: object) -> Logged:
    """Four decisions between two arms, taken with 1/2, 1/4, 1/2 and 1/4, and a policy that always takes the second."""
    fields: dict[str, Any] = {
        "reward": np.array([1.0, 0.0, 3.0, 2.0]),
        "arm": np.array([1, 0, 1, 1]),
        "selection_probability": np.array([0.5, 0.25, 0.5, 0.25]),
        "policy": np.tile([0.0, 1.0], (4, 1)),
        "predicted": np.tile([0.5, 1.5], (4, 1)),
    }
    return logged_decisions(**{**fields, **given})


PARAMS = EstimateParams(guard=Guard(smallest_ess=0, smallest_ess_share=0, weight_errors=np.inf), resamples=20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IPS", (2 * 1 + 0 + 2 * 3 + 4 * 2) / 4),
        ("SNIPS", (2 * 1 + 0 + 2 * 3 + 4 * 2) / 8),
        ("DM", 1.5),
        ("DR", 1.5 + (2 * -0.5 + 2 * 1.5 + 4 * 0.5) / 4),
    ],
)
def test_estimates_by_hand(name: EstimatorName, expected: float) -> None:
    """The formulas, with weights 2, 0, 2 and 4."""
    found = off_policy_estimates(a_log(), PARAMS)[name]

    assert found.value == pytest.approx(expected)


def test_switching_leaves_large_weights_to_the_model() -> None:
    """Above a threshold of 3 the last row, of weight 4, corrects nothing."""
    found = switch_dr(a_log(), PARAMS, threshold=3.0)

    assert found.value == pytest.approx(1.5 + (2 * -0.5 + 2 * 1.5) / 4)
    # What was left out is 4 * 0.5 in one row of four: a mean of 0.5 and a standard deviation of 0.75 ** 0.5.
    left_out = 0.5 + 0.75**0.5 / 2
    assert found.high >= found.value + left_out
    assert (found.largest_weight, found.share_clipped) == (2.0, 0.25)


def test_shrinkage_by_hand() -> None:
    """Weights 2 and 4 become ``4 * 2 / (4 + 4)`` and ``4 * 4 / (16 + 4)``."""
    found = dr_with_shrinkage(a_log(), PARAMS, shrinkage=4.0)

    assert found.value == pytest.approx(1.5 + (1 * -0.5 + 1 * 1.5 + 0.8 * 0.5) / 4)
    assert found.share_clipped == 0.25


def test_what_an_estimate_rests_on_is_told() -> None:
    """Effective sample size ``8**2 / 24`` and the largest weight; the direct method uses no weight."""
    found = off_policy_estimates(a_log(), PARAMS)

    assert found["IPS"].ess == pytest.approx(64 / 24)
    assert found["IPS"].largest_weight == 4.0
    assert (found["DM"].ess, found["DM"].largest_weight) == (4.0, 1.0)


def test_the_direct_methods_interval_knows_of_its_bias() -> None:
    """A model that says the same of everything leaves nothing to resample; the logged rewards say that it is wrong."""
    found = off_policy_estimates(a_log(predicted=np.full((4, 2), 9.0)), PARAMS)

    assert (found["DM"].value, found["DM"].high) == (9.0, 9.0)
    assert found["DM"].low == found["DR"].low < 9.0


def test_a_cut_is_chosen_only_where_it_pays() -> None:
    """Equal weights are left alone; one huge weight on noise is not."""
    rng = np.random.default_rng(3)
    n = 2_000
    weight = np.where(np.arange(n) < 2, 900.0, 0.1)
    noise = rng.normal(size=n)
    wild = Logged(
        reward=1 + noise,
        weight=weight,
        predicted_taken=np.ones(n),
        predicted_policy=np.ones(n),
        unsupported=np.zeros(n),
    )
    even = replace(wild, weight=np.ones(n))

    assert switch_dr(even, PARAMS).share_clipped == 0.0
    assert abs(switch_dr(wild, PARAMS).value - 1) < abs(ips(wild, PARAMS).value - 1)
    assert dr_with_shrinkage(wild, PARAMS).largest_weight < 900


def test_intervals_draw_customers() -> None:
    """Rows of one customer that are copies of each other tell as much as one: the interval is as wide as without."""
    rng = np.random.default_rng(5)
    once = a_log(
        reward=rng.random(400),
        arm=rng.integers(0, 2, 400),
        selection_probability=np.full(400, 0.5),
        policy=np.tile([0.0, 1.0], (400, 1)),
        predicted=None,
    )
    four = Logged(
        **{name: np.repeat(getattr(once, name), 4) for name in ("reward", "weight", "predicted_taken")},
        predicted_policy=np.repeat(once.predicted_policy, 4),
        unsupported=np.repeat(once.unsupported, 4),
        clusters=np.repeat(np.arange(400), 4),
    )

    one, repeated = ips(once, PARAMS), ips(four, PARAMS)

    assert repeated.value == pytest.approx(one.value)
    assert repeated.high - repeated.low == pytest.approx(one.high - one.low, rel=1e-9)


def test_too_few_effective_decisions_are_refused() -> None:
    """All reasons at once, each with its number."""
    with pytest.raises(UnsupportedPolicy) as refused:
        off_policy_estimates(a_log(), EstimateParams())

    assert [one.code for one in refused.value.refusals] == ["few_decisions"]
    assert "3 effective decisions, expected at least 100" in str(refused.value)


def test_a_low_share_is_refused() -> None:
    """Many decisions, of which one in a hundred speaks for all."""
    weight = np.where(np.arange(20_000) % 100 == 0, 100.0, 0.0)
    log = Logged(
        **dict.fromkeys(("reward", "predicted_taken", "predicted_policy", "unsupported"), 0 * weight), weight=weight
    )

    assert [one.code for one in refusals(log, Guard())] == ["low_share"]


def test_what_could_not_be_logged_is_refused() -> None:
    """The policy takes the second arm, which had no chance on half of the rows."""
    table = np.tile([[1.0, 0.0], [0.5, 0.5]], (500, 1))
    log = a_log(
        reward=np.zeros(1_000),
        arm=np.tile([0, 1], 500),
        selection_probability=np.tile([1.0, 0.5], 500),
        policy=np.tile([0.0, 1.0], (1_000, 1)),
        predicted=None,
        arm_probabilities=table,
    )

    assert "no_support" in [one.code for one in refusals(log, Guard())]


def test_a_tail_of_weights_by_hand() -> None:
    """199 weights of 1 and one of 101: the largest hundredth, two rows, holds 102 of 300."""
    found = weight_tail(np.r_[np.ones(199), 101.0])

    assert found.largest_share == pytest.approx(102 / 300)
    assert (found.mean, found.largest, found.quantiles[0.99]) == (1.5, 101.0, 1.0)
    assert found.ess == pytest.approx(300**2 / (199 + 101**2))


def test_no_weight_has_no_tail() -> None:
    """Where nothing was followed no share can be told."""
    assert np.isnan(weight_tail(np.zeros(5)).largest_share)


def test_a_refusal_says_what_was_found_and_expected() -> None:
    """For machines."""
    found = {one.code: one for one in refusals(a_log(), Guard(smallest_ess=3, smallest_ess_share=0.7))}

    assert found["few_decisions"].value == pytest.approx(64 / 24)
    assert found["few_decisions"].threshold == 3.0
    assert (found["low_share"].value, found["low_share"].threshold) == (pytest.approx(64 / 24 / 4), 0.7)


def test_parts_are_normalised_one_by_one() -> None:
    """Rows 1 and 3 tell of one part, 2 and 4 of another, each of expected weight 0.5; 10 is known of every row."""
    log = replace(
        a_log(),
        weight=np.array([2.0, 1.0, 2.0, 3.0]),
        part=np.array([0, 1, 0, 1]),
        expected=np.full(4, 0.5),
        known=np.full(4, 10.0),
    )

    assert ips(log, PARAMS).value == pytest.approx(10 + (2 * 1 + 0 + 2 * 3 + 3 * 2) / 4)
    assert snips(log, PARAMS).value == pytest.approx(10 + 0.5 * (2 * 1 + 2 * 3) / 4 + 0.5 * (0 + 3 * 2) / 4)


def test_a_probability_that_was_rounded_above_1_is_one() -> None:
    """Logs hold sums over the arms, which may be a little more than 1: they are no reason to refuse all of a log."""
    certain = np.nextafter(1.0, 2.0)

    assert ips(a_log(selection_probability=np.full(4, certain)), PARAMS).value == pytest.approx(
        ips(a_log(selection_probability=np.ones(4)), PARAMS).value
    )


def test_wrong_probabilities_are_refused() -> None:
    """Weights whose mean is not 1 belong to another log."""
    log = a_log(
        reward=np.zeros(1_000),
        arm=np.tile([0, 1], 500),
        selection_probability=np.full(1_000, 0.9),
        policy=np.tile([0.0, 1.0], (1_000, 1)),
        predicted=None,
    )

    assert [one.code for one in refusals(log, Guard())] == ["wrong_weights"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reward": np.zeros(3)}, "3 rewards, 4 arms"),
        ({"selection_probability": np.array([0.5, 0.0, 0.5, 0.5])}, "outside (0, 1]"),
        ({"policy": np.tile([0.5, 0.4], (4, 1))}, "do not sum to 1"),
        ({"predicted": np.zeros((4, 3))}, "predicted of shape (4, 3)"),
    ],
)
def test_bad_tables_are_refused(given: dict[str, object], message: str) -> None:
    """The message names what does not fit."""
    with pytest.raises(NotEnoughData, match=re.escape(message)):
        a_log(**given)
