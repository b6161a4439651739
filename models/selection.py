"""How likely each arm was to be chosen: as logged, and estimated where nobody logged it, which is weaker evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SelectionProbabilities:
    """Selection probabilities of every row.

    Attributes:
        taken: ``(n,)`` of the arm taken.
        table: ``(n, n_arms)`` of every arm, or None where only that of the arm taken was logged. NaN: unknown row.
        estimated: ``(n,)`` whether nobody logged it.
        clipped: ``(n,)`` whether an estimate was clipped.
    """

    taken: FloatArray
    table: FloatArray | None
    estimated: BoolArray
    clipped: BoolArray

    def comparison(self, arm: IntArray, treated: int, control: int) -> tuple[IntArray, FloatArray]:
        """The rows on which two arms are compared, and weights ``(n,)`` of all rows.

        With a table these are the rows of the two arms where both could have been chosen, weighted by overlap
        ``4 p (1 - p)``, so that a rarely explored arm does not hang on a few huge weights. Without one all rows are
        used, unweighted: rows of other arms carry the difference of the two response models.
        """
        if self.table is None:
            return np.arange(len(arm)), np.ones(len(arm))
        ours, theirs = self.table[:, treated], self.table[:, control]
        both = (ours > 0) & (theirs > 0)
        share = np.divide(ours, ours + theirs, out=np.zeros(len(arm)), where=both)
        return np.flatnonzero(both & ((arm == treated) | (arm == control))), 4 * share * (1 - share)

    def share(self, rows: IntArray, treated: int, control: int) -> FloatArray:
        """Probability of the one arm among the two, for the rows of ``comparison``; NaN where there is no table."""
        if self.table is None:
            return np.full(len(rows), np.nan)
        ours, theirs = self.table[rows, treated], self.table[rows, control]
        among: FloatArray = ours / (ours + theirs)
        return among

    def among_compared(self, rows: IntArray, treated: int, control: int) -> FloatArray:
        """Probability of the arm taken given that the row is compared, for the rows of ``comparison``."""
        if self.table is None:
            return self.taken[rows]
        given: FloatArray = self.taken[rows] / (self.table[rows, treated] + self.table[rows, control])
        return given


def selection_probabilities(
    x: FloatArray,
    arm: IntArray,
    *,
    logged: FloatArray,
    logged_table: FloatArray | None,
    n_arms: int,
    fold: IntArray,
    smallest: float,
    weight: FloatArray | None = None,
) -> SelectionProbabilities:
    """Logged probabilities as they are, and estimates where they are NaN.

    Args:
        x: ``(n, n_features)``; NaN means unknown.
        arm: ``(n,)`` the arm taken.
        logged: ``(n,)`` of the arm taken; NaN where none was logged.
        logged_table: ``(n, n_arms)``, if any was logged. It is left aside where it lacks a row whose ``logged`` is
            known: one comparison cannot use both forms.
        n_arms: number of arms.
        fold: ``(n,)`` a row's own fold is not used for its estimate.
        smallest: estimates are clipped here.
        weight: ``(n,)`` of the rows in the estimates; all count alike if None.
    """
    unknown = np.isnan(logged)
    if logged_table is not None and np.isnan(logged_table[~unknown]).any():
        logged_table = None
    if not unknown.any():
        return SelectionProbabilities(logged, logged_table, unknown, unknown)
    table, clipped = estimated_table(x, arm, n_arms, fold, smallest=smallest, weight=weight)
    row = np.arange(len(arm))
    whole: FloatArray | None = table
    if not unknown.all():
        whole = None if logged_table is None else np.where(unknown[:, None], table, logged_table)
    return SelectionProbabilities(
        taken=np.where(unknown, table[row, arm], logged),
        table=whole,
        estimated=unknown,
        clipped=unknown & clipped[row, arm],
    )


def estimated_table(
    x: FloatArray, arm: IntArray, n_arms: int, fold: IntArray, *, smallest: float, weight: FloatArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Cross-fitted probabilities of the arms given what was known, by multinomial logistic regression.

    Unknown features are set to their mean, and that they were unknown is a feature of its own.

    Returns:
        ``(n, n_arms)`` probabilities, 0 for an arm that nobody got; and which of them were clipped at ``smallest``.
    """
    from sklearn.linear_model import LogisticRegression  # fitting only, and slow to import

    design = _design(x)
    table = np.zeros((len(arm), n_arms))
    for held_out in np.unique(fold):
        inside, outside = fold == held_out, fold != held_out
        seen = np.unique(arm[outside])
        if len(seen) == 1:
            table[inside, seen[0]] = 1.0
            continue
        model = LogisticRegression(C=1.0, max_iter=500, tol=1e-3).fit(
            design[outside], arm[outside], sample_weight=None if weight is None else weight[outside]
        )
        table[np.ix_(np.flatnonzero(inside), model.classes_)] = model.predict_proba(design[inside])
    clipped = (table < smallest) & np.isin(np.arange(n_arms), arm)
    return np.where(clipped, smallest, table), clipped


def _design(x: FloatArray) -> FloatArray:
    unknown = np.isnan(x)
    count = np.maximum((~unknown).sum(axis=0), 1)
    mean = np.where(unknown, 0.0, x).sum(axis=0) / count
    centred = np.where(unknown, 0.0, x - mean)
    scale = np.sqrt((centred**2).sum(axis=0) / count)
    # Four standard deviations hold any bulk; one wild amount would otherwise own the fit.
    standard = np.clip(np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0), -4, 4)
    flags = unknown[:, unknown.any(axis=0) & ~unknown.all(axis=0)].astype(np.float64)
    return np.concatenate([standard, flags], axis=1)
