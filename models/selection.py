"""How likely each arm was to be chosen, estimated where nobody logged it: the weaker half of an effect's evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EstimatedProbabilities:
    """Estimated selection probabilities.

    Attributes:
        table: ``(n, n_arms)``, clipped; 0 for an arm that nobody got.
        clipped: ``(n, n_arms)`` whether the estimate lay below the bound.
    """

    table: FloatArray
    clipped: NDArray[np.bool_]


def estimated_probabilities(
    x: FloatArray, arm: IntArray, n_arms: int, folds: IntArray, *, smallest: float
) -> EstimatedProbabilities:
    """Cross-fitted probabilities of the arms given what was known, by multinomial logistic regression.

    Unknown features are set to their mean, and that they were unknown is a feature of its own.

    Args:
        x: ``(n, n_features)``; NaN means unknown.
        arm: ``(n,)`` the arm taken.
        n_arms: number of arms.
        folds: ``(n,)`` a row's own fold is not used for its estimate.
        smallest: estimates are clipped here.
    """
    from sklearn.linear_model import LogisticRegression  # fitting only

    design = _design(x)
    table = np.zeros((len(arm), n_arms))
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        seen = np.unique(arm[outside])
        if len(seen) == 1:
            table[inside, seen[0]] = 1.0
            continue
        model = LogisticRegression(C=1.0, max_iter=200, tol=1e-3).fit(design[outside], arm[outside])
        table[np.ix_(np.flatnonzero(inside), model.classes_)] = model.predict_proba(design[inside])
    taken_at_all = np.isin(np.arange(n_arms), arm)
    clipped = (table < smallest) & taken_at_all
    return EstimatedProbabilities(np.where(clipped, smallest, table), clipped)


def _design(x: FloatArray) -> FloatArray:
    unknown = np.isnan(x)
    some = ~unknown.all(axis=0)
    known = np.where(unknown, 0.0, x)
    count = np.maximum((~unknown).sum(axis=0), 1)
    mean = known.sum(axis=0) / count
    centred = np.where(unknown, 0.0, x - mean)
    scale = np.sqrt((centred**2).sum(axis=0) / count)
    flags = unknown[:, unknown.any(axis=0) & some].astype(np.float64)
    # Four standard deviations hold any bulk; one wild amount would otherwise own the fit.
    standard = np.clip(np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0), -4, 4)
    return np.concatenate([standard, flags], axis=1)
