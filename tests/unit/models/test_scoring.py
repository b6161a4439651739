"""Scores of customers: one and many alike, probabilities stay probabilities, and every number says where it is from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.hazards import DAY_US
from models.scoring import Scorer
from tests.boosters import PERIODS, ROWS, small_bundle, timed_bundle

PAIRS = (("visit", "email"), ("visit", "call"), ("visit", "large_offer"), ("visit", "case"), ("visit", "push"))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A scorer of the small bundle; the catalogue believes something of ``case`` and of an outcome not modelled."""
    bundle = small_bundle(tmp_path_factory.mktemp("scoring") / "bundle")
    return Scorer(bundle, {("visit", "case"): (0.07, 0.05), ("spend", "case"): (3.0, 1.0)})


def expit(raw: float) -> float:
    """The probability of a raw score."""
    return 1 / (1 + math.exp(-raw))


def test_stall_is_linked_and_calibrated(scorer: Scorer) -> None:
    """Dwell 1 h and no contact give a raw score of -1 + 0.25; Platt's map doubles it and adds 0.5."""
    score = scorer.stall(ROWS[0])
    assert score.stall_propensity == pytest.approx(expit(2 * -0.75 + 0.5))
    assert score.abandon_probability == pytest.approx(expit(-2.0))


def test_what_the_bundle_does_not_estimate_is_unknown(scorer: Scorer) -> None:
    """Days to progress are NaN, not a neutral number, where there are no hazards; so are what was never fitted."""
    assert math.isnan(scorer.stall(ROWS[0]).expected_days_to_progress)
    assert math.isnan(scorer.stall(ROWS[0]).benign_wait)
    assert scorer.stall_curve(ROWS) is None
    assert np.isnan(scorer.customers(ROWS).forecast_block(["visit"])).all()


def test_an_effect_model_is_shrunk_to_the_arms_mean(scorer: Scorer) -> None:
    """Dwell 48 h: members .10 and .06; half of .08 and half of .02."""
    (email,) = scorer.effects(ROWS[1], PAIRS[:1])
    assert email.source == "model"
    assert email.control_response == pytest.approx(expit(0.0))
    assert email.uplift == pytest.approx(0.05)
    assert email.sigma == pytest.approx(math.sqrt(0.25 * 0.5 * 2 * 0.02**2 + 0.01**2))


def test_an_arm_without_a_model_gives_its_mean(scorer: Scorer) -> None:
    """And says so."""
    (call,) = scorer.effects(ROWS[0], PAIRS[1:2])
    assert (call.source, call.uplift, call.sigma) == ("mean", pytest.approx(0.03), pytest.approx(0.005))


def test_the_response_under_an_action_stays_a_probability(scorer: Scorer) -> None:
    """An effect of .99 on a response of one half can only change the other half."""
    (large,) = scorer.effects(ROWS[1], PAIRS[2:3])
    assert large.control_response + large.uplift == pytest.approx(1.0)


def test_an_arm_nobody_got_gives_the_catalogues_belief(scorer: Scorer) -> None:
    """With the control response that is known."""
    (case,) = scorer.effects(ROWS[1], PAIRS[3:4])
    assert (case.source, case.uplift, case.sigma) == ("prior", pytest.approx(0.07), 0.05)
    assert case.control_response == pytest.approx(0.5)


def test_an_outcome_without_a_control_model_keeps_the_belief_unclipped(scorer: Scorer) -> None:
    """Its response is unknown, so there is nothing to clip to."""
    (spend,) = scorer.effects(ROWS[1], [("spend", "case")])
    assert (spend.source, spend.uplift) == ("prior", 3.0)
    assert math.isnan(spend.control_response)


def test_an_arm_that_nobody_knows_anything_of_has_no_effect(scorer: Scorer) -> None:
    """NaN and ``none``; never 0."""
    (push,) = scorer.effects(ROWS[1], PAIRS[4:])
    assert push.source == "none"
    assert math.isnan(push.uplift)
    assert math.isnan(push.sigma)


