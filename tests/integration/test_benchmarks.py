"""The benchmarks run, and tell what they found in the agreed form. What they measure is no matter of tests."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_row_runs_and_is_well_formed() -> None:
    """One JSON object keyed by row; each comparison has a figure, and a ratio exactly where it has a baseline."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--json"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert set(found) == {"B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9"}
    for measures in found.values():
        for one in measures:
            assert set(one) == {"name", "unit", "ours", "baseline", "ratio", "target", "met"}
            # A share of what can be gained is negative for a policy that loses; times and counts are above 0.
            assert math.isfinite(one["ours"]) if one["unit"] == "share" else one["ours"] > 0
            assert (one["ratio"] is None) == (one["baseline"] is None)
            assert (one["met"] is None) == (one["target"] is None)


@pytest.mark.slow
def test_a_row_on_request_runs_where_it_is_named() -> None:
    """It is well formed too."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "scale", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert list(found) == ["scale"]
    assert all(one["ours"] > 0 for one in found["scale"])


@pytest.mark.slow
def test_an_unknown_row_is_refused() -> None:
    """It says which rows there are."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "B99"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "expected any of B1" in done.stderr
