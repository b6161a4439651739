"""The effect of one arm: three learners at several sizes, judged by one held-out loss, the arm's mean among them.

X, R and DR are regressions of a pseudo-outcome on the rows that got the arm or no action. They differ in how far they
trust the response models, and which does best depends on how good those are; so it is measured and not argued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.boosting import Boosting, Fit, Part, TrainingTable, boosted_together
from models.responses import best_rounds

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Learner = Literal["x", "dr", "r"]
LEARNERS: Final[tuple[Learner, ...]] = get_args(Learner)

LEAF_ROWS: Final = 1_000
"""Rows that are enough for a leaf whatever its share: a mean of so many scores is told from another by some points."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The rows on which one arm is compared with no action; all arrays ``(m,)``.

    Attributes:
        rows: their places in the table.
        treated: whether the row got the arm.
        control: whether it got no action; a row of another arm is neither.
        y: outcome.
        mu_0: ``(n_folds, m)`` response under no action, by the models that never saw each fold.
        mu_1: likewise under the arm.
        share: probability of the arm among the two; NaN where only that of the arm taken is known.
        given: probability of what was taken, given that the row is compared.
        weight: overlap weight, times ``counted``.
        fold: in which the row is held out.
        groups: customers.
        counted: how much the row's outcome counts; all alike if None.
    """

    rows: IntArray
    treated: BoolArray
    control: BoolArray
    y: FloatArray
    mu_0: FloatArray
    mu_1: FloatArray
    share: FloatArray
    given: FloatArray
    weight: FloatArray
    fold: IntArray
    groups: IntArray
    counted: FloatArray | None = None

    @property
    def score(self) -> FloatArray:
        """Doubly robust scores by response models that saw neither the row nor its fold: their mean is the effect."""
        row = np.arange(len(self.y))
        return self.scored_by(self.mu_0[self.fold, row], self.mu_1[self.fold, row])

    def scored_by(self, mu_0: FloatArray, mu_1: FloatArray) -> FloatArray:
        """Doubly robust scores ``mu_1 - mu_0 + 1{arm}(y - mu_1)/e - 1{none}(y - mu_0)/(1 - e)``.

        References:
            Robins, Rotnitzky and Zhao 1994, Estimation of regression coefficients when some regressors are not always
            observed; Kennedy 2023, Towards optimal doubly robust estimation of heterogeneous causal effects.
        """
        residual = np.select([self.treated, self.control], [self.y - mu_1, mu_0 - self.y], 0.0)
        scores: FloatArray = mu_1 - mu_0 + residual / self.given
        return scores

    def mean(self) -> tuple[float, float]:
        """The weighted mean of the scores, and its standard error over customers."""
        score, weight = self.score, self.weight
        mean = float(np.average(score, weights=weight))
        _, of_row = np.unique(self.groups, return_inverse=True)
        sums = np.bincount(of_row, weights=weight * (score - mean))
        return mean, float(np.sqrt((sums**2).sum()) / weight.sum())

    def pooled_se(self) -> float:
        """What the standard error of the mean would be if outcomes of both arms were equally noisy.

        Thirty rows without one success seem to leave no doubt; the other arm's rows say how much there is.
        """
        row = np.arange(len(self.y))
        expected = np.where(self.treated, self.mu_1[self.fold, row], self.mu_0[self.fold, row])
        pull = np.where(self.treated | self.control, self.weight / self.given, 0.0)
        noise = float(np.average((self.y - expected) ** 2, weights=pull))
        return float(np.sqrt(noise * (pull**2).sum()) / self.weight.sum())


def pseudo_outcome(compared: Comparison, learner: Learner, without: int) -> tuple[FloatArray, FloatArray]:
    """What a learner regresses outside one fold, and the weights of that regression, each ``(m,)``.

    Responses are those of the models without that fold. With those without the *row's* fold, each label would hold
    noise of the fold that the effect is judged on, and X, which leans on the responses most, would seem to predict it.

    With ``e`` the arm's share among the two, ``A`` 1 for the arm and ``m = e mu_1 + (1 - e) mu_0``:

    - ``dr``: the doubly robust score, weighted by overlap.
    - ``r``: ``(y - m) / (A - e)``, weight ``(A - e)**2``.
    - ``x``: ``y - mu_0`` where the arm was taken and ``mu_1 - y`` where it was not, weight ``(A - e)**2``. Pooled in
      one regression this is the published mixture ``e tau_0 + (1 - e) tau_1`` of two.

    Each regression's weights sum up to overlap ``e (1 - e)`` at a given customer, up to a factor. All are multiplied by
    what the row's outcome counts.

    References:
        Kennedy 2023 (as above); Nie and Wager 2021, Quasi-oracle estimation of heterogeneous treatment effects,
        equation 4; Kuenzel, Sekhon, Bickel and Yu 2019, Metalearners for estimating heterogeneous treatment effects,
        section 2.
    """
    mu_0, mu_1 = compared.mu_0[without], compared.mu_1[without]
    if learner == "dr":
        return compared.scored_by(mu_0, mu_1), compared.weight
    distance = compared.treated - compared.share
    weight = 4 * distance**2
    if compared.counted is not None:
        weight = weight * compared.counted
    if learner == "r":
        mean = compared.share * mu_1 + (1 - compared.share) * mu_0
        return (compared.y - mean) / distance, weight
    imputed = np.where(compared.treated, compared.y - mu_0, mu_1 - compared.y)
    return imputed, weight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Effect:
    """What was chosen for an arm; no rounds where the mean was not beaten.

    Attributes:
        learner: whose pseudo-outcome.
        leaves: of each tree, at most.
        rounds: trees.
        gain: share of the mean's held-out doubly robust loss that it saves.
        fits: one for each fold, fitted on the rows outside it.
        fold_losses: ``(n_folds,)`` loss of each on its fold.
        rounds_without: ``(n_folds,)`` trees that the other folds would have chosen, at least one.
    """

    learner: Learner
    leaves: int = 0
    rounds: int = 0
    gain: float = 0.0
    fits: Sequence[Fit] = ()
    fold_losses: FloatArray
    rounds_without: Sequence[int] = ()


def chosen_effect(
    table: TrainingTable,
    compared: Comparison,
    *,
    boosting: Boosting,
    learners: Sequence[Learner],
    leaves: Sequence[int],
    smallest_leaf: float,
    n_folds: int,
    seed: int,
) -> Effect:
    """The learner and the size with the smallest doubly robust loss over the held-out folds, or no rounds: the mean.

    The learners are compared at the middle number of leaves. For the best of them smaller numbers are tried while they
    do better, and if none does, larger ones: where effects are faint nothing large is fitted. All are judged by
    ``sum(weight * (score - tau(x))**2)`` on rows that they were not fitted on, whose expectation is smallest for the
    true effect, whatever the learner.

    Their losses differ by less than noise where the probabilities are known, so a learner takes the place of the one
    before only if it is better on every fold. X comes first: its pseudo-outcome is the least noisy. (Without this
    rule the choice among three did worse on known effects than X alone.)

    Args:
        table: features of all rows.
        compared: rows of the arm and of no action.
        boosting: how the trees grow; their number is chosen.
        learners: to choose from; those that need the share of the arm are left out where it is not known.
        leaves: numbers of leaves to choose from.
        smallest_leaf: share of the rows that a leaf holds at least, besides ``boosting.min_rows``, but no more
            than ``LEAF_ROWS``.
        n_folds: number of folds.
        seed: fixes everything that is drawn.

    References:
        van der Laan and Dudoit 2003, Unified cross-validation methodology for selection among estimators; Saito and
        Yasui 2020, Counterfactual cross-validation.
    """
    min_rows = max(boosting.min_rows, min(int(smallest_leaf * len(compared.rows)), LEAF_ROWS))
    sized = [replace(boosting, num_leaves=size, min_rows=min_rows) for size in sorted(leaves)]
    middle = len(sized) // 2
    judge = _Judge(table, compared, n_folds, seed)
    best = judge.mean()
    for learner in _distinct(compared, learners):
        found = judge.effect(learner, sized[middle])
        if found.rounds and (not best.rounds or (found.fold_losses < best.fold_losses).all()):
            best = found
    for sizes in (sized[:middle][::-1], sized[middle + 1 :]):
        before = best
        for size in sizes:
            found = judge.effect(best.learner, size)
            if found.gain <= best.gain:
                break
            best = found
        if best is not before:
            break
    return best


def _distinct(compared: Comparison, learners: Sequence[Learner]) -> list[Learner]:
    """Learners that can be fitted, each regression once: with even arms R is DR."""
    if np.isnan(compared.share).any():
        return ["dr"]
    even = bool(np.allclose(compared.share, 0.5, atol=1e-9, rtol=0))
    return [one for one in learners if not (one == "r" and even and "dr" in learners)]


class _Judge:
    """Fits on the rows outside each fold and follows the doubly robust loss inside."""

    def __init__(self, table: TrainingTable, compared: Comparison, n_folds: int, seed: int) -> None:
        self._table = table
        self._compared = compared
        self._folds = range(n_folds)
        self._seed = seed
        self._judged_by = self._of_all(compared.score), self._of_all(compared.weight)
        self._constant = self._losses_of_means()

    def mean(self) -> Effect:
        """The arm's mean: what is to beat."""
        return Effect(learner=_distinct(self._compared, LEARNERS)[0], fold_losses=self._constant)

    def effect(self, learner: Learner, boosting: Boosting) -> Effect:
        """One learner at one size; no rounds where the mean does as well."""
        rows, fold = self._compared.rows, self._compared.fold
        parts = []
        for k in self._folds:
            label, weight = pseudo_outcome(self._compared, learner, k)
            parts.append(
                Part(
                    rows=rows[fold != k],
                    held_out=rows[fold == k],
                    label=self._of_all(label),
                    weight=self._of_all(weight),
                    judged_by=self._judged_by,
                )
            )
        fits, summed = boosted_together(self._table, parts, objective="regression", boosting=boosting, seed=self._seed)
        losses = np.stack([part.size * fit.losses for part, fit in zip(parts, fits, strict=True)])
        rounds, gain = best_rounds(summed, float(self._constant.sum()))
        return Effect(
            learner=learner,
            leaves=boosting.num_leaves,
            rounds=rounds,
            gain=gain,
            fits=fits,
            fold_losses=losses[:, rounds - 1],
            rounds_without=[int(np.argmin(summed - loss)) + 1 for loss in losses],
        )

    def _losses_of_means(self) -> FloatArray:
        score, weight, fold = self._compared.score, self._compared.weight, self._compared.fold
        losses = []
        for k in self._folds:
            inside, outside = fold == k, fold != k
            mean = np.average(score[outside], weights=weight[outside])
            losses.append(float((weight[inside] * (score[inside] - mean) ** 2).sum()))
        return np.array(losses)

    def _of_all(self, values: FloatArray) -> FloatArray:
        """Values of the compared rows as an array of all rows."""
        spread = np.zeros(len(self._table.x))
        spread[self._compared.rows] = values
        return spread
