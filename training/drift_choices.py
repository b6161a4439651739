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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEffect:
    """What the choices that aim at one outcome changed in it, in the mean of all decisions, in units of it.

    Attributes:
        outcome_id: the outcome.
        predicted: what was promised.
        observed: what it was.
        gap: observed less promised.
        p_value: of no gap, Holm's over the outcomes.
        n_treated: decisions with an action that aims at it.
        n_control: decisions with none.
        is_missed: the gap is certain, and large enough to matter, also beside what was promised.
    """

    outcome_id: str
    predicted: float
    observed: Estimate
    gap: Estimate
    p_value: float
    n_treated: int
    n_control: int
    is_missed: bool


def choice_effects(lately: Decided, params: EffectDriftParams) -> list[ChoiceEffect]:
    """Every outcome that enough decisions aimed at, with an action and with none, to judge.

    With ``p`` the logged probabilities, ``P`` their sum over the actions that aim at the outcome, ``m`` what was
    predicted to come of each arm and ``tau`` of its difference to none, the gap is the mean of
    ``1{A aims at it} (y - m_A) - 1{A = 0} P / p_0 (y - m_0)``: the doubly robust effect of the choices less
    ``sum_a p_a tau_a``, as in ``training.drift_effects``, with the actions' own noise weighed by 1.

    Args:
        lately: decisions whose windows are over, with what was predicted when they were made.
        params: what is asked.

    References:
        Robins, Rotnitzky and Zhao 1994, Estimation of regression coefficients when some regressors are not always
        observed (the score); Liang and Zeger 1986 (errors over clusters); Holm 1979 (over the outcomes).
    """
    judged = [
        (outcome, gap, promised, counts, spread)
        for outcome in range(len(lately.outcome_ids))
        if (found := _gap(lately, outcome, params)) is not None
        for gap, promised, counts, spread in [found]
    ]
    p_values = holm([two_sided(gap) for _, gap, *_ in judged])
    return [
        ChoiceEffect(
            outcome_id=lately.outcome_ids[outcome],
            predicted=promised,
            observed=Estimate(value=promised + gap.value, se=gap.se),
            gap=gap,
            p_value=p_value,
            n_treated=counts[0],
            n_control=counts[1],
            is_missed=p_value < params.alpha
            and abs(gap.value) >= max(params.smallest_change * spread, params.smallest_miss * abs(promised)),
        )
        for (outcome, gap, promised, counts, spread), p_value in zip(judged, p_values, strict=True)
    ]


def choice_reasons(found: Sequence[ChoiceEffect], params: EffectDriftParams) -> list[Reason]:
    """What choices that do not keep their promise speak for: learning effects anew."""
    return [
        Reason(
            code="effect.missed",
            calls_for=RETRAIN,
            subject=CHOICES,
            value=one.gap.value,
            threshold=params.smallest_miss * abs(one.predicted),
            text=f"what was decided was predicted to change {one.outcome_id} by {one.predicted:+.3f} a decision and "
            f"changed it by {one.observed.value:+.3f}, by chance in fewer than {params.alpha:.2%} of reports",
        )
        for one in found
        if one.is_missed
    ]


def _gap(
    side: Decided, outcome: int, params: EffectDriftParams
) -> tuple[Estimate, float, tuple[int, int], float] | None:
    """Gap, promise, decisions with an action and with none, and the outcome's spread; None where they are too few."""
    aims: Booleans = np.asarray(side.aims == outcome, dtype=np.bool_)
    chances = np.where(aims, side.probabilities, 0.0)
    uplift = np.where(chances > 0, side.uplift, 0.0)
    y, control = side.response[:, outcome], side.control[:, outcome]
    is_told: Booleans = np.asarray(
        side.is_recorded
        & ~np.isnan(y)
        & ~np.isnan(control)
        & ~np.isnan(uplift).any(axis=1)
        & (side.probabilities[:, 0] >= params.smallest_probability),
        dtype=np.bool_,
    )
    chances, uplift, y, control, arm = (
        chances[is_told],
        uplift[is_told],
        y[is_told],
        control[is_told],
        side.arm[is_told],
    )
    is_treated, is_control = aims[arm], arm == 0
    counts = int(is_treated.sum()), int(is_control.sum())
    if min(counts) < params.smallest_arm or not y.std() > 0:
        return None
    expected = control + uplift[np.arange(len(arm)), arm]
    weights: Floats = np.where(is_control, -chances.sum(axis=1) / side.probabilities[is_told, 0], is_treated)
    gap = clustered_mean(weights * (y - expected), side.people[is_told])
    return gap, float((chances * uplift).sum(axis=1).mean()), counts, float(y.std())
