"""The uplift estimator: one control model for all arms, and for each arm what it changes, by doubly robust learning.

Effects are small against binary noise. Fitted at a fixed size every learner does worse than the arm's mean effect, so
the size of the effect model is chosen on held-out rows, the mean being one of the sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.boosting import Boosting, Fit, Objective, TrainingTable, boosted
from models.calibration import IDENTITY, MonotoneMap, platt_map
from models.heads import Fact, FittedHeads, Head, control_head, effect_head
from models.selection import EstimatedProbabilities, estimated_probabilities

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CONTROL: Final = 0
"""The number of the arm that is no action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpliftParams:
    """How responses and effects are fitted.

    Attributes:
        n_folds: groups of customers for cross-fitting; also the number of members of each effect.
        response: boosting of the control model and of the arms' responses; its rounds are chosen on held-out rows.
        effect: boosting of an effect; its rounds are chosen too.
        effect_leaves: numbers of leaves to choose from, beside the arm's mean.
        smallest_leaf: share of an effect's rows that its leaves hold at least, besides ``effect.min_rows``.
        smallest_arm: rows an arm needs for an effect of its own; below it there is its mean.
        shrink_rows: n0: an effect's weight against the arm's mean is n / (n + n0), n the rows of the arm.
        smallest_probability: estimated selection probabilities are clipped here.
        categorical: indices of the features that are codes.
    """

    n_folds: int = 3
    response: Boosting = field(default_factory=lambda: Boosting(rounds=200, patience=15, num_leaves=8, min_rows=50))
    effect: Boosting = field(
        default_factory=lambda: Boosting(rounds=150, patience=20, learning_rate=0.05, min_rows=50, lambda_l2=1.0)
    )
    effect_leaves: Sequence[int] = (3, 6)
    smallest_leaf: float = 0.02
    smallest_arm: int = 300
    shrink_rows: float = 500.0
    smallest_probability: float = 0.02
    categorical: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFit:
    """What was found for one arm.

    Attributes:
        action_id: the arm.
        n_treated: rows that got it; 0: there is no head, and scoring falls back to the catalogue's prior.
        n_control: rows of the comparison that got no action.
        mean_effect: doubly robust mean effect over the comparison's rows; NaN without rows.
        mean_se: its standard error, clustered by customer.
        choice: ``absent``, ``mean`` or the size chosen, as ``leaves=3,trees=40``.
        loss_gain: share of the held-out doubly robust loss that the chosen size saves against the mean.
        weight: of the effect model against the mean.
        randomised: whether all probabilities used were logged; estimated ones make the effect observational.
        share_clipped: share of the rows whose estimated probability was clipped.
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
    groups: IntArray | None = None,
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
    _check_rows(x, arm, y, selection_probability, arm_ids)
    folds = _folds(arm, y, groups, params.n_folds, seed)
    table = TrainingTable(x, max_bin=params.response.max_bin, categorical=params.categorical)
    rows = _Rows(x, arm, y, binary, folds, np.arange(len(y)) if groups is None else groups, table, params, seed)
    chances = _chances(rows, selection_probability, arm_probabilities, len(arm_ids))
    control = _fit_control(rows, outcome_id)
    heads, boosters, arms = [control.head], dict(control.boosters), []
    for number, action_id in enumerate(arm_ids):
        if number == CONTROL:
            continue
        found, head, texts = _fit_arm(rows, control, chances, number, action_id, outcome_id)
        arms.append(found)
        boosters.update(texts)
        heads += [head] if head else []
    return FittedUplift(FittedHeads(tuple(heads), boosters), tuple(arms))


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of one outcome and how they are used."""

    x: FloatArray
    arm: IntArray
    y: FloatArray
    binary: bool
    folds: IntArray
    groups: IntArray
    table: TrainingTable
    params: UpliftParams
    seed: int

    @property
    def objective(self) -> Objective:
        return "binary" if self.binary else "regression"

    def response(self, raw: FloatArray) -> FloatArray:
        """The outcome's mean from a raw score."""
        return 1 / (1 + np.exp(-raw)) if self.binary else raw