def test_many_customers_score_as_each_alone(scorer: Scorer) -> None:
    """Bit for bit, in the order of the pairs."""
    block = scorer.effect_block(ROWS, PAIRS)
    for row, x in enumerate(ROWS):
        for place, score in enumerate(scorer.effects(x, PAIRS)):
            found = (block.control_response[row, place], block.uplift[row, place], block.sigma[row, place])
            assert np.array_equal(score[:3], found, equal_nan=True)
            assert block.source[place] == score.source


def test_stall_of_many_customers_is_that_of_each(scorer: Scorer) -> None:
    """Bit for bit."""
    block = scorer.stall_block(ROWS)
    for row, x in enumerate(ROWS):
        assert np.array_equal(scorer.stall(x), [column[row] for column in block], equal_nan=True)


def test_who_is_not_stalled_has_no_benign_wait(scorer: Scorer, timed: Scorer) -> None:
    """The rest is the same to the last bit."""
    for one in (scorer, timed):
        scores = one.customer(ROWS[0])
        moving, stalled = scores.stall(is_stalled=False), scores.stall()
        assert math.isnan(moving.benign_wait)
        assert np.array_equal(moving[:3], stalled[:3], equal_nan=True)


def test_no_pairs_give_no_scores(scorer: Scorer) -> None:
    """A customer without a candidate is scored for stall only."""
    assert scorer.effects(ROWS[0], ()) == ()
    assert scorer.effect_block(ROWS, ()).uplift.shape == (3, 0)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A scorer of a bundle with hazards."""
    return Scorer(timed_bundle(tmp_path_factory.mktemp("timed") / "bundle"))


def test_hazards_give_the_stall_at_the_horizon(timed: Scorer) -> None:
    """Worked out by hand: two periods until the horizon, hazards by dwell and period, then Platt's map."""
    first, later, leaves = expit(0.5), expit(-0.5), expit(-3.0)
    progressed = first + (1 - first - leaves) * later
    calibrated = expit(0.9 * math.log(progressed / (1 - progressed)) + 0.1)
    score = timed.stall(ROWS[0])
    assert score.stall_propensity == pytest.approx(1 - calibrated)
    abandoned = leaves + (1 - first - leaves) * leaves
    assert score.abandon_probability == pytest.approx(min(abandoned, 1 - calibrated))


def test_the_stall_falls_with_the_horizon(timed: Scorer) -> None:
    """More time never makes progress less likely, and the days to progress lie within the horizon."""
    curve = timed.stall_curve(ROWS)
    assert curve is not None
    stalls = np.array([curve.stall_propensity(end) for end in np.linspace(1, PERIODS.ends_us[-1], 40)])
    assert (np.diff(stalls, axis=0) <= 0).all()
    assert curve.stall_propensity(PERIODS.horizon_us) == pytest.approx(timed.stall_block(ROWS).stall_propensity)
    assert ((timed.stall_block(ROWS).expected_days_to_progress > 0) & (stalls[0] <= 1)).all()
    assert (timed.stall_block(ROWS).expected_days_to_progress < 7).all()


def test_a_horizon_beyond_the_last_period_is_refused(timed: Scorer) -> None:
    """Nothing was learned of it."""
    curve = timed.stall_curve(ROWS)
    assert curve is not None
    with pytest.raises(NotEnoughData, match="a horizon of 15 days, expected above 0 and at most 14"):
        curve.stall_propensity(15 * DAY_US)


def test_hazards_of_many_customers_are_those_of_each(timed: Scorer) -> None:
    """Bit for bit, effects beside them."""
    block = timed.stall_block(ROWS)
    for row, x in enumerate(ROWS):
        assert np.array_equal(timed.stall(x), [column[row] for column in block], equal_nan=True)
        assert timed.effects(x, PAIRS[:1])[0].uplift == timed.effect_block(ROWS, PAIRS[:1]).uplift[row, 0]
