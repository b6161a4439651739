"""Whether as many people are in each arm of an experiment as its shares say. Where not, no other figure can be trusted.

Pure. Everybody counts once, with the probabilities of the arms that were recorded for them: those depend on their
linked ids, and may have changed on the way. A log that lost records of one arm, or a caller that asks for some arm less
often, shows here first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from features.errors import NotEnoughData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SUM_TOLERANCE: Final = 1e-6
"""How far the probabilities of the arms may sum from 1."""

CONCENTRATION: Final = 1_000.0
"""Weight of the shares in the sequential check, in people. The larger, the smaller the departures that it looks for."""

SMALLEST_EXPECTED: Final = 5.0
"""Below so many people expected in some arm the p-value is simulated rather than that of the chi-square law."""

_SIMULATED: Final = 100_000
_SIMULATED_WEIGHTED: Final = 20_000
_SCREEN: Final = 0.05
_ROUNDING: Final = 1e-9

Status = Literal["matches", "suspected", "mismatch", "unknown"]


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Who is in which arm, in the order in which they came in.

    Attributes:
        arm: ``(n,)`` index of the arm.
        probability: ``(n, k)`` recorded probability of each arm; rows sum to 1, and that of the own arm is above 0.
    """

    arm: IntArray
    probability: FloatArray

    def __len__(self) -> int:
        """Number of people."""
        return len(self.arm)

    def of(self, rows: BoolArray | IntArray) -> Assignment:
        """Some of the people."""
        return Assignment(self.arm[rows], self.probability[rows])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RatioCheck:
    """How the people are spread over the arms.

    Attributes:
        observed: ``(k,)`` people in each arm.
        expected: ``(k,)`` of them by the recorded probabilities.
        p_value: of this look alone; NaN where nothing could differ.
        always_valid_p: holds however often one looked before; NaN likewise.
        first_alarm: people who had come in when it first fell below ``alpha``; None where it never did.
        alpha: chance of a false alarm.
    """

    observed: IntArray
    expected: FloatArray
    p_value: float
    always_valid_p: float
    first_alarm: int | None
    alpha: float

    @property
    def status(self) -> Status:
        """``mismatch`` where looking often explains nothing; ``suspected`` where only this look's p-value is so low."""
        if np.isnan(self.p_value):
            return "unknown"
        if self.always_valid_p < self.alpha:
            return "mismatch"
        return "suspected" if self.p_value < self.alpha else "matches"


def usable_rows(assignment: Assignment) -> BoolArray:
    """``(n,)`` whose probabilities are a distribution that makes the own arm possible."""
    table = assignment.probability
    inside = ((table >= 0) & (table <= 1 + SUM_TOLERANCE)).all(axis=1)  # NaN is not
    sums = np.abs(table.sum(axis=1) - 1) <= SUM_TOLERANCE
    own = table[np.arange(len(assignment)), assignment.arm] > 0
    usable: BoolArray = inside & sums & own
    return usable


def ratio_check(assignment: Assignment, *, alpha: float) -> RatioCheck:
    """The check of all people.

    Args:
        assignment: in the order in which they came in, all of them usable; see ``usable_rows``.
        alpha: chance of a false alarm.

    Raises:
        NotEnoughData: somebody's probabilities are no distribution, or make the own arm impossible.
    """
    if not usable_rows(assignment).all():
        raise NotEnoughData("probabilities of arms that are no distribution, expected rows that sum to 1")
    k = assignment.probability.shape[1]
    evidence = sequential_evidence(assignment)
    peak = float(evidence.max(initial=0.0))
    passed = np.flatnonzero(evidence > -np.log(alpha))
    p_value = ratio_p_value(assignment)
    return RatioCheck(
        observed=np.bincount(assignment.arm, minlength=k).astype(np.int64),
        expected=assignment.probability.sum(axis=0),
        p_value=p_value,
        always_valid_p=float("nan") if np.isnan(p_value) else float(np.exp(-peak)),
        first_alarm=int(passed[0]) + 1 if len(passed) else None,
        alpha=alpha,
    )


def ratio_p_value(assignment: Assignment, weight: FloatArray | None = None) -> float:
    """Probability of a spread at least as uneven, under the recorded probabilities; NaN where only one is possible.

    With ``d = sum_i w_i (1{A_i} - p_i)`` and ``S = sum_i w_i^2 (diag(p_i) - p_i p_i')`` the statistic is
    ``d' S^+ d``, chi-square with the rank of ``S``: Pearson's where all ``p_i`` are the same and nothing is weighted.
    Where some arm expects few it is simulated, the same way each time; so it is where it is weighted and that law
    gives less than 0.05: a few people of very large weight make its tail much too light.

    Args:
        assignment: usable, in any order.
        weight: ``(n,)`` such as the decisions of each; 1 where None.

    References:
        Pearson 1900, On the criterion that a given system of deviations from the probable; Fabijan et al. 2019,
        Diagnosing sample ratio mismatch in online controlled experiments.
    """
    table = assignment.probability
    w = np.ones(len(assignment)) if weight is None else weight
    chosen = np.zeros(table.shape)
    chosen[np.arange(len(assignment)), assignment.arm] = 1.0
    spread = np.diag((w**2) @ table) - (table * (w**2)[:, None]).T @ table
    scale = float(np.trace(spread))
    if scale <= _ROUNDING * max(float((w**2).sum()), 1.0):
        return float("nan")
    inverse = np.linalg.pinv(spread, rcond=_ROUNDING, hermitian=True)
    departure = w @ (chosen - table)
    statistic = float(departure @ inverse @ departure)
    p_value = float(chi2.sf(statistic, np.linalg.matrix_rank(spread, tol=_ROUNDING * scale, hermitian=True)))
    expected = w @ table
    fewest = float(expected[expected > 0].min()) / float(w.mean())
    is_rough = p_value < _SCREEN if np.ptp(w) > 0 else fewest < SMALLEST_EXPECTED
    return _simulated_p(table, w, inverse, statistic) if is_rough else p_value


