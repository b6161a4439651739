"""Whether what was decided changes what was promised: observed against predicted effect of the choices themselves.

An action's effect over everybody is hard to see where the action is taken of few, on purpose. The effect of what was
taken, of those it was taken for, is not: every decision with an action tells of it, and every one with none, weighed by
how likely an action was there. So a change that hits what the champion chooses is found on far fewer decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.kernel import Floats
from training.drift_effects import Estimate, clustered_mean, holm, two_sided
from training.drift_samples import Decided
from training.drift_verdict import RETRAIN, Reason
from training.moments import Booleans
from training.params import EffectDriftParams

CHOICES: Final = "what was decided"
"""The subject of a reason that is about the choices, whichever they were."""

ALL_OUTCOMES: Final = "all outcomes"
"""In place of an outcome, where all are added up by what they are worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEffect:
    """What the choices that aim at one outcome changed in it, in the mean of all decisions.

    Attributes:
        outcome_id: the outcome, whose unit this is in; or ``ALL_OUTCOMES``, in money.
        predicted: what was promised.
        observed: what it was.
        gap: observed less promised.
        p_value: of no gap, doubled: one half of alpha is for all outcomes together, the other Holm's for each.
        n_treated: decisions with an action that aims at it.
        n_control: decisions with none.
        least: gap that matters, by the outcome's spread and beside what was promised.
        is_missed: the gap is certain, and at least that large.
    """

    outcome_id: str
    predicted: float
    observed: Estimate
    gap: Estimate
    p_value: float
    n_treated: int
    n_control: int
    least: float
    is_missed: bool


def choice_effects(lately: Decided, params: EffectDriftParams) -> list[ChoiceEffect]:
    """Every outcome that enough decisions aimed at, with an action and with none, to judge; then all together.

    With ``p`` the logged probabilities, ``P`` their sum over the actions that aim at the outcome, ``m`` what was
    predicted to come of each arm and ``tau`` of its difference to none, the gap is the mean of
    ``1{A aims at it} (y - m_A) - 1{A = 0} P / p_0 (y - m_0)``: the doubly robust effect of the choices less
    ``sum_a p_a tau_a``, as in ``training.drift_effects``, with the actions' own noise weighed by 1. All outcomes
    together are that sum over outcomes, each times what one more of it is worth.

    Args:
        lately: decisions whose windows are over, with what was predicted when they were made.
        params: what is asked.

    References:
        Robins, Rotnitzky and Zhao 1994, Estimation of regression coefficients when some regressors are not always
        observed (the score); Liang and Zeger 1986 (errors over clusters); Holm 1979 (over the outcomes).
    """
    units = [(name, np.eye(len(lately.outcome_ids))[place]) for place, name in enumerate(lately.outcome_ids)]
    judged = [
        (name, found)
        for name, worth in (*units, (ALL_OUTCOMES, lately.worth))
        if (found := _gap(lately, worth, params)) is not None
    ]
    p_values = _shared_out([(name, two_sided(found.gap)) for name, found in judged])
    return [
        ChoiceEffect(
            outcome_id=name,
            predicted=found.promised,
            observed=Estimate(value=found.promised + found.gap.value, se=found.gap.se),
            gap=found.gap,
            p_value=p_value,
            n_treated=found.n_treated,
            n_control=found.n_control,
            least=found.least,
            is_missed=p_value < params.alpha and abs(found.gap.value) >= found.least,
        )
        for (name, found), p_value in zip(judged, p_values, strict=True)
    ]


def _shared_out(p_values: Sequence[tuple[str, float]]) -> list[float]:
    """Doubled p-values: single outcomes share one half of alpha, all of them together have the other."""
    of_one = iter(holm([p for name, p in p_values if name != ALL_OUTCOMES]))
    return [min(1.0, 2 * (p if name == ALL_OUTCOMES else next(of_one))) for name, p in p_values]


def choice_reasons(found: Sequence[ChoiceEffect], params: EffectDriftParams) -> list[Reason]:
    """What choices that do not keep their promise speak for: learning effects anew."""
    return [
        Reason(
            code="effect.missed",
            calls_for=RETRAIN,
            subject=CHOICES,
            value=one.gap.value,
            threshold=one.least,
            text=f"{_promise(one)}, by chance in fewer than {params.alpha:.2%} of reports",
        )
        for one in found
        if one.is_missed
    ]


def _promise(one: ChoiceEffect) -> str:
    if one.outcome_id == ALL_OUTCOMES:
        return (
            f"outcomes that what was decided was predicted to add were worth {one.predicted:+.2f} a decision, and "
            f"those that it added {one.observed.value:+.2f}"
        )
    return (
        f"what was decided was predicted to change {one.outcome_id} by {one.predicted:+.3f} a decision and changed it "
        f"by {one.observed.value:+.3f}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    gap: Estimate
    promised: float
    n_treated: int
    n_control: int
    least: float


def _gap(side: Decided, worth: Floats, params: EffectDriftParams) -> _Gap | None:
    """Of the outcomes by what each is worth; None where decisions with an action or with none are too few."""
    aims = np.maximum(side.aims, 0)
    worth_of_arm = np.where(side.aims < 0, 0.0, worth[aims])
    chances = np.where(worth_of_arm != 0, side.probabilities, 0.0)
    aimed = np.stack([chances[:, side.aims == place].sum(axis=1) for place in range(len(worth))], axis=1)
    uplift = np.where(chances > 0, side.uplift, 0.0)
    response, control = (np.where(aimed > 0, table, 0.0) for table in (side.response, side.control))
    is_told: Booleans = np.asarray(
        side.is_recorded
        & (side.probabilities[:, 0] >= params.smallest_probability)
        & (aimed > 0).any(axis=1)
        & ~np.isnan(np.concatenate([response, control, uplift], axis=1)).any(axis=1),
        dtype=np.bool_,
    )
    chances, aimed, uplift, arm = chances[is_told], aimed[is_told], uplift[is_told], side.arm[is_told]
    surprise = response[is_told] - control[is_told]
    is_control, is_treated = arm == 0, chances[np.arange(len(arm)), arm] > 0
    counts = int(is_treated.sum()), int(is_control.sum())
    rows = np.arange(len(arm))
    if min(counts) < params.smallest_arm:
        return None
    spread = float(response[is_told][:, worth != 0].std()) if np.count_nonzero(worth) == 1 else 0.0
    of_treated = worth_of_arm[arm] * (surprise[rows, aims[arm]] - uplift[rows, arm])
    of_control = -(aimed * worth * surprise).sum(axis=1) / side.probabilities[is_told, 0]
    gaps: Floats = np.where(is_control, of_control, np.where(is_treated, of_treated, 0.0))
    gap = clustered_mean(gaps, side.people[is_told])
    if not gap.se > 0:
        return None
    promised = float((chances * uplift * worth_of_arm).sum(axis=1).mean())
    least = max(params.smallest_change * spread, params.smallest_miss * abs(promised))
    return _Gap(gap=gap, promised=promised, n_treated=counts[0], n_control=counts[1], least=least)
