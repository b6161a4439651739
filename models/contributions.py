"""What each feature contributes to a head, on the scale before its link and calibration, where contributions add up.

Control path: it parses LightGBM texts, which serving never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import BundleError
from models.boosting import contributions
from models.hazard_contributions import Margins, stall_by_feature, stall_log_odds
from models.heads import ABANDON, PROGRESS, STALL, Head, hazard_head

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Where one quantity comes from, row by row. They are facts about the model, not about the world.

    Attributes:
        baseline: ``(n_rows,)`` what the model gives where nothing of the row is known: its mean over its training rows.
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


def stall_contributions(
    heads: Sequence[Head], texts: Mapping[str, str], x: FloatArray, *, horizon: int | None
) -> Contributions | None:
    """Contributions to the log odds of no progress within the horizon; None where the stall is not estimated.

    Everything that explains a stall comes through here: what a stall is made of is known to this function alone. With
    hazards, ``raw`` is what they lead to before the incidence is calibrated, and ``baseline`` what they lead to where
    only the periods are known.

    Args:
        heads: of the bundle.
        texts: LightGBM text of every member, by name.
        x: ``(n_rows, n_features)``.
        horizon: number of the period that ends at the journey's horizon; None where the bundle has no hazards.

    Raises:
        BundleError: a hazard is calibrated so that contributions would not add up.
    """
    by_name = {head.name: head for head in heads}
    if horizon is None or hazard_head(PROGRESS, 0) not in by_name:
        return head_contributions(by_name[STALL], texts, x) if STALL in by_name else None
    progress, abandon = (_margins(cause, by_name, texts, x, horizon + 1) for cause in (PROGRESS, ABANDON))
    return Contributions(stall_log_odds(progress.baseline, abandon.baseline), stall_by_feature(progress, abandon))


def _margins(cause: str, heads: Mapping[str, Head], texts: Mapping[str, str], x: FloatArray, n_periods: int) -> Margins:
    """The calibrated log odds of a cause's hazards: Platt's map is a line on this scale, so contributions stay such."""
    baseline, by_feature = np.empty((len(x), n_periods)), np.zeros((len(x), n_periods, x.shape[1]))
    for period in range(n_periods):
        head = heads[hazard_head(cause, period)]
        if head.calibration.kind == "isotonic":
            raise BundleError(f"the {head.name} is calibrated by steps, expected a line in log odds: train again")
        slope, intercept = head.calibration.slope, head.calibration.intercept
        if head.members:
            found = contributions([texts[cause]], x, period)[:, 0]
            baseline[:, period] = slope * found[:, -1] + intercept
            by_feature[:, period] = slope * found[:, :-1]
        else:
            baseline[:, period] = slope * head.mean + intercept
    return Margins(baseline, by_feature)
