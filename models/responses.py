"""Mean outcomes under no action and under each arm, cross-fitted: what effects are scored against.

One control model is shared by all arms; an arm's model starts from it. Boosting runs until the loss over all held-out
folds stops falling, and not at all where a constant does as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.boosting import Boosting, Fit, Objective, Part, TrainingTable, boosted, boosted_together
from models.calibration import platt_map
from models.heads import Fact, Head, control_head
from models.monotone import IDENTITY, MonotoneMap, expit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CONTROL: Final = 0
"""The number of the arm that is no action."""
_EDGE: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The rows of one outcome and how they are used.

    Attributes:
        table: features of all rows, binned.
        arm: ``(n,)`` the arm taken.
        y: ``(n,)`` the outcome.
        binary: whether the outcome is 0 or 1.
        fold: ``(n,)`` the fold that each row is held out in; a customer's rows share one.
        n_folds: number of folds.
        groups: ``(n,)`` customers.
        smallest: rows that a model of its own needs.
        boosting: how responses are boosted.
        seed: fixes everything that is drawn.
        weight: ``(n,)`` how much each row counts, 1 on average; all count alike if None.
    """

    table: TrainingTable
    arm: IntArray
    y: FloatArray
    binary: bool
    fold: IntArray
    n_folds: int
    groups: IntArray
    smallest: int
    boosting: Boosting
    seed: int
    weight: FloatArray | None = None

    @property
    def objective(self) -> Objective:
        """What a response's booster minimises."""
        return "binary" if self.binary else "regression"

    def response(self, raw: FloatArray) -> FloatArray:
        """The mean outcome that a raw score stands for."""
        return expit(raw) if self.binary else raw

    def raw(self, response: float) -> float:
        """The raw score that a mean outcome stands for."""
        if not self.binary:
            return response
        p = min(max(response, _EDGE), 1 - _EDGE)
        return float(np.log(p) - np.log1p(-p))

    def loss(self, rows: IntArray, response: FloatArray) -> float:
        """Mean log loss or squared error of some rows, as boosting reports it."""
        y = self.y[rows]
        if not self.binary:
            return self.mean((y - response) ** 2, rows)
        p = np.clip(response, _EDGE, 1 - _EDGE)
        return -self.mean(y * np.log(p) + (1 - y) * np.log1p(-p), rows)

    def mean(self, values: FloatArray, rows: IntArray) -> float:
        """Mean of the values ``(m,)`` of some rows."""
        return float(np.average(values, weights=self.weight_of(rows)))

    def weight_of(self, rows: IntArray) -> FloatArray | None:
        """How much some rows count, if not all alike."""
        return None if self.weight is None else self.weight[rows]

    def can_be_modelled(self, rows: IntArray) -> bool:
        """Whether there are enough of these rows, in every fold, and of more than one outcome."""
        return len(rows) >= self.smallest and float(np.ptp(self.y[rows])) > 0 and self.is_in_every_fold(rows)

    def is_in_every_fold(self, rows: IntArray) -> bool:
        """Whether every fold holds some of these rows."""
        return len(np.unique(self.fold[rows])) == self.n_folds


@dataclass(frozen=True, slots=True, eq=False)
class ControlResponse:
    """The fitted control model.

    Attributes:
        head: what is served: fitted on all control rows, calibrated on cross-fitted predictions.
        boosters: its text, if it is more than a constant.
        raw: ``(n_folds, n)`` raw scores of every row by the models that left out each fold.
    """

    head: Head
    boosters: Mapping[str, str]
    raw: FloatArray


def control_response(sample: Sample, outcome_id: str) -> ControlResponse:
    """The response under no action: to serve, and cross-fitted to score effects with."""
    name = control_head(outcome_id)
    rows = np.flatnonzero(sample.arm == CONTROL)
    mean, mean_se = _raw_mean(sample, rows)
    facts: dict[str, Fact] = {"n_rows": len(rows), "mean_response": sample.mean(sample.y[rows], rows)}
    head = Head(
        name=name,
        link="logistic" if sample.binary else "identity",
        mean=mean,
        mean_se=mean_se,
        facts={**facts, "choice": "mean"},
    )
    constant = ControlResponse(head, {}, np.full((sample.n_folds, len(sample.y)), mean))
    if not sample.can_be_modelled(rows):
        return constant
    others = [rows[sample.fold[rows] != k] for k in range(sample.n_folds)]
    outside = [sample.raw(sample.mean(sample.y[one], one)) for one in others]
    start = np.repeat(np.array(outside)[:, None], len(sample.y), axis=1)
    fits, rounds, gain = _cross_fits(sample, rows, start, adds=False)
    if rounds == 0:
        return constant
    raw = np.stack([fit.raw(sample.table.x, rounds) for fit in fits])
    final = boosted(
        sample.table,
        sample.y,
        objective=sample.objective,
        boosting=replace(sample.boosting, rounds=rounds),
        seed=sample.seed,
        rows=rows,
        weight=sample.weight,
    )
    cross_fitted = sample.response(raw[sample.fold[rows], rows])
    calibration: MonotoneMap = (
        platt_map(cross_fitted, sample.y[rows], sample.weight_of(rows)) if sample.binary else IDENTITY
    )
    facts |= {"choice": f"leaves={sample.boosting.num_leaves},trees={rounds}", "loss_gain": gain}
    served = replace(head, members=(name,), calibration=calibration, facts=facts)
    return ControlResponse(served, {name: final.text(rounds)}, raw)


