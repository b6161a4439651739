"""Measures: to digits against the libraries whose definitions they name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.metrics import auuc
from tests.crosscheck.worlds import library, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries warn of their own dependencies


@pytest.mark.parametrize("seed", range(5))
def test_auuc_is_causalmls(seed: int) -> None:
    """Our normalised AUUC equals ``causalml.metrics.auuc_score`` for a score without ties."""
    metrics = library("causalml.metrics")
    known = world(seed, n=3_000)
    score = known.effect + 0.05 * np.random.default_rng(seed).normal(size=3_000)
    frame = pd.DataFrame({"score": score, "y": known.y, "w": known.treated})

    theirs = metrics.auuc_score(frame, outcome_col="y", treatment_col="w", normalize=True)["score"]

    assert auuc(known.y, score, known.treated) == pytest.approx(theirs, abs=1e-9)
