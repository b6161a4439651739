"""The stall estimator: hazards of progress and of abandonment in the periods after a moment, and what else may happen.

Rows are person-periods, from moments after each event and at idle checkpoints. The hazards are competing: whichever
happens first ends the journey. What they lead to by the end of each period is calibrated on a later slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.boosting import Boosting, Fit, TrainingTable, boosted, strongest_features
from models.calibration import fitted_map, platt_map
from models.forest import score_name
from models.hazards import Course, Periods, PersonPeriods, incidence, person_periods
from models.heads import (
    ABANDON,
    PROGRESS,
    WAIT_ABANDON,
    WAIT_PROGRESS,
    Fact,
    FittedHeads,
    Head,
    forecast_head,
    hazard_head,
    incidence_head,
)
from models.monotone import IDENTITY, expit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SMALLEST_SIDE: Final = 50
"""Moments with and without that the end of a period needs for a calibration of its own."""
_WAIT_ROUNDS: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class StallParams:
    """How the stall models are fitted.

    Attributes:
        boosting: of a cause's hazards, or of a forecast.
        max_features: features that a model sees at the most, the strongest; the others are not looked at.
        max_rows: person-periods, or moments, that a model is fitted on at the most; above it some are left out.
        categorical: places of the features that are codes and not amounts.
    """

    boosting: Boosting = field(
        default_factory=lambda: Boosting(
            rounds=250, patience=15, num_leaves=31, min_rows=100, learning_rate=0.1, feature_fraction=0.6, max_bin=63
        )
    )
    max_features: int = 120
    max_rows: int = 300_000
    categorical: Sequence[int] = ()

    def codes_among(self, columns: IntArray) -> list[int]:
        """Which of some columns of the vector are codes: their places among the columns."""
        return np.flatnonzero(np.isin(columns, list(self.categorical))).tolist()


class Slice(NamedTuple):
    """Moments of one part of the time.

    Attributes:
        x: ``(m, n_features)`` of these moments and others; NaN means unknown.
        rows: ``(n,)`` where these stand in ``x``.
        course: what became of them, as far as it could be seen by the end of the part.
        customers: ``(n,)`` ids.
    """

    x: FloatArray
    rows: IntArray
    course: Course
    customers: NDArray[np.generic]


def fit_stall(train: Slice, later: Slice, *, periods: Periods, params: StallParams, seed: int) -> FittedHeads:
    """The hazards of ``progress`` and of ``abandon`` in each period, and the calibration of what they lead to.

    Args:
        train: what the hazards are fitted on.
        later: boosting stops on it, and the hazards and then the cumulative incidences are calibrated on it.
        periods: how the time after a moment is cut.
        params: how the models are fitted.
        seed: fixes everything that is drawn.

    Returns:
        A head for each cause and period. Where nobody is abandoned there is nothing to separate: that cause's heads
        give the base rate, and their facts say so. Facts also hold row counts and the number of trees.

    Raises:
        NotEnoughData: a slice is empty, or progress within the horizon is the same for all its moments.
    """
    for name, course in (("training", train.course), ("calibration", later.course)):
        # Where the horizon was not observed to its end progress is still seen, and no progress is not.
        known = (course.observed >= periods.horizon_us) | (course.progress <= periods.horizon_us)
        n, progressed = int(known.sum()), int((course.progress <= periods.horizon_us).sum())
        if not 0 < progressed < n:
            raise NotEnoughData(
                f"{progressed} of {n} {name} moments made progress, expected some of both kinds: "
                f"import more history or move the cut-off"
            )
    progress, abandon = _hazards(train, later, (PROGRESS, ABANDON), periods, params, seed)
    cumulative = incidence(progress.later, abandon.later)
    return _fitted_heads(
        (progress, abandon),
        periods,
        (
            *_calibrated(PROGRESS, cumulative.progress, later, later.course.progress, periods),
            *_calibrated(ABANDON, cumulative.abandon, later, later.course.abandon, periods),
        ),
    )


def fit_waiting(train: Slice, later: Slice, *, periods: Periods, params: StallParams, seed: int) -> FittedHeads:
    """Likewise of stalled customers whom nobody contacts: ``wait_progress`` and ``wait_abandon``.

    Who progresses unprompted is slow by choice; who does not is blocked. A contact ends the observation, so that what
    came of it is not counted for the waiting.

    Args:
        train: moments at which the customer was stalled, observed until the next contact at most.
        later: likewise.
        periods: as of ``fit_stall``.
        params: likewise; fewer trees are grown, for there are fewer rows.
        seed: fixes everything that is drawn.

    Raises:
        NotEnoughData: too few of them progressed, or did not.
    """
    for name, course in (("training", train.course), ("calibration", later.course)):
        progressed = int(np.isfinite(course.progress).sum())
        if min(progressed, len(course.progress) - progressed) < SMALLEST_SIDE:
            raise NotEnoughData(
                f"{progressed} of {len(course.progress)} stalled {name} moments made progress without a contact, "
                f"expected {SMALLEST_SIDE} that did and {SMALLEST_SIDE} that did not"
            )
    small = replace(params.boosting, rounds=min(params.boosting.rounds, _WAIT_ROUNDS), num_leaves=15)
    small_params = replace(params, boosting=small, max_features=max(1, params.max_features // 2))
    causes = _hazards(train, later, (WAIT_PROGRESS, WAIT_ABANDON), periods, small_params, seed)
    # Who is contacted is no matter of chance: of the hazards that is allowed for, of what they lead to it would not be.
    same = [
        Head(name=incidence_head(one.name, period), members=(score_name(one.name, period),))
        for one in causes
        for period in range(len(periods))
    ]
    return _fitted_heads(causes, periods, tuple(same))


@dataclass(frozen=True, slots=True, eq=False)
class _Cause:
    """The hazards of one cause.

    Attributes:
        name: of the cause.
        heads: one a period.
        text: of its booster; None where nothing tells moments apart, and the heads give the base rate.
        later: ``(n, n_periods)`` hazards of the later moments.
    """

    name: str
    heads: tuple[Head, ...]
    text: str | None
    later: FloatArray


def _fitted_heads(causes: Sequence[_Cause], periods: Periods, incidence_heads: tuple[Head, ...]) -> FittedHeads:
    boosters = {cause.name: cause.text for cause in causes if cause.text is not None}
    return FittedHeads(
        heads=tuple(head for cause in causes for head in cause.heads),
        boosters=boosters,
        periods=periods,
        n_timed=len(boosters),
        incidence=incidence_heads,
    )


def _hazards(
    train: Slice, later: Slice, names: tuple[str, str], periods: Periods, params: StallParams, seed: int
) -> tuple[_Cause, _Cause]:
    course = train.course
    # 0 open, 1 abandoned, 2 progressed
    within = (np.minimum(course.progress, course.abandon) <= periods.horizon_us).astype(np.float64)
    columns = strongest_features(
        train.x, train.rows, within + (course.progress <= periods.horizon_us), most=params.max_features, seed=seed
    )
    ours = _thinned(person_periods(course, periods), params.max_rows, seed)
    theirs = _thinned(person_periods(later.course, periods), params.max_rows, seed)
    rows = np.concatenate([_rows(train, ours, columns), _rows(later, theirs, columns)])
    table = TrainingTable(
        rows,
        max_bin=params.boosting.max_bin,
        categorical=params.codes_among(columns),
        columns=columns.tolist(),
        is_timed=True,
    )
    progress = _cause(table, names[0], ours.progress, theirs.progress, later, columns, periods, params, seed)
    abandon = _cause(table, names[1], ours.abandon, theirs.abandon, later, columns, periods, params, seed)
    return progress, abandon


def _thinned(rows: PersonPeriods, most: int, seed: int) -> PersonPeriods:
    if len(rows.row) <= most:
        return rows
    kept = np.sort(np.random.default_rng(seed).choice(len(rows.row), most, replace=False))
    return PersonPeriods(rows.row[kept], rows.period[kept], rows.progress[kept], rows.abandon[kept])


def _rows(part: Slice, of: PersonPeriods, columns: IntArray) -> FloatArray:
    """``(m, n_columns + 1)`` person-periods: what was known at the moment, and the number of the period."""
    rows = np.empty((len(of.row), len(columns) + 1))
    rows[:, :-1] = part.x[np.ix_(part.rows[of.row], columns)]
    rows[:, -1] = of.period
    return rows


def _cause(
    table: TrainingTable,
    name: str,
    happened: FloatArray,
    later_happened: FloatArray,
    later: Slice,
    columns: IntArray,
    periods: Periods,
    params: StallParams,
    seed: int,
) -> _Cause:
    facts, label = _counts(happened, later_happened), np.concatenate([happened, later_happened])
    names = [hazard_head(name, period) for period in range(len(periods))]
    fit, rounds = _fitted(table, label, len(happened), params.boosting, seed)
    if fit is None:
        facts |= {"choice": "base_rate"}
        heads = tuple(Head(name=one, link="logistic", mean=_base_rate(label), facts=facts) for one in names)
        base = expit(np.array([_base_rate(label)]))[0]
        return _Cause(name, heads, None, np.full((len(later.rows), len(periods)), base))
    facts |= {"choice": "boosted", "trees": rounds}
    calibration = platt_map(expit(fit.raw(table.x[len(happened) :], rounds)), later_happened)
    heads = tuple(
        Head(
            name=one,
            members=(score_name(name, period),),
            link="logistic",
            calibration=calibration,
            facts=facts,
        )
        for period, one in enumerate(names)
    )
    hazards, rows = np.empty((len(later.rows), len(periods))), np.empty((len(later.rows), len(columns) + 1))
    rows[:, :-1] = later.x[np.ix_(later.rows, columns)]
    for period in range(len(periods)):
        rows[:, -1] = period
        hazards[:, period] = calibration.apply(expit(fit.raw(rows, rounds)))
    return _Cause(name, heads, fit.text(rounds), hazards)


def _calibrated(cause: str, cumulative: FloatArray, later: Slice, after: FloatArray, periods: Periods) -> list[Head]:
    """A head for the end of each period, calibrated on the moments that were observed until then.

    An end that too few reached is calibrated as the last one before it that enough did, on the scale of log odds.
    """
    heads, platt, calibrated_by = [], IDENTITY, -1
    for period, end in enumerate(periods.ends_us):
        known = later.course.observed >= end
        happened = (after[known] <= end).astype(np.float64)
        calibration = platt
        if min(happened.sum(), len(happened) - happened.sum()) >= SMALLEST_SIDE:
            calibration = fitted_map(cumulative[known, period], happened, later.customers[known])
            platt, calibrated_by = platt_map(cumulative[known, period], happened), period
        heads.append(
            Head(
                name=incidence_head(cause, period),
                members=(score_name(cause, period),),
                calibration=calibration,
                facts={"n_calibration": len(happened), "calibrated_by_period": calibrated_by},
            )
        )
    return heads


class Happened(NamedTuple):
    """Moments of one part of the time, and whether an outcome followed.

    Attributes:
        rows: ``(n,)`` where they stand in the table of features.
        happened: ``(n,)`` 0 or 1.
        customers: ``(n,)`` ids.
    """

    rows: IntArray
    happened: FloatArray
    customers: NDArray[np.generic]


def fit_forecast(
    x: FloatArray, train: Happened, later: Happened, *, outcome_id: str, params: StallParams, seed: int
) -> FittedHeads:
    """How likely an outcome is within its window from a moment on, whatever is done: one calibrated head.

    Args:
        x: ``(m, n_features)``, these moments among others; NaN means unknown.
        train: moments whose window was over by the time the later slice starts.
        later: boosting stops on it, and the probabilities are calibrated on it.
        outcome_id: names the head.
        params: how the model is fitted.
        seed: fixes everything that is drawn.

    Raises:
        NotEnoughData: a slice is empty, or the outcome is the same for all its moments.
    """
    for name, labels in (("training", train.happened), ("calibration", later.happened)):
        if not 0 < labels.sum() < len(labels):
            raise NotEnoughData(
                f"{outcome_id} happened after {int(labels.sum())} of {len(labels)} {name} moments, expected some of "
                f"both kinds: import more history or move the cut-off"
            )
    places, happened = train.rows, train.happened
    if len(places) > params.max_rows:
        kept = np.sort(np.random.default_rng(seed).choice(len(places), params.max_rows, replace=False))
        places, happened = places[kept], happened[kept]
    columns = strongest_features(x, places, happened, most=params.max_features, seed=seed)
    rows = x[np.ix_(np.concatenate([places, later.rows]), columns)]
    table = TrainingTable(
        rows, max_bin=params.boosting.max_bin, categorical=params.codes_among(columns), columns=columns.tolist()
    )
    name, facts = forecast_head(outcome_id), _counts(happened, later.happened)
    label = np.concatenate([happened, later.happened])
    fit, rounds = _fitted(table, label, len(happened), params.boosting, seed)
    if fit is None:
        head = Head(name=name, link="logistic", mean=_base_rate(label), facts={**facts, "choice": "base_rate"})
        return FittedHeads((head,), {})
    probability = expit(fit.raw(table.x[len(happened) :], rounds))
    head = Head(
        name=name,
        members=(name,),
        link="logistic",
        calibration=fitted_map(probability, later.happened, later.customers),
        facts={**facts, "choice": "boosted", "trees": rounds},
    )
    return FittedHeads((head,), {name: fit.text(rounds)})


def _counts(happened: FloatArray, later_happened: FloatArray) -> dict[str, Fact]:
    return {
        "n_rows": len(happened),
        "n_positive": int(happened.sum()),
        "n_calibration": len(later_happened),
        "n_calibration_positive": int(later_happened.sum()),
    }


def _base_rate(label: FloatArray) -> float:
    """Log odds of the mean; Jeffreys' prior keeps them finite."""
    rate = (label.sum() + 0.5) / (len(label) + 1)
    return float(np.log(rate / (1 - rate)))


def _fitted(
    table: TrainingTable, label: FloatArray, n_train: int, boosting: Boosting, seed: int
) -> tuple[Fit | None, int]:
    """A booster of the first rows, stopped on the others, and its rounds; None where a slice is one-sided."""
    for part in (label[:n_train], label[n_train:]):
        if not 0 < part.sum() < len(part):
            return None, 0
    fit = boosted(
        table,
        label,
        objective="binary",
        boosting=boosting,
        seed=seed,
        rows=np.arange(n_train),
        held_out=np.arange(n_train, len(label)),
    )
    return fit, best_rounds(fit)


def best_rounds(fit: Fit) -> int:
    """The number of trees with the smallest held-out loss, at least one."""
    return int(np.argmin(fit.losses)) + 1
