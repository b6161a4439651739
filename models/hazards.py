"""Discrete-time competing hazards: from the hazards of each period to what became of a journey by any time.

The time after a moment is cut into periods. In each of them a journey that is still open progresses, is abandoned, or
goes on. Nothing here knows how hazards are estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.errors import BundleError, NotEnoughData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DAY_US: Final = 86_400_000_000
_MOST_PERIODS: Final = 64
_LATEST_US: Final = 2**53
"""285 years; up to here every microsecond is a float of its own."""


@dataclass(frozen=True, slots=True)
class Periods:
    """How the time after a moment is cut: ``(0, ends[0]], (ends[0], ends[1]], ...``.

    Attributes:
        ends_us: ends of the periods in microseconds, rising.
        horizon: the period that ends at the journey's horizon.
    """

    ends_us: tuple[int, ...]
    horizon: int

    def __len__(self) -> int:
        """How many there are."""
        return len(self.ends_us)

    @property
    def horizon_us(self) -> int:
        """The journey's horizon."""
        return self.ends_us[self.horizon]

    @property
    def ends_days(self) -> FloatArray:
        """``(n_periods,)`` the ends in days."""
        return np.array(self.ends_us, dtype=np.float64) / DAY_US

    def to_json(self) -> dict[str, Any]:
        """The periods as JSON values; ``periods_from_json`` is its inverse."""
        return {"ends_us": list(self.ends_us), "horizon": self.horizon}


def periods_of(horizon_us: int, shares: Sequence[float]) -> Periods:
    """The periods that end at shares of a horizon.

    Args:
        horizon_us: the journey's horizon in microseconds.
        shares: rising, 1 among them.

    >>> periods_of(1_000, (0.25, 1, 2))
    Periods(ends_us=(250, 1000, 2000), horizon=1)
    """
    return Periods(tuple(round(share * horizon_us) for share in shares), list(shares).index(1))


def periods_from_json(document: object) -> Periods:
    """The periods that ``Periods.to_json`` described.

    Raises:
        BundleError: a key is missing or unknown, an end is no whole number or does not rise, or none is the horizon.
    """
    if not isinstance(document, Mapping) or set(document) != {"ends_us", "horizon"}:
        raise BundleError(f"periods {document!r:.200}, expected ends_us and horizon")
    ends, horizon = document["ends_us"], document["horizon"]
    if not isinstance(ends, list) or not 0 < len(ends) <= _MOST_PERIODS:
        raise BundleError(f"ends_us {ends!r:.200}, expected 1 to {_MOST_PERIODS} whole numbers")
    if not all(type(end) is int for end in ends) or any(a >= b for a, b in zip([0, *ends], ends, strict=False)):
        raise BundleError(f"ends_us {ends!r:.200}, expected whole numbers that rise from above 0")
    if ends[-1] > _LATEST_US:
        raise BundleError(f"a period that ends after {ends[-1]!r:.50} microseconds, expected {_LATEST_US} at most")
    if type(horizon) is not int or not 0 <= horizon < len(ends):
        raise BundleError(f"horizon {horizon!r:.50}, expected the number of one of {len(ends)} periods")
    return Periods(tuple(ends), horizon)


class Course(NamedTuple):
    """What became of moments, each ``(n,)`` in microseconds after them; ``inf`` where it was not seen to happen.

    Attributes:
        progress: until progress; at most one of this and ``abandon`` is finite.
        abandon: until abandonment.
        observed: until the observation ended.
    """

    progress: FloatArray
    abandon: FloatArray
    observed: FloatArray


class PersonPeriods(NamedTuple):
    """One row for each period that a journey was open in and of which the outcome is known, each ``(m,)``.

    Attributes:
        row: index of the moment.
        period: number of the period.
        progress: 1 where it progressed in it.
        abandon: 1 where it was abandoned in it.
    """

    row: IntArray
    period: IntArray
    progress: FloatArray
    abandon: FloatArray


def person_periods(course: Course, periods: Periods) -> PersonPeriods:
    """The periods at risk of every moment, by moment and then by period.

    A period that was not observed to its end counts only where the journey is known to have ended in it: what was not
    seen is neither a "no" nor a "yes".

    References:
        Allison 1982, Discrete-time methods for the analysis of event histories; Singer and Willett 1993, It's about
        time.
    """
    ends = np.array(periods.ends_us, dtype=np.float64)
    starts = np.r_[0.0, ends[:-1]]
    over = np.minimum(course.progress, course.abandon)[:, None]
    known = (over > starts) & ((course.observed[:, None] >= ends) | (over <= ends))
    row, period = np.nonzero(known)
    happened = [
        ((after[row] > starts[period]) & (after[row] <= ends[period])).astype(np.float64)
        for after in (course.progress, course.abandon)
    ]
    return PersonPeriods(row, period, happened[0], happened[1])


class Incidence(NamedTuple):
    """Cumulative incidence at the end of each period, each ``(n, n_periods)``; the rest is still open.

    Attributes:
        progress: probability of having progressed.
        abandon: probability of having been abandoned.
    """

    progress: FloatArray
    abandon: FloatArray


