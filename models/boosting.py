"""Fitting LightGBM boosters, the same way for every estimator: deterministic, on one thread, judged on held-out rows.

The one module that imports LightGBM; what leaves it is text and arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from models.forest import PERIOD, booster_columns, column_name

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Objective = Literal["binary", "regression"]

_SCREENED_ROWS: Final = 40_000
"""Rows that features are chosen on."""


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
        max_bin: the most bins of a feature, for a table that is made for it; on a table, the table's bins count.
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
    """A table that several boosters are fitted on, each on some of its rows.

    Every part is binned by itself: LightGBM 4.7 sometimes ends the process when it grows trees on the bins of a larger
    table (seen with parts of 500 rows of 2,752, 423 features; row by row and column by column alike).

    Args:
        x: ``(n, n_columns)``; NaN means unknown.
        max_bin: the most bins of a feature.
        categorical: indices of the columns that are codes and not amounts.
        columns: ``(n_columns,)`` which features of the model vector the columns are; all of them, in order, if None.
        is_timed: whether one more column, the last, is the number of a period.
    """

    def __init__(
        self,
        x: FloatArray,
        *,
        max_bin: int = 255,
        categorical: Sequence[int] = (),
        columns: Sequence[int] | None = None,
        is_timed: bool = False,
    ) -> None:
        self.x = x
        self.max_bin = max_bin
        places = range(x.shape[1] - is_timed) if columns is None else columns
        self._names = [*(column_name(int(place)) for place in places), *([PERIOD] if is_timed else [])]
        self._categorical = list(categorical)

    def part(
        self,
        rows: NDArray[np.int64],
        label: FloatArray,
        weight: FloatArray | None,
        offset: FloatArray | None,
        *,
        reference: Any = None,
    ) -> Any:
        """Some of the rows as a LightGBM data set; ``label``, ``weight`` and ``offset`` belong to all rows.

        Args:
            rows: indices.
            label: ``(n,)``.
            weight: ``(n,)``.
            offset: ``(n,)`` raw scores.
            reference: the data set that is trained on, for one that it is judged by.
        """
        chosen = np.sort(rows)
        return lgb.Dataset(
            self.x[chosen],
            label=label[chosen],
            weight=None if weight is None else weight[chosen],
            init_score=None if offset is None else offset[chosen],
            reference=reference,
            params={**_FIXED, "max_bin": self.max_bin, "feature_pre_filter": False, "min_data_in_bin": 3},
            feature_name=self._names,
            categorical_feature=self._categorical,
            free_raw_data=True,
        ).construct()


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
    params = _params(table, objective, boosting, seed, is_judged=held_out is not None)
    curve: dict[str, dict[str, list[float]]] = {}
    callbacks = [lgb.record_evaluation(curve)]
    valid = []
    trained = table.part(rows, label, weight, offset)
    if held_out is not None:
        callbacks.append(lgb.early_stopping(boosting.patience, verbose=False))
        valid = [table.part(held_out, label, weight, offset, reference=trained)]
    booster = lgb.train(
        params,
        trained,
        num_boost_round=boosting.rounds,
        valid_sets=valid,
        valid_names=["held_out"] * len(valid),
        callbacks=callbacks,
    )
    losses = curve["held_out"][_METRICS[objective]] if valid else []
    return Fit(booster, np.array(losses, dtype=np.float64))


def strongest_features(x: FloatArray, rows: IntArray, label: FloatArray, *, most: int, seed: int) -> IntArray:
    """The features that tell most of a label, in the order of the vector: ``(<= most,)`` their places.

    A small booster is fitted on at most ``_SCREENED_ROWS`` rows; its features are taken by the loss that they saved.
    Most of a long vector says nothing of one label, and costs every later fit its time.

    Args:
        x: ``(m, n_features)``.
        rows: ``(n,)`` those of it that have a label.
        label: ``(n,)`` 0 or 1, or an amount.
        most: how many at the most; where the vector has no more, all are taken and nothing is fitted.
        seed: fixes the rows.
    """
    if x.shape[1] <= most:
        return np.arange(x.shape[1])
    if len(rows) > _SCREENED_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), _SCREENED_ROWS, replace=False))
        rows, label = rows[chosen], label[chosen]
    fit = boosted(
        TrainingTable(x[rows], max_bin=63),
        label,
        objective="regression",
        boosting=Boosting(rounds=40, num_leaves=31, min_rows=max(20, len(rows) // 500), learning_rate=0.1, max_bin=63),
        seed=seed,
        rows=np.arange(len(rows)),
    )
    gain = fit.booster.feature_importance(importance_type="gain")
    best = np.argsort(-gain, kind="stable")[:most]
    return np.sort(best[gain[best] > 0]).astype(np.int64)


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
    params = _params(table, objective, boosting, seed, is_judged=True)
    boosters = []
    for number, part in enumerate(parts):
        trained = table.part(part.rows, part.label, part.weight, part.offset)
        booster = lgb.Booster({**params, "seed": seed + number}, trained)
        booster.add_valid(table.part(part.held_out, *part.judged, part.offset, reference=trained), "held_out")
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


def _params(
    table: TrainingTable, objective: Objective, boosting: Boosting, seed: int, *, is_judged: bool
) -> dict[str, Any]:
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
        "max_bin": table.max_bin,
        "feature_pre_filter": False,
    }


def lightgbm_raw_scores(texts: Sequence[str], x: FloatArray, *, n_timed: int = 0, n_periods: int = 0) -> FloatArray:
    """LightGBM's own raw scores, to prove a bundle's forest with.

    Args:
        texts: LightGBM texts, one a member.
        x: ``(n, n_features)``.
        n_timed: how many members, the first ones, are timed.
        n_periods: how many periods there are.

    Returns:
        ``(n, n_scores)``, as ``models.forest.score_names`` orders them.
    """
    scores = [
        score for place, text in enumerate(texts) for score in _raw_scores(text, x, n_periods if place < n_timed else 0)
    ]
    return np.stack(scores, axis=1) if scores else np.empty((len(x), 0))


def _raw_scores(text: str, x: FloatArray, n_periods: int) -> list[FloatArray]:
    booster = lgb.Booster(model_str=text)
    places = booster_columns(booster.feature_name(), x.shape[1])
    scores = []
    for period in range(n_periods) if n_periods else (math.nan,):
        rows = np.concatenate([x, np.full((len(x), 1), period)], axis=1)
        rows = rows[:, :-1] if places is None else rows[:, places]
        scores.append(np.asarray(booster.predict(rows, raw_score=True, num_threads=1), dtype=np.float64))
    return scores


def contributions(texts: Sequence[str], x: FloatArray, period: float = math.nan) -> FloatArray:
    """What each feature contributes to the raw score of each member, by LightGBM's own TreeSHAP.

    Args:
        texts: LightGBM texts, one a member; a member may know only some of the features.
        x: ``(n_rows, n_features)`` in the order of the model vector; NaN means unknown.
        period: number of the period that a timed member is asked about; not looked at by the others.

    Returns:
        ``(n_rows, n_members, n_features + 1)``: what the features contribute, 0 for those that a member does not know,
        then what is left where nothing is known of the row: the member's mean over its training rows, and the period's
        own contribution. They sum to the raw score.

    References:
        Lundberg, Erion and Lee 2018, Consistent individualized feature attribution for tree ensembles, algorithm 2.
    """
    n_features = x.shape[1]
    out = np.zeros((len(x), len(texts), n_features + 2))
    rows = np.concatenate([x, np.full((len(x), 1), period)], axis=1)
    for member, text in enumerate(texts):
        booster = lgb.Booster(model_str=text)
        places = booster_columns(booster.feature_name(), n_features)
        columns = list(range(n_features)) if places is None else places
        known = np.ascontiguousarray(rows[:, columns])
        found = np.asarray(booster.predict(known, pred_contrib=True, num_threads=1), dtype=np.float64)
        out[:, member, columns], out[:, member, -1] = found[:, :-1], found[:, -1]
    # The period is no feature of the customer.
    return np.concatenate([out[:, :, :n_features], out[:, :, n_features:].sum(axis=2, keepdims=True)], axis=2)
