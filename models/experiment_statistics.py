"""What arms of an experiment differ by, with intervals for one look and for looking as often as one likes.

Pure. Rows are people, who were drawn into arms with recorded probabilities; each counts by the inverse of that of the
own arm, so that people who were likelier to be in some arm (through linked ids, or before shares changed) do not shift
it. What happened before anybody was drawn is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw
from scipy.stats import norm

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How intervals are made.

    Attributes:
        level: of the intervals.
        planned: people at whom those for many looks are narrowest; to be said before looking.
        smallest_arm: people in an arm below which nothing is said of it.
    """

    level: float = 0.95
    planned: int = 5_000
    smallest_arm: int = 50

    @property
    def alpha(self) -> float:
        """What is not in the interval."""
        return 1.0 - self.level

    @property
    def z(self) -> float:
        """Standard errors on either side of an estimate that is looked at once."""
        return _quantile(0.5 + self.level / 2)


@cache
def _quantile(probability: float) -> float:
    return float(norm.ppf(probability))


@cache
def _narrowest(alpha: float) -> float:
    """People times ``r^2`` at which an interval for many looks is narrowest; see ``always_valid_multiplier``."""
    return -float(lambertw(-(alpha**2) / math.e, k=-1).real) - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmMean:
    """The mean of one arm, as if everybody were in it.

    Attributes:
        n: people in it.
        mean: NaN where there is nobody.
        variance: of the mean, not of the people; NaN where fewer than two are in it.
    """

    n: int
    mean: float
    variance: float


def arm_mean(y: FloatArray, probability: FloatArray, *, is_binary: bool = False) -> ArmMean:
    """The mean over everybody in an arm, each weighted by ``1 / probability``.

    ``m = sum w y / sum w`` and ``n/(n-1) sum w^2 (y - m)^2 / (sum w)^2``; of 0 and 1 at least ``p (1 - p) sum w^2 /
    (sum w)^2`` with ``p = (yes + 1) / (n + 2)``, so that none among few is not taken for certain.

    Args:
        y: ``(n,)`` of the people in the arm.
        probability: ``(n,)`` with which each was to be in it, above 0.
        is_binary: whether ``y`` is 0 or 1.

    References:
        Hajek 1971, comment on Basu; Agresti and Caffo 2000, Simple and effective confidence intervals for proportions
        and differences of proportions (one more of each).
    """
    n = len(y)
    if n == 0:
        return ArmMean(n=0, mean=NAN, variance=NAN)
    weight = 1.0 / probability
    total = float(weight.sum())
    mean = float(weight @ y) / total
    if n < 2:
        return ArmMean(n=n, mean=mean, variance=NAN)
    variance = n / (n - 1) * float((weight**2) @ (y - mean) ** 2) / total**2
    if is_binary:
        share = (mean * n + 1) / (n + 2)
        variance = max(variance, share * (1 - share) * float((weight**2).sum()) / total**2)
    return ArmMean(n=n, mean=mean, variance=variance)


class Spread(NamedTuple):
    """An estimate with its interval for one look and that for many."""

    estimate: float
    low: float
    high: float
    always_low: float
    always_high: float


UNKNOWN: Final = Spread(NAN, NAN, NAN, NAN, NAN)


def always_valid_multiplier(n: float, looks: Looks) -> float:
    """Standard errors on either side of an estimate such that the truth is inside at every look, with ``level``.

    Of the asymptotic confidence sequence ``sqrt(2 (n r^2 + 1) / (n^2 r^2) log(sqrt(n r^2 + 1) / alpha))`` standard
    deviations, with ``r`` such that it is narrowest at ``planned``: ``planned r^2 = -W(-alpha^2 / e) - 1``, ``W`` the
    lower branch of Lambert's function.

    Args:
        n: people so far.
        looks: the level, and how many are planned.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit theory and asymptotic
        confidence sequences; Robbins 1970, Statistical methods related to the law of the iterated logarithm.
    """
    x = _narrowest(looks.alpha) * n / looks.planned
    return math.sqrt((1 + 1 / x) * (math.log1p(x) - 2 * math.log(looks.alpha)))


def spread_of(one: ArmMean, looks: Looks, *, n: int | None = None) -> Spread:
    """The mean of an arm with its intervals; unknown where too few are in it. The arguments are ``difference``'s."""
    if one.n < looks.smallest_arm:
        return UNKNOWN
    return _around(one.mean, one.variance, one.n if n is None else n, looks)


