"""The uplift estimator: one control model for all arms, and for each arm what it changes, cross-fitted.

Effects are small against binary noise. Fitted at a fixed size every learner does worse than the arm's mean effect, so
learner and size are chosen on held-out rows, the mean being one of the choices, and what was chosen is recalibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.boosting import Boosting, TrainingTable
from models.effects import LEARNERS, Comparison, Learner, chosen_effect
from models.heads import Fact, FittedHeads, Head, effect_head
from models.overlap import Overlap, overlap_of
from models.recalibration import recalibration
from models.responses import CONTROL, ControlResponse, Sample, arm_responses, control_response
from models.selection import SelectionProbabilities, selection_probabilities
from models.shrinkage import effective_rows, shrunk

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpliftParams:
    """How responses and effects are fitted.

    Attributes:
        n_folds: groups of customers for cross-fitting; also the number of members of each effect.
        response: boosting of the control model and of the arms' responses; its rounds are chosen on held-out rows.
        effect: boosting of an effect; its rounds are chosen too.
        effect_leaves: numbers of leaves to choose from, beside the arm's mean; learners are compared at the middle one.
        learners: to choose from.
        smallest_leaf: share of an effect's rows that each of its leaves holds at least, up to a thousand.
        smallest_arm: effective rows an arm needs for an effect model; below it there is its mean.
        smallest_mean: effective rows an arm needs for its mean; below it there is nothing, and the catalogue's prior is
            served.
        shrink_rows: n0: an effect's weight against the arm's mean is n / (n + n0), n the effective rows of the arm.
        prior_spread: how far an arm's mean effect may be from 0 at the least where nothing was declared of it, one
            standard deviation in standard deviations of the outcome: see ``models.shrinkage``.
        sigma_floor: the smallest standard deviation of an effect.
        smallest_probability: estimated selection probabilities are clipped here.
        categorical: indices of the features that are codes.
    """

    n_folds: int = 3
    response: Boosting = field(
        default_factory=lambda: Boosting(rounds=200, patience=15, num_leaves=8, min_rows=50, max_bin=63)
    )
    effect: Boosting = field(
        default_factory=lambda: Boosting(rounds=300, patience=12, learning_rate=0.1, min_rows=50, max_bin=63)
    )
    effect_leaves: Sequence[int] = (2, 4, 8)
    learners: Sequence[Learner] = LEARNERS
    smallest_leaf: float = 0.04
    smallest_arm: int = 300
    smallest_mean: int = 30
    shrink_rows: float = 500.0
    prior_spread: float = 0.05
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
        served_mean: what is served in its place: drawn to the arm's prior as far as its error is large.
        served_se: posterior standard deviation of that.
        precision: weight of the arm's own mean in it; the rest is the prior's.
        choice: ``absent`` or ``too_few`` (no head: scoring falls back to the catalogue's prior), ``mean``, or the
            learner and the size chosen, as ``x,leaves=4,trees=40``.
        loss_gain: share of the held-out doubly robust loss that the choice saves against the mean.
        weight: of the effect model against the mean.
        randomised: whether all probabilities used were logged; estimated ones make the effect observational.
        overlap: how well the rows can be compared.
        slope: of doubly robust scores on the effects before recalibration, on rows not fitted on; NaN without a model.
            An order that turns out to be noise (a slope within its standard error of 0) leaves the mean.
        slope_se: its standard error.
        is_tried: whether there were rows enough to try a model.
        n_slope: rows that it was measured on, those with logged probabilities where there are enough.
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
    overlap: Overlap
    slope: float = float("nan")
    slope_se: float = float("nan")
    n_slope: int = 0
    is_tried: bool = False
    served_mean: float = float("nan")
    served_se: float = float("nan")
    precision: float = 0.0

    @property
    def share_clipped(self) -> float:
        """Share of the compared rows whose estimated probability was clipped."""
        return self.overlap.share_clipped

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of it, in words; empty where all is well."""
        found = [f"poor overlap with no action: {problem}" for problem in self.overlap.problems]
        if self.choice in ("absent", "too_few"):
            found.append("too few rows to compare for an effect, the catalogue's prior is served, if any")
        elif not self.is_tried:
            found.append("too few rows to compare for a model, everybody is served the mean effect")
        return tuple(found)


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
    weight: FloatArray | None = None,
    priors: Mapping[str, tuple[float, float]] | None = None,
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
        weight: ``(n,)`` above 0, how much each row's outcome counts: every mean, loss and regression is weighted by it.
            Only ratios matter; all rows count alike if None.
        priors: by action, what is believed of its mean effect and one standard deviation of that belief, in units of
            the outcome; 0 of an action that is not named.
        params: how it is fitted.
        seed: fixes everything that is drawn.

    Raises:
        NotEnoughData: no row got no action, or an array does not fit the others.

    References:
        Chernozhukov et al. 2018, Double/debiased machine learning (cross-fitting); Li, Morgan and Zaslavsky 2018,
        Balancing covariates via propensity score weighting (overlap weights); and those of ``models.effects`` and
        ``models.recalibration``.
    """
    _check(x, arm, y, selection_probability, arm_probabilities, arm_ids)
    counted = None if weight is None else _relative(weight, len(y))
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
        weight=counted,
    )
    chances = selection_probabilities(
        x,
        arm,
        logged=selection_probability,
        logged_table=arm_probabilities,
        n_arms=len(arm_ids),
        fold=sample.fold,
        smallest=params.smallest_probability,
        weight=counted,
    )
    control = control_response(sample, outcome_id)
    fits = [
        _fit_arm(sample, control, chances, number, action_id, outcome_id, params)
        for number, action_id in enumerate(arm_ids)
        if number != CONTROL
    ]
    fits = _drawn_to_priors(fits, {} if priors is None else priors, params.prior_spread * _deviation(sample))
    return FittedUplift(
        FittedHeads(
            heads=(control.head, *(fit.head for fit in fits if fit.head is not None)),
            boosters={**control.boosters, **{name: text for fit in fits for name, text in fit.texts.items()}},
        ),
        tuple(fit.found for fit in fits),
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


def _relative(weight: FloatArray, n: int) -> FloatArray | None:
    """Weights of mean 1, so that penalties mean what they mean without; None where all rows count alike."""
    if len(weight) != n or not (np.isfinite(weight) & (weight > 0)).all():
        raise NotEnoughData(
            "weights that are not one for each row, finite and above 0: leave out rows that do not count"
        )
    return None if np.ptp(weight) == 0 else weight / weight.mean()


def _folds(arm: IntArray, y: FloatArray, customers: IntArray, n_folds: int, seed: int) -> IntArray:
    """``(n,)`` fold of each row: customers whole, arms and outcomes of their first rows spread evenly."""
    rng = np.random.default_rng(seed)
    members, first, of_row = np.unique(customers, return_index=True, return_inverse=True)
    order = np.lexsort((rng.random(len(members)), y[first], arm[first]))
    fold = np.empty(len(members), dtype=np.int64)
    fold[order] = np.arange(len(members)) % n_folds
    return fold[of_row]


@dataclass(frozen=True, slots=True)
class _Fit:
    """One arm: what was found, its head if it has one, that head's boosters, and the error that it is drawn by."""

    found: ArmFit
    head: Head | None
    texts: Mapping[str, str]
    error: float