@dataclass(frozen=True, slots=True, eq=False)
class _Chances:
    """How likely the arms were: ``taken`` ``(n,)``, ``table`` ``(n, n_arms)`` or None, and which were estimated."""

    taken: FloatArray
    table: FloatArray | None
    estimated: BoolArray
    clipped: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class _Control:
    """The fitted control: its head, and raw scores ``(n_folds, n)`` of models that left out one fold each."""

    head: Head
    boosters: Mapping[str, str]
    raw: FloatArray


def _check_rows(x: FloatArray, arm: IntArray, y: FloatArray, chosen: FloatArray, arm_ids: Sequence[str]) -> None:
    if not len(x) == len(arm) == len(y) == len(chosen):
        raise NotEnoughData(
            f"{len(x)} rows of features, {len(arm)} arms, {len(y)} outcomes and {len(chosen)} probabilities, "
            f"expected as many of each"
        )
    if not (arm == CONTROL).any():
        raise NotEnoughData(
            f"none of {len(arm)} decisions is {arm_ids[CONTROL]}, expected some: effects need a comparison; "
            f"give no action a probability above 0"
        )
    if arm.min() < 0 or arm.max() >= len(arm_ids) or not np.isfinite(y).all():
        raise NotEnoughData(f"an arm outside 0..{len(arm_ids) - 1} or an outcome that is not a number")
    if ((chosen <= 0) | (chosen > 1)).any():
        raise NotEnoughData("a selection probability outside (0, 1]; expected NaN where none was logged")


def _folds(arm: IntArray, y: FloatArray, groups: IntArray | None, n_folds: int, seed: int) -> IntArray:
    """``(n,)`` fold of each row: customers whole, arms and outcomes of their first rows spread evenly."""
    rng = np.random.default_rng(seed)
    members, first, of_row = np.unique(
        np.arange(len(arm)) if groups is None else groups, return_index=True, return_inverse=True
    )
    order = np.lexsort((rng.random(len(members)), y[first], arm[first]))
    fold = np.empty(len(members), dtype=np.int64)
    fold[order] = np.arange(len(members)) % n_folds
    return fold[of_row]


def _chances(
    rows: _Rows, selection_probability: FloatArray, arm_probabilities: FloatArray | None, n_arms: int
) -> _Chances:
    unknown = np.isnan(selection_probability)
    nothing = np.zeros(len(unknown), dtype=np.bool_)
    if not unknown.any():
        return _Chances(selection_probability, arm_probabilities, nothing, nothing)
    estimate: EstimatedProbabilities = estimated_probabilities(
        rows.x, rows.arm, n_arms, rows.folds, smallest=rows.params.smallest_probability
    )
    taken = np.where(unknown, estimate.table[np.arange(len(unknown)), rows.arm], selection_probability)
    if unknown.all():
        table: FloatArray | None = estimate.table
    elif arm_probabilities is not None:
        table = np.where(unknown[:, None], estimate.table, arm_probabilities)
    else:
        table = None
    return _Chances(taken, table, unknown, unknown & estimate.clipped[np.arange(len(unknown)), rows.arm])