def difference(one: ArmMean, other: ArmMean, looks: Looks, *, n: int | None = None) -> Spread:
    """``one`` less ``other``, with intervals; unknown where too few are in either.

    Args:
        one: an arm.
        other: another: nobody is in both.
        looks: how intervals are made.
        n: everybody in the experiment so far, of whom ``looks.planned`` are planned; those of both arms if None.
    """
    if min(one.n, other.n) < looks.smallest_arm:
        return UNKNOWN
    return _around(one.mean - other.mean, one.variance + other.variance, one.n + other.n if n is None else n, looks)


def _around(estimate: float, variance: float, n: int, looks: Looks) -> Spread:
    error = math.sqrt(variance)
    once, always = looks.z * error, always_valid_multiplier(n, looks) * error
    return Spread(estimate, estimate - once, estimate + once, estimate - always, estimate + always)


@dataclass(frozen=True, slots=True, eq=False)
class PairedArms:
    """What people of two arms got and cost.

    Attributes:
        gain: ``(n,)``.
        spend: ``(n,)``.
        probability: ``(n,)`` with which each was to be in the own arm.
        is_first: ``(n,)`` whether they are in the first arm; the others are in the second.
    """

    gain: FloatArray
    spend: FloatArray
    probability: FloatArray
    is_first: BoolArray


def ratio_of_differences(paired: PairedArms, looks: Looks, *, n: int | None = None) -> Spread:
    """How much more gain for each unit more spent: the difference of the gains over that of the spends.

    Its interval holds each ratio ``r`` for which the difference of ``gain - r spend`` may be 0 (Fieller); unbounded,
    hence NaN, where the spends may not differ.

    References:
        Fieller 1954, Some problems in interval estimation.
    """
    sides = [paired.is_first, ~paired.is_first]
    if min(int(rows.sum()) for rows in sides) < looks.smallest_arm:
        return UNKNOWN
    gain, spend = ([arm_mean(y[rows], paired.probability[rows]) for rows in sides] for y in (paired.gain, paired.spend))
    both = [arm_mean((paired.gain + paired.spend)[rows], paired.probability[rows]) for rows in sides]
    up, across = gain[0].mean - gain[1].mean, spend[0].mean - spend[1].mean
    var_up, var_across, var_both = (one[0].variance + one[1].variance for one in (gain, spend, both))
    shared = (var_both - var_up - var_across) / 2
    if across == 0:
        return UNKNOWN
    count = len(paired.gain) if n is None else n
    once = _fieller(up, across, var_up, var_across, shared, looks.z)
    always = _fieller(up, across, var_up, var_across, shared, always_valid_multiplier(count, looks))
    return Spread(up / across, *once, *always)


def _fieller(
    up: float, across: float, var_up: float, var_across: float, shared: float, z: float
) -> tuple[float, float]:
    square = across**2 - z**2 * var_across
    if square <= 0:
        return NAN, NAN
    middle = up * across - z**2 * shared
    inside = middle**2 - square * (up**2 - z**2 * var_up)
    width = math.sqrt(max(inside, 0.0))
    return (middle - width) / square, (middle + width) / square


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSize:
    """How many people it takes to find an effect.

    Attributes:
        effect: that is to be found.
        people: everybody in the experiment, where one looks once, at the end.
        people_if_looking: the same where one may look at any time.
        smallest_now: the effect that those so far would find with that power.
    """

    effect: float
    people: float
    people_if_looking: float
    smallest_now: float


def sample_size(variance: float, n: int, effect: float, looks: Looks, *, power: float) -> SampleSize:
    """How many people it takes to find an effect, given how they vary so far.

    ``(z_{1 - alpha/2} + z_power)^2 n variance / effect^2`` where one looks once; with the multiplier for many looks in
    place of the first it is the smallest that fits itself.

    Args:
        variance: of the difference that ``n`` people told.
        n: everybody in the experiment so far.
        effect: that is to be found, above 0.
        looks: how intervals are made.
        power: probability of finding it.

    References:
        Chow, Shao, Wang and Lokhnygina 2017, Sample size calculations in clinical research, chapter 3.
    """
    unit = math.sqrt(variance * n)
    beyond = _quantile(power)

    def found(people: float) -> float:
        return (always_valid_multiplier(people, looks) + beyond) * unit / math.sqrt(people)

    low, high = 1.0, 2.0
    while found(high) > effect:
        low, high = high, 2 * high
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) > effect else (low, middle)
    return SampleSize(
        effect=effect,
        people=((looks.z + beyond) * unit / effect) ** 2,
        people_if_looking=high,
        smallest_now=(looks.z + beyond) * math.sqrt(variance),
    )