def _deviation(sample: Sample) -> float:
    """Standard deviation of the outcome."""
    return float(
        np.sqrt(np.average((sample.y - np.average(sample.y, weights=sample.weight)) ** 2, weights=sample.weight))
    )


def _drawn_to_priors(
    fits: Sequence[_Fit], priors: Mapping[str, tuple[float, float]], least_spread: float
) -> list[_Fit]:
    """The fits with heads around posterior means, over all arms of the outcome that have one."""
    known = [fit for fit in fits if fit.head is not None]
    believed = [priors.get(fit.found.action_id, (0.0, least_spread)) for fit in known]
    drawn = shrunk(
        np.array([fit.found.mean_effect for fit in known]),
        np.array([fit.error for fit in known]),
        prior=np.array([mean for mean, _ in believed]),
        least_spread=np.array([spread for _, spread in believed]),
    )
    posterior = {
        fit.found.action_id: found
        for fit, *found in zip(known, drawn.mean.tolist(), drawn.sd.tolist(), drawn.weight.tolist(), strict=True)
    }
    return [_around(fit, fit.head, *posterior[fit.found.action_id]) if fit.head is not None else fit for fit in fits]


def _around(fit: _Fit, head: Head, mean: float, sd: float, precision: float) -> _Fit:
    """The fit with its head around another mean: what an effect model tells of customers beside it stays."""
    found = replace(fit.found, served_mean=mean, served_se=sd, precision=precision)
    slope = head.calibration.slope
    calibration = head.calibration
    if calibration.kind == "linear":
        moved = (mean - head.mean) * (1 - slope * (1 - head.weight))
        calibration = replace(calibration, intercept=calibration.intercept + moved)
    head = replace(head, mean=mean, mean_se=sd, calibration=calibration, facts=_facts(found))
    return replace(fit, found=found, head=head)


