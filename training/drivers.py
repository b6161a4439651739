"""What drives stalls, stage by stage: how much each feature contributes to the stall model on held-out moments.

Facts about the model on these moments. A driver is not a cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from features.journeys import Journey
from features.kernel import Floats, Integers
from models.contributions import stall_contributions
from models.heads import FittedHeads
from training.dataset import Frames
from training.fit_stall import StallFit

ROWS: Final = 600
"""Moments that are looked at, shared by the stages: of 150, a mean is known to 8 % of its spread, after seconds."""
SMALLEST_SHARE: Final = 50
LISTED: Final = 15


def drivers(stall: StallFit | None, frames: Frames, journey: Journey) -> dict[str, list[dict[str, Any]]]:
    """The features that contribute most to the stall, by stage; empty where there is no stall model.

    Args:
        stall: the fitted model; its test moments are explained.
        frames: what it was fitted on.
        journey: names the stages.
    """
    if stall is None:
        return {}
    return stage_drivers(
        stall.parts,
        frames.moments.x[stall.test.rows],
        frames.moments.stage[stall.test.rows],
        horizon=stall.periods.horizon,
        stage_ids=journey.stage_ids,
        feature_names=frames.feature_names,
    )


def stage_drivers(
    fitted: Sequence[FittedHeads],
    x: Floats,
    stage: Integers,
    *,
    horizon: int | None,
    stage_ids: Sequence[str],
    feature_names: Sequence[str],
    most_rows: int = ROWS,
) -> dict[str, list[dict[str, Any]]]:
    """The features that contribute most to the stall on some moments, by stage.

    Args:
        fitted: heads and boosters, those of the stall among them.
        x: ``(n, n_features)``.
        stage: ``(n,)`` index of the stage.
        horizon: number of the period that ends at the journey's horizon; None where there are no hazards.
        stage_ids: in order.
        feature_names: in order.
        most_rows: moments that are looked at, shared by the stages.

    Returns:
        By stage that has moments: at most ``LISTED`` features, the strongest first, equal ones in order, each with the
        ``mean_abs`` and the ``mean`` of its contributions (positive raises the stall) over some of the stage's moments,
        evenly spread among them and always the same.
    """
    heads = [head for part in fitted for head in part.heads]
    texts = {name: text for part in fitted for name, text in part.boosters.items()}
    found = {}
    share = max(SMALLEST_SHARE, most_rows // max(1, len(np.unique(stage))))
    for index, stage_id in enumerate(stage_ids):
        rows = np.flatnonzero(stage == index)
        if not len(rows):
            continue
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(share, len(rows))).round().astype(np.int64))]
        explained = stall_contributions(heads, texts, x[chosen], horizon=horizon)
        if explained is None:
            return {}
        mean_abs, mean = np.abs(explained.by_feature).mean(axis=0), explained.by_feature.mean(axis=0)
        order = np.argsort(-mean_abs, kind="stable")[:LISTED]
        found[stage_id] = [
            {"feature": feature_names[place], "mean_abs": float(mean_abs[place]), "mean": float(mean[place])}
            for place in order
            if mean_abs[place] > 0
        ]
    return found
