"""Monotone maps from predicted to calibrated probabilities or effects: a few numbers, applied without any framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import BundleError

FloatArray = NDArray[np.float64]
Kind = Literal["identity", "platt", "isotonic", "linear"]

EDGE: Final = 1e-9
"""Probabilities are kept this far from 0 and 1, where log odds are infinite."""


@dataclass(frozen=True, slots=True)
class MonotoneMap:
    """A map that never puts a lower probability above a higher one.

    Attributes:
        kind: ``identity``; ``platt``: ``1 / (1 + exp(-(slope * logit(p) + intercept)))``; ``isotonic``: straight lines
            between the knots ``(x, y)``, constant beyond them; ``linear``: ``slope * value + intercept``, of
            effects, which are no probabilities.
        slope: of the Platt or linear map, not negative.
        intercept: of the Platt or linear map.
        x: predicted probabilities, strictly rising.
        y: calibrated ones, never falling, in ``[0, 1]``.
    """

    kind: Kind = "identity"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, values: FloatArray) -> FloatArray:
        """Calibrated values of the same shape; NaN stays NaN."""
        if self.kind == "identity":
            return values
        if self.kind == "linear":
            return self.slope * values + self.intercept
        if self.kind == "isotonic":
            return np.interp(values, self.x, self.y)
        return expit(self.slope * logit(values) + self.intercept)

    def to_json(self) -> dict[str, Any]:
        """The map as JSON values; ``from_json`` is its inverse."""
        if self.kind in ("platt", "linear"):
            return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}
        if self.kind == "isotonic":
            return {"kind": "isotonic", "x": list(self.x), "y": list(self.y)}
        return {"kind": "identity"}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MonotoneMap:
        """The map that ``to_json`` described.

        Raises:
            BundleError: the kind is unknown, a key is missing or unknown, or the map would not be monotone.
        """
        straight = {"kind", "slope", "intercept"}
        wanted = {"identity": {"kind"}, "platt": straight, "linear": straight, "isotonic": {"kind", "x", "y"}}
        kind = document.get("kind")
        if not isinstance(kind, str) or kind not in wanted or set(document) != wanted[kind]:
            raise BundleError(f"a calibration {dict(document)!r:.200}, expected one of {wanted}")
        try:
            if kind in ("platt", "linear"):
                straight_kind: Kind = "platt" if kind == "platt" else "linear"
                made = cls(straight_kind, slope=float(document["slope"]), intercept=float(document["intercept"]))
            elif kind == "isotonic":
                made = cls("isotonic", x=tuple(map(float, document["x"])), y=tuple(map(float, document["y"])))
            else:
                made = cls()
        except (TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"a calibration with a value that is no number: {error}; expected numbers") from error
        made._check()
        return made

    def _check(self) -> None:
        numbers = (self.slope, self.intercept, *self.x, *self.y)
        rising = all(a < b for a, b in zip(self.x, self.x[1:], strict=False))
        never_falls = all(a <= b for a, b in zip(self.y, self.y[1:], strict=False))
        inside = all(0.0 <= value <= 1.0 for value in self.y)
        whole = self.kind != "isotonic" or len(self.x) == len(self.y) > 0
        if not (all(map(math.isfinite, numbers)) and self.slope >= 0 and rising and never_falls and inside and whole):
            raise BundleError(f"a {self.kind} calibration that is not monotone or not finite; expected a fitted one")


IDENTITY: Final = MonotoneMap()


def logit(p: FloatArray) -> FloatArray:
    """Log odds, of probabilities kept ``EDGE`` from 0 and 1."""
    inside = np.clip(p, EDGE, 1 - EDGE)
    odds: FloatArray = np.log(inside) - np.log1p(-inside)
    return odds


def expit(margin: FloatArray) -> FloatArray:
    """Probabilities of log odds; ``logit`` is its inverse."""
    probability: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * margin))
    return probability
