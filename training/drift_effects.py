"""Whether actions still change what they did: observed effects then and now, and observed against predicted ones.

Only decisions on which chance decided can tell: those whose logged probabilities left both the action and none open.
They weigh by those probabilities, marginal over the experiment's arms, so the random and the held-out customers count,
and whom the champion's own exploration reached counts with them: never less is known than from the random arm alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import f, norm

from features.kernel import Floats, Integers
from models.off_policy import doubly_robust_responses
from training.drift_samples import Decided, Texts
from training.drift_verdict import RETRAIN, Reason
from training.moments import Booleans
from training.params import EffectDriftParams

ALL_ACTIONS: Final = "all actions"
"""The subject of a reason that is about all actions together."""

_OTHER: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its standard error, clustered by person; NaN where it cannot be told."""

    value: float
    se: float

    def interval(self, z: float = 1.959964) -> tuple[float, float]:
        """Bounds, of 95 % unless told otherwise."""
        return self.value - z * self.se, self.value + z * self.se


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEffect:
    """What one action changed, before and lately, in units of its outcome.

    Attributes:
        action_id: the action.
        outcome_id: what it aims at.
        spread: standard deviation of the outcome in the earlier period.
        before: its mean effect in the earlier period.
        lately: its mean effect in the recent period.
        change: the difference of the two.
        p_value: of no change, Holm's over all judged actions; NaN where it was not judged.
        predicted: mean effect that was predicted in the recent period; NaN where nothing was.
        gap: observed less predicted there, its error with that of the prediction.
        gap_p_value: of no gap, Holm's likewise.
        slope: of observed on predicted effects there; NaN where the predictions do not differ.
        n_treated: decisions with the action, before and lately.
        n_control: decisions with none, before and lately.
        has_drifted: the change is certain, and large enough to matter.
        is_missed: likewise the gap.
    """

    action_id: str
    outcome_id: str
    spread: float
    before: Estimate
    lately: Estimate
    change: Estimate
    p_value: float
    predicted: float
    gap: Estimate
    gap_p_value: float
    slope: Estimate
    n_treated: tuple[int, int]
    n_control: tuple[int, int]
    has_drifted: bool
    is_missed: bool


UNKNOWN: Final = Estimate(value=math.nan, se=math.nan)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Scores:
    """Doubly robust scores of one action in one period, each ``(n,)``: of what it changes, and what was predicted."""

    score: Floats
    predicted: Floats
    sigma: Floats
    people: Texts
    n_treated: int
    n_control: int
    spread: float

    @property
    def smallest(self) -> int:
        return min(self.n_treated, self.n_control)


