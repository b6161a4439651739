"""Overlap: whether an arm and no action were both given to customers of a kind, without which nothing compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SMALLEST_ESS: Final = 0.2
"""Share of the rows that the effective sample size should reach."""
LARGEST_CLIPPED: Final = 0.05
"""Share of the rows whose estimated probability may be clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How well the rows of one arm and of no action can be compared.

    Attributes:
        ess: effective sample size of the compared rows, ``sum(1/e)**2 / sum(1/e**2)``, e the probability of what was
            taken among the two.
        smallest_probability: the smallest e.
        share_clipped: share of the compared rows whose estimated probability was clipped.
        share_impossible: share of all rows on which one of the two had no chance. Told, and no problem by itself: an
            action belongs to some stages and is not compared in the others.
        n_rows: compared rows.

    References:
        Kish 1965, Survey sampling, section 11.7 (effective sample size); Crump, Hotz, Imbens and Mitnik 2009, Dealing
        with limited overlap in estimation of average treatment effects.
    """

    ess: float
    smallest_probability: float
    share_clipped: float
    share_impossible: float
    n_rows: int

    @property
    def problems(self) -> tuple[str, ...]:
        """What is poor about it, in words; empty where it will do."""
        found = []
        if self.n_rows and self.ess < SMALLEST_ESS * self.n_rows:
            found.append(
                f"{self.n_rows} rows count as {self.ess:.0f} (the smallest probability is "
                f"{self.smallest_probability:.2g})"
            )
        if self.share_clipped > LARGEST_CLIPPED:
            found.append(f"{self.share_clipped:.0%} of the estimated probabilities were clipped")
        return tuple(found)


def overlap_of(given: FloatArray, *, clipped: BoolArray, n_all: int) -> Overlap:
    """The overlap of compared rows.

    Args:
        given: ``(m,)`` probability of what was taken, given that the row is compared.
        clipped: ``(m,)`` whether it was estimated and clipped.
        n_all: rows on which the arm, or no action, was taken, could it have been compared or not.
    """
    if len(given) == 0:
        return Overlap(ess=0.0, smallest_probability=0.0, share_clipped=0.0, share_impossible=1.0, n_rows=0)
    inverse = 1 / given
    return Overlap(
        ess=float(inverse.sum() ** 2 / (inverse**2).sum()),
        smallest_probability=float(given.min()),
        share_clipped=float(clipped.mean()),
        share_impossible=1 - len(given) / n_all if n_all else 0.0,
        n_rows=len(given),
    )