def _fit_control(rows: _Rows, outcome_id: str) -> _Control:
    name = control_head(outcome_id)
    at_control = np.flatnonzero(rows.arm == CONTROL)
    mean_raw, mean_se = _mean_raw(rows, at_control)
    facts: dict[str, Fact] = {"n_rows": len(at_control), "mean_response": float(rows.y[at_control].mean())}
    head = Head(
        name=name,
        link="logistic" if rows.binary else "identity",
        mean=mean_raw,
        mean_se=mean_se,
        facts={**facts, "choice": "mean"},
    )
    constant = _Control(head, {}, np.full((rows.params.n_folds, len(rows.y)), mean_raw))
    if len(at_control) < rows.params.smallest_arm or np.ptp(rows.y[at_control]) == 0:
        return constant
    fits = _cross_fits(rows, at_control, rows.y, None)
    rounds, gain = _chosen_rounds(rows, at_control, fits)
    if rounds == 0:
        return constant
    raw = np.stack([fit.raw(rows.x, rounds) for fit in fits])
    final = boosted(
        rows.table,
        rows.y,
        objective=rows.objective,
        boosting=replace(rows.params.response, rounds=rounds),
        seed=rows.seed,
        rows=at_control,
    )
    out_of_fold = rows.response(raw[rows.folds[at_control], at_control])
    calibration: MonotoneMap = platt_map(out_of_fold, rows.y[at_control]) if rows.binary else IDENTITY
    facts |= {"choice": f"leaves={rows.params.response.num_leaves},trees={rounds}", "loss_gain": gain}
    return _Control(
        replace(head, members=(name,), calibration=calibration, facts=facts), {name: final.text(rounds)}, raw
    )


def _mean_raw(rows: _Rows, chosen: IntArray) -> tuple[float, float]:
    """The mean outcome as a raw score, and its standard error there."""
    y = rows.y[chosen]
    if not rows.binary:
        return float(y.mean()), float(y.std() / np.sqrt(len(y)))
    rate = (y.sum() + 0.5) / (len(y) + 1)  # Jeffreys' prior keeps the log odds finite
    return float(np.log(rate / (1 - rate))), float(1 / np.sqrt(rate * (1 - rate) * len(y)))


def _cross_fits(rows: _Rows, chosen: IntArray, label: FloatArray, offsets: FloatArray | None) -> list[Fit]:
    """One response model for each fold, fitted on the chosen rows outside it, its loss followed on those inside."""
    fold = rows.folds[chosen]
    return [
        boosted(
            rows.table,
            label,
            objective=rows.objective,
            boosting=rows.params.response,
            seed=rows.seed + k,
            rows=chosen[fold != k],
            held_out=chosen[fold == k],
            offset=None if offsets is None else offsets[k],
        )
        for k in range(rows.params.n_folds)
    ]


def _chosen_rounds(rows: _Rows, chosen: IntArray, fits: Sequence[Fit]) -> tuple[int, float]:
    """The number of trees with the smallest loss over all folds, 0 if none beats a constant; and the share saved."""
    fold = rows.folds[chosen]
    sizes = np.bincount(fold, minlength=rows.params.n_folds)
    constant = 0.0
    for k in range(rows.params.n_folds):
        inside, outside = rows.y[chosen[fold == k]], rows.y[chosen[fold != k]]
        constant += sizes[k] * _constant_loss(inside, float(outside.mean()), rows.binary)
    return _best(_summed_curve(fits, sizes), constant)


def _constant_loss(y: FloatArray, mean: float, binary: bool) -> float:
    if not binary:
        return float(((y - mean) ** 2).mean())
    p = min(max(mean, 1e-6), 1 - 1e-6)
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def _summed_curve(fits: Sequence[Fit], sizes: NDArray[np.float64] | IntArray) -> FloatArray:
    """``(n_rounds,)`` total loss after each tree; a fold that stopped early keeps its last loss."""
    length = max(len(fit.losses) for fit in fits)
    total = np.zeros(length)
    for fit, size in zip(fits, sizes, strict=True):
        total += size * np.concatenate([fit.losses, np.full(length - len(fit.losses), fit.losses[-1])])
    return total


def _best(curve: FloatArray, constant: float) -> tuple[int, float]:
    best = int(np.argmin(curve))
    gain = float(1 - curve[best] / constant) if constant > 0 else 0.0
    return (best + 1, gain) if gain > 0 else (0, 0.0)