def arm_responses(
    sample: Sample, control: ControlResponse, number: int, asked: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Mean outcomes ``(n_folds, m)`` of the asked rows under no action and under one arm, by models without each fold.

    The arm's model starts at the control model's raw score, shifted to the arm's mean: with few rows it is that, and
    nothing worse.
    """
    rows = np.flatnonzero(sample.arm == number)
    fold = sample.fold[rows]
    shift = np.array([_shift(sample, control.raw[k], rows[fold != k]) for k in range(sample.n_folds)])
    start = control.raw + shift[:, None]
    raw = start[:, asked]
    if sample.can_be_modelled(rows):
        fits, rounds, _ = _cross_fits(sample, rows, start, adds=True)
        if rounds:
            x = sample.table.x[asked]
            raw = raw + np.stack([fit.raw(x, rounds) for fit in fits])
    return sample.response(control.raw[:, asked]), sample.response(raw)


def best_rounds(curve: FloatArray, constant: float) -> tuple[int, float]:
    """The number of trees with the smallest loss, and the share of the constant's loss saved; 0 where none is."""
    best = int(np.argmin(curve))
    gain = float(1 - curve[best] / constant) if constant > 0 else 0.0
    return (best + 1, gain) if gain > 0 else (0, 0.0)


def _cross_fits(sample: Sample, rows: IntArray, start: FloatArray, *, adds: bool) -> tuple[list[Fit], int, float]:
    """One model for each fold, fitted on the rows outside; the trees and the gain that beat ``start`` over all folds.

    Args:
        sample: the rows of the outcome.
        rows: those that are modelled.
        start: ``(n_folds, n)`` raw scores to beat.
        adds: whether the models add to them.
    """
    fold = sample.fold[rows]
    parts = [
        Part(
            rows=rows[fold != k],
            held_out=rows[fold == k],
            label=sample.y,
            weight=sample.weight,
            offset=start[k] if adds else None,
        )
        for k in range(sample.n_folds)
    ]
    fits, curve = boosted_together(
        sample.table, parts, objective=sample.objective, boosting=sample.boosting, seed=sample.seed
    )
    constant = sum(
        part.size * sample.loss(part.held_out, sample.response(start[k, part.held_out])) for k, part in enumerate(parts)
    )
    return fits, *best_rounds(curve, float(constant))


def _raw_mean(sample: Sample, rows: IntArray) -> tuple[float, float]:
    """The mean outcome as a raw score, and its standard error there."""
    y, weight = sample.y[rows], sample.weight_of(rows)
    if weight is not None:
        return _weighted_raw_mean(y, weight, binary=sample.binary)
    if not sample.binary:
        return float(y.mean()), float(y.std() / np.sqrt(len(y)))
    rate = (y.sum() + 0.5) / (len(y) + 1)  # Jeffreys' prior keeps the log odds finite
    return float(np.log(rate / (1 - rate))), float(1 / np.sqrt(rate * (1 - rate) * len(y)))


def _weighted_raw_mean(y: FloatArray, weight: FloatArray, *, binary: bool) -> tuple[float, float]:
    """Likewise with weights; the error of a ratio of sums, ``sqrt(sum(w**2 (y - mean)**2)) / sum(w)``."""
    total = weight.sum()
    mean = (weight @ y + 0.5 * binary) / (total + binary)
    error = np.sqrt((weight**2 * (y - mean) ** 2).sum()) / total
    if not binary:
        return float(mean), float(error)
    return float(np.log(mean / (1 - mean))), float(error / (mean * (1 - mean)))


def _shift(sample: Sample, raw: FloatArray, rows: IntArray) -> float:
    """The constant that, added to the raw scores of the rows, gives their mean outcome; 0 without rows."""
    if len(rows) == 0:
        return 0.0
    y, scores = sample.y[rows], raw[rows]
    counted = np.ones(len(rows)) if sample.weight is None else sample.weight[rows]
    if not sample.binary:
        return sample.mean(y - scores, rows)
    # Two pseudo-rows, one of them positive, keep an arm without a single response finite.
    target, shift = float((counted @ y + 1) / (counted.sum() + 2)), 0.0
    for _ in range(25):
        p = sample.response(scores + shift)
        shift += (target - sample.mean(p, rows)) / max(sample.mean(p * (1 - p), rows), 1e-6)
        shift = min(max(shift, -10.0), 10.0)
    return shift
