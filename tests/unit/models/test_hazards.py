"""Competing hazards: rows at risk, what hazards lead to, and what was seen to happen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.errors import BundleError, NotEnoughData
from models.hazards import (
    Course,
    Periods,
    days_until,
    incidence,
    incidence_within,
    observed_incidence,
    periods_from_json,
    periods_of,
    person_periods,
    settled,
)

PERIODS = Periods((10, 20, 40), 1)
TIMES = st.one_of(st.integers(1, 60).map(float), st.just(math.inf))


def course(*rows: tuple[float, float, float]) -> Course:
    """Progress, abandonment and end of observation of each moment."""
    return Course(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))


@given(rows=st.lists(st.tuples(TIMES, st.booleans(), st.integers(1, 60)), min_size=1, max_size=30))
@settings(deadline=None)
def test_rows_at_risk_equal_the_slow_walk(rows: list[tuple[float, bool, int]]) -> None:
    """Period by period: open at its start, and seen to its end or seen to end in it."""
    told = []
    for over, progresses, observed in rows:
        seen = over if over <= observed else math.inf
        told.append((seen if progresses else math.inf, math.inf if progresses else seen, float(observed)))
    expected = []
    for row, (progress, abandon, observed) in enumerate(told):
        start = 0
        for period, end in enumerate(PERIODS.ends_us):
            over = min(progress, abandon)
            if over > start and (over <= end or observed >= end):
                expected.append((row, period, float(start < progress <= end), float(start < abandon <= end)))
            start = end
    found = person_periods(course(*told), PERIODS)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_a_period_that_was_not_seen_to_its_end_says_nothing() -> None:
    """Observed for 15 of 20: the first period is known, the second is neither a yes nor a no."""
    found = person_periods(course((math.inf, math.inf, 15.0)), PERIODS)
    assert (found.period.tolist(), found.progress.tolist()) == ([0], [0.0])


HAZARDS = arrays(np.float64, (4, 3), elements=st.floats(0, 1))


@given(progress=HAZARDS, abandon=HAZARDS)
@settings(deadline=None)
def test_incidences_are_probabilities_that_never_fall(progress: np.ndarray, abandon: np.ndarray) -> None:
    """Whatever the hazards, also where the two exceed 1 together."""
    found = incidence(progress, abandon)
    for one in found:
        assert ((one >= 0) & (one <= 1 + 1e-12)).all()
        assert (np.diff(one, axis=1) >= -1e-15).all()
    assert (found.progress + found.abandon <= 1 + 1e-12).all()


@given(progress=HAZARDS, abandon=HAZARDS)
@settings(deadline=None)
def test_calibrated_incidences_are_made_one(progress: np.ndarray, abandon: np.ndarray) -> None:
    """Any numbers between 0 and 1 become a pair that never falls and is never more than 1."""
    found = settled(np.concatenate([progress, abandon], axis=1))
    assert (np.diff(found.progress, axis=1) >= 0).all()
    assert (found.progress + found.abandon <= 1 + 1e-12).all()
    assert (found.abandon >= 0).all()


@given(progress=HAZARDS, raised=st.integers(0, 2), by=st.floats(0, 1))
@settings(deadline=None)
def test_a_higher_hazard_of_progress_never_delays_it(progress: np.ndarray, raised: int, by: float) -> None:
    """The restricted mean falls, and the incidence rises, in every hazard."""
    none = np.zeros_like(progress)
    higher = progress.copy()
    higher[:, raised] = np.maximum(higher[:, raised], by)
    before, after = (incidence(one, none).progress for one in (progress, higher))
    assert (after >= before - 1e-12).all()
    assert (days_until(after, PERIODS) <= days_until(before, PERIODS) + 1e-12).all()


def test_days_until_are_the_area_above_the_curve() -> None:
    """Nobody progresses: the whole horizon; everybody at once in the first of two equal days: half a day."""
    days = periods_of(2 * 86_400_000_000, (0.5, 1, 2))
    assert days_until(np.array([[0.0, 0.0, 0.9], [1.0, 1.0, 1.0]]), days).tolist() == [2.0, 0.5]


def test_between_two_ends_the_incidence_rises_evenly() -> None:
    """From nothing at the start, and no further than the last end."""
    cumulative = np.array([[0.2, 0.4, 0.8]])
    found = [float(incidence_within(cumulative, PERIODS, within)[0]) for within in (5, 10, 15, 30, 40)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.6, 0.8])
    for within in (0, 41):
        with pytest.raises(NotEnoughData, match="which is how far the model looks"):
            incidence_within(cumulative, PERIODS, within)


def test_what_was_observed_allows_for_censoring() -> None:
    """Two of four progress at 5; one of the others is lost at 6; the last progresses at 8, of one that is left."""
    seen = course((5, math.inf, 20), (5, math.inf, 20), (math.inf, math.inf, 6), (8, math.inf, 20))
    assert observed_incidence(seen, 7.0) == pytest.approx(0.5)
    assert observed_incidence(seen, 8.0) == pytest.approx(1.0)


def test_periods_come_back_as_they_were_written() -> None:
    """And cuts that make no sense are refused."""
    assert periods_from_json(PERIODS.to_json()) == PERIODS


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"ends_us": [], "horizon": 0},
        {"ends_us": [5, 5], "horizon": 0},
        {"ends_us": [0, 5], "horizon": 0},
        {"ends_us": [1.5], "horizon": 0},
        {"ends_us": [True], "horizon": 0},
        {"ends_us": [5, 10**400], "horizon": 0},
        {"ends_us": [5], "horizon": 1},
        {"ends_us": [5], "horizon": False},
        {"ends_us": list(range(1, 100)), "horizon": 1},
        {"ends_us": [5], "horizon": 0, "extra": 1},
    ],
)
def test_periods_that_are_none_are_refused(document: object) -> None:
    """Each with what was expected."""
    with pytest.raises(BundleError, match="expected"):
        periods_from_json(document)
