"""The stall estimator finds what moves a stall, is calibrated later, knows time, and is the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.boosting import Boosting
from models.hazards import Course, periods_of
from models.heads import FittedHeads, hazard_head
from models.metrics import auc, calibration_slope, ece
from models.scoring import Scorer, scorer_of
from models.stall import Happened, Slice, StallParams, fit_forecast, fit_stall, fit_waiting

PARAMS = StallParams(boosting=Boosting(rounds=60, patience=10, num_leaves=7, min_rows=40))
HOUR = 3_600_000_000
PERIODS = periods_of(24 * HOUR, (0.25, 0.5, 1, 2))


def moments(n: int, seed: int, *, leaves: bool = True, observed_hours: float = 100.0) -> Slice:
    """Rows whose first feature drives progress, the second leaving; progress gets rarer after half a day."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    rate = 0.08 * np.exp(x[:, 0])
    early = rng.exponential(1 / rate)
    progress = np.where(early <= 12, early, 12 + rng.exponential(4 / rate))
    abandon = rng.exponential(1 / (0.02 * np.exp(x[:, 1]))) if leaves else np.full(n, np.inf)
    x[rng.random(x.shape) < 0.05] = np.nan
    observed = np.full(n, observed_hours)
    first = np.minimum(progress, abandon)
    seen = first <= observed
    course = Course(
        np.where(seen & (progress <= abandon), progress, np.inf) * HOUR,
        np.where(seen & (abandon < progress), abandon, np.inf) * HOUR,
        observed * HOUR,
    )
    return Slice(x, np.arange(n), course, np.arange(n))


def scorer(fitted: FittedHeads) -> Scorer:
    """It alone."""
    return scorer_of([fitted], 4)


@pytest.fixture(scope="module")
def fitted() -> FittedHeads:
    """Fitted on 4,000 moments, calibrated on 3,000 later ones."""
    return fit_stall(moments(4000, 0), moments(3000, 1), periods=PERIODS, params=PARAMS, seed=7)


@pytest.mark.parametrize("hours", [6, 12, 24, 48])
def test_later_moments_are_ranked_and_calibrated_at_every_horizon(fitted: FittedHeads, hours: int) -> None:
    """On moments that neither slice held: progress and abandonment."""
    test = moments(6000, 2)
    curve = scorer(fitted).stall_curve(test.x)
    assert curve is not None
    for probability, after in (
        (1 - curve.stall_propensity(hours * HOUR), test.course.progress),
        (curve.abandon_probability(hours * HOUR), test.course.abandon),
    ):
        happened = (after <= hours * HOUR).astype(np.float64)
        assert auc(happened, probability) > 0.67
        assert ece(happened, probability) < 0.03
        assert calibration_slope(happened, probability) == pytest.approx(1.0, abs=0.2)


def test_the_restricted_mean_is_the_mean(fitted: FittedHeads) -> None:
    """Expected days to progress, counting no more than the horizon: those that came."""
    test = moments(6000, 2)
    expected = np.minimum(test.course.progress, 24 * HOUR).mean() / (24 * HOUR)
    assert scorer(fitted).stall_block(test.x).expected_days_to_progress.mean() == pytest.approx(expected, rel=0.04)


def test_censored_moments_do_not_pass_for_stalled_ones() -> None:
    """Half of the moments are seen for nine hours only; their progress after that is not taken for none."""
    whole, short = moments(3000, 3), moments(3000, 4, observed_hours=9.0)
    both = Slice(
        np.concatenate([whole.x, short.x]),
        np.arange(6000),
        Course(*(np.concatenate(pair) for pair in zip(whole.course, short.course, strict=True))),
        np.arange(6000),
    )
    fitted = fit_stall(both, moments(3000, 1), periods=PERIODS, params=PARAMS, seed=7)
    test = moments(6000, 2)
    stalled = (test.course.progress > 24 * HOUR).mean()
    assert scorer(fitted).stall_block(test.x).stall_propensity.mean() == pytest.approx(stalled, abs=0.03)


def test_the_same_seed_gives_the_same_models(fitted: FittedHeads) -> None:
    """To the last character of the boosters."""
    assert fit_stall(moments(4000, 0), moments(3000, 1), periods=PERIODS, params=PARAMS, seed=7) == fitted


