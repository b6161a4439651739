"""Whether predictions still come true: the stall propensity, and the response to what was chosen, against outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import norm

from features.kernel import Floats
from models.metrics import Interval, bootstrap_intervals, logistic_line
from training.drift_samples import Decided, Texts
from training.drift_verdict import RETRAIN, Reason
from training.moments import Booleans
from training.params import CalibrationDriftParams

STALL: Final = "stall"
ECE_BINS: Final = 10
_UNKNOWN: Final = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """Probabilities beside what happened, each ``(n,)``.

    Attributes:
        name: ``stall``, or the outcome that was predicted.
        probability: as it was predicted before.
        happened: 0 or 1.
        people: whose they are.
    """

    name: str
    probability: Floats
    happened: Floats
    people: Texts

    def __len__(self) -> int:
        """Number of predictions."""
        return len(self.happened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How predictions came true.

    Attributes:
        name: ``stall``, or the outcome that was predicted.
        n: predictions whose windows are over.
        predicted: their mean.
        happened: share for which it happened.
        slope: of the logistic recalibration; 1 is ideal, below it predictions are too extreme.
        error: expected calibration error in ten bins of equal mass.
        points: predicted and observed share of each bin, lowest first, and its size.
        is_judged: there were enough of both kinds.
    """

    name: str
    n: int
    predicted: float
    happened: float
    slope: Interval
    error: Interval
    points: tuple[tuple[float, float, int], ...]
    is_judged: bool


def predictions(decided: Decided, binary: Sequence[bool]) -> list[Predictions]:
    """The stall propensity, and of each binary outcome the response to what was chosen, of windows that are over.

    The response to an action is the predicted control response plus the uplift, on the outcome that it aims at; that
    of no action is the control response, on every outcome.

    Args:
        decided: the decisions.
        binary: ``(n_outcomes,)`` which outcomes are 0 or 1.
    """
    found = [_known(STALL, decided.stall, decided.stalled, decided.people)]
    rows = np.arange(len(decided))
    for place, outcome_id in enumerate(decided.outcome_ids):
        if binary[place]:
            taken = decided.arm
            uplift = np.where(taken == 0, 0.0, decided.uplift[rows, taken])
            is_asked: Booleans = np.asarray((taken == 0) | (decided.aims[taken] == place), dtype=np.bool_)
            response = np.where(is_asked, decided.control[:, place] + uplift, np.nan)
            found.append(_known(outcome_id, response, decided.response[:, place], decided.people))
    return found


def _known(name: str, probability: Floats, happened: Floats, people: Texts) -> Predictions:
    known: Booleans = np.asarray(~(np.isnan(probability) | np.isnan(happened)), dtype=np.bool_)
    return Predictions(
        name=name,
        probability=np.clip(probability[known], 0.0, 1.0),
        happened=happened[known],
        people=people[known],
    )


def calibration(found: Predictions, params: CalibrationDriftParams, *, seed: int) -> Calibration:
    """How some predictions came true, with intervals over customers.

    That of the error is the basic one of the bootstrap, ``2 e - q``: bins of few rows are off by chance, so the error
    of a resample is above that of the rows by about as much as theirs is above the truth.

    References:
        Naeini, Cooper and Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning; Davison and
        Hinkley 1997, Bootstrap methods and their application, section 5.2 (basic intervals).
    """
    n = len(found)
    positives = float(found.happened.sum())
    is_judged = n >= params.smallest and min(positives, n - positives) >= params.smallest / 10
    slope = error = _UNKNOWN
    if is_judged:
        slope = slope_interval(found, params.level)
        (error,) = bootstrap_intervals(
            _error_of(found),
            n,
            clusters=found.people,
            seed=seed,
            n_resamples=params.resamples,
            level=params.level,
        )
        low, high = (max(0.0, 2 * error.estimate - bound) for bound in (error.high, error.low))
        error = Interval(error.estimate, low, high)
    return Calibration(
        name=found.name,
        n=n,
        predicted=float(found.probability.mean()) if n else math.nan,
        happened=float(found.happened.mean()) if n else math.nan,
        slope=slope,
        error=error,
        points=_points(found),
        is_judged=is_judged,
    )


