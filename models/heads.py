"""What the members of a bundle mean: each head turns the raw scores of some of them into one quantity.

A head says how its members combine, so nothing assumes one booster for each quantity. Its names are
``hazard:<cause>:<period>``, ``forecast:<outcome>``, ``control:<outcome>`` and ``effect:<outcome>:<action>``; bundles of
format 1 have ``stall`` and ``abandon`` in place of hazards.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.errors import BundleError
from models.hazards import Periods
from models.monotone import EDGE, IDENTITY, MonotoneMap

FloatArray = NDArray[np.float64]
Fact = str | int | float | bool
Combine = Literal["mean"]
Link = Literal["identity", "logistic"]
Spread = Literal["none", "jackknife"]

_CALIBRATIONS: Final = ("identity", "platt", "isotonic", "linear")
_PLATT: Final = 1
_ISOTONIC: Final = 2
_LINEAR: Final = 3

STALL: Final = "stall"
ABANDON: Final = "abandon"
PROGRESS: Final = "progress"
WAIT_PROGRESS: Final = "wait_progress"
WAIT_ABANDON: Final = "wait_abandon"


def hazard_head(cause: str, period: int) -> str:
    """The name of the head that gives the hazard of a cause (``progress``, ``abandon``, ...) in a period."""
    return f"hazard:{cause}:{period}"


def incidence_head(cause: str, period: int) -> str:
    """The name of the head that calibrates the cumulative incidence of a cause at the end of a period."""
    return f"incidence:{cause}:{period}"


def forecast_head(outcome_id: str) -> str:
    """The name of the head that gives the probability of an outcome within its window."""
    return f"forecast:{outcome_id}"


def control_head(outcome_id: str) -> str:
    """The name of the head that gives the response under no action."""
    return f"control:{outcome_id}"


def effect_head(outcome_id: str, action_id: str) -> str:
    """The name of the head that gives what an action changes."""
    return f"effect:{outcome_id}:{action_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One quantity: ``calibration(link(weight * combine(members) + (1 - weight) * mean))``.

    Attributes:
        name: what it gives.
        members: names of the boosters whose raw scores it combines; none means that it gives its mean.
        combine: how: their ``mean``.
        link: from the combined raw score to the quantity.
        calibration: applied after the link.
        mean: what it falls back to, on the scale before the link: for an effect, the arm's mean effect.
        mean_se: standard error of ``mean``.
        weight: of the members against the mean, in ``[0, 1]``.
        spread: how far to trust the members: ``jackknife``: they were fitted leaving out one of K groups of customers
            each, and their variance is ``(K - 1) / K * sum((t_k - t)**2)``; ``none``: no standard deviation is given.
        spread_scale: what the members' variance is multiplied by, as measured on rows that they were not fitted on.
        slope_se: relative standard error of the distance from ``mean``, as of a recalibration's slope; adds
            ``(slope_se * (value - mean))**2`` to the variance.
        sigma_floor: the smallest standard deviation it gives.
        facts: what a report says of it: counts, the choice made, whether the arm was randomised.

    References:
        Efron and Stein 1981, The jackknife estimate of variance.
    """

    name: str
    members: tuple[str, ...] = ()
    combine: Combine = "mean"
    link: Link = "identity"
    calibration: MonotoneMap = IDENTITY
    mean: float = 0.0
    mean_se: float = 0.0
    weight: float = 1.0
    spread: Spread = "none"
    spread_scale: float = 1.0
    slope_se: float = 0.0
    sigma_floor: float = 0.0
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The head as JSON values; ``head_from_json`` is its inverse."""
        return {
            "name": self.name,
            "members": list(self.members),
            "combine": self.combine,
            "link": self.link,
            "calibration": self.calibration.to_json(),
            "mean": self.mean,
            "mean_se": self.mean_se,
            "weight": self.weight,
            "spread": self.spread,
            "sigma_floor": self.sigma_floor,
            # Later than the first bundles: written only where they say something, so that those stay as they are.
            **{key: getattr(self, key) for key, none in _LATER.items() if getattr(self, key) != none},
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, slots=True)
class FittedHeads:
    """What a fit hands to the bundle.

    Attributes:
        heads: the quantities it gives.
        boosters: LightGBM text of every member that the heads name; the timed ones come first.
        periods: of the timed members, whose scores the heads name ``<member>@<period>``; None where there are none.
        n_timed: how many members are timed.
        incidence: heads that calibrate what the hazards lead to; each has one member, named as the scores of a timed
            member are (``progress@3``).
    """

    heads: tuple[Head, ...]
    boosters: Mapping[str, str]
    periods: Periods | None = None
    n_timed: int = 0
    incidence: tuple[Head, ...] = ()

    def head(self, name: str) -> Head:
        """The head of that name.

        Raises:
            KeyError: there is none.
        """
        return next_named(self.heads, name)


def next_named(heads: Sequence[Head], name: str) -> Head:
    """The head of that name.

    Raises:
        KeyError: there is none.
    """
    for head in heads:
        if head.name == name:
            return head
    raise KeyError(name)


_NUMBERS: Final = ("mean", "mean_se", "weight", "sigma_floor")
_LATER: Final[dict[str, Any]] = {"spread_scale": 1.0, "slope_se": 0.0}
_CLOSED: Final[dict[str, tuple[str, ...]]] = {
    "combine": get_args(Combine),
    "link": get_args(Link),
    "spread": get_args(Spread),
}
_KEYS: Final = {"name", "members", "calibration", "facts", *_NUMBERS, *_CLOSED}


def head_from_json(document: object) -> Head:
    """The head that ``Head.to_json`` described.

    Raises:
        BundleError: a key is missing or unknown, or a value is out of its range. A rule this version does not know is
            refused and not guessed.
    """
    if not isinstance(document, dict) or set(document) - _LATER.keys() != _KEYS:
        raise BundleError(f"a head {document!r:.200}, expected the keys {sorted(_KEYS)}")
    document = _LATER | document
    name = document["name"]
    if not isinstance(name, str):
        raise BundleError(f"a head named {name!r:.200}, expected text")
    for key, allowed in _CLOSED.items():
        if document[key] not in allowed:
            raise BundleError(f"head {name}: {key} {document[key]!r:.200}, expected one of {list(allowed)}")
    for key in (*_NUMBERS, *_LATER):
        if not isinstance(document[key], int | float) or not abs(document[key]) <= sys.float_info.max:
            raise BundleError(f"head {name}: {key} {document[key]!r:.200}, expected a finite number")
    positive = ("mean_se", "sigma_floor", *_LATER)
    if not (0 <= document["weight"] <= 1 and all(document[key] >= 0 for key in positive)):
        raise BundleError(f"head {name}: a weight outside [0, 1] or a negative deviation; the file is damaged")
    members, facts, calibration = document["members"], document["facts"], document["calibration"]
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise BundleError(f"head {name}: members {members!r:.200}, expected a list of names")
    if not isinstance(facts, dict) or not isinstance(calibration, dict):
        raise BundleError(f"head {name}: facts and calibration must be objects")
    made = {**document, "members": tuple(members), "calibration": MonotoneMap.from_json(calibration)}
    return Head(**{**made, **{key: float(document[key]) for key in (*_NUMBERS, *_LATER)}})


@dataclass(frozen=True, slots=True, eq=False)
class HeadTable:
    """All heads of a bundle as arrays, ready to be evaluated.

    Attributes:
        names: in the order of the columns that ``head_values`` gives.
        start: ``(n_heads + 1,)`` each head's first place in ``member``.
        member: ``(n_places,)`` index of the forest's member.
        numbers: ``(n_heads, 8)`` mean, mean_se, weight, sigma_floor, jackknife factor (NaN: no deviation is given), the
            slope and intercept of a Platt or linear map, and slope_se.
        logistic: ``(n_heads,)`` whether the link is logistic.
        calibration: ``(n_heads,)`` 0 identity, 1 Platt, 2 isotonic, 3 linear.
        knot_start: ``(n_heads + 1,)`` each head's first knot.
        knots: ``(n_knots, 2)`` of the isotonic maps.
    """

    names: tuple[str, ...]
    start: NDArray[np.int32]
    member: NDArray[np.int32]
    numbers: FloatArray
    logistic: NDArray[np.bool_]
    calibration: NDArray[np.uint8]
    knot_start: NDArray[np.int32]
    knots: FloatArray


def head_table(heads: Sequence[Head], members: Sequence[str]) -> HeadTable:
    """The heads as arrays.

    Args:
        heads: in any order; their names differ.
        members: names of the forest's members, in its order.

    Raises:
        BundleError: a head names a member that is not there, or two heads have one name.
    """
    names = tuple(head.name for head in heads)
    if len(set(names)) != len(names) or len(set(members)) != len(members):
        raise BundleError("two heads or two members have the same name; expected each once")
    index = {name: place for place, name in enumerate(members)}
    if unknown := [member for head in heads for member in head.members if member not in index]:
        raise BundleError(f"a head combines the member {unknown[0]!r:.200}, which is not in the forest")
    return HeadTable(
        names=names,
        start=np.cumsum([0, *(len(head.members) for head in heads)], dtype=np.int32),
        member=np.array([index[member] for head in heads for member in head.members], dtype=np.int32),
        numbers=np.array([_numbers(head) for head in heads], dtype=np.float64).reshape(-1, 8),
        logistic=np.array([head.link == "logistic" for head in heads], dtype=np.bool_),
        calibration=np.array([_CALIBRATIONS.index(head.calibration.kind) for head in heads], dtype=np.uint8),
        knot_start=np.cumsum([0, *(len(head.calibration.x) for head in heads)], dtype=np.int32),
        knots=np.array(
            [knot for head in heads for knot in zip(head.calibration.x, head.calibration.y, strict=True)],
            dtype=np.float64,
        ).reshape(-1, 2),
    )


def _numbers(head: Head) -> tuple[float, ...]:
    slope, intercept = head.calibration.slope, head.calibration.intercept
    return (head.mean, head.mean_se, head.weight, head.sigma_floor, _jackknife(head), slope, intercept, head.slope_se)


def _jackknife(head: Head) -> float:
    if head.spread == "none":
        return math.nan
    # A linear map stretches the members, and leaves the mean that they are spread around where it was.
    stretched = head.calibration.slope**2 if head.calibration.kind == "linear" else 1.0
    return stretched * head.spread_scale * (len(head.members) - 1) / len(head.members) if head.members else 0.0


def head_values(table: HeadTable, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Every head's quantity and its standard deviation.

    Args:
        table: from ``head_table``.
        raw: ``(n_rows, n_members)`` raw scores.

    Returns:
        Two arrays ``(n_rows, n_heads)``; a deviation is NaN where the head gives none.
    """
    shape = (raw.shape[0], len(table.names))
    values, sigmas = np.empty(shape), np.empty(shape)
    _combine(
        raw,
        table.start,
        table.member,
        table.numbers,
        table.logistic,
        table.calibration,
        table.knot_start,
        table.knots,
        values,
        sigmas,
    )
    return values, sigmas


