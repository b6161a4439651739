"""What fitting effects takes as decisions grow: time and memory of ``fit_uplift`` in a process of its own.

``python -m tests.benchmarks.scale ROWS`` fits one table and prints what it took as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from models.uplift import UpliftParams, fit_uplift
from tests.benchmarks.report import Measure, absolute
from tests.benchmarks.world import SEED, Worlds

N_FEATURES = 60
N_ARMS = 8
"""Besides no action."""
SIZES = (250_000, 1_000_000)
QUICK_SIZES = (6_000,)


def measures(worlds: Worlds) -> list[Measure]:
    """CPU-seconds and peak memory by rows of the table, and the memory in multiples of the table."""
    found = []
    for n in QUICK_SIZES if worlds.quick else SIZES:
        taken = _taken(n)
        name = f"{n // 1000}k"
        found += [
            absolute(f"{name}_fit", taken["cpu_seconds"], unit="CPU-s", target=None, at_most=True),
            absolute(f"{name}_table", taken["table_mb"], unit="MB", target=None, at_most=True),
            absolute(f"{name}_peak", taken["peak_mb"], unit="MB", target=None, at_most=True),
            absolute(
                f"{name}_peak_less_python",
                (taken["peak_mb"] - taken["python_mb"]) / taken["table_mb"],
                unit="tables",
                target=None,
                at_most=True,
            ),
        ]
    return found


def _taken(n: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale", str(n)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    taken: dict[str, float] = json.loads(done.stdout)
    return taken


def fitted(n: int) -> dict[str, float]:
    """What fitting a table of ``n`` decisions took in this process."""
    python_mb = _memory_mb("VmRSS")
    x, arm, y = _table(n)
    started, wall = time.process_time(), time.perf_counter()
    found = fit_uplift(
        x,
        arm,
        y,
        outcome_id="y",
        arm_ids=("no_action", *(f"action_{place}" for place in range(N_ARMS))),
        binary=True,
        selection_probability=np.full(n, 1 / (N_ARMS + 1)),
        arm_probabilities=np.full((n, N_ARMS + 1), 1 / (N_ARMS + 1)),
        params=UpliftParams(),
        seed=SEED,
    )
    return {
        "rows": n,
        "cpu_seconds": time.process_time() - started,
        "seconds": time.perf_counter() - wall,
        "python_mb": python_mb,
        "table_mb": x.nbytes / 1e6,
        "peak_mb": _memory_mb("VmHWM"),
        "boosters": len(found.fitted.boosters),
    }


def _table(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A randomised table: every arm's effect follows a feature of its own, the baseline two others."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((n, N_FEATURES))
    arm = rng.integers(0, N_ARMS + 1, n)
    effect = np.where(arm > 0, 0.03 + 0.05 * (x[np.arange(n), arm] > 0), 0.0)
    y = (rng.random(n) < 0.2 + 0.1 * (x[:, 20] > 0) + 0.1 * (x[:, 21] > 0) + effect).astype(np.float64)
    return x, arm, y


def _memory_mb(field: str) -> float:
    """Resident memory of this process, now (``VmRSS``) or at its highest (``VmHWM``)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    json.dump(fitted(int(sys.argv[1])), sys.stdout)