def action_effects(before: Decided, lately: Decided, params: EffectDriftParams) -> list[ActionEffect]:
    """Every action that either period holds enough randomised decisions with, and with none, to judge.

    Args:
        before: decisions that were trained on, or earlier ones.
        lately: recent ones, those whose windows are over.
        params: what is asked.

    References:
        Robins, Rotnitzky and Zhao 1994, Estimation of regression coefficients when some regressors are not always
        observed (the score); Liang and Zeger 1986, Longitudinal data analysis using generalized linear models (errors
        over clusters); Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    judged = _judged(before, lately, params.smallest_arm, params)
    changes = [_difference(one, two) for _, one, two in judged]
    gaps = [_gap(two) for _, _, two in judged]
    p_values, gap_p_values = (holm([two_sided(one) for one in found]) for found in (changes, gaps))
    effects = []
    for place, (arm, one, two) in enumerate(judged):
        p_value, gap_p_value = p_values[place], gap_p_values[place]
        least = params.smallest_change * one.spread
        effects.append(
            ActionEffect(
                action_id=before.arm_ids[arm],
                outcome_id=before.outcome_ids[before.aims[arm]],
                spread=one.spread,
                before=clustered_mean(one.score, one.people),
                lately=clustered_mean(two.score, two.people),
                change=changes[place],
                p_value=p_value,
                predicted=float(two.predicted.mean()),
                gap=gaps[place],
                gap_p_value=gap_p_value,
                slope=_slope(two),
                n_treated=(one.n_treated, two.n_treated),
                n_control=(one.n_control, two.n_control),
                has_drifted=p_value < params.alpha and abs(changes[place].value) >= least,
                is_missed=gap_p_value < params.alpha and abs(gaps[place].value) >= least,
            )
        )
    return effects


def _judged(
    before: Decided, lately: Decided, smallest: int, params: EffectDriftParams
) -> list[tuple[int, _Scores, _Scores]]:
    """The actions that either period holds so many decisions with, and with none, and their scores in both."""
    judged = []
    for arm in range(1, len(before.arm_ids)):
        earlier, later = (_scores(side, arm, params.smallest_probability) for side in (before, lately))
        if min(earlier.smallest, later.smallest) >= smallest:
            judged.append((arm, earlier, later))
    return judged


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectsTogether:
    """Whether the actions' effects changed, all of them looked at as one.

    Attributes:
        n_actions: that were looked at.
        size: root of the mean squared change, in standard deviations of each action's outcome; NaN without actions.
        p_value: of no change in any of them; NaN where it cannot be told.
        has_drifted: the change is certain, and large enough to matter.
    """

    n_actions: int
    size: float
    p_value: float
    has_drifted: bool


def effects_together(before: Decided, lately: Decided, params: EffectDriftParams) -> EffectsTogether:
    """One test of all actions at once: many changes, each too faint to be told by itself, are seen together.

    Two statistics of the actions' standardised changes ``d`` with their covariance ``S`` over people, who may be in
    several comparisons: ``d' S^-1 d``, about chi-squared where nothing changed, and ``c' d`` with ``c`` how often each
    action was lately taken, which tells best of a change that most actions share. The smaller p-value is doubled, once
    for each look.

    Args:
        before: decisions that were trained on, or earlier ones.
        lately: recent ones, those whose windows are over.
        params: what is asked; actions of ``smallest_together`` decisions are looked at.

    References:
        Hotelling 1931, The generalization of Student's ratio (the F distribution of the first statistic); Liang and
        Zeger 1986, Longitudinal data analysis using generalized linear models (errors over clusters).
    """
    judged = [
        one
        for one in _judged(before, lately, params.smallest_together, params)
        if one[1].spread > 0 and two_sided(_difference(one[1], one[2])) >= 0
    ]
    if not judged:
        return EffectsTogether(n_actions=0, size=math.nan, p_value=math.nan, has_drifted=False)
    change = np.array([(two.score.mean() - one.score.mean()) / one.spread for _, one, two in judged])
    influence, n = _influences([(one, two) for _, one, two in judged])
    covariance = influence.T @ influence
    k = len(change)
    wald = float(change @ np.linalg.pinv(covariance, hermitian=True) @ change)
    mix = np.array([float((lately.arm == arm).sum()) for arm, _, _ in judged])
    contrast = abs(float(mix @ change)) / math.sqrt(float(mix @ covariance @ mix))
    p_values = (float(f.sf(wald * (n - k) / (k * (n - 1)), k, n - k)) if n > k else 1.0, float(2 * norm.sf(contrast)))
    size = float(np.sqrt((change**2).mean()))
    p_value = min(1.0, 2 * min(p_values))
    return EffectsTogether(
        n_actions=k,
        size=size,
        p_value=p_value,
        has_drifted=p_value < params.alpha and size >= params.smallest_change,
    )


def _influences(pairs: Sequence[tuple[_Scores, _Scores]]) -> tuple[Floats, int]:
    """``(n_people, k)`` what each person adds to each action's standardised change, and how many people there are."""
    everybody = np.unique(np.concatenate([side.people for pair in pairs for side in pair]))
    table = np.zeros((len(everybody), len(pairs)))
    for column, (one, two) in enumerate(pairs):
        for side, sign in ((one, -1.0), (two, 1.0)):
            parts = sign * (side.score - side.score.mean()) / (len(side.score) * one.spread)
            table[:, column] += np.bincount(
                np.searchsorted(everybody, side.people), weights=parts, minlength=len(everybody)
            )
    return table, len(everybody)


def effect_reasons(
    effects: Sequence[ActionEffect], params: EffectDriftParams, together: EffectsTogether | None = None
) -> list[Reason]:
    """What drifted effects speak for: learning them anew."""
    found = []
    if together is not None and together.has_drifted:
        found.append(
            Reason(
                code="effect.drifted",
                calls_for=RETRAIN,
                subject=ALL_ACTIONS,
                value=together.size,
                threshold=params.smallest_change,
                text=f"{together.n_actions} actions, looked at together, no longer change what they did, by chance in "
                f"fewer than {params.alpha:.2%} of reports",
            )
        )
    for one in effects:
        if one.has_drifted:
            found.append(
                Reason(
                    code="effect.drifted",
                    calls_for=RETRAIN,
                    subject=one.action_id,
                    value=one.change.value,
                    threshold=params.smallest_change * one.spread,
                    text=f"{one.action_id} changed {one.outcome_id} by {one.before.value:+.3f} and now changes it by "
                    f"{one.lately.value:+.3f}, by chance in fewer than {params.alpha:.2%} of reports",
                )
            )
        elif one.is_missed:
            found.append(
                Reason(
                    code="effect.missed",
                    calls_for=RETRAIN,
                    subject=one.action_id,
                    value=one.gap.value,
                    threshold=params.smallest_change * one.spread,
                    text=f"{one.action_id} was predicted to change {one.outcome_id} by {one.predicted:+.3f} and "
                    f"changed it by {one.lately.value:+.3f}",
                )
            )
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: rejecting those below alpha errs on any with probability alpha at most. NaN stays, uncounted.

    ``max over j <= i of (m - j + 1) p_(j)``, at most 1.

    References:
        Holm 1979, A simple sequentially rejective multiple test procedure, section 3.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def two_sided(found: Estimate) -> float:
    """Two-sided p-value of no difference, by the normal distribution; NaN where nothing is known."""
    if math.isnan(found.value) or not found.se > 0:
        return math.nan
    return float(2 * norm.sf(abs(found.value) / found.se))