def _fit_arm(
    rows: _Rows, control: _Control, chances: _Chances, number: int, action_id: str, outcome_id: str
) -> tuple[ArmFit, Head | None, dict[str, str]]:
    treated = np.flatnonzero(rows.arm == number)
    compared, weight = _comparison(rows, chances, number)
    n_treated = int((rows.arm[compared] == number).sum())
    n_control = int((rows.arm[compared] == CONTROL).sum())
    found = ArmFit(
        action_id=action_id,
        n_treated=n_treated,
        n_control=n_control,
        mean_effect=float("nan"),
        mean_se=float("nan"),
        choice="absent",
        loss_gain=0.0,
        weight=0.0,
        randomised=not chances.estimated[compared].any(),
        share_clipped=float(chances.clipped[compared].mean()) if len(compared) else 0.0,
    )
    if n_treated == 0 or n_control == 0:
        return found, None, {}
    responses = _arm_response(rows, control, treated)
    scores = _scores(rows, chances, compared, responses, number)
    mean, mean_se = _clustered_mean(scores[compared], weight[compared], rows.groups[compared])
    found = replace(found, mean_effect=mean, mean_se=mean_se, choice="mean")
    name = effect_head(outcome_id, action_id)
    fits: list[Fit] = []
    if n_treated >= rows.params.smallest_arm:
        leaves, rounds, gain, fits = _chosen_effect(rows, compared, scores, weight)
        if rounds:
            shrunk = n_treated / (n_treated + rows.params.shrink_rows)
            found = replace(found, choice=f"leaves={leaves},trees={rounds}", loss_gain=gain, weight=shrunk)
        else:
            fits = []
    texts = {f"{name}#{k}": fit.text(rounds) for k, fit in enumerate(fits)}
    head = Head(
        name=name,
        members=tuple(texts),
        mean=mean,
        mean_se=mean_se,
        weight=found.weight,
        spread="jackknife",
        facts={
            key: getattr(found, key)
            for key in ("n_treated", "n_control", "choice", "loss_gain", "randomised", "share_clipped")
        },
    )
    return found, head, texts


def _comparison(rows: _Rows, chances: _Chances, number: int) -> tuple[IntArray, FloatArray]:
    """The rows on which an arm is compared with no action, and weights ``(n,)`` of all rows.

    With a table these are the rows of the two arms where both could have been chosen, weighted by overlap, so that
    a rarely explored arm does not hang on a few huge weights. Without one all rows are used, unweighted: rows of other
    arms carry the difference of the two response models.
    """
    if chances.table is None:
        return np.arange(len(rows.y)), np.ones(len(rows.y))
    ours, none = chances.table[:, number], chances.table[:, CONTROL]
    pair = (rows.arm == number) | (rows.arm == CONTROL)
    share = np.divide(ours, ours + none, out=np.zeros(len(ours)), where=ours + none > 0)
    return np.flatnonzero(pair & (ours > 0) & (none > 0)), 4 * share * (1 - share)


def _arm_response(rows: _Rows, control: _Control, treated: IntArray) -> tuple[FloatArray, FloatArray]:
    """Cross-fitted mean outcomes ``(n,)`` of every row under no action and under the arm.

    The arm's model starts at the control model's raw score, shifted: with few rows it is that, and nothing worse.
    """
    row = np.arange(len(rows.y))
    control_raw = control.raw[rows.folds, row]
    fold = rows.folds[treated]
    shift = np.array([_shift(rows, control.raw[k], treated[fold != k]) for k in range(rows.params.n_folds)])
    raw = control_raw + shift[rows.folds]
    if len(treated) >= rows.params.smallest_arm and np.ptp(rows.y[treated]) > 0:
        offsets = control.raw + shift[:, None]
        fits = _cross_fits(rows, treated, rows.y, offsets)
        sizes = np.bincount(fold, minlength=rows.params.n_folds)
        constant = sum(
            sizes[k]
            * _offset_loss(rows.y[treated[fold == k]], rows.response(offsets[k][treated[fold == k]]), rows.binary)
            for k in range(rows.params.n_folds)
        )
        rounds, _ = _best(_summed_curve(fits, sizes), float(constant))
        if rounds:
            for k, fit in enumerate(fits):
                inside = rows.folds == k
                raw[inside] += fit.raw(rows.x[inside], rounds)
    return rows.response(control_raw), rows.response(raw)


