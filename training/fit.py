"""Fit the models of one journey: first on the earlier part, to be judged on the later one, then for serving.

The stall model that serves is the very one that is judged: its training and calibration slices end before the test.
The uplift models that serve are fitted on all decisions whose outcomes are settled, after the same fit on the earlier
part was judged on the later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.errors import NotEnoughData
from features.journeys import Journey, Outcome
from features.kernel import Floats, Integers
from models.actions import Catalogue
from models.boosting import Boosting
from models.heads import FittedHeads
from models.scoring import scorer_of
from models.uplift import ArmFit, FittedUplift, UpliftParams, fit_uplift
from training.dataset import DecisionFrame, Frames
from training.fit_stall import StallFit, fitted_stall_or_none
from training.maturity import maturity
from training.moments import HOUR_US, Booleans
from training.params import Params
from training.split import before_and_after, hashed_halves, is_flat


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
    stall = fitted_stall_or_none(frames.moments, frames.feature_names, journey, params, notes)
    uplift, tests = _uplift(frames.decisions, journey, catalogue, params, notes)
    if stall is None and not uplift:
        raise NotEnoughData(f"no model of {journey.id} can be fitted: {'; '.join(notes)}")
    return JourneyFit(stall, uplift, tests, tuple(notes))


def _uplift(
    frame: DecisionFrame, journey: Journey, catalogue: Catalogue, params: Params, notes: list[str]
) -> tuple[dict[str, FittedUplift], tuple[UpliftTest, ...]]:
    if len(frame.arm_ids) < 2 or len(frame) == 0:
        notes.append(f"no uplift model: {len(frame)} past decisions with an action, expected some")
        return {}, ()
    recent = young_enough(frame, params)
    if not recent.all():
        notes.append(
            f"uplift: decisions left out as older than {params.uplift.max_age_days:g} days: {int((~recent).sum())}"
        )
    arms = arms_of_outcomes(frame, journey, catalogue)
    serving = fitted_outcomes(frame, journey, arms, recent, params, notes, catalogue.priors)
    if not serving:
        return {}, ()
    tests, judged = [], []
    for how, train, test in uplift_splits(frame, journey, params):
        fitted = fitted_outcomes(frame, journey, arms, train, params, [], catalogue.priors)
        if fitted:
            tests.append(_predicted(frame, fitted, np.flatnonzero(test), how))
            judged.append(fitted)
    notes += _unjudged(serving, judged)
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
    known &= young_enough(frame, params)
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


def young_enough(frame: DecisionFrame, params: Params) -> Booleans:
    """``(n,)`` whether a decision is no older than ``uplift.max_age_days`` at the end of observation."""
    days = params.uplift.max_age_days
    if days is None:
        return np.ones(len(frame), dtype=np.bool_)
    young: Booleans = frame.at >= frame.observed_until - round(24 * days * HOUR_US)
    return young


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
    priors: Mapping[tuple[str, str], tuple[float, float]],
) -> dict[str, FittedUplift]:
    """The uplift models of every declared outcome on the chosen rows; an outcome that cannot be fitted is noted.

    Args:
        frame: past decisions.
        journey: declares the outcomes.
        arms: by outcome, those whose effect is estimated; see ``arms_of_outcomes``.
        rows: ``(n,)`` what is learned from.
        params: how.
        notes: takes what could not be done.
        priors: by outcome and action, the catalogue's beliefs, which arms of few rows are drawn to.
    """
    fitted = {}
    for outcome in journey.outcomes:
        ours = arms[outcome.id]
        chosen, response, weight = _settled(frame, outcome, ours, rows & np.isin(frame.arm, ours), params, notes)
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
            response,
            outcome_id=outcome.id,
            arm_ids=[frame.arm_ids[number] for number in ours],
            binary=outcome.type == "binary",
            selection_probability=frame.selection_probability[chosen],
            arm_probabilities=frame.arm_probabilities[np.ix_(chosen, ours)],
            groups=customers.astype(np.int64),
            weight=weight,
            priors={action_id: one for (aim, action_id), one in priors.items() if aim == outcome.id},
            params=_uplift_params(params),
            seed=params.seed,
        )
        notes += _notes(outcome.id, fitted[outcome.id].arms)
    return fitted


def _settled(
    frame: DecisionFrame, outcome: Outcome, ours: Integers, rows: Booleans, params: Params, notes: list[str]
) -> tuple[Integers, Floats, Floats | None]:
    """Which of the rows an outcome is learned from, their responses, and how much each counts (None: all alike).

    A yes or no is settled with the first yes; a sum may grow until its window is over.
    """
    response = frame.response[outcome.id]
    known = ~np.isnan(response)
    if outcome.type != "binary" or outcome.id not in frame.settled_after or known[rows].all():
        chosen = np.flatnonzero(rows & known)
        return chosen, response[chosen], None
    asked = np.flatnonzero(rows)
    found = maturity(
        frame.observed_until - frame.at[asked],
        frame.settled_after[outcome.id][asked],
        window=outcome.window,
        kinds=_kinds(frame, asked, ours),
        largest_weight=params.uplift.largest_delay_weight,
    )
    if found.refused.any():
        notes.append(
            f"uplift on {outcome.id}: decisions left out for an open window: {found.refused.sum()}; fewer than 1 in "
            f"{params.uplift.largest_delay_weight:g} like them have seen theirs end"
        )
    counts = found.weight > 0
    # What is settled before its window is over is a yes.
    return asked[counts], np.nan_to_num(response[asked[counts]], nan=1.0), found.weight[counts]


def _kinds(frame: DecisionFrame, rows: Integers, arms: Integers) -> Integers:
    """``(m,)`` decisions that are compared with each other: the same arms were possible, or, unlogged, the same taken.

    An arm that is new was not possible earlier, and its decisions are compared with as recent ones only.
    """
    table = frame.arm_probabilities[np.ix_(rows, arms)]
    taken = np.where(np.isnan(table).any(axis=1), frame.arm[rows], -1)
    _, kinds = np.unique(np.column_stack([table > 0, taken]), axis=0, return_inverse=True)
    return kinds.astype(np.int64).ravel()


def _unjudged(serving: Mapping[str, FittedUplift], judged: Sequence[Mapping[str, FittedUplift]]) -> list[str]:
    """Effects of their own that serve, where the fits that were judged had found none: no row speaks for them."""
    notes = []
    for outcome_id, fitted in serving.items():
        ranked = {
            arm.action_id for one in judged if outcome_id in one for arm in one[outcome_id].arms if arm.weight > 0
        }
        alone = [arm.action_id for arm in fitted.arms if arm.weight > 0 and arm.action_id not in ranked]
        if alone:
            notes.append(
                f"uplift on {outcome_id}: an effect of its own is served of {', '.join(alone)}, which only all rows "
                f"together showed: the fits that are judged here gave everybody the mean"
            )
    return notes


def _notes(outcome_id: str, arms: tuple[ArmFit, ...]) -> list[str]:
    """What a person should know of the arms; those of which the same is said stand together, each with its rows."""
    said: dict[str, list[str]] = {}
    for arm in arms:
        for note in arm.notes:
            said.setdefault(note, []).append(f"{arm.action_id} ({min(arm.n_treated, arm.n_control)} rows)")
    return [f"uplift on {outcome_id}: {note}: {', '.join(whose)}" for note, whose in said.items()]


def _predicted(frame: DecisionFrame, fitted: Mapping[str, FittedUplift], rows: Integers, how: str) -> UpliftTest:
    scorer = scorer_of([one.fitted for one in fitted.values()], frame.x.shape[1])
    scores = scorer.customers(frame.x[rows])
    control, uplift = {}, {}
    for outcome_id in fitted:
        block = scores.effect_block([(outcome_id, action_id) for action_id in frame.arm_ids[1:]])
        control[outcome_id] = block.control_response[:, 0]
        uplift[outcome_id] = np.concatenate([np.zeros((len(rows), 1)), block.uplift], axis=1)
    return UpliftTest(rows, control, uplift, how)


def _uplift_params(params: Params) -> UpliftParams:
    uplift = params.uplift
    return UpliftParams(
        n_folds=uplift.n_folds,
        response=Boosting(**uplift.response.model_dump()),
        effect=Boosting(**uplift.effect.model_dump()),
        effect_leaves=uplift.effect_leaves,
        learners=uplift.learners,
        smallest_arm=uplift.smallest_arm,
        shrink_rows=uplift.shrink_rows,
        prior_spread=uplift.prior_spread,
        smallest_probability=uplift.smallest_probability,
    )
