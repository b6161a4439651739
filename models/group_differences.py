"""How a group differs from everybody else, and how sure that is: means by group with errors over customers.

Pure. A customer's decisions go along with each other, so customers are drawn again as a whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from models.metrics import Interval

FloatArray = NDArray[np.float64]
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupMeans:
    """One group beside the rest, for ``k`` figures.

    Attributes:
        name: of the group.
        rows: how many are in it.
        people: whose they are.
        mean: ``(k,)``.
        difference: ``(k,)`` its mean less the mean of all other rows; NaN where there are none.
        error: ``(k,)`` standard error of the difference over customers; NaN where it cannot be told: of one customer.
        freedom: degrees of freedom of the error: effective customers of the smaller side less one.
    """

    name: str
    rows: int
    people: int
    mean: FloatArray
    difference: FloatArray
    error: FloatArray
    freedom: float


def resampled_sums(sums: FloatArray, *, seed: int, n_resamples: int) -> FloatArray:
    """``(n_resamples, k)`` column sums when whole customers are drawn again.

    Args:
        sums: ``(n_customers, k)`` each customer's own sums.
        seed: fixes the resamples.
        n_resamples: how many.

    References:
        Efron 1979, Bootstrap methods; Field and Welsh 2007, Bootstrapping clustered data.
    """
    rng = np.random.default_rng(seed)
    n = len(sums)
    out = np.empty((n_resamples, sums.shape[1]))
    for start in range(0, n_resamples, _AT_ONCE):
        size = min(_AT_ONCE, n_resamples - start)
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64) for _ in range(size)]
        out[start : start + size] = np.stack(drawn) @ sums
    return out


def sums_by_person(figures: FloatArray, people: NDArray[np.generic]) -> FloatArray:
    """``(n_customers, k)`` sums of ``(n, k)`` figures over each customer's rows."""
    _, of_row = np.unique(people, return_inverse=True)
    out = np.zeros((int(of_row.max()) + 1 if len(of_row) else 0, figures.shape[1]))
    np.add.at(out, of_row, figures)
    return out


def mean_intervals(
    figures: FloatArray, people: NDArray[np.generic], *, seed: int, n_resamples: int, level: float
) -> tuple[Interval, ...]:
    """The mean of each of ``(n, k)`` figures between percentiles of its resamples.

    NaN throughout without rows; of one customer the bounds are.
    """
    if not len(figures):
        return tuple([Interval(math.nan, math.nan, math.nan)] * figures.shape[1])
    sums = sums_by_person(np.column_stack([figures, np.ones(len(figures))]), people)
    if len(sums) < 2:
        return tuple([Interval(mean, math.nan, math.nan) for mean in figures.mean(axis=0).tolist()])
    drawn = resampled_sums(sums, seed=seed, n_resamples=n_resamples)
    means = drawn[:, :-1] / drawn[:, -1:]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    bounds = zip(figures.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)
    return tuple([Interval(estimate, lowest, highest) for estimate, lowest, highest in bounds])


def group_means(
    figures: FloatArray, labels: NDArray[np.str_], people: NDArray[np.generic], *, seed: int, n_resamples: int
) -> list[GroupMeans]:
    """Every group beside the rest, in order of their names.

    Args:
        figures: ``(n, k)``.
        labels: ``(n,)`` the group of each row; a customer may change groups.
        people: ``(n,)`` whose the rows are.
        seed: fixes the resamples.
        n_resamples: how many; the error is the standard deviation over them.
    """
    n, k = figures.shape
    names, of_row = np.unique(labels, return_inverse=True)
    if not n:
        return []
    _, person = np.unique(people, return_inverse=True)
    own = np.zeros((int(person.max()) + 1, len(names), k + 1))
    np.add.at(own, (person, of_row), np.column_stack([figures, np.ones(n)]))
    drawn = resampled_sums(own.reshape(len(own), -1), seed=seed, n_resamples=n_resamples)
    resamples = drawn.reshape(n_resamples, len(names), k + 1)
    of_all = own.sum(axis=0)
    belong = (own[:, :, -1] > 0).sum(axis=0)
    others = (own[:, :, -1].sum(axis=1, keepdims=True) > own[:, :, -1]).sum(axis=0)
    is_told = np.minimum(belong, others) > 1
    sides = (own[:, :, -1], own[:, :, -1].sum(axis=1, keepdims=True) - own[:, :, -1])
    effective = np.min([side.sum(axis=0) ** 2 / np.maximum((side**2).sum(axis=0), 1.0) for side in sides], axis=0)
    errors = np.where(is_told[:, None], _spread(_differences(resamples)), np.nan)
    differences = _differences(of_all[None])[0]
    return [
        GroupMeans(
            name=str(name),
            rows=int(of_all[g, -1]),
            people=int(belong[g]),
            mean=of_all[g, :-1] / of_all[g, -1],
            difference=differences[g],
            error=errors[g],
            freedom=max(float(effective[g]) - 1.0, 1.0),
        )
        for g, name in enumerate(names.tolist())
    ]


def _differences(sums: FloatArray) -> FloatArray:
    """``(r, groups, k)`` mean of each group less that of the rest; NaN where either has no rows."""
    rest = sums.sum(axis=1, keepdims=True) - sums
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = sums[..., :-1] / sums[..., -1:] - rest[..., :-1] / rest[..., -1:]
    return np.where((sums[..., -1:] > 0) & (rest[..., -1:] > 0), found, np.nan)


def _spread(resampled: FloatArray) -> FloatArray:
    """Standard deviation over resamples, where at least half of them are known."""
    known = ~np.isnan(resampled)
    n = known.sum(axis=0)
    filled = np.where(known, resampled, 0.0)
    mean = filled.sum(axis=0) / np.maximum(n, 1)
    squares = (np.where(known, resampled - mean, 0.0) ** 2).sum(axis=0)
    return np.where(n > len(resampled) / 2, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)


def simultaneous_interval(
    estimate: float, error: float, *, comparisons: int, level: float, freedom: float = math.inf
) -> Interval:
    """``estimate -+ t error`` that holds for all comparisons at once with probability ``level`` at the least.

    ``t`` is the quantile of Student's law at ``1 - (1 - level) / (2 comparisons)``: an error of few customers, or of
    customers of very unequal weight, is itself uncertain.

    References:
        Dunn 1961, Multiple comparisons among means; Efron and Tibshirani 1993, An introduction to the bootstrap,
        chapter 12 (Student intervals with a bootstrapped standard error: percentiles so far out would need many more
        resamples); Carter, Schnepel and Steigerwald 2017, Asymptotic behavior of a t-test robust to cluster
        heterogeneity (the effective number of clusters).

    >>> low = simultaneous_interval(0.0, 1.0, comparisons=1, level=0.95).low
    >>> round(low, 2)
    -1.96
    """
    quantile = float(student.ppf(1 - (1 - level) / (2 * max(comparisons, 1)), freedom))
    return Interval(estimate, estimate - quantile * error, estimate + quantile * error)