def _combine_rows(
    raw: FloatArray,
    start: NDArray[np.int32],
    member: NDArray[np.int32],
    numbers: FloatArray,
    logistic: NDArray[np.bool_],
    calibration: NDArray[np.uint8],
    knot_start: NDArray[np.int32],
    knots: FloatArray,
    values: FloatArray,
    sigmas: FloatArray,
) -> None:
    """``Head`` for all rows and heads, calibrated as ``MonotoneMap.apply`` does it."""
    for row in range(raw.shape[0]):
        for head in range(start.shape[0] - 1):
            mean, mean_se, weight, floor, factor, slope, intercept, slope_se = numbers[head]
            first, last = start[head], start[head + 1]
            value, variance = mean, mean_se * mean_se
            if last > first:
                centre = 0.0
                for place in range(first, last):
                    centre += raw[row, member[place]]
                centre /= last - first
                spread = 0.0
                for place in range(first, last):
                    spread += (raw[row, member[place]] - centre) ** 2
                value = weight * centre + (1.0 - weight) * mean
                variance += weight * weight * factor * spread
            if logistic[head]:
                value = 1.0 / (1.0 + np.exp(-value))
            if calibration[head] == _PLATT:
                inside = min(max(value, EDGE), 1.0 - EDGE)
                margin = slope * (np.log(inside) - np.log1p(-inside)) + intercept
                value = 1.0 / (1.0 + np.exp(-margin))
            elif calibration[head] == _LINEAR:
                value = slope * value + intercept
            elif calibration[head] == _ISOTONIC:
                low, high = knot_start[head], knot_start[head + 1] - 1
                if value <= knots[low, 0]:
                    value = knots[low, 1]
                elif value >= knots[high, 0]:
                    value = knots[high, 1]
                else:
                    while high - low > 1:
                        middle = (low + high) // 2
                        if knots[middle, 0] <= value:
                            low = middle
                        else:
                            high = middle
                    rise = (knots[high, 1] - knots[low, 1]) / (knots[high, 0] - knots[low, 0])
                    value = knots[low, 1] + rise * (value - knots[low, 0])
            variance += (slope_se * (value - mean)) ** 2
            values[row, head] = value
            sigmas[row, head] = np.nan if np.isnan(factor) else max(floor, np.sqrt(variance))


_combine = njit(cache=True, nogil=True)(_combine_rows)