def _scores(side: Decided, arm: int, smallest_probability: float) -> _Scores:
    """The scores of the decisions on which both the action and none were open, and whose outcome is known.

    What would have come of either is predicted as it was recorded at the time, before the outcome, or by the arm's own
    mean: never by a model that learned from these outcomes.
    """
    aim = int(side.aims[arm])
    y = side.response[:, aim]
    chance = side.probabilities[:, [0, arm]]
    with np.errstate(invalid="ignore"):
        is_open: Booleans = np.asarray((chance >= smallest_probability).all(axis=1) & ~np.isnan(y), dtype=np.bool_)
    y, chance, taken = y[is_open], chance[is_open], side.arm[is_open]
    arms = np.select([taken == 0, taken == arm], [0, 1], _OTHER)
    own = np.append(chance, np.ones((len(y), 1)), axis=1)[np.arange(len(y)), arms]
    predicted, sigma = side.uplift[is_open, arm], side.sigma[is_open, arm]
    responses = np.stack([side.control[is_open, aim], side.control[is_open, aim] + predicted, y], axis=1)
    for place in (0, 1):
        mine = arms == place
        mean = np.average(y[mine], weights=1 / own[mine]) if mine.any() else 0.0
        is_recorded = side.is_recorded[is_open] & ~np.isnan(responses[:, place])
        responses[:, place] = np.where(is_recorded, responses[:, place], mean)
    scores = doubly_robust_responses(y, arms, own, responses)
    return _Scores(
        score=scores[:, 1] - scores[:, 0],
        predicted=predicted,
        sigma=sigma,
        people=side.people[is_open],
        n_treated=int((arms == 1).sum()),
        n_control=int((arms == 0).sum()),
        spread=float(y.std()) if len(y) else math.nan,
    )


def clustered_mean(values: Floats, people: Texts) -> Estimate:
    """Mean of ``(n,)`` values, with a standard error as of values that are alike within a person."""
    return Estimate(value=float(values.mean()), se=_clustered((values - values.mean()) / len(values), people))


def _difference(one: _Scores, two: _Scores) -> Estimate:
    """Later mean less earlier mean; whoever is in both periods counts once."""
    parts = [
        (two.score - two.score.mean()) / len(two.score),
        -(one.score - one.score.mean()) / len(one.score),
    ]
    return Estimate(
        value=float(two.score.mean() - one.score.mean()),
        se=_clustered(np.concatenate(parts), np.concatenate([two.people, one.people])),
    )


def _gap(found: _Scores) -> Estimate:
    """Observed less predicted; the model's own standard deviation is part of the error, as if all erred together."""
    difference = found.score - found.predicted
    if not len(difference) or np.isnan(difference).any():
        return UNKNOWN
    sigma = float(np.nan_to_num(found.sigma).mean())
    mean = clustered_mean(difference, found.people)
    return Estimate(value=mean.value, se=math.hypot(mean.se, sigma))


def _slope(found: _Scores) -> Estimate:
    """Least squares of the scores on the predictions; 1 is ideal."""
    known: Booleans = np.asarray(~np.isnan(found.predicted), dtype=np.bool_)
    x, y = found.predicted[known], found.score[known]
    # An arm's mean, clipped to a probability and back, differs from row to row by rounding, which is no ranking.
    if not len(x) or np.ptp(x) < 1e-9:
        return UNKNOWN
    x, y = x - x.mean(), y - y.mean()
    square = float(x @ x)
    slope = float(x @ y) / square
    return Estimate(value=slope, se=_clustered(x * (y - slope * x) / square, found.people[known]))


def _clustered(influence: Floats, people: Texts) -> float:
    """Standard error of a sum of influences that are alike within a person and independent between people."""
    group: Integers = np.unique(people, return_inverse=True)[1].astype(np.int64)
    sums = np.bincount(group, weights=influence)
    n = len(sums)
    return math.sqrt(float(sums @ sums) * n / (n - 1)) if n > 1 else math.nan
