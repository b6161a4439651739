"""What becomes of journeys as time goes by: from the hazards that a bundle's heads give to calibrated incidences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import BundleError
from models.forest import score_name
from models.hazards import Incidence, Periods, incidence_within, incidences_side_by_side, settled
from models.heads import Head, HeadTable, hazard_head, head_table, head_values, incidence_head

FloatArray = NDArray[np.float64]


class HazardColumns(NamedTuple):
    """Where the hazards of two competing causes stand among a bundle's heads, and what calibrates their incidences.

    Attributes:
        periods: their ends.
        progress: column of the first period's hazard of progress; the other periods follow.
        abandon: likewise of abandonment.
        calibration: a head for each cause and period.
    """

    periods: Periods
    progress: int
    abandon: int
    calibration: HeadTable


class Curve(NamedTuple):
    """What becomes of journeys, for as long as the model looks.

    Attributes:
        periods: their ends.
        incidence: probability of progress and of abandonment by each of them, ``(n, n_periods)``.
    """

    periods: Periods
    incidence: Incidence

    def stall_propensity(self, within_us: float) -> FloatArray:
        """``(n,)`` probability of no progress within any time.

        Raises:
            NotEnoughData: the time is beyond what the model looks at.
        """
        return 1.0 - incidence_within(self.incidence.progress, self.periods, within_us)

    def abandon_probability(self, within_us: float) -> FloatArray:
        """``(n,)`` likewise of having left the journey."""
        return incidence_within(self.incidence.abandon, self.periods, within_us)


def hazard_columns(
    names: Sequence[str], periods: Periods | None, heads: Sequence[Head], causes: tuple[str, str]
) -> HazardColumns | None:
    """Where the hazards of progress and abandonment, as ``causes`` calls them, are found; None where there are none.

    Args:
        names: of all heads, in the order of their columns.
        periods: of the bundle.
        heads: those that calibrate incidences.
        causes: what the two are called.

    Raises:
        BundleError: a period is missing or out of order, or its incidence is not calibrated.
    """
    place = {name: column for column, name in enumerate(names)}
    if periods is None or hazard_head(causes[0], 0) not in place:
        return None
    n = len(periods)
    first = []
    for cause in causes:
        found = [place.get(hazard_head(cause, period), -1) for period in range(n)]
        if found[0] < 0 or found != list(range(found[0], found[0] + n)):
            raise BundleError(f"hazards of {cause} in the columns {found}, expected {n} side by side: train again")
        first.append(found[0])
    by_name = {head.name: head for head in heads}
    wanted = [incidence_head(cause, period) for cause in causes for period in range(n)]
    if missing := [name for name in wanted if name not in by_name]:
        raise BundleError(f"no head {missing[0]} in the bundle, expected one a cause and period: train again")
    scores = [score_name(cause, period) for cause in causes for period in range(n)]
    return HazardColumns(periods, first[0], first[1], head_table([by_name[name] for name in wanted], scores))


def curve(values: FloatArray, columns: HazardColumns) -> Curve:
    """What becomes of the journeys of some rows.

    Args:
        values: ``(n, n_heads)`` of ``head_values``.
        columns: where the hazards stand.
    """
    n = len(columns.periods)
    raw = incidences_side_by_side(*(values[:, first : first + n] for first in (columns.progress, columns.abandon)))
    return Curve(columns.periods, settled(head_values(columns.calibration, raw)[0]))
