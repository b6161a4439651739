"""Fitting LightGBM boosters, the same way for every estimator: deterministic, on one thread, judged on held-out rows.

The one module that imports LightGBM; what leaves it is text and arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Objective = Literal["binary", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """How one booster grows.

    Attributes:
        rounds: the most trees.
        patience: rounds without a better held-out loss after which it stops.
        num_leaves: the most leaves of a tree.
        min_rows: the fewest rows of a leaf.
        learning_rate: shrinkage of a tree.
        lambda_l2: penalty on leaf values.
        feature_fraction: share of the features that a tree may use.
        max_bin: the most bins of a feature.
    """

    rounds: int = 300
    patience: int = 20
    num_leaves: int = 15
    min_rows: int = 50
    learning_rate: float = 0.08
    lambda_l2: float = 1.0
    feature_fraction: float = 1.0
    max_bin: int = 255


class TrainingTable:
    """A table that several boosters are fitted on; its features are binned once.

    Args:
        x: ``(n, n_features)``; NaN means unknown.
        max_bin: the most bins of a feature.
        categorical: indices of the features that are codes and not amounts.
    """

    def __init__(self, x: FloatArray, *, max_bin: int = 255, categorical: Sequence[int] = ()) -> None:
        self.x = x
        self._binned = lgb.Dataset(
            x,
            params={**_FIXED, "max_bin": max_bin, "feature_pre_filter": False, "min_data_in_bin": 3},
            categorical_feature=list(categorical),
            free_raw_data=True,  # else every part of it would copy its rows; ``x`` is kept here
        ).construct()

    def part(
        self, rows: NDArray[np.int64], label: FloatArray, weight: FloatArray | None, offset: FloatArray | None
    ) -> Any:
        """Some of the rows as a LightGBM data set; ``label``, ``weight`` and ``offset`` belong to all rows."""
        part = self._binned.subset(np.sort(rows).tolist()).construct()
        chosen = np.sort(rows)
        part.set_label(label[chosen])
        if weight is not None:
            part.set_weight(weight[chosen])
        if offset is not None:
            part.set_init_score(offset[chosen])
        return part


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted booster and how it did on held-out rows.

    Attributes:
        losses: ``(n_rounds,)`` loss after each tree on the held-out rows (log loss, or mean squared error), if any.
    """

    booster: Any
    losses: FloatArray

    def raw(self, x: FloatArray, rounds: int | None = None) -> FloatArray:
        """Raw scores ``(n,)`` of the first ``rounds`` trees, without any offset."""
        scores: FloatArray = self.booster.predict(x, raw_score=True, num_threads=1, num_iteration=rounds or -1)
        return scores

    def text(self, rounds: int | None = None) -> str:
        """The first ``rounds`` trees as LightGBM's text."""
        return str(self.booster.model_to_string(num_iteration=rounds or -1))


_FIXED: Mapping[str, Any] = {
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # two threads beside other work took six times as long as one
    "verbosity": -1,
}
_METRICS: Mapping[str, str] = {"binary": "binary_logloss", "regression": "l2"}