def _offset_loss(y: FloatArray, predicted: FloatArray, binary: bool) -> float:
    if not binary:
        return float(((y - predicted) ** 2).mean())
    p = np.clip(predicted, 1e-12, 1 - 1e-12)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def _shift(rows: _Rows, raw: FloatArray, chosen: IntArray) -> float:
    """The constant that, added to the raw scores of the chosen rows, gives their mean outcome; 0 without rows."""
    if len(chosen) == 0:
        return 0.0
    y, scores = rows.y[chosen], raw[chosen]
    if not rows.binary:
        return float((y - scores).mean())
    # Two pseudo-rows, half of them positive, keep an arm without a single response finite.
    target, shift = (y.sum() + 1) / (len(y) + 2), 0.0
    for _ in range(25):
        p = 1 / (1 + np.exp(-(scores + shift)))
        shift += (target - p.mean()) / max(float((p * (1 - p)).mean()), 1e-6)
        shift = min(max(shift, -10.0), 10.0)
    return float(shift)


def _scores(
    rows: _Rows, chances: _Chances, compared: IntArray, responses: tuple[FloatArray, FloatArray], number: int
) -> FloatArray:
    """Doubly robust scores ``(n,)`` of the compared rows, 0 elsewhere."""
    control, treated = responses
    is_control, is_treated = rows.arm == CONTROL, rows.arm == number
    total = 1.0 if chances.table is None else chances.table[:, CONTROL] + chances.table[:, number]
    correction = (is_treated * (rows.y - treated) - is_control * (rows.y - control)) * total / chances.taken
    scores = np.zeros(len(rows.y))
    scores[compared] = (treated - control + correction)[compared]
    return scores


def _clustered_mean(scores: FloatArray, weight: FloatArray, groups: IntArray) -> tuple[float, float]:
    """The weighted mean, and its standard error over customers."""
    mean = float(np.average(scores, weights=weight))
    _, of_row = np.unique(groups, return_inverse=True)
    sums = np.bincount(of_row, weights=weight * (scores - mean))
    return mean, float(np.sqrt((sums**2).sum()) / weight.sum())


def _chosen_effect(
    rows: _Rows, compared: IntArray, scores: FloatArray, weight: FloatArray
) -> tuple[int, int, float, list[Fit]]:
    """Leaves, trees, share of the held-out loss saved, and the members; 0 trees where the mean is not beaten."""
    params, fold = rows.params, rows.folds[compared]
    sizes = np.bincount(fold, weights=weight[compared], minlength=params.n_folds)
    constant = 0.0
    for k in range(params.n_folds):
        inside, outside = compared[fold == k], compared[fold != k]
        mean = np.average(scores[outside], weights=weight[outside])
        constant += float((weight[inside] * (scores[inside] - mean) ** 2).sum())
    best: tuple[int, int, float, list[Fit]] = (0, 0, 0.0, [])
    for leaves in params.effect_leaves:
        boosting = replace(
            params.effect,
            num_leaves=leaves,
            min_rows=max(params.effect.min_rows, int(params.smallest_leaf * len(compared))),
        )
        fits = [
            boosted(
                rows.table,
                scores,
                objective="regression",
                boosting=boosting,
                seed=rows.seed + k,
                rows=compared[fold != k],
                held_out=compared[fold == k],
                weight=weight,
            )
            for k in range(params.n_folds)
        ]
        rounds, gain = _best(_summed_curve(fits, sizes), constant)
        if gain > best[2]:
            best = (leaves, rounds, gain, fits)
    return best