def test_facts_say_what_was_fitted_on(fitted: FittedHeads) -> None:
    """Person-periods of both slices and the choice made."""
    facts = fitted.head(hazard_head("progress", 0)).facts
    assert facts["choice"] == "boosted"
    assert int(facts["n_rows"]) > 4000
    assert 0 < int(facts["n_positive"]) < 4000


def test_where_nobody_leaves_the_base_rate_is_said() -> None:
    """A journey without exits still has a stall model; the hazards of leaving are a small constant and say why."""
    slices = moments(2000, 3, leaves=False), moments(1000, 4, leaves=False)
    fitted = fit_stall(*slices, periods=PERIODS, params=PARAMS, seed=7)
    assert fitted.head(hazard_head("abandon", 0)).facts["choice"] == "base_rate"
    assert (list(fitted.boosters), fitted.n_timed) == (["progress"], 1)
    assert (scorer(fitted).stall_block(slices[0].x).abandon_probability < 0.01).all()


def test_moments_that_all_progress_cannot_be_fitted() -> None:
    """The message says which slice and what to do."""
    everyone = moments(100, 5)
    at_once = everyone._replace(course=everyone.course._replace(progress=np.ones(100), abandon=np.full(100, np.inf)))
    with pytest.raises(NotEnoughData, match="100 of 100 calibration moments made progress"):
        fit_stall(moments(500, 6), at_once, periods=PERIODS, params=PARAMS, seed=7)


def test_waiting_tells_slow_from_blocked_though_contacts_cut_it_short() -> None:
    """Contacts end the observation of half of them; the probability of progress unprompted is that without contacts."""
    alone = moments(6000, 8, leaves=False)

    def contacted(of: Slice, seed: int) -> Slice:
        rng = np.random.default_rng(seed)
        n = len(of.rows)
        until = np.where(rng.random(n) < 0.5, rng.uniform(2, 30, n) * HOUR, np.inf)
        observed = np.minimum(of.course.observed, until)
        progress = np.where(of.course.progress <= observed, of.course.progress, np.inf)
        return of._replace(course=Course(progress, of.course.abandon, observed))

    fitted = fit_waiting(
        contacted(moments(5000, 9, leaves=False), 1),
        contacted(moments(3000, 10, leaves=False), 2),
        periods=PERIODS,
        params=PARAMS,
        seed=7,
    )
    benign = scorer(fitted).stall_block(alone.x).benign_wait
    progressed = (alone.course.progress <= 48 * HOUR).astype(np.float64)
    assert benign.mean() == pytest.approx(progressed.mean(), abs=0.04)
    assert auc(progressed, benign) > 0.65


def test_waiting_needs_some_who_progress_and_some_who_do_not() -> None:
    """It says what it had."""
    few = moments(60, 11)
    with pytest.raises(NotEnoughData, match="of 60 stalled training moments made progress without a contact"):
        fit_waiting(few, few, periods=PERIODS, params=PARAMS, seed=7)


def test_any_declared_outcome_is_forecast() -> None:
    """One calibrated head, named for the outcome."""
    train, later, test = (moments(n, seed) for n, seed in ((4000, 0), (2000, 1), (4000, 2)))
    x = np.concatenate([train.x, later.x])
    happened = [(one.course.abandon <= 24 * HOUR).astype(np.float64) for one in (train, later, test)]
    parts = [
        Happened(rows, labels, rows) for rows, labels in zip((train.rows, 4000 + later.rows), happened, strict=False)
    ]
    fitted = fit_forecast(x, *parts, outcome_id="left", params=PARAMS, seed=7)
    probability = scorer(fitted).customers(test.x).forecast_block(["left", "other"])
    assert auc(happened[2], probability[:, 0]) > 0.68
    assert ece(happened[2], probability[:, 0]) < 0.03
    assert np.isnan(probability[:, 1]).all()
    nobody = parts[0]._replace(happened=np.zeros(4000))
    with pytest.raises(NotEnoughData, match="left happened after 0 of 4000 training moments"):
        fit_forecast(x, nobody, parts[1], outcome_id="left", params=PARAMS, seed=7)