def incidence(progress: FloatArray, abandon: FloatArray) -> Incidence:
    """What cause-specific hazards lead to.

    ``S_k = S_{k-1} (1 - p_k - a_k)`` and ``F_k = F_{k-1} + S_{k-1} p_k``, likewise for abandonment; where the two
    hazards exceed 1 together, abandonment gives way.

    Args:
        progress: ``(n, n_periods)`` probability of progress in a period, given that the journey is open at its start.
        abandon: likewise of abandonment.

    References:
        Prentice et al. 1978, The analysis of failure times in the presence of competing risks; Schmid and Berger 2021,
        Competing risks analysis for discrete time-to-event data.

    >>> incidence(np.array([[0.5, 0.5]]), np.array([[0.25, 0.5]]))
    Incidence(progress=array([[0.5  , 0.625]]), abandon=array([[0.25 , 0.375]]))
    """
    both = incidences_side_by_side(progress, abandon)
    return Incidence(both[:, : progress.shape[1]], both[:, progress.shape[1] :])


def incidences_side_by_side(progress: FloatArray, abandon: FloatArray) -> FloatArray:
    """``incidence`` in one array ``(n, 2 * n_periods)``, progress first."""
    both = np.empty((progress.shape[0], 2 * progress.shape[1]))
    _accumulate(progress, abandon, both)
    return both


@njit(cache=True, nogil=True)
def _accumulate(progress: FloatArray, abandon: FloatArray, both: FloatArray) -> None:
    n_periods = progress.shape[1]
    for row in range(progress.shape[0]):
        is_open, done, gone = 1.0, 0.0, 0.0
        for k in range(n_periods):
            p = progress[row, k]
            a = min(abandon[row, k], 1.0 - p)
            done += is_open * p
            gone += is_open * a
            is_open *= 1.0 - p - a
            both[row, k] = done
            both[row, n_periods + k] = gone


def settled(both: FloatArray) -> Incidence:
    """Cumulative incidences that were calibrated one by one, made one again, in place.

    Neither falls as time goes by, and the two are never more than 1 together; where they would be, abandonment gives
    way.

    Args:
        both: ``(n, 2 * n_periods)``, each in ``[0, 1]``, progress first.
    """
    _settle(both)
    n_periods = both.shape[1] // 2
    return Incidence(both[:, :n_periods], both[:, n_periods:])


@njit(cache=True, nogil=True)
def _settle(both: FloatArray) -> None:
    n_periods = both.shape[1] // 2
    for row in range(both.shape[0]):
        done, gone = 0.0, 0.0
        for k in range(n_periods):
            done = max(done, both[row, k])
            gone = max(gone, both[row, n_periods + k])
            both[row, k] = done
            both[row, n_periods + k] = min(gone, 1.0 - done)


def incidence_within(cumulative: FloatArray, periods: Periods, within_us: float) -> FloatArray:
    """``(n,)`` the cumulative incidence at any time up to the end of the last period; straight between their ends.

    Args:
        cumulative: ``(n, n_periods)`` of ``Incidence``.
        periods: their ends.
        within_us: the time, in microseconds.

    Raises:
        NotEnoughData: the time is not positive, or beyond the last period: nothing was learned of it.
    """
    last = periods.ends_us[-1]
    if not 0 < within_us <= last:
        raise NotEnoughData(
            f"a horizon of {within_us / DAY_US:g} days, expected above 0 and at most {last / DAY_US:g}, which is how "
            f"far the model looks"
        )
    k = int(np.searchsorted(periods.ends_us, within_us))
    start = periods.ends_us[k - 1] if k else 0
    before = cumulative[:, k - 1] if k else np.zeros(len(cumulative))
    share = (within_us - start) / (periods.ends_us[k] - start)
    found: FloatArray = before + share * (cumulative[:, k] - before)
    return found


def days_until(cumulative: FloatArray, periods: Periods) -> FloatArray:
    """``(n,)`` mean days until it happens, counting no more than the horizon: the restricted mean up to there.

    ``integral from 0 to H of 1 - F(t) dt``, with F straight between the ends of the periods.

    References:
        Irwin 1949, The standard error of an estimate of expectation of life; Royston and Parmar 2013, Restricted mean
        survival time.
    """
    mean = np.empty(len(cumulative))
    _restricted_mean(cumulative, periods.ends_days[: periods.horizon + 1], mean)
    return mean


@njit(cache=True, nogil=True)
def _restricted_mean(cumulative: FloatArray, ends: FloatArray, mean: FloatArray) -> None:
    for row in range(cumulative.shape[0]):
        start, before, total = 0.0, 0.0, 0.0
        for k in range(ends.shape[0]):
            total += (ends[k] - start) * (1.0 - 0.5 * (before + cumulative[row, k]))
            start, before = ends[k], cumulative[row, k]
        mean[row] = total


def observed_incidence(course: Course, within_us: float) -> float:
    """Share of moments that progressed within a time, also where some were not observed for so long.

    The Aalen-Johansen estimate: at each time of an event, the share of those still watched and open that progress.

    References:
        Aalen and Johansen 1978, An empirical transition matrix for non-homogeneous Markov chains.

    >>> inf = np.inf
    >>> observed_incidence(Course(np.array([1.0, inf, inf]), np.array([inf, 2.0, inf]), np.array([9.0, 9, 9])), 5.0)
    0.3333333333333333
    """
    over = np.minimum(np.minimum(course.progress, course.abandon), course.observed)
    times, place = np.unique(over, return_inverse=True)
    progressed = np.bincount(place, weights=course.progress <= over, minlength=len(times))
    ended = np.bincount(place, weights=np.minimum(course.progress, course.abandon) <= over, minlength=len(times))
    at_risk = len(over) - np.r_[0, np.cumsum(np.bincount(place, minlength=len(times)))[:-1]]
    is_open = np.cumprod(1 - ended / at_risk)
    steps = np.r_[1.0, is_open[:-1]] * progressed / at_risk
    return float(steps[times <= within_us].sum())
