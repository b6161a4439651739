"""Drivers of a stall by stage: the model's own contributions on a fixed part of the moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from features.kernel import Floats
from models.contributions import stall_contributions
from tests.explained import CALLS, PERIODS, fits, vectors
from tests.histories import FEATURES
from training import drivers
from training.drivers import stage_drivers

STAGES = ("looking", "applied", "uploaded")


@pytest.fixture(scope="module")
def x() -> Floats:
    """Moments that the stall model was not fitted on."""
    return vectors(400, 5)


def by_stage(x: Floats, stage: np.ndarray, most_rows: int = drivers.ROWS) -> dict[str, list[dict[str, Any]]]:
    """The drivers of the small world's stall."""
    return stage_drivers(
        fits(),
        x,
        stage,
        horizon=PERIODS.horizon,
        stage_ids=STAGES,
        feature_names=FEATURES.names,
        most_rows=most_rows,
    )


def test_what_makes_stalls_comes_first_in_every_stage(x: Floats) -> None:
    """Calls make them in this world; a stage without moments has no drivers."""
    found = by_stage(x, np.arange(len(x)) % 2)

    assert list(found) == ["looking", "applied"]
    for listed in found.values():
        assert listed[0]["feature"] == "calls_since_progress"
        strengths = [one["mean_abs"] for one in listed]
        assert strengths == sorted(strengths, reverse=True)
        assert len(listed) <= drivers.LISTED


def test_they_are_means_of_contributions(x: Floats) -> None:
    """Over the stage's share of the moments, from the first to the last and evenly between; sign included."""
    stage = np.arange(len(x)) % 2
    found = stage_drivers(
        fits(), x, stage, horizon=PERIODS.horizon, stage_ids=STAGES, feature_names=FEATURES.names, most_rows=200
    )

    chosen = x[stage == 1][np.linspace(0, 199, 100).round().astype(int)]
    explained = stall_contributions(fits()[0].heads, fits()[0].boosters, chosen, horizon=PERIODS.horizon)
    assert explained is not None
    calls = explained.by_feature[:, CALLS]
    first = found["applied"][0]
    assert (first["mean_abs"], first["mean"]) == (pytest.approx(np.abs(calls).mean()), pytest.approx(calls.mean()))


def test_they_are_always_the_same(x: Floats) -> None:
    """Nothing is drawn."""
    stage = np.arange(len(x)) % 3

    assert by_stage(x, stage) == by_stage(x, stage)


def test_without_a_stall_model_there_are_none(x: Floats) -> None:
    """The uplift's heads drive no stall."""
    found = stage_drivers(
        fits()[1:], x, np.zeros(len(x), dtype=np.int64), horizon=None, stage_ids=STAGES, feature_names=FEATURES.names
    )

    assert found == {}
