"""Drift of calibration: what no longer comes true is found, chance and what was always off are not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.metrics import bootstrap_interval, calibration_slope, ece
from tests.drifting import decided
from training.drift_calibration import (
    STALL,
    Calibration,
    Predictions,
    calibration,
    calibration_reasons,
    predictions,
    slope_interval,
)
from training.drift_samples import Decided
from training.params import CalibrationDriftParams

PARAMS = CalibrationDriftParams()


def _judged(side: Decided) -> list[Calibration]:
    return [calibration(one, PARAMS, seed=3) for one in predictions(side, [True])]


def _codes(before: Decided, lately: Decided) -> list[tuple[str, str]]:
    return [(one.code, one.subject) for one in calibration_reasons(_judged(before), _judged(lately), PARAMS)]


@pytest.mark.parametrize(("stretch", "word"), [(4.0, "too extreme"), (0.2, "too timid")])
def test_predictions_that_are_too_extreme_or_timid_are_found(stretch: float, word: str) -> None:
    """The slope is beyond its bounds with its whole interval, and the text says which way."""
    reasons = calibration_reasons(_judged(decided(4_000, 1)), _judged(decided(4_000, 2, stretch=stretch)), PARAMS)
    stall = next(one for one in reasons if one.subject == STALL)
    assert (stall.code, stall.calls_for) == ("calibration.slope", "retrain")
    assert word in stall.text


def test_predictions_that_are_off_are_found() -> None:
    """By a fifth on average, though their order is right."""
    assert ("calibration.error", "paid") in _codes(decided(4_000, 1), decided(4_000, 2, off=0.2))


def test_what_comes_true_gives_no_reason() -> None:
    """Twenty pairs of one population."""
    assert [_codes(decided(2_000, seed), decided(2_000, seed + 100)) for seed in range(20)] == [[]] * 20


def test_what_was_as_far_off_before_gives_no_reason() -> None:
    """Training again would end the same."""
    assert _codes(decided(4_000, 1, stretch=4.0), decided(4_000, 2, stretch=4.0)) == []


def test_too_few_are_not_judged() -> None:
    """Numbers stay unknown rather than wrong."""
    few = _judged(decided(400, 1))[0]
    assert (few.is_judged, few.n) == (False, 400)
    assert math.isnan(few.slope.estimate)
    assert calibration_reasons([], [few], PARAMS) == []


def test_one_sided_outcomes_are_not_judged() -> None:
    """Nobody paid: there is no slope."""
    told = Predictions(
        name="paid", probability=np.full(900, 0.3), happened=np.zeros(900), people=np.arange(900).astype(str)
    )
    assert not calibration(told, PARAMS, seed=1).is_judged


def test_open_windows_are_not_predictions_that_failed() -> None:
    """Only what is over counts."""
    assert [len(one) for one in predictions(decided(900, 1, seen=False), [True])] == [0, 0]


def test_what_was_taken_is_what_was_predicted() -> None:
    """The control response, with the uplift for an action; outcomes that are no yes or no are left out."""
    side = decided(300, 1)
    told = predictions(side, [True])[1]
    expected = side.control[:, 0] + np.array([0.0, 0.2, 0.05])[side.arm]
    assert told.probability == pytest.approx(np.clip(expected, 0, 1))
    assert [one.name for one in predictions(side, [False])] == [STALL]


def test_the_error_is_the_one_that_is_told_elsewhere() -> None:
    """In ten bins of equal mass, as ``models.metrics.ece`` has it."""
    told = predictions(decided(3_000, 5, off=0.1), [True])[0]
    found = calibration(told, PARAMS, seed=1)
    assert found.error.estimate == pytest.approx(ece(told.happened, told.probability, 10))


def test_the_slopes_interval_is_that_of_the_bootstrap() -> None:
    """Clustered by person, without drawing anything again."""
    told = predictions(decided(3_000, 5), [True])[0]
    found = slope_interval(told, 0.95)
    drawn = bootstrap_interval(
        lambda rows: calibration_slope(told.happened[rows], told.probability[rows]),
        len(told),
        clusters=told.people,
        seed=1,
        n_resamples=300,
    )
    assert found.estimate == pytest.approx(drawn.estimate)
    assert found.high - found.low == pytest.approx(drawn.high - drawn.low, rel=0.2)


def test_one_prediction_for_everybody_has_no_slope() -> None:
    """It does not differ, so nothing can be said of how far."""
    told = Predictions(
        name="paid", probability=np.full(9, 0.3), happened=np.arange(9) % 2.0, people=np.arange(9).astype(str)
    )
    assert math.isnan(slope_interval(told, 0.95).estimate)
