"""The stall estimator: how likely no progress is, and how likely leaving is, within the journey's horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.boosting import Boosting, Fit, TrainingTable, boosted
from models.calibration import fitted_map
from models.heads import ABANDON, STALL, FittedHeads, Head

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class StallParams:
    """How the stall models are fitted."""

    boosting: Boosting = field(
        default_factory=lambda: Boosting(
            rounds=250, patience=15, num_leaves=31, min_rows=100, learning_rate=0.1, feature_fraction=0.6, max_bin=63
        )
    )
    categorical: Sequence[int] = ()


def fit_stall(
    x: FloatArray,
    progressed: BoolArray,
    abandoned: BoolArray,
    *,
    calibration: tuple[FloatArray, BoolArray, BoolArray],
    params: StallParams,
    seed: int,
) -> FittedHeads:
    """The heads ``stall`` (no progress within the horizon) and ``abandon`` (left the journey within it).

    Args:
        x: ``(n, n_features)`` one row a moment whose horizon was fully observed; NaN means unknown.
        progressed: ``(n,)`` whether the journey progressed within the horizon.
        abandoned: ``(n,)`` whether it ended without the goal within the horizon.
        calibration: the same three of a later slice: boosting stops on it, and the probabilities are calibrated on it.
        params: how the models are fitted.
        seed: fixes everything that is drawn.

    Returns:
        The two heads. Where nobody, or everybody, abandons there is nothing to separate: that head gives the
        base rate, and its facts say so. The facts also hold row counts and the number of trees.

    Raises:
        NotEnoughData: a slice is empty, or progress is the same for all its rows.
    """
    later_x, later_progressed, later_abandoned = calibration
    for name, labels in (("training", progressed), ("calibration", later_progressed)):
        if not 0 < int(labels.sum()) < len(labels):
            raise NotEnoughData(
                f"{int(labels.sum())} of {len(labels)} {name} moments made progress, expected some of both kinds: "
                f"import more history or move the cut-off"
            )
    table = TrainingTable(np.concatenate([x, later_x]), max_bin=params.boosting.max_bin, categorical=params.categorical)
    n_train = len(x)
    stall = _head(table, STALL, ~progressed, ~later_progressed, n_train, params, seed)
    abandon = _head(table, ABANDON, abandoned, later_abandoned, n_train, params, seed)
    return FittedHeads(
        heads=(stall[0], abandon[0]),
        boosters={head.members[0]: text for head, text in (stall, abandon) if text is not None},
    )


def _head(
    table: TrainingTable,
    name: str,
    happened: BoolArray,
    later_happened: BoolArray,
    n_train: int,
    params: StallParams,
    seed: int,
) -> tuple[Head, str | None]:
    label = np.concatenate([happened, later_happened]).astype(np.float64)
    facts: dict[str, str | int | float | bool] = {
        "n_rows": n_train,
        "n_positive": int(happened.sum()),
        "n_calibration": len(later_happened),
        "n_calibration_positive": int(later_happened.sum()),
    }
    if not (0 < happened.sum() < len(happened) and 0 < later_happened.sum() < len(later_happened)):
        rate = (label.sum() + 0.5) / (len(label) + 1)  # Jeffreys' prior keeps the log odds finite
        return Head(
            name=name, link="logistic", mean=float(np.log(rate / (1 - rate))), facts={**facts, "choice": "base_rate"}
        ), None
    later = np.arange(n_train, len(label))
    fit = boosted(
        table, label, objective="binary", boosting=params.boosting, seed=seed, rows=np.arange(n_train), held_out=later
    )
    rounds = best_rounds(fit)
    probability = 1 / (1 + np.exp(-fit.raw(table.x[later], rounds)))
    head = Head(
        name=name,
        members=(name,),
        link="logistic",
        calibration=fitted_map(probability, label[later]),
        facts={**facts, "choice": "boosted", "trees": rounds},
    )
    return head, fit.text(rounds)


def best_rounds(fit: Fit) -> int:
    """The number of trees with the smallest held-out loss, at least one."""
    return int(np.argmin(fit.losses)) + 1
