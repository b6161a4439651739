"""The bundle's formats are frozen: stored bundles must load, and a new one must be written as the stored one is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import load_bundle
from models.forest import raw_scores_block
from models.heads import head_values
from models.scoring import Scorer
from tests.boosters import FEATURES, ROWS, timed_bundle

FIRST, STORED = Path(__file__).parent / "bundle_v1", Path(__file__).parent / "bundle_v2"
TEXTS = ["heads.json", *(f"boosters/{place:04d}.txt" for place in range(4))]


def test_a_stored_bundle_of_format_1_loads_and_scores_as_it_did() -> None:
    """Values written here by hand: they must not move with the code."""
    bundle = load_bundle(FIRST, FEATURES)
    values, sigmas = head_values(bundle.table, raw_scores_block(bundle.forest, ROWS[1:2]))
    assert dict(zip(bundle.table.names, np.round(values[0], 12).tolist(), strict=True)) == {
        "stall": 0.880797077978,
        "abandon": 0.119202922022,
        "control:visit": 0.5,
        "effect:visit:email": 0.05,
        "effect:visit:call": 0.03,
        "effect:visit:large_offer": 0.99,
    }
    assert np.round(sigmas[0, 3:], 12).tolist() == [0.014142135624, 0.005, 0.1]


def test_a_stored_bundle_loads_and_scores_as_it_did() -> None:
    """Effects as in format 1; the stall comes from hazards by period."""
    scorer = Scorer(load_bundle(STORED, FEATURES))
    (email,) = scorer.effects(ROWS[1], [("visit", "email")])
    assert np.round([email.uplift, email.sigma], 12).tolist() == [0.05, 0.014142135624]
    stall = scorer.stall(ROWS[1])
    assert np.round(stall[:3], 9).tolist() == [0.611928307, 0.079847751, 4.750695606]


@pytest.mark.parametrize("path", TEXTS)
def test_a_bundle_is_written_as_the_stored_one(path: str, tmp_path: Path) -> None:
    """Byte for byte."""
    timed_bundle(tmp_path / "bundle")
    assert (tmp_path / "bundle" / path).read_text() == (STORED / path).read_text()


def test_a_manifest_is_written_as_the_stored_one(tmp_path: Path) -> None:
    """Key for key and in the same order; digests are left out, for the header of a zip names the writer's system."""
    timed_bundle(tmp_path / "bundle")
    written, stored = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "bundle", STORED))
    assert list(written) == list(stored)
    assert list(written.pop("parts")) == list(stored.pop("parts"))
    assert written == stored
