"""Fit what is predicted of moments: stall, benign wait and forecasts; each on earlier time, judged on later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from features.errors import NotEnoughData
from features.journeys import Journey
from features.kernel import Floats, Integers
from features.stable_hash import stable_unit
from models.boosting import Boosting
from models.hazards import Course, Periods, periods_of
from models.heads import FittedHeads
from models.scoring import Scorer, StallBlock, scorer_of
from models.stall import Happened, Slice, StallParams, fit_forecast, fit_stall, fit_waiting
from training.dataset import MomentFrame
from training.moments import Booleans
from training.params import Params
from training.split import Split, is_flat, time_split


@dataclass(frozen=True, slots=True, eq=False)
class StallTest:
    """Held-out moments with a fully observed horizon, and what the stall model said of them.

    Attributes:
        rows: ``(n,)`` rows of the moment frame.
        stalled: ``(n,)`` 1 where there was no progress within the horizon.
        scores: what was said, each ``(n,)``.
    """

    rows: Integers
    stalled: Floats
    scores: StallBlock


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityTest:
    """Held-out moments at which something else was predicted, and what came of it.

    Attributes:
        rows: ``(n,)`` rows of the moment frame.
        happened: ``(n,)`` 0 or 1.
        probability: ``(n,)`` predicted.
    """

    rows: Integers
    happened: Floats
    probability: Floats


@dataclass(frozen=True, slots=True, eq=False)
class WaitingTest:
    """Held-out moments of stalled customers.

    Attributes:
        course: what became of them, observed until the next contact.
        benign_wait: ``(n,)`` predicted.
    """

    course: Course
    benign_wait: Floats


@dataclass(frozen=True, slots=True, eq=False)
class StallFit:
    """A fitted stall model, what else is predicted of moments, and their tests.

    Attributes:
        parts: the heads that serve: hazards, waiting, forecasts.
        periods: how the time after a moment is cut.
        test: held-out moments.
        waiting: held-out moments of stalled customers, observed until the next contact; None where not fitted.
        forecasts: by outcome.
        calibrate_from: first cut-off, microseconds since the epoch.
        test_from: second.
        n_train: moments it was fitted on.
    """

    parts: tuple[FittedHeads, ...]
    periods: Periods
    test: StallTest
    waiting: WaitingTest | None
    forecasts: Mapping[str, ProbabilityTest]
    calibrate_from: int
    test_from: int
    n_train: int


def fitted_stall_or_none(
    frame: MomentFrame, names: tuple[str, ...], journey: Journey, params: Params, notes: list[str]
) -> StallFit | None:
    """``fitted_stall``; where it cannot be fitted, the notes say why."""
    if is_flat(frame.at):
        notes.append(f"no stall model: {len(frame)} moments, expected some at different times")
        return None
    try:
        return fitted_stall(frame, names, journey, params, notes)
    except NotEnoughData as error:
        notes.append(f"no stall model: {error}")
        return None


def fitted_stall(
    frame: MomentFrame, names: tuple[str, ...], journey: Journey, params: Params, notes: list[str]
) -> StallFit:
    """The stall model fitted on the earliest moments, calibrated on later ones, with its word on the latest.

    What is learned from was seen before the first cut-off, what is calibrated on before the second: of a moment that
    reaches beyond them only the time before counts.

    Args:
        frame: moments of one journey.
        names: columns of its ``x``.
        journey: as declared.
        params: of the experiment.
        notes: what could not be done besides is added here.

    Raises:
        NotEnoughData: a slice is empty or one-sided.
    """
    split = time_split(
        frame.at,
        frame.after.is_known(journey.horizon),
        train_share=params.split.train_share,
        calibration_share=params.split.calibration_share,
        window_us=journey.horizon,
    )
    periods = periods_of(journey.horizon, params.stall.period_shares)
    stall_params = StallParams(
        boosting=Boosting(**params.stall.boosting.model_dump()),
        max_features=params.stall.max_features,
        max_rows=params.stall.max_rows,
    )
    cuts = ((split.train, split.calibrate_from), (split.calibrate, split.test_from))
    parts = [fit_stall(*(_slice(frame, *cut) for cut in cuts), periods=periods, params=stall_params, seed=params.seed)]
    stalled_now = np.asarray(frame.x[:, names.index("stalled_now")] == 1.0, dtype=np.bool_)
    alone = _uncontacted(frame)
    try:
        slices = [_slice(alone, part & stalled_now, end) for part, end in cuts]
        parts.append(fit_waiting(*slices, periods=periods, params=stall_params, seed=params.seed))
    except NotEnoughData as error:
        notes.append(f"no benign wait: {error}")
    forecasts = {}
    for outcome_id, happened in frame.happened.items():
        try:
            ours, later = _forecast_rows(frame, happened, journey.outcome_by_id[outcome_id].window, split)
            fitted = fit_forecast(
                frame.x,
                Happened(ours, happened[ours], frame.customer_ids[ours]),
                Happened(later, happened[later], frame.customer_ids[later]),
                outcome_id=outcome_id,
                params=replace(stall_params, boosting=Boosting(**params.stall.forecast.model_dump())),
                seed=params.seed,
            )
            parts.append(fitted)
            forecasts[outcome_id] = np.flatnonzero(split.test & ~np.isnan(happened))
        except NotEnoughData as error:
            notes.append(f"no forecast: {error}")
    return _judged_stall(frame, periods, tuple(parts), forecasts, split, stalled_now)


def _judged_stall(
    frame: MomentFrame,
    periods: Periods,
    parts: tuple[FittedHeads, ...],
    forecasts: Mapping[str, Integers],
    split: Split,
    stalled_now: Booleans,
) -> StallFit:
    """The fit with what it said of the test moments."""
    scorer = scorer_of(parts, frame.x.shape[1])
    rows = np.flatnonzero(split.test & frame.after.is_known(periods.horizon_us))
    scores = scorer.customers(frame.x[rows])
    test = StallTest(rows, (~frame.after.progressed(periods.horizon_us)[rows]).astype(np.float64), scores.stall_block())
    return StallFit(
        parts=parts,
        periods=periods,
        test=test,
        waiting=None if scorer.bundle.waiting is None else _judged_waiting(frame, scorer, split.test & stalled_now),
        forecasts={
            outcome_id: ProbabilityTest(
                of,
                frame.happened[outcome_id][of],
                scorer.customers(frame.x[of]).forecast_block([outcome_id])[:, 0],
            )
            for outcome_id, of in forecasts.items()
        },
        calibrate_from=split.calibrate_from,
        test_from=split.test_from,
        n_train=int(split.train.sum()),
    )


def _judged_waiting(frame: MomentFrame, scorer: Scorer, part: Booleans) -> WaitingTest:
    rows = np.flatnonzero(part)
    after = _uncontacted(frame).after.where(rows)
    scores = scorer.customers(frame.x[rows]).stall_block()
    return WaitingTest(Course(after.progress, after.abandon, after.observed), scores.benign_wait)


def _slice(frame: MomentFrame, part: Booleans, end: int) -> Slice:
    """The moments of one part of the time, and what could be seen of them by its end."""
    rows = np.flatnonzero(part)
    after = frame.after.where(rows).until((end - frame.at[rows]).astype(np.float64))
    return Slice(frame.x, rows, Course(after.progress, after.abandon, after.observed), frame.customer_ids[rows])


def _uncontacted(frame: MomentFrame) -> MomentFrame:
    """The same moments, observed until the next contact: what followed on that is not what waiting leads to."""
    return replace(frame, after=frame.after.until(frame.after.contact))


def _forecast_rows(frame: MomentFrame, happened: Floats, window: int, split: Split) -> tuple[Integers, Integers]:
    """Rows to learn a forecast from, and rows to calibrate it on, all of whose windows end before the test.

    They are cut by time as the stall's are; where the window is too long for that, a fifth of the customers calibrate.
    """
    usable = ~np.isnan(happened) & (frame.at + window < split.test_from)
    earlier, later = usable & (frame.at + window < split.calibrate_from), usable & split.calibrate
    if all(0 < happened[part].sum() < part.sum() for part in (earlier, later)):
        return np.flatnonzero(earlier), np.flatnonzero(later)
    fifth = np.array([stable_unit("forecast", one) < 0.2 for one in frame.customer_ids.tolist()], dtype=np.bool_)
    return np.flatnonzero(usable & ~fifth), np.flatnonzero(usable & fifth)