def slope_interval(found: Predictions, level: float) -> Interval:
    """The slope of the logistic recalibration with an interval whose error is clustered by person.

    ``A^-1 B A^-1`` with A the information and B the sum over people of the squares of their summed scores. NaN where
    all predictions are the same.

    References:
        Cox 1958, Two further applications of a model for binary regression; Liang and Zeger 1986, Longitudinal data
        analysis using generalized linear models, section 3.
    """
    p = np.clip(found.probability, 1e-9, 1 - 1e-9)
    margin = np.log(p) - np.log1p(-p)
    if np.ptp(margin) < 1e-9:
        return _UNKNOWN
    intercept, slope = logistic_line(margin, found.happened)
    fitted = 0.5 * (1 + np.tanh(0.5 * (intercept + slope * margin)))
    design = np.stack([np.ones_like(margin), margin], axis=1)
    information = design.T @ (design * (fitted * (1 - fitted))[:, None])
    scores = design * (found.happened - fitted)[:, None]
    group = np.unique(found.people, return_inverse=True)[1]
    sums = np.stack([np.bincount(group, weights=column) for column in scores.T], axis=1)
    inverse = np.linalg.pinv(information)
    se = math.sqrt(float((inverse @ (sums.T @ sums) @ inverse)[1, 1]))
    half = float(norm.ppf((1 + level) / 2)) * se
    return Interval(slope, slope - half, slope + half)


def calibration_reasons(
    before: Sequence[Calibration], lately: Sequence[Calibration], params: CalibrationDriftParams
) -> list[Reason]:
    """What predictions that no longer come true speak for: learning anew.

    The whole interval must be beyond the bounds, and beyond that of the earlier period, where there was enough to
    judge: what was as far off when the models were trained is not cured by training them again. (Among decisions some
    is: an action that works keeps customers from the stall that was predicted.)

    Args:
        before: of the earlier period; an outcome that is not among them was not judged.
        lately: of the recent period.
        params: bounds.
    """
    earlier = {one.name: one for one in before if one.is_judged}
    found = (_reason(one, earlier.get(one.name), params) for one in lately)
    return [reason for reason in found if reason is not None]


def _reason(one: Calibration, before: Calibration | None, params: CalibrationDriftParams) -> Reason | None:
    what = "the stall propensity" if one.name == STALL else f"the predicted response on {one.name}"
    low, high = params.slope
    slope_before = _UNKNOWN if before is None else before.slope
    error_before = _UNKNOWN if before is None else before.error
    if (one.slope.high < low and not one.slope.high >= slope_before.low) or (
        one.slope.low > high and not one.slope.low <= slope_before.high
    ):
        kind, bound = ("too extreme", low) if one.slope.high < low else ("too timid", high)
        return Reason(
            code="calibration.slope",
            calls_for=RETRAIN,
            subject=one.name,
            value=one.slope.estimate,
            threshold=bound,
            text=f"{what} is {kind}: slope {one.slope.estimate:.2f}, between {one.slope.low:.2f} and "
            f"{one.slope.high:.2f}, expected between {low:g} and {high:g}",
        )
    if one.error.low > params.ece and not one.error.low <= error_before.high:
        return Reason(
            code="calibration.error",
            calls_for=RETRAIN,
            subject=one.name,
            value=one.error.estimate,
            threshold=params.ece,
            text=f"{what} is off by {one.error.estimate:.1%} on average: {one.predicted:.1%} was predicted and "
            f"{one.happened:.1%} happened; at most {params.ece:.0%} is expected",
        )
    return None


def _error_of(found: Predictions) -> Callable[[Floats], Sequence[float]]:
    """``models.metrics.ece`` of row weights, in the bins of the rows as they are: nothing is sorted again."""
    bins = np.empty(len(found), dtype=np.int64)
    for place, rows in enumerate(np.array_split(np.argsort(found.probability, kind="stable"), ECE_BINS)):
        bins[rows] = place
    gap = found.happened - found.probability
    return lambda weight: (float(np.abs(np.bincount(bins, weights=weight * gap)).sum() / weight.sum()),)


def _points(found: Predictions) -> tuple[tuple[float, float, int], ...]:
    order = np.argsort(found.probability, kind="stable")
    return tuple(
        (float(found.probability[part].mean()), float(found.happened[part].mean()), len(part))
        for part in np.array_split(order, ECE_BINS)
        if len(part)
    )
