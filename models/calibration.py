"""Monotone maps from a predicted to a calibrated probability: fitted on a later slice, stored as a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import BundleError, NotEnoughData

FloatArray = NDArray[np.float64]
Kind = Literal["identity", "platt", "isotonic"]

SMALLEST_ISOTONIC_ROWS: Final = 1_000
"""Below it an isotonic map follows the noise (Niculescu-Mizil and Caruana 2005, section 5): Platt's map is used."""
EDGE: Final = 1e-9
"""Probabilities are kept this far from 0 and 1, where log odds are infinite."""


@dataclass(frozen=True, slots=True)
class MonotoneMap:
    """A map that never puts a lower probability above a higher one.

    Attributes:
        kind: ``identity``; ``platt``: ``1 / (1 + exp(-(slope * logit(p) + intercept)))``; ``isotonic``: straight lines
            between the knots ``(x, y)``, constant beyond them.
        slope: of the Platt map, not negative.
        intercept: of the Platt map.
        x: predicted probabilities, strictly rising.
        y: calibrated ones, never falling, in ``[0, 1]``.
    """

    kind: Kind = "identity"
    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def apply(self, values: FloatArray) -> FloatArray:
        """Calibrated probabilities of the same shape; NaN stays NaN."""
        if self.kind == "identity":
            return values
        if self.kind == "isotonic":
            return np.interp(values, self.x, self.y)
        return _expit(self.slope * _logit(values) + self.intercept)

    def to_json(self) -> dict[str, Any]:
        """The map as JSON values; ``from_json`` is its inverse."""
        if self.kind == "platt":
            return {"kind": "platt", "slope": self.slope, "intercept": self.intercept}
        if self.kind == "isotonic":
            return {"kind": "isotonic", "x": list(self.x), "y": list(self.y)}
        return {"kind": "identity"}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MonotoneMap:
        """The map that ``to_json`` described.

        Raises:
            BundleError: the kind is unknown, a key is missing or unknown, or the map would not be monotone.
        """
        wanted = {"identity": {"kind"}, "platt": {"kind", "slope", "intercept"}, "isotonic": {"kind", "x", "y"}}
        kind = document.get("kind")
        if not isinstance(kind, str) or kind not in wanted or set(document) != wanted[kind]:
            raise BundleError(f"a calibration {dict(document)!r:.200}, expected one of {wanted}")
        try:
            if kind == "platt":
                made = cls("platt", slope=float(document["slope"]), intercept=float(document["intercept"]))
            elif kind == "isotonic":
                made = cls("isotonic", x=tuple(map(float, document["x"])), y=tuple(map(float, document["y"])))
            else:
                made = cls()
        except (TypeError, ValueError) as error:
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


def fitted_map(predicted: FloatArray, happened: FloatArray) -> MonotoneMap:
    """The map that calibrates best, judged by log loss on the half of the rows that it was not fitted on.

    Args:
        predicted: ``(n,)`` probabilities on rows that the model was not fitted on.
        happened: ``(n,)`` 0 or 1.

    Returns:
        Platt's map on fewer than ``SMALLEST_ISOTONIC_ROWS`` rows, else the better of Platt's and the isotonic one,
        fitted again on all rows.

    Raises:
        NotEnoughData: there are no rows, or all have the same outcome.

    References:
        Platt 1999, Probabilistic outputs for support vector machines; Zadrozny and Elkan 2002, Transforming classifier
        scores into accurate multiclass probability estimates.
    """
    positives = int(happened.sum())
    if not 0 < positives < len(happened):
        raise NotEnoughData(
            f"{positives} of {len(happened)} calibration rows are positive, expected some of both kinds: "
            f"choose an earlier cut-off"
        )
    platt = platt_map(predicted, happened)
    if len(happened) < SMALLEST_ISOTONIC_ROWS:
        return platt
    isotonic_loss = _held_out_loss(_isotonic, predicted, happened)
    platt_loss = _held_out_loss(platt_map, predicted, happened)
    return _isotonic(predicted, happened) if isotonic_loss < platt_loss else platt


def _held_out_loss(fit: Any, predicted: FloatArray, happened: FloatArray) -> float:
    even = np.arange(len(happened)) % 2 == 0
    losses = []
    for part in (even, ~even):
        if not 0 < happened[part].sum() < part.sum():
            return math.inf
        p = np.clip(fit(predicted[part], happened[part]).apply(predicted[~part]), EDGE, 1 - EDGE)
        losses.append(-np.where(happened[~part] == 1, np.log(p), np.log1p(-p)).mean())
    return float(np.mean(losses))


def platt_map(predicted: FloatArray, happened: FloatArray) -> MonotoneMap:
    """Platt's map, fitted on rows that the model was not fitted on.

    Args:
        predicted: ``(n,)`` probabilities.
        happened: ``(n,)`` 0 or 1, some of both.
    """
    from sklearn.linear_model import LogisticRegression  # fitting only: the hot path applies maps without scikit-learn

    # Platt's targets, (n+ + 1)/(n+ + 2) and 1/(n- + 2), keep a perfectly separated slice finite.
    positives = happened.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (len(happened) - positives + 2)
    weights = np.where(happened == 1, high, low)
    scores = np.concatenate([_logit(predicted)] * 2)[:, None]
    labels = np.repeat([1.0, 0.0], len(happened))
    model = LogisticRegression(C=np.inf).fit(scores, labels, sample_weight=np.concatenate([weights, 1 - weights]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope < 0:  # the model ranks backwards on this slice: the base rate is all that is left, and is monotone
        rate = weights.mean()
        return MonotoneMap("platt", slope=0.0, intercept=float(np.log(rate / (1 - rate))))
    return MonotoneMap("platt", slope=slope, intercept=intercept)


def _isotonic(predicted: FloatArray, happened: FloatArray) -> MonotoneMap:
    from sklearn.isotonic import IsotonicRegression  # fitting only, as above

    # A probability of exactly 0 or 1 claims more than n rows can say.
    edge = 1 / (len(happened) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(predicted, happened)
    return MonotoneMap("isotonic", x=tuple(map(float, model.X_thresholds_)), y=tuple(map(float, model.y_thresholds_)))


def _logit(p: FloatArray) -> FloatArray:
    inside = np.clip(p, EDGE, 1 - EDGE)
    odds: FloatArray = np.log(inside) - np.log1p(-inside)
    return odds


def _expit(margin: FloatArray) -> FloatArray:
    probability: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * margin))
    return probability