def boosted(
    table: TrainingTable,
    label: FloatArray,
    *,
    objective: Objective,
    boosting: Boosting,
    seed: int,
    rows: NDArray[np.int64],
    held_out: NDArray[np.int64] | None = None,
    weight: FloatArray | None = None,
    offset: FloatArray | None = None,
) -> Fit:
    """One booster fitted on some rows of the table, its loss followed on others.

    Args:
        table: all rows.
        label: ``(n,)`` of all rows.
        objective: ``binary`` (log loss) or ``regression`` (squared error).
        boosting: how it grows; with ``held_out`` it stops after ``patience`` rounds without a better loss.
        seed: fixes everything that is drawn.
        rows: indices that it is fitted on.
        held_out: indices that it is judged on.
        weight: ``(n,)`` weights of all rows.
        offset: ``(n,)`` raw scores that the booster adds to; ``Fit.raw`` does not contain them.
    """
    params = _params(objective, boosting, seed, is_judged=held_out is not None)
    curve: dict[str, dict[str, list[float]]] = {}
    callbacks = [lgb.record_evaluation(curve)]
    valid = []
    if held_out is not None:
        callbacks.append(lgb.early_stopping(boosting.patience, verbose=False))
        valid = [table.part(held_out, label, weight, offset)]
    booster = lgb.train(
        params,
        table.part(rows, label, weight, offset),
        num_boost_round=boosting.rounds,
        valid_sets=valid,
        valid_names=["held_out"] * len(valid),
        callbacks=callbacks,
    )
    losses = curve["held_out"][_METRICS[objective]] if valid else []
    return Fit(booster, np.array(losses, dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """What one of several boosters that grow together is fitted and judged on; arrays ``(n,)`` are of all rows.

    Attributes:
        rows: indices that it is fitted on.
        held_out: indices that it is judged on.
        label: ``(n,)`` that it is fitted on.
        weight: ``(n,)`` weights of the fit.
        offset: ``(n,)`` raw scores that it adds to; ``Fit.raw`` does not contain them.
        judged_by: label and weight ``(n,)`` of the held-out loss, where they are others than those that are fitted.
    """

    rows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    label: FloatArray
    weight: FloatArray | None = None
    offset: FloatArray | None = None
    judged_by: tuple[FloatArray, FloatArray] | None = None

    @property
    def judged(self) -> tuple[FloatArray, FloatArray | None]:
        """Label and weight of the held-out loss."""
        return (self.label, self.weight) if self.judged_by is None else self.judged_by

    @property
    def size(self) -> float:
        """Rows, or weight, held out."""
        weight = self.judged[1]
        return float(len(self.held_out) if weight is None else weight[self.held_out].sum())


def boosted_together(
    table: TrainingTable, parts: Sequence[Part], *, objective: Objective, boosting: Boosting, seed: int
) -> tuple[list[Fit], FloatArray]:
    """One booster for each part, grown in step until their summed held-out loss has not fallen for ``patience`` rounds.

    A booster that stopped by its own held-out rows would be of the size that these like best, and what it says of them
    would look better than it is (by a fifth, where effects were known).

    Returns:
        The fits, all of the same size, and their summed loss ``(n_rounds,)`` after each tree.
    """
    params = _params(objective, boosting, seed, is_judged=True)
    boosters = []
    for number, part in enumerate(parts):
        booster = lgb.Booster(
            {**params, "seed": seed + number}, table.part(part.rows, part.label, part.weight, part.offset)
        )
        booster.add_valid(table.part(part.held_out, *part.judged, part.offset), "held_out")
        boosters.append(booster)
    sizes = np.array([part.size for part in parts])
    losses: list[list[float]] = []
    summed: list[float] = []
    while len(summed) < boosting.rounds and len(summed) - int(np.argmin([*summed, np.inf])) <= boosting.patience:
        for booster in boosters:
            booster.update()
        losses.append([float(booster.eval_valid()[0][2]) for booster in boosters])
        summed.append(float(sizes @ np.array(losses[-1])))
    for booster in boosters:
        booster.free_dataset()  # their copies of the rows would live as long as the fits
    curves = np.array(losses).T
    return [Fit(*pair) for pair in zip(boosters, curves, strict=True)], np.array(summed)


def _params(objective: Objective, boosting: Boosting, seed: int, *, is_judged: bool) -> dict[str, Any]:
    return {
        **_FIXED,
        "objective": objective,
        "metric": _METRICS[objective] if is_judged else "none",
        "seed": seed,
        "num_leaves": boosting.num_leaves,
        "min_data_in_leaf": boosting.min_rows,
        "learning_rate": boosting.learning_rate,
        "lambda_l2": boosting.lambda_l2,
        "feature_fraction": boosting.feature_fraction,
        "max_bin": boosting.max_bin,
        "feature_pre_filter": False,
    }


def lightgbm_raw_scores(texts: Sequence[str], x: FloatArray) -> FloatArray:
    """LightGBM's own raw scores, to prove a bundle's forest with.

    Args:
        texts: LightGBM texts, one a member.
        x: ``(n, n_features)``.

    Returns:
        ``(n, n_members)``.
    """
    scores = [lgb.Booster(model_str=text).predict(x, raw_score=True, num_threads=1) for text in texts]
    return np.stack(scores, axis=1) if scores else np.empty((len(x), 0))
