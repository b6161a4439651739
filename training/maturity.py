"""How much a decision's outcome counts in a fit: a yes is known as soon as it happens, a no when its window is over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.kernel import Floats, Integers


@dataclass(frozen=True, slots=True, eq=False)
class Maturity:
    """What the outcomes of decisions count.

    Attributes:
        weight: ``(n,)``; 0 where the outcome is not settled, which is neither a yes nor a no.
        refused: ``(n,)`` whether the window is open, and too few of the decision's kind are old enough to correct it.
    """

    weight: Floats
    refused: NDArray[np.bool_]


def maturity(
    elapsed: Integers, settled_after: Integers, *, window: int, kinds: Integers, largest_weight: float
) -> Maturity:
    """Inverse-probability-of-censoring weights of outcomes that end with the observation, not with their window.

    A decision that was observed for ``E`` is settled ``T = min(d, W)`` after it was made, ``d`` the delay of the first
    yes and ``W`` the window. Where ``E >= T`` its weight is

        ``w = 1 / P(E >= T)``, ``P(E >= s)`` the share of the decisions of its kind that were made at least ``s`` before
        the end of observation,

    and 0 elsewhere. So ``E[w f(y)] = E[f(y)]`` for every ``f``, if when a decision was made is independent of its
    features and its delay within its kind. Nothing about delays is modelled: the censoring is administrative, and
    ``P`` is counted. A decision whose window is over counts 1 or more, a late outcome more than an early one.

    Where ``P(E >= W) < 1 / largest_weight`` a few rows would stand for many: of that kind only decisions whose window
    is over are used, and each counts 1.

    Args:
        elapsed: ``(n,)`` from the decision to the end of observation, microseconds; negative for one after it.
        settled_after: ``(n,)`` from the decision to its first yes within the window, the window where none was seen.
        window: of the outcome, microseconds.
        kinds: ``(n,)`` decisions of one kind share ``P``.
        largest_weight: above it the weights of a kind are refused.

    References:
        Robins and Rotnitzky 1992, Recovery of information and adjustment for dependent censoring using surrogate
        markers (these weights). For conversions that come late: Chapelle 2014, Modeling delayed feedback in display
        advertising, fits a model of the delay beside that of the conversion; Ktena et al. 2019, Addressing delayed
        feedback for continuous training with neural networks in CTR prediction, counts each row as a no at first and
        once more as a yes when that comes, with importance weights by the model's own predictions. Neither is done
        here: decisions are few enough to fit again, and their ages are known.

    >>> elapsed, settled_after = np.array([1, 2, 3, 4]), np.array([1, 3, 3, 2])
    >>> found = maturity(elapsed, settled_after, window=3, kinds=np.zeros(4, np.int64), largest_weight=5)
    >>> found.weight.round(2).tolist()
    [1.0, 0.0, 2.0, 1.33]
    """
    weight = np.zeros(len(elapsed))
    refused = np.zeros(len(elapsed), dtype=np.bool_)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        observed = np.sort(elapsed[rows])
        n_for_window = len(rows) - int(np.searchsorted(observed, window))
        n_old_enough: Integers = len(rows) - np.searchsorted(observed, settled_after[rows])
        is_over = elapsed[rows] >= window
        if n_for_window * largest_weight < len(rows):
            weight[rows], refused[rows] = is_over, ~is_over
            continue
        settled = elapsed[rows] >= settled_after[rows]
        weight[rows[settled]] = len(rows) / n_old_enough[settled]
    return Maturity(weight, refused)