def _fit_arm(
    sample: Sample,
    control: ControlResponse,
    chances: SelectionProbabilities,
    number: int,
    action_id: str,
    outcome_id: str,
    params: UpliftParams,
) -> _Fit:
    rows, weight = chances.comparison(sample.arm, number, CONTROL)
    taken = [rows[sample.arm[rows] == one] for one in (number, CONTROL)]
    pull = np.zeros(len(sample.y))
    pull[rows] = weight[rows] / chances.among_compared(rows, number, CONTROL)
    if sample.weight is not None:
        pull *= sample.weight
    effective = [effective_rows(pull[one]) for one in taken]
    enough = min(effective) >= params.smallest_mean
    found = ArmFit(
        action_id=action_id,
        n_treated=len(taken[0]),
        n_control=len(taken[1]),
        mean_effect=float("nan"),
        mean_se=float("nan"),
        choice="mean" if enough else "too_few" if len(taken[0]) else "absent",
        loss_gain=0.0,
        weight=0.0,
        randomised=not chances.estimated[rows].any(),
        overlap=_overlap(sample, chances, number, rows),
    )
    if not enough:
        return _Fit(found, None, {}, float("nan"))
    compared = _comparison(sample, control, chances, number, rows, weight[rows])
    mean, mean_se = compared.mean()
    found = replace(found, mean_effect=mean, mean_se=mean_se)
    texts: dict[str, str] = {}
    head = Head(
        name=effect_head(outcome_id, action_id),
        mean=mean,
        mean_se=mean_se,
        weight=0.0,
        spread="jackknife",
        sigma_floor=params.sigma_floor,
    )
    if min(effective) >= params.smallest_arm and all(sample.is_in_every_fold(one) for one in taken):
        weight_of_model = effective[0] / (effective[0] + params.shrink_rows)
        found, head, texts = _modelled(sample, compared, ~chances.estimated[rows], found, head, weight_of_model, params)
    return _Fit(found, head, texts, max(mean_se, compared.pooled_se()))


def _modelled(
    sample: Sample,
    compared: Comparison,
    logged: BoolArray,
    found: ArmFit,
    head: Head,
    weight: float,
    params: UpliftParams,
) -> tuple[ArmFit, Head, dict[str, str]]:
    """The arm's effect model, recalibrated, if one beats the mean."""
    found = replace(found, is_tried=True)
    effect = chosen_effect(
        sample.table,
        compared,
        boosting=params.effect,
        learners=params.learners,
        leaves=params.effect_leaves,
        smallest_leaf=params.smallest_leaf,
        n_folds=params.n_folds,
        seed=sample.seed,
    )
    if not effect.rounds:
        return found, head, {}
    # The random slice, where there is enough of it: estimated probabilities would calibrate to their own errors.
    on_logged = min((logged & kind).sum() for kind in (compared.treated, compared.control)) >= params.smallest_arm
    measured = recalibration(
        compared, effect, sample.table.x[compared.rows], judged=logged if on_logged else np.ones_like(logged)
    )
    found = replace(found, slope=measured.slope, slope_se=measured.slope_se, n_slope=measured.n_rows)
    if measured.served_slope == 0:
        return found, head, {}
    texts = {f"{head.name}#{k}": fit.text(effect.rounds) for k, fit in enumerate(effect.fits)}
    found = replace(
        found,
        choice=f"{effect.learner},leaves={effect.leaves},trees={effect.rounds}",
        loss_gain=effect.gain,
        weight=weight,
    )
    head = replace(
        head,
        members=tuple(texts),
        weight=weight,
        calibration=measured.calibration(head.mean, weight),
        spread_scale=measured.spread_scale,
        slope_se=measured.relative_se,
        sigma_floor=max(head.sigma_floor, measured.sigma_floor(head.mean_se)),
    )
    return found, head, texts


def _facts(found: ArmFit) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "n_treated": found.n_treated,
        "n_control": found.n_control,
        "choice": found.choice,
        "loss_gain": found.loss_gain,
        "randomised": found.randomised,
        "share_clipped": found.share_clipped,
        "ess": found.overlap.ess,
        "own_mean": found.mean_effect,
        "own_mean_se": found.mean_se,
        "precision": found.precision,
    }
    return facts if found.n_slope == 0 else {**facts, "slope": found.slope, "slope_se": found.slope_se}


def _overlap(sample: Sample, chances: SelectionProbabilities, number: int, rows: IntArray) -> Overlap:
    """Of the rows on which the arm, or no action, was taken."""
    pair = np.isin(sample.arm, (number, CONTROL))
    ours = rows[pair[rows]]
    given = chances.among_compared(ours, number, CONTROL)
    return overlap_of(given, clipped=chances.clipped[ours], n_all=int(pair.sum()))


def _comparison(
    sample: Sample,
    control: ControlResponse,
    chances: SelectionProbabilities,
    number: int,
    rows: IntArray,
    weight: FloatArray,
) -> Comparison:
    mu_0, mu_1 = arm_responses(sample, control, number, rows)
    counted = sample.weight_of(rows)
    return Comparison(
        rows=rows,
        treated=sample.arm[rows] == number,
        control=sample.arm[rows] == CONTROL,
        y=sample.y[rows],
        mu_0=mu_0,
        mu_1=mu_1,
        share=chances.share(rows, number, CONTROL),
        given=chances.among_compared(rows, number, CONTROL),
        weight=weight if counted is None else weight * counted,
        fold=sample.fold[rows],
        groups=sample.groups[rows],
        counted=counted,
    )
