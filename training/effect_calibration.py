"""Whether predicted effects come true: a decile table on held-out decisions, and how often a response was clipped."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.kernel import Floats

DECILES: Final = 10
_Z: Final = 1.96  # 95 %, normal
_SAME: Final = 1e-12


def share_clipped(control: Floats, uplift: Floats) -> float:
    """Share of rows whose response under an action was put back to 0 or 1, which no model says; NaN without rows.

    >>> share_clipped(np.array([0.2, 0.1]), np.array([0.1, -0.1]))
    0.5
    """
    response = control + uplift
    at_an_end = (np.abs(response) < _SAME) | (np.abs(1 - response) < _SAME)
    return float(at_an_end.mean()) if len(response) else float("nan")


def decile_table(score: Floats, predicted: Floats, people: NDArray[np.generic]) -> list[dict[str, Any]]:
    """Mean predicted and doubly robust effect of each tenth of the rows, lowest predictions first.

    Args:
        score: ``(n,)`` doubly robust scores: their mean over any group is unbiased for the group's mean effect.
        predicted: ``(n,)`` predicted effects; rows that are predicted alike stand in one group, however many.
        people: ``(n,)`` whose rows they are; the standard error is over people.

    Returns:
        Groups with ``predicted``, ``effect``, ``low`` and ``high`` (95 %, normal) and ``n``; fewer than ten where
        predictions tie.
    """
    if len(score) == 0:
        return []
    edges = np.unique(np.quantile(predicted, np.arange(1, DECILES) / DECILES, method="higher"))
    group = np.searchsorted(edges, predicted, side="right")
    rows = [np.flatnonzero(group == number) for number in range(len(edges) + 1)]
    return [_group(score[part], predicted[part], people[part]) for part in rows if len(part)]


def _group(score: Floats, predicted: Floats, people: NDArray[np.generic]) -> dict[str, Any]:
    effect = float(score.mean())
    sums = np.bincount(np.unique(people, return_inverse=True)[1], weights=score - effect)
    half = _Z * float(np.sqrt((sums**2).sum())) / len(score) if len(sums) > 1 else float("nan")
    return {
        "predicted": float(predicted.mean()),
        "effect": effect,
        "low": effect - half,
        "high": effect + half,
        "n": len(score),
    }