def _simulated_p(table: FloatArray, weight: FloatArray, inverse: NDArray[np.floating[Any]], statistic: float) -> float:
    """The share of simulated spreads that are as uneven; the real one counts among them.

    Arms and people are brought into an order of their own, so that neither names nor who came first change what is
    drawn.
    """
    rng = np.random.default_rng(len(table))
    order = np.argsort(weight @ table, kind="stable")
    table, inverse = table[:, order], inverse[np.ix_(order, order)]
    kinds, counts = np.unique(np.column_stack([table, weight]), axis=0, return_counts=True)
    times = _SIMULATED if np.ptp(weight) == 0 else _SIMULATED_WEIGHTED
    drawn = np.zeros((times, table.shape[1]))
    for kind, count in zip(kinds, counts.tolist(), strict=True):
        drawn += kind[-1] * rng.multinomial(count, kind[:-1] / kind[:-1].sum(), size=times)
    departure = drawn - weight @ table
    simulated = np.einsum("ij,jk,ik->i", departure, inverse, departure)
    return float((1 + (simulated >= statistic - _ROUNDING * max(statistic, 1.0)).sum()) / (times + 1))


def sequential_evidence(assignment: Assignment) -> FloatArray:
    """``(n,)`` log of the evidence against the shares after each person; above ``log(1/alpha)`` it is an alarm.

    A test martingale: with ``O`` and ``E`` the people seen and expected in each arm before person ``i``, and
    ``q_i(a)`` proportional to ``p_i(a) (O_a + c p_i(a)) / (E_a + c p_i(a))``, it multiplies ``q_i(A_i) / p_i(A_i)``.
    Where all ``p_i`` are the same that is the Bayes factor of a Dirichlet prior around them with concentration ``c``.
    By Ville's inequality it ever exceeds ``1/alpha`` with probability of at most ``alpha``.

    References:
        Lindon and Malek 2022, Anytime-valid inference for multinomial count data (sequential tests of sample ratios);
        Ville 1939, Etude critique de la notion de collectif.
    """
    table = assignment.probability
    n = len(assignment)
    chosen = np.zeros(table.shape)
    chosen[np.arange(n), assignment.arm] = 1.0
    seen, expected = (np.cumsum(one, axis=0) - one for one in (chosen, table))
    prior = CONCENTRATION * table
    with np.errstate(invalid="ignore"):
        tilt = np.where(table > 0, (seen + prior) / (expected + prior), 0.0)
    own = tilt[np.arange(n), assignment.arm]
    evidence: FloatArray = np.cumsum(np.log(own) - np.log((table * tilt).sum(axis=1)))
    return evidence


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupRatio:
    """A group whose people are not spread over the arms as the shares say.

    Attributes:
        dimension: what makes the groups.
        group: its name.
        observed: ``(k,)``.
        expected: ``(k,)``.
        p_value: of this group alone.
    """

    dimension: str
    group: str
    observed: IntArray
    expected: FloatArray
    p_value: float


def uneven_groups(
    assignment: Assignment, groupings: Mapping[str, Sequence[str] | NDArray[np.str_]], *, alpha: float
) -> tuple[GroupRatio, ...]:
    """The groups in which the shares are not met, the surest first: where to look for the cause.

    With ``alpha`` shared out among all groups of all dimensions (Bonferroni), a false one comes with that chance.

    Args:
        assignment: usable.
        groupings: by dimension, ``(n,)`` names.
        alpha: chance that any is named though nothing is wrong.
    """
    found = []
    for dimension, names in groupings.items():
        named = np.asarray(names)
        for group in np.unique(named).tolist():
            rows = named == group
            found.append((dimension, str(group), rows, ratio_p_value(assignment.of(rows))))
    limit = alpha / max(len(found), 1)
    uneven = [
        GroupRatio(
            dimension=dimension,
            group=group,
            observed=np.bincount(assignment.arm[rows], minlength=assignment.probability.shape[1]).astype(np.int64),
            expected=assignment.probability[rows].sum(axis=0),
            p_value=p_value,
        )
        for dimension, group, rows, p_value in found
        if p_value < limit
    ]
    return tuple(sorted(uneven, key=lambda one: (one.p_value, one.dimension, one.group)))
