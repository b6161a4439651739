"""Calibration: which monotone map makes predicted probabilities come true, judged on rows not fitted on."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.metrics import logistic_line
from models.monotone import EDGE, MonotoneMap, logit

FloatArray = NDArray[np.float64]

SMALLEST_ISOTONIC_ROWS: Final = 1_000
"""Below it an isotonic map follows the noise (Niculescu-Mizil and Caruana 2005, section 5): Platt's map is used."""


def fitted_map(predicted: FloatArray, happened: FloatArray, groups: NDArray[np.generic] | None = None) -> MonotoneMap:
    """The map that calibrates best, judged by log loss on the half of the rows that it was not fitted on.

    Args:
        predicted: ``(n,)`` probabilities on rows that the model was not fitted on.
        happened: ``(n,)`` 0 or 1.
        groups: ``(n,)`` customers, who stay in one half: rows of one customer are so alike that an isotonic map which
            follows them would seem to do well. Rows are their own customers if None.

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
    number = np.arange(len(happened)) if groups is None else np.unique(groups, return_inverse=True)[1]
    halves = number % 2 == 0
    isotonic_loss = _held_out_loss(_isotonic, predicted, happened, halves)
    platt_loss = _held_out_loss(platt_map, predicted, happened, halves)
    return _isotonic(predicted, happened) if isotonic_loss < platt_loss else platt


def _held_out_loss(fit: Any, predicted: FloatArray, happened: FloatArray, halves: NDArray[np.bool_]) -> float:
    losses = []
    for part in (halves, ~halves):
        if not (0 < happened[part].sum() < part.sum() and (~part).any()):
            return math.inf
        p = np.clip(fit(predicted[part], happened[part]).apply(predicted[~part]), EDGE, 1 - EDGE)
        losses.append(-np.where(happened[~part] == 1, np.log(p), np.log1p(-p)).mean())
    return float(np.mean(losses))


def platt_map(predicted: FloatArray, happened: FloatArray, weight: FloatArray | None = None) -> MonotoneMap:
    """Platt's map, fitted on rows that the model was not fitted on.

    Args:
        predicted: ``(n,)`` probabilities.
        happened: ``(n,)`` 0 or 1, some of both.
        weight: ``(n,)`` of the rows, about 1; all count alike if None.
    """
    # Platt's targets, (n+ + 1)/(n+ + 2) and 1/(n- + 2), keep a perfectly separated slice finite.
    counted = np.ones_like(predicted) if weight is None else weight
    positives, everyone = counted @ happened, counted.sum()
    high, low = (positives + 1) / (positives + 2), 1 / (everyone - positives + 2)
    targets = np.where(happened == 1, high, low)
    margin = logit(predicted)
    intercept, slope = logistic_line(margin, targets, weight) if np.ptp(margin) > 0 else (math.nan, 0.0)
    if slope <= 0:  # the model ranks backwards, or not at all: the base rate is all that is left, and is monotone
        rate = np.average(targets, weights=weight)
        return MonotoneMap("platt", slope=0.0, intercept=float(np.log(rate / (1 - rate))))
    return MonotoneMap("platt", slope=slope, intercept=intercept)


def _isotonic(predicted: FloatArray, happened: FloatArray) -> MonotoneMap:
    from sklearn.isotonic import IsotonicRegression  # slow to import

    # A probability of exactly 0 or 1 claims more than n rows can say.
    edge = 1 / (len(happened) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(predicted, happened)
    return MonotoneMap("isotonic", x=tuple(map(float, model.X_thresholds_)), y=tuple(map(float, model.y_thresholds_)))
