"""The simulated world is frozen: whoever could tune the effect sizes could tune the exam.

A change on purpose raises ``WORLD_VERSION`` and writes a file of the new version beside the old one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training.simulate import Simulation, simulate
from training.simulated_world import (
    EFFECTS,
    FAST_SHARE,
    FEEDBACK,
    PREFERRED_CHANNEL,
    PROGRESS,
    PROTECTION,
    TYPES,
    UNPROMPTED,
    WORLD_VERSION,
    Law,
)

STORED = Path(__file__).parent / f"simulated_world_v{WORLD_VERSION}.json"


def world() -> dict[str, Any]:
    """Every number of the world's laws."""

    def laws(table: Any) -> dict[str, Any]:
        return {name: asdict(law) for name, law in table.items()}

    loose: dict[str, Law] = {"feedback": FEEDBACK, "protection": PROTECTION}
    return {
        "effects": laws(EFFECTS),
        "progress": laws(PROGRESS),
        "unprompted": laws(UNPROMPTED),
        "other_outcomes": laws(loose),
        "types": laws(TYPES),
        "preferred_channel": PREFERRED_CHANNEL,
        "fast_share": FAST_SHARE,
    }


def test_the_effect_sizes_are_those_that_were_frozen() -> None:
    """Number for number."""
    assert world() == json.loads(STORED.read_text())["world"]


def test_the_truth_of_a_small_population_is_the_one_that_was_frozen(tmp_path: Path) -> None:
    """The same customers get the same decisions and the same true effects, to nine digits, on every machine."""
    simulate(Simulation(customers=60, seed=1), tmp_path)
    effects = pq.read_table(tmp_path / "truth" / "effects.parquet").to_pydict()

    keys = "|".join(map("/".join, zip(effects["decision_id"], effects["treatment_id"], strict=True)))
    sums = {name: round(float(np.sum(effects[name])), 9) for name in ("p0", "p1", "p0_observed", "p1_observed")}
    assert {
        "candidates": len(effects["decision_id"]),
        "keys": hashlib.blake2b(keys.encode(), digest_size=8).hexdigest(),
        **sums,
    } == json.loads(STORED.read_text())["truth_of_60_customers"]
