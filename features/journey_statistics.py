"""What the journey report counts with, and the intervals it puts around shares: all sums of integers.

Integer sums do not depend on how the customers are cut into tables, so a report is the same however
large its tables are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.journey_findings import Interval
from features.kernel import Floats, Integers

Booleans = NDArray[np.bool_]

Z: Final = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: intervals are at 95 %."""

_ACCURACY: Final = 0.01
_LOG_GAMMA: Final = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
N_BINS: Final = 1_800
"""Enough for every time from a microsecond to a century."""


class Tally:
    """How often each combination of indices was seen; sparse, so that few of many possible ones cost little."""

    def __init__(self, *dims: int) -> None:
        self.dims = dims
        self._keys = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)

    def add(self, *columns: Integers) -> None:
        """Count rows: one index into each dimension per row."""
        keys, counts = np.unique(_packed(columns, self.dims), return_counts=True)
        both = np.concatenate([self._keys, keys])
        self._keys, places = np.unique(both, return_inverse=True)
        merged = np.zeros(self._keys.size, dtype=np.int64)
        np.add.at(merged, places, np.concatenate([self._counts, counts]))
        self._counts = merged

    def add_distinct(self, owners: Integers, *columns: Integers) -> None:
        """Count each combination once per owner; the rows of an owner must all come in one call."""
        if owners.size:
            pairs = np.unique(np.stack([_packed(columns, self.dims), owners]), axis=1)
            self.add(*np.unravel_index(pairs[0], self.dims))

    def dense(self) -> Integers:
        """The counts as an array of the tally's dimensions."""
        full = np.zeros(math.prod(self.dims), dtype=np.int64)
        full[self._keys] = self._counts
        return full.reshape(self.dims)

    def rows(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """Every combination that was seen with its count, ascending."""
        columns = np.unravel_index(self._keys, self.dims)
        for *key, count in zip(*(column.tolist() for column in columns), self._counts.tolist(), strict=True):
            yield tuple(key), count

    def histogram(self, *key: int) -> Integers:
        """The counts along the last dimension for fixed indices of the others: ``(dims[-1],)``."""
        first = int(np.ravel_multi_index((*key, 0), self.dims))
        low, high = np.searchsorted(self._keys, [first, first + self.dims[-1]])
        full = np.zeros(self.dims[-1], dtype=np.int64)
        full[self._keys[low:high] - first] = self._counts[low:high]
        return full


class ShareSums(NamedTuple):
    """A share of rows in clusters, as the five sums that its interval needs."""

    n: int
    hits: int
    hits_squared: int
    hits_by_rows: int
    rows_squared: int

    def __add__(self, other: object) -> ShareSums:
        """The sums over the clusters of both."""
        if not isinstance(other, ShareSums):
            return NotImplemented
        return ShareSums(*(mine + others for mine, others in zip(self, other, strict=True)))

    @property
    def share(self) -> float | None:
        """Hits over rows; None where there are no rows."""
        return self.hits / self.n if self.n else None

    @property
    def effective_n(self) -> float:
        """Rows over the design effect of their clusters, at most the number of rows."""
        if not self.n:
            return 0.0
        p = self.hits / self.n
        binomial = self.n * p * (1 - p)
        is_one_cluster = self.rows_squared == self.n * self.n
        if binomial <= 0 or is_one_cluster:
            # All alike, or nobody to differ from: the spread between clusters says nothing, so each cluster counts as
            # far as its rows could all be one.
            return self.n / max(1.0, self.rows_squared / self.n)
        clustered = self.hits_squared - 2 * p * self.hits_by_rows + p * p * self.rows_squared
        return self.n / max(1.0, clustered / binomial)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the share; None where there are no rows."""
        return wilson(self.hits / self.n, self.effective_n) if self.n else None


class Shares:
    """Shares by combination of indices, clustered by owner; the rows of an owner must all come in one call."""

    def __init__(self, *dims: int) -> None:
        self.dims = dims
        self._sums = np.zeros((math.prod(dims), 5), dtype=np.int64)

    def add(self, owners: Integers, hits: Booleans, *columns: Integers) -> None:
        """Count rows, and those among them that are hits."""
        if not owners.size:
            return
        span = int(owners.max()) + 1
        clusters, places = np.unique(_packed(columns, self.dims) * span + owners, return_inverse=True)
        rows = np.bincount(places, minlength=clusters.size).astype(np.int64)
        found = np.bincount(places[hits], minlength=clusters.size).astype(np.int64)
        sums = np.stack([rows, found, found * found, found * rows, rows * rows], axis=1)
        np.add.at(self._sums, clusters // span, sums)

    def of(self, *key: int) -> ShareSums:
        """The sums of one combination."""
        return ShareSums(*self._sums[int(np.ravel_multi_index(key, self.dims))].tolist())


def _packed(columns: Sequence[Integers], dims: Sequence[int]) -> Integers:
    return np.asarray(np.ravel_multi_index(tuple(columns), tuple(dims)), dtype=np.int64)


def wilson(share: float, n: float) -> Interval:
    """The 95 % score interval of a share of ``n`` (effective) rows.

    >>> tuple(round(bound, 4) for bound in wilson(0.5, 100))
    (0.4038, 0.5962)

    References:
        E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22:
        (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
        E. L. Korn, B. I. Graubard (1998), Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data, Survey Methodology 24: n is replaced by the effective n, rows over the design
        effect.
        L. Kish (1965), Survey Sampling: the design effect is the variance of the ratio over clusters,
        sum((hits_c - p rows_c)^2) / n^2, over the binomial one, p(1-p)/n. It is exactly 1 where no customer repeats.
    """
    centre = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # Rounding must not leave the bounds that no row, or every row, is.
    low = 0.0 if share == 0 else (centre - half) / scale
    return low, 1.0 if share == 1 else (centre + half) / scale


def difference(one: ShareSums, other: ShareSums) -> tuple[float, Interval] | None:
    """Share of one minus share of the other, with its 95 % interval; None where either has no rows.

    References:
        R. G. Newcombe (1998), Interval estimation for the difference between independent proportions, Statistics in
        Medicine 17, method 10: d - sqrt((p1-l1)^2 + (u2-p2)^2), d + sqrt((u1-p1)^2 + (p2-l2)^2) of Wilson's intervals.
    """
    if one.interval is None or other.interval is None:
        return None
    p, q = one.hits / one.n, other.hits / other.n
    (low, high), (other_low, other_high) = one.interval, other.interval
    gap = p - q
    return gap, (gap - math.hypot(p - low, other_high - q), gap + math.hypot(high - p, q - other_low))


def p_value(one: ShareSums, other: ShareSums) -> float | None:
    """Two-sided p-value of equal shares, by the pooled z statistic on effective rows; None where either has no rows."""
    if not one.n or not other.n:
        return None
    pooled = (one.hits + other.hits) / (one.n + other.n)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / one.effective_n + 1 / other.effective_n))
    if spread == 0:
        return 1.0
    return math.erfc(abs(one.hits / one.n - other.hits / other.n) / spread / math.sqrt(2))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: rejecting those at most q keeps the expected share of false rejections at most q.

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]

    References:
        Y. Benjamini, Y. Hochberg (1995), Controlling the false discovery rate, JRSS B 57:
        min over k >= rank of p_(k) m / k.
    """
    m = len(p_values)
    adjusted = [1.0] * m
    smallest = 1.0
    for rank, place in zip(range(m, 0, -1), sorted(range(m), key=lambda i: -p_values[i]), strict=True):
        smallest = min(smallest, p_values[place] * m / rank)
        adjusted[place] = smallest
    return adjusted


def bins(microseconds: Floats) -> Integers:
    """The bin of each duration: 0 for none, else on a logarithmic grid that keeps values within 1 %.

    References:
        C. Masson, J. E. Rim, H. K. Lee (2019), DDSketch: a fast and fully-mergeable quantile sketch with relative-error
        guarantees, PVLDB 12: bin ceil(log_gamma(x)), gamma = (1 + a) / (1 - a).
    """
    positive = np.maximum(microseconds, 1.0)
    found = 1 + np.ceil(np.log(positive) / _LOG_GAMMA).astype(np.int64)
    return np.where(microseconds <= 0, 0, np.minimum(found, N_BINS - 1))


def bin_hours(place: int) -> float:
    """The duration that a bin stands for, hours: within 1 % of every duration in it."""
    if place == 0:
        return 0.0
    gamma = math.exp(_LOG_GAMMA)
    return 2 * math.exp(_LOG_GAMMA * (place - 1)) / (gamma + 1) / 3_600_000_000


def quantile_hours(histogram: Integers, q: float) -> float | None:
    """The q-quantile (nearest rank) of durations in bins, hours; None where there are none."""
    total = int(histogram.sum())
    if not total:
        return None
    return bin_hours(int(np.searchsorted(np.cumsum(histogram), math.ceil(q * total))))


def kaplan_meier_hours(ended: Integers, censored: Integers, q: float) -> float | None:
    """When a share q has ended, hours, counting those that are still going on; None where that is not reached yet.

    Args:
        ended: ``(N_BINS,)`` durations that ended, by bin.
        censored: ``(N_BINS,)`` durations observed so far of those that did not; at a tie they outlast the ended ones.
        q: the share, strictly between 0 and 1.

    References:
        E. L. Kaplan, P. Meier (1958), Nonparametric estimation from incomplete observations, JASA 53:
        S(t) = product over ends t_i <= t of (1 - d_i / n_i).
    """
    at_risk = np.cumsum((ended + censored)[::-1])[::-1]
    hazard = np.divide(ended, at_risk, out=np.zeros(ended.size), where=at_risk > 0)
    # A share that is reached exactly must not be missed for the rounding of a product.
    reached = np.flatnonzero(np.cumprod(1 - hazard) <= 1 - q + 1e-12)
    return bin_hours(int(reached[0])) if reached.size else None


def poisson_steps() -> Floats:
    """Where the cumulated Poisson(1) distribution steps up: ``(13,)``."""
    return np.cumsum([math.exp(-1) / math.factorial(k) for k in range(13)])


@njit(cache=True)
def add_replicates(
    sums: Integers, owners: Integers, seeds: NDArray[np.uint64], cells: Integers, measures: Booleans, steps: Floats
) -> None:
    """Add rows to the sums of their cells: once as they are, and once in each replicate, weighted by their owner.

    A replicate weighs each owner by a Poisson(1) number that only its seed and the replicate decide: a bootstrap over
    owners whose sums can be added over tables.

    Args:
        sums: ``(n_cells, n_measures, 1 + n_replicates)`` written in place; the first is unweighted.
        owners: ``(n,)`` the rows of an owner stand together.
        seeds: ``(n,)`` the owner's hash.
        cells: ``(n,)`` the cell of each row.
        measures: ``(n, n_measures)`` which measures a row counts in.
        steps: ``poisson_steps()``.

    References:
        N. Chamandy, O. Muralidharan, A. Najmi, S. Naidu (2012), Estimating uncertainty for massive data streams,
        Google technical report: the Poisson bootstrap.
        S. Vigna (2015), splitmix64: the mixing function.
    """
    weights = np.ones(sums.shape[2], dtype=np.int64)
    for i in range(owners.size):
        if i == 0 or owners[i] != owners[i - 1]:
            for r in range(1, weights.size):
                mixed = seeds[i] + np.uint64(r) * np.uint64(0x9E3779B97F4A7C15)
                mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                mixed = mixed ^ (mixed >> np.uint64(31))
                unit = float(mixed >> np.uint64(11)) / 9007199254740992.0
                weight = 0
                while weight < steps.size and unit >= steps[weight]:
                    weight += 1
                weights[r] = weight
        for m in range(measures.shape[1]):
            if measures[i, m]:
                for r in range(weights.size):
                    sums[cells[i], m, r] += weights[r]
