"""What each feature contributes to a head, on the scale before its link and calibration, where contributions add up.

Control path: it parses LightGBM texts, which serving never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boosting import contributions
from models.heads import STALL, Head, next_named

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Where one quantity comes from, row by row. They are facts about the model, not about the world.

    Attributes:
        baseline: ``(n_rows,)`` what the model gives where nothing is known to differ: its mean over its training rows.
        by_feature: ``(n_rows, n_features)``; positive raises the quantity.
    """

    baseline: FloatArray
    by_feature: FloatArray

    @property
    def raw(self) -> FloatArray:
        """``(n_rows,)`` the quantity before its link and calibration: baseline and contributions add up to it."""
        total: FloatArray = self.baseline + self.by_feature.sum(axis=1)
        return total


def head_contributions(head: Head, texts: Mapping[str, str], x: FloatArray) -> Contributions:
    """Contributions to one head: those to its members, averaged and weighed as the head does it.

    Args:
        head: the head; one without members gives its mean to everybody, to which no feature contributes.
        texts: LightGBM text of every member, by name.
        x: ``(n_rows, n_features)`` in the order of the bundle's feature names; NaN means unknown.
    """
    if not head.members:
        return Contributions(np.full(len(x), head.mean), np.zeros(x.shape))
    found = head.weight * contributions([texts[member] for member in head.members], x).mean(axis=1)
    return Contributions(found[:, -1] + (1.0 - head.weight) * head.mean, found[:, :-1])


def stall_contributions(heads: Sequence[Head], texts: Mapping[str, str], x: FloatArray) -> Contributions | None:
    """Contributions to the log odds of no progress within the horizon; None where the bundle has no stall head.

    Everything else that explains a stall comes through here: what the stall is made of is known to this function alone.

    Args:
        heads: of the bundle.
        texts: LightGBM text of every member, by name.
        x: ``(n_rows, n_features)``.
    """
    try:
        return head_contributions(next_named(heads, STALL), texts, x)
    except KeyError:
        return None
