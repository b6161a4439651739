"""Fit the models of one journey: first on the earlier part, to be judged on the later one, then for serving.

The stall model that serves is the very one that is judged: its training and calibration slices end before the test.
The uplift models that serve are fitted on all decisions whose outcomes are known, after the same fit on the earlier
part was judged on the later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from features.errors import NotEnoughData
from features.journeys import Journey
from features.kernel import Floats, Integers
from features.stable_hash import stable_unit
from models.actions import Catalogue
from models.boosting import Boosting
from models.bundle import Bundle, Lineage, compiled, member_texts
from models.hazards import Course, Periods, periods_of
from models.heads import FittedHeads
from models.scoring import Scorer, StallBlock
from models.stall import Slice, StallParams, fit_forecast, fit_stall, fit_waiting
from models.uplift import ArmFit, FittedUplift, UpliftParams, fit_uplift
from training.dataset import DecisionFrame, Frames, MomentFrame
from training.moments import Booleans
from training.params import BoostingParams, Params
from training.split import Split, before_and_after, hashed_halves, is_flat, time_split


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


@dataclass(frozen=True, slots=True, eq=False)
class UpliftTest:
    """Held-out decisions and what models of the other decisions said of them.

    Attributes:
        rows: ``(m,)`` rows of the decision frame.
        control: by outcome, ``(m,)`` predicted response without action.
        uplift: by outcome, ``(m, n_arms)`` predicted uplift, 0 for no action, NaN where the arm was never seen.
        how: ``time`` or ``hash``.
    """

    rows: Integers
    control: Mapping[str, Floats]
    uplift: Mapping[str, Floats]
    how: str


@dataclass(frozen=True, slots=True, eq=False)
class JourneyFit:
    """Everything that was fitted for one journey.

    Attributes:
        stall: None where it could not be fitted.
        uplift: what serves, by outcome.
        tests: held-out decisions, one for each split.
        notes: what could not be done, and why; for people.
    """

    stall: StallFit | None
    uplift: Mapping[str, FittedUplift]
    tests: tuple[UpliftTest, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def parts(self) -> tuple[FittedHeads, ...]:
        """What goes into the bundle."""
        stall = () if self.stall is None else self.stall.parts
        return (*stall, *(fitted.fitted for fitted in self.uplift.values()))

    @property
    def arms(self) -> dict[str, tuple[ArmFit, ...]]:
        """What was found for each arm, by outcome."""
        return {outcome_id: fitted.arms for outcome_id, fitted in self.uplift.items()}


def fit_journey(frames: Frames, journey: Journey, catalogue: Catalogue, params: Params) -> JourneyFit:
    """The models of one journey, with what they said of rows that they were not fitted on.

    Raises:
        NotEnoughData: neither a stall model nor an uplift model can be fitted; the message says why.
    """
    notes: list[str] = []
    stall = _stall(frames.moments, frames.feature_names, journey, params, notes)
    uplift, tests = _uplift(frames.decisions, journey, catalogue, params, notes)
    if stall is None and not uplift:
        raise NotEnoughData(f"no model of {journey.id} can be fitted: {'; '.join(notes)}")
    return JourneyFit(stall, uplift, tests, tuple(notes))


def _stall(
    frame: MomentFrame, names: tuple[str, ...], journey: Journey, params: Params, notes: list[str]
) -> StallFit | None:
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
        boosting=_boosting(params.stall.boosting),
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
                frame.x[ours],
                happened[ours],
                outcome_id=outcome_id,
                later=(frame.x[later], happened[later], frame.customer_ids[later]),
                params=stall_params,
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
    scorer = _scorer(list(parts), frame.x.shape[1])
    rows = np.flatnonzero(split.test & frame.after.is_known(periods.horizon_us))
    scores = scorer.customers(frame.x[rows])
    test = StallTest(rows, (~frame.after.progressed(periods.horizon_us)[rows]).astype(np.float64), scores.stall_block())
    return StallFit(
        parts=parts,
        periods=periods,
        test=test,
        waiting=None if scorer.waiting is None else _judged_waiting(frame, scorer, split.test & stalled_now),
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


def _uplift(
    frame: DecisionFrame, journey: Journey, catalogue: Catalogue, params: Params, notes: list[str]
) -> tuple[dict[str, FittedUplift], tuple[UpliftTest, ...]]:
    if len(frame.arm_ids) < 2 or len(frame) == 0:
        notes.append(f"no uplift model: {len(frame)} past decisions with an action, expected some")
        return {}, ()
    everything = np.ones(len(frame), dtype=np.bool_)
    arms = arms_of_outcomes(frame, journey, catalogue)
    serving = fitted_outcomes(frame, journey, arms, everything, params, notes)
    if not serving:
        return {}, ()
    tests = []
    for how, train, test in uplift_splits(frame, journey, params):
        fitted = fitted_outcomes(frame, journey, arms, train, params, [])
        if fitted:
            tests.append(_predicted(frame, fitted, np.flatnonzero(test), how))
    if not tests:
        notes.append("no uplift model was judged: neither half of the decisions can be fitted by itself")
    return serving, tuple(tests)


def uplift_splits(frame: DecisionFrame, journey: Journey, params: Params) -> list[tuple[str, Booleans, Booleans]]:
    """Ways to cut the decisions into those to learn from and those to judge on: how, train ``(n,)``, test ``(n,)``.

    By time where the longest reward window leaves rows on both sides; else by stable hash of the customer, once for
    each salt.
    """
    known = np.zeros(len(frame), dtype=np.bool_)
    for response in frame.response.values():
        known |= ~np.isnan(response)
    if known.any() and not is_flat(frame.at[known]):
        window = max(outcome.window for outcome in journey.outcomes)
        cut_off_rows = frame.at[known]
        train, test = before_and_after(cut_off_rows, window, train_share=params.split.train_share)
        if _can_learn(frame.arm[known][train]) and _can_learn(frame.arm[known][test]):
            return [("time", _spread(train, known), _spread(test, known))]
    splits = []
    for salt in params.split.flat_salts:
        first, second = hashed_halves(frame.people.tolist(), salt)
        splits.append(("hash", first & known, second & known))
    return splits


def _spread(chosen: Booleans, known: Booleans) -> Booleans:
    """Choice among the known rows as a choice among all rows."""
    spread = np.zeros(len(known), dtype=np.bool_)
    spread[known] = chosen
    return spread


def _can_learn(arm: Integers) -> bool:
    return bool((arm == 0).any() and (arm > 0).any())


def arms_of_outcomes(frame: DecisionFrame, journey: Journey, catalogue: Catalogue) -> dict[str, Integers]:
    """By outcome, the arms whose effect on it is estimated, no action first.

    These are the actions that aim at it. An outcome that no action aims at is declared to be watched: what every action
    does to it is estimated.
    """
    aims = [catalogue.by_id[action_id].outcome for action_id in frame.arm_ids[1:]]
    arms = {}
    for outcome in journey.outcomes:
        is_aimed = any(action.outcome == outcome.id for action in catalogue.actions if action.journey == journey.id)
        chosen = [number for number, aim in enumerate(aims, start=1) if aim == outcome.id or not is_aimed]
        arms[outcome.id] = np.array([0, *chosen], dtype=np.int64)
    return arms


def fitted_outcomes(
    frame: DecisionFrame,
    journey: Journey,
    arms: Mapping[str, Integers],
    rows: Booleans,
    params: Params,
    notes: list[str],
) -> dict[str, FittedUplift]:
    """The uplift models of every declared outcome on the chosen rows; an outcome that cannot be fitted is noted."""
    fitted = {}
    for outcome in journey.outcomes:
        ours = arms[outcome.id]
        response = frame.response[outcome.id]
        chosen = np.flatnonzero(rows & ~np.isnan(response) & np.isin(frame.arm, ours))
        if not _can_learn(frame.arm[chosen]):
            if len(ours) > 1:
                notes.append(
                    f"no uplift on {outcome.id}: {len(chosen)} decisions with a known outcome, expected some with an "
                    f"action and some with none"
                )
            continue
        _, customers = np.unique(frame.people[chosen], return_inverse=True)
        fitted[outcome.id] = fit_uplift(
            frame.x[chosen],
            np.searchsorted(ours, frame.arm[chosen]),
            response[chosen],
            outcome_id=outcome.id,
            arm_ids=[frame.arm_ids[number] for number in ours],
            binary=outcome.type == "binary",
            selection_probability=frame.selection_probability[chosen],
            arm_probabilities=frame.arm_probabilities[np.ix_(chosen, ours)],
            groups=customers.astype(np.int64),
            params=_uplift_params(params),
            seed=params.seed,
        )
    return fitted


def _predicted(frame: DecisionFrame, fitted: Mapping[str, FittedUplift], rows: Integers, how: str) -> UpliftTest:
    scorer = _scorer([one.fitted for one in fitted.values()], frame.x.shape[1])
    scores = scorer.customers(frame.x[rows])
    control, uplift = {}, {}
    for outcome_id in fitted:
        block = scores.effect_block([(outcome_id, action_id) for action_id in frame.arm_ids[1:]])
        control[outcome_id] = block.control_response[:, 0]
        uplift[outcome_id] = np.concatenate([np.zeros((len(rows), 1)), block.uplift], axis=1)
    return UpliftTest(rows, control, uplift, how)


def _scorer(parts: list[FittedHeads], n_features: int) -> Scorer:
    """A scorer of models that are not kept."""
    forest, table = compiled(parts, n_features)
    heads = tuple(head for part in parts for head in part.heads)
    incidence = tuple(head for part in parts for head in part.incidence)
    lineage = Lineage(
        name="", journey_id="", created_at=0, feature_names=("",) * n_features, features_version="", configuration={}
    )
    return Scorer(Bundle(lineage, forest, heads, table, "", member_texts(parts)[1], incidence))


def _boosting(params: BoostingParams) -> Boosting:
    return Boosting(**params.model_dump())


def _uplift_params(params: Params) -> UpliftParams:
    uplift = params.uplift
    return UpliftParams(
        n_folds=uplift.n_folds,
        response=_boosting(uplift.response),
        effect=_boosting(uplift.effect),
        effect_leaves=uplift.effect_leaves,
        smallest_arm=uplift.smallest_arm,
        shrink_rows=uplift.shrink_rows,
        smallest_probability=uplift.smallest_probability,
    )
