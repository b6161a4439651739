"""What a drift report takes on a million recorded decisions: time and memory of a process that does nothing else.

``python -m tests.benchmarks.drift HOME`` reports on a home and prints what it took as JSON. Making the home takes some
twenty minutes and 8 GB of disk; that is not measured.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

from features.home import Home, use_numba_cache
from tests.benchmarks.report import Measure, absolute
from tests.benchmarks.world import Worlds

SIZE = 1_000_000
QUICK_SIZE = 3_000


def measures(worlds: Worlds) -> list[Measure]:
    """Seconds and peak memory of the whole command, beside what was asked for."""
    from tests.drift_homes import grown_home

    n = QUICK_SIZE if worlds.quick else SIZE
    home, _ = grown_home(worlds.folder / "drift", before=n // 2, lately=n // 2)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.drift", str(home.root)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    taken = json.loads(done.stdout)
    return [
        absolute("seconds", taken["seconds"], unit="s", target=300, at_most=True),
        absolute("cpu", taken["cpu_seconds"], unit="CPU-s", target=None, at_most=True),
        absolute("peak", taken["peak_mb"], unit="MB", target=4096, at_most=True),
    ]


def reported(home: Home) -> dict[str, float]:
    """What a report on a home took in this process, imports included."""
    started = time.perf_counter()
    use_numba_cache(home)
    from models.configuration import load_configuration
    from training.drift import drift_step
    from training.drift_sources import LiveSource
    from training.params import load_params
    from training.snapshot import read_snapshot

    with LiveSource(home, read_snapshot(home)) as source:
        drift_step(home, load_configuration(home, {}), load_params(), source, at=0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(reported(Home(Path(sys.argv[1])))))
