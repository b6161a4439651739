"""The uplift estimator: one control model for all arms, and for each arm what it changes, by doubly robust learning.

Effects are small against binary noise. Fitted at a fixed size every learner does worse than the arm's mean effect, so
the size of the effect model is chosen on held-out rows, the mean being one of the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.boosting import Boosting, Fit, TrainingTable, boosted
from models.heads import FittedHeads, Head, effect_head
from models.responses import (
    CONTROL,
    ControlResponse,
    Sample,
    arm_responses,
    best_rounds,
    control_response,
    summed_curve,
)
from models.selection import SelectionProbabilities, selection_probabilities

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpliftParams:
    """How responses and effects are fitted.

    Attributes:
        n_folds: groups of customers for cross-fitting; also the number of members of each effect.
        response: boosting of the control model and of the arms' responses; its rounds are chosen on held-out rows.
        effect: boosting of an effect; its rounds are chosen too.
        effect_leaves: numbers of leaves to choose from, beside the arm's mean.
        smallest_leaf: share of an effect's rows that each of its leaves holds at least, besides ``effect.min_rows``.
        smallest_arm: rows an arm needs for an effect model; below it there is its mean.
        smallest_mean: rows an arm needs for its mean; below it there is nothing, and the catalogue's prior is served.
        shrink_rows: n0: an effect's weight against the arm's mean is n / (n + n0), n the rows of the arm.
        sigma_floor: the smallest standard deviation of an effect.
        smallest_probability: estimated selection probabilities are clipped here.
        categorical: indices of the features that are codes.
    """

    n_folds: int = 3
    response: Boosting = field(default_factory=lambda: Boosting(rounds=200, patience=15, num_leaves=8, min_rows=50))
    effect: Boosting = field(default_factory=lambda: Boosting(rounds=150, patience=20, learning_rate=0.05, min_rows=50))
    effect_leaves: Sequence[int] = (2, 4)
    smallest_leaf: float = 0.04
    smallest_arm: int = 300
    smallest_mean: int = 30
    shrink_rows: float = 500.0
    sigma_floor: float = 0.0
    smallest_probability: float = 0.02
    categorical: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFit:
    """What was found for one arm.

    Attributes:
        action_id: the arm.
        n_treated: compared rows that got it.
        n_control: compared rows that got no action.
        mean_effect: doubly robust mean effect over the compared rows, weighted by overlap; NaN if too few.
        mean_se: its standard error, clustered by customer.
        choice: ``absent`` or ``too_few`` (no head: scoring falls back to the catalogue's prior), ``mean``, or the size
            chosen, as ``leaves=4,trees=40``.
        loss_gain: share of the held-out doubly robust loss that the chosen size saves against the mean.
        weight: of the effect model against the mean.
        randomised: whether all probabilities used were logged; estimated ones make the effect observational.
        share_clipped: share of the compared rows whose estimated probability was clipped.
    """

    action_id: str
    n_treated: int
    n_control: int
    mean_effect: float
    mean_se: float
    choice: str
    loss_gain: float
    weight: float
    randomised: bool
    share_clipped: float


@dataclass(frozen=True, slots=True)
class FittedUplift:
    """Control and effect heads of one outcome.

    Attributes:
        fitted: the heads and their boosters.
        arms: what was found, in the order of the arms, without the control.
    """

    fitted: FittedHeads
    arms: tuple[ArmFit, ...]

    @property
    def randomised(self) -> bool:
        """Whether every arm's comparison rests on logged probabilities."""
        return all(arm.randomised for arm in self.arms)


def fit_uplift(
    x: FloatArray,
    arm: IntArray,
    y: FloatArray,
    *,
    outcome_id: str,
    arm_ids: Sequence[str],
    binary: bool,
    selection_probability: FloatArray,
    arm_probabilities: FloatArray | None = None,
    groups: NDArray[np.generic] | None = None,
    params: UpliftParams,
    seed: int,
) -> FittedUplift:
    """The control response and every arm's effect on one outcome.

    Args:
        x: ``(n, n_features)`` one row a decision; NaN means unknown.
        arm: ``(n,)`` index into ``arm_ids``; 0 is no action.
        y: ``(n,)`` outcome; 0 or 1 where ``binary``.
        outcome_id: names the heads.
        arm_ids: ``no_action`` and the actions.
        binary: whether the outcome is a probability.
        selection_probability: ``(n,)`` logged marginal probability of the arm taken; NaN where none was logged. Logged
            ones are used as they are.
        arm_probabilities: ``(n, n_arms)`` the logged table, where there is one (NaN rows elsewhere). An arm is then
            compared only on rows where both it and no action could have been chosen.
        groups: ``(n,)`` customers; a customer's rows stay in one fold. Rows are their own customers if None.
        params: how it is fitted.
        seed: fixes everything that is drawn.

    Raises:
        NotEnoughData: no row got no action, or an array does not fit the others.

    References:
        Kennedy 2023, Towards optimal doubly robust estimation of heterogeneous causal effects, with the score
        ``mu_a - mu_0 + 1{A=a}(y - mu_a)/e_a - 1{A=0}(y - mu_0)/e_0``; Chernozhukov et al. 2018, Double/debiased
        machine learning (cross-fitting); Li, Morgan and Zaslavsky 2018, Balancing covariates via propensity score
        weighting (overlap weights).
    """
    _check(x, arm, y, selection_probability, arm_probabilities, arm_ids)
    customers = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sample = Sample(
        table=TrainingTable(x, max_bin=params.response.max_bin, categorical=params.categorical),
        arm=arm,
        y=y.astype(np.float64),
        binary=binary,
        fold=_folds(arm, y, customers, params.n_folds, seed),
        n_folds=params.n_folds,
        groups=customers,
        smallest=params.smallest_arm,
        boosting=params.response,
        seed=seed,
    )
    chances = selection_probabilities(
        x,
        arm,
        logged=selection_probability,
        logged_table=arm_probabilities,
        n_arms=len(arm_ids),
        fold=sample.fold,
        smallest=params.smallest_probability,
    )
    control = control_response(sample, outcome_id)
    fits = [
        _fit_arm(sample, control, chances, number, action_id, outcome_id, params)
        for number, action_id in enumerate(arm_ids)
        if number != CONTROL
    ]
    return FittedUplift(
        FittedHeads(
            heads=(control.head, *(head for _, head, _ in fits if head is not None)),
            boosters={**control.boosters, **{name: text for _, _, texts in fits for name, text in texts.items()}},
        ),
        tuple(found for found, _, _ in fits),
    )


def _check(
    x: FloatArray,
    arm: IntArray,
    y: FloatArray,
    logged: FloatArray,
    table: FloatArray | None,
    arm_ids: Sequence[str],
) -> None:
    if not len(x) == len(arm) == len(y) == len(logged):
        raise NotEnoughData(
            f"{len(x)} rows of features, {len(arm)} arms, {len(y)} outcomes and {len(logged)} probabilities, "
            f"expected as many of each"
        )
    if table is not None and table.shape != (len(arm), len(arm_ids)):
        raise NotEnoughData(f"a probability table of shape {table.shape}, expected ({len(arm)}, {len(arm_ids)})")
    if not (arm == CONTROL).any():
        raise NotEnoughData(
            f"none of {len(arm)} decisions is {arm_ids[CONTROL]}, expected some: effects need a comparison; "
            f"give no action a probability above 0"
        )
    if arm.min() < 0 or arm.max() >= len(arm_ids):
        raise NotEnoughData(f"arms from {arm.min()} to {arm.max()}, expected 0 to {len(arm_ids) - 1}")
    if not np.isfinite(y).all():
        raise NotEnoughData(
            f"{int((~np.isfinite(y)).sum())} outcomes are not numbers, expected none: censor those rows"
        )
    if ((logged <= 0) | (logged > 1)).any():
        raise NotEnoughData("a selection probability outside (0, 1], expected NaN where none was logged")


def _folds(arm: IntArray, y: FloatArray, customers: IntArray, n_folds: int, seed: int) -> IntArray:
    """``(n,)`` fold of each row: customers whole, arms and outcomes of their first rows spread evenly."""
    rng = np.random.default_rng(seed)
    members, first, of_row = np.unique(customers, return_index=True, return_inverse=True)
    order = np.lexsort((rng.random(len(members)), y[first], arm[first]))
    fold = np.empty(len(members), dtype=np.int64)
    fold[order] = np.arange(len(members)) % n_folds
    return fold[of_row]


def _fit_arm(
    sample: Sample,
    control: ControlResponse,
    chances: SelectionProbabilities,
    number: int,
    action_id: str,
    outcome_id: str,
    params: UpliftParams,
) -> tuple[ArmFit, Head | None, dict[str, str]]:
    rows, weight = chances.comparison(sample.arm, number, CONTROL)
    n_treated, n_control = (int((sample.arm[rows] == taken).sum()) for taken in (number, CONTROL))
    enough = min(n_treated, n_control) >= params.smallest_mean
    found = ArmFit(
        action_id=action_id,
        n_treated=n_treated,
        n_control=n_control,
        mean_effect=float("nan"),
        mean_se=float("nan"),
        choice="mean" if enough else "too_few" if n_treated else "absent",
        loss_gain=0.0,
        weight=0.0,
        randomised=not chances.estimated[rows].any(),
        share_clipped=float(chances.clipped[rows].mean()) if len(rows) else 0.0,
    )
    if not enough:
        return found, None, {}
    scores = _scores(sample, chances, number, rows, arm_responses(sample, control, number))
    mean, mean_se = _clustered_mean(scores[rows], weight[rows], sample.groups[rows])
    found = replace(found, mean_effect=mean, mean_se=mean_se)
    texts: dict[str, str] = {}
    name = effect_head(outcome_id, action_id)
    if min(n_treated, n_control) >= params.smallest_arm:
        size = _chosen_size(sample, rows, scores, weight, params)
        if size.rounds:
            texts = {f"{name}#{k}": fit.text(size.rounds) for k, fit in enumerate(size.fits)}
            found = replace(
                found,
                choice=f"leaves={size.leaves},trees={size.rounds}",
                loss_gain=size.gain,
                weight=n_treated / (n_treated + params.shrink_rows),
            )
    return found, _effect(name, found, tuple(texts), params), texts


def _effect(name: str, found: ArmFit, members: tuple[str, ...], params: UpliftParams) -> Head:
    return Head(
        name=name,
        members=members,
        mean=found.mean_effect,
        mean_se=found.mean_se,
        weight=found.weight,
        spread="jackknife",
        sigma_floor=params.sigma_floor,
        facts={
            "n_treated": found.n_treated,
            "n_control": found.n_control,
            "choice": found.choice,
            "loss_gain": found.loss_gain,
            "randomised": found.randomised,
            "share_clipped": found.share_clipped,
        },
    )


def _scores(
    sample: Sample,
    chances: SelectionProbabilities,
    number: int,
    rows: IntArray,
    responses: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Doubly robust scores ``(n,)`` of the compared rows, 0 elsewhere."""
    control, treated = responses[0][rows], responses[1][rows]
    arm, y = sample.arm[rows], sample.y[rows]
    residual = np.where(arm == number, y - treated, np.where(arm == CONTROL, control - y, 0.0))
    scores = np.zeros(len(sample.y))
    scores[rows] = treated - control + residual / chances.among_compared(rows, number, CONTROL)
    return scores


def _clustered_mean(scores: FloatArray, weight: FloatArray, customers: IntArray) -> tuple[float, float]:
    """The weighted mean, and its standard error over customers."""
    mean = float(np.average(scores, weights=weight))
    _, of_row = np.unique(customers, return_inverse=True)
    sums = np.bincount(of_row, weights=weight * (scores - mean))
    return mean, float(np.sqrt((sums**2).sum()) / weight.sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Size:
    """The size chosen for an effect; no rounds where the mean is not beaten."""

    leaves: int
    rounds: int
    gain: float
    fits: Sequence[Fit]


def _chosen_size(sample: Sample, rows: IntArray, scores: FloatArray, weight: FloatArray, params: UpliftParams) -> _Size:
    fold = sample.fold[rows]
    weights = np.bincount(fold, weights=weight[rows], minlength=params.n_folds).astype(np.float64)
    constant = 0.0
    for k in range(params.n_folds):
        inside, outside = rows[fold == k], rows[fold != k]
        mean = np.average(scores[outside], weights=weight[outside])
        constant += float((weight[inside] * (scores[inside] - mean) ** 2).sum())
    best = _Size(0, 0, 0.0, ())
    for leaves in params.effect_leaves:
        min_rows = max(params.effect.min_rows, int(params.smallest_leaf * len(rows)))
        boosting = replace(params.effect, num_leaves=leaves, min_rows=min_rows)
        fits = [
            boosted(
                sample.table,
                scores,
                objective="regression",
                boosting=boosting,
                seed=sample.seed + k,
                rows=rows[fold != k],
                held_out=rows[fold == k],
                weight=weight,
            )
            for k in range(params.n_folds)
        ]
        rounds, gain = best_rounds(summed_curve(fits, weights), constant)
        if gain > best.gain:
            best = _Size(leaves, rounds, gain, fits)
    return best
