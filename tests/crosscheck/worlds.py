"""A known world, and the libraries to compare with: skipped where they are not installed, but not in CI."""

from __future__ import annotations

import os
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class World(NamedTuple):
    """A randomised binary experiment of one arm against none.

    Attributes:
        x: ``(n, 6)``; the effect follows the first column, the baseline the second.
        treated: ``(n,)`` 0 or 1, with probability 1/2.
        y: ``(n,)`` 0 or 1.
        effect: ``(n,)`` true effects on the probability.
    """

    x: Floats
    treated: Floats
    y: Floats
    effect: Floats


def world(seed: int, n: int = 8_000) -> World:
    """The world of one seed."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    effect = (0.05 + 0.15 * (x[:, 0] > 0)).astype(np.float64)
    p0 = 0.15 + 0.2 * (x[:, 1] > 0)
    treated = (rng.random(n) < 0.5).astype(np.float64)
    y = (rng.random(n) < p0 + effect * treated).astype(np.float64)
    return World(x, treated, y, effect)


def library(name: str) -> ModuleType:
    """A module of the group ``crosscheck``; its absence fails where ``HEADWAY_TEST_CROSSCHECK`` is set."""
    if os.environ.get("HEADWAY_TEST_CROSSCHECK"):
        return __import__(name, fromlist=["_"])
    module: ModuleType = pytest.importorskip(
        name, reason=f"{name} is in the dependency group crosscheck", exc_type=ImportError
    )
    return module
