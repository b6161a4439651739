"""The bundle's format 1 is frozen: a stored bundle must load, and a new one must be written the same way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import load_bundle
from models.forest import raw_scores_block
from models.heads import head_values
from tests.boosters import FEATURES, ROWS, small_bundle

STORED = Path(__file__).parent / "bundle_v1"
TEXTS = ["heads.json", *(f"boosters/{place:04d}.txt" for place in range(4))]


def test_a_stored_bundle_loads_and_scores_as_it_did() -> None:
    """Values written here by hand: they must not move with the code."""
    bundle = load_bundle(STORED, FEATURES)
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


@pytest.mark.parametrize("path", TEXTS)
def test_a_bundle_is_written_as_the_stored_one(path: str, tmp_path: Path) -> None:
    """Byte for byte."""
    small_bundle(tmp_path / "bundle")
    assert (tmp_path / "bundle" / path).read_text() == (STORED / path).read_text()


def test_a_manifest_is_written_as_the_stored_one(tmp_path: Path) -> None:
    """Key for key and in the same order; digests are left out, for the header of a zip names the writer's system."""
    small_bundle(tmp_path / "bundle")
    written, stored = (json.loads((folder / "manifest.json").read_text()) for folder in (tmp_path / "bundle", STORED))
    assert list(written) == list(stored)
    assert list(written.pop("parts")) == list(stored.pop("parts"))
    assert written == stored
