"""Random numbers of simulated customers by counter: any draw of any customer, in any order, without a running state.

So a population does not depend on how it is cut into blocks, nor one customer on another. Not for cryptography.

References:
    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA: the finaliser of SplitMix64.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.stable_hash import stable_hash

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = 2**64 - 1


def mixed(words: Words) -> Words:
    """Each 64-bit word scrambled, one to one."""
    z = words.copy()
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


@cache
def _key(purpose: str) -> int:
    return stable_hash("simulation", purpose)


class Draws:
    """The draws of some customers under one seed.

    A draw is named by its purpose and a step, and the same name gives the same number. Rows are positions within the
    customers that this object was made for.
    """

    def __init__(self, seed: int, customers: Integers) -> None:
        start = np.uint64(stable_hash("simulation-seed", str(seed)))
        self._base = mixed(mixed(customers.astype(np.uint64) * np.uint64(_GOLDEN)) ^ start)

    def words(self, purpose: str, rows: Integers, step: int | Integers = 0) -> Words:
        """64 random bits for each row, ``(n_rows,)``."""
        steps = np.asarray(step, dtype=np.int64).astype(np.uint64) * np.uint64(_GOLDEN)
        return mixed(mixed(self._base[rows] ^ np.uint64(_key(purpose))) + steps)

    def uniform(self, purpose: str, rows: Integers, step: int | Integers = 0) -> Floats:
        """Uniform numbers strictly between 0 and 1, ``(n_rows,)``."""
        unit: Floats = ((self.words(purpose, rows, step) >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
        return unit

    def between(self, purpose: str, rows: Integers, step: int | Integers, low: float, high: float) -> Floats:
        """Uniform numbers between two bounds, ``(n_rows,)``."""
        return low + (high - low) * self.uniform(purpose, rows, step)

    def happens(
        self, purpose: str, rows: Integers, step: int | Integers, probability: NDArray[np.floating[Any]] | float
    ) -> NDArray[np.bool_]:
        """Whether something of a probability happens, ``(n_rows,)``."""
        outcome: NDArray[np.bool_] = self.uniform(purpose, rows, step) < probability
        return outcome

    def choice(self, purpose: str, rows: Integers, step: int | Integers, shares: Floats) -> Integers:
        """Position drawn by shares: ``(n_options,)`` the same for all, or ``(n_rows, n_options)``; they sum to 1."""
        table = np.broadcast_to(shares, (rows.size, shares.shape[-1]))
        below = np.cumsum(table, axis=1) <= self.uniform(purpose, rows, step)[:, None]
        # The last option takes what rounding leaves of the sum; a share of 0 is never drawn.
        last = table.shape[1] - 1 - np.argmax(table[:, ::-1] > 0, axis=1)
        drawn: Integers = np.minimum(below.sum(axis=1), last).astype(np.int64)
        return drawn

    def count(self, purpose: str, rows: Integers, step: int | Integers, mean: Floats | float, most: int) -> Integers:
        """Poisson counts of a mean, cut at ``most``, ``(n_rows,)``."""
        u = self.uniform(purpose, rows, step)
        means = np.broadcast_to(np.asarray(mean, dtype=np.float64), u.shape)
        term = np.exp(-means)
        total = term.copy()
        counts = np.zeros(rows.size, dtype=np.int64)
        for k in range(1, most + 1):
            counts += u >= total
            term = term * means / k
            total = total + term
        return counts
