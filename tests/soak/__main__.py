"""``python -m tests.soak --minutes 10 --workers 2``: the service under traffic; exit code 1 where anything broke."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.soak.audit import SPARE_BYTES_PER_SECOND, failings, slope, worker_memory
from tests.soak.installation import installation
from tests.soak.traffic import Answers, traffic

_SAMPLE_SECONDS = 2.0
_LONG_ENOUGH_SECONDS = 240.0
"""Shorter than that, what still fills looks like a leak."""


def soak(folder: Path, *, seconds: float, workers: int, callers: int, customers: int) -> dict[str, Any]:
    """A summary: what was done, how long it took, how memory went, and under ``failed`` what does not hold."""
    with installation(folder, workers=workers) as installed:
        memory: dict[int, list[tuple[float, int]]] = {}
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_SAMPLE_SECONDS):
                for pid, size in worker_memory(installed.server.pid).items():
                    memory.setdefault(pid, []).append((time.monotonic(), size))

        watching = threading.Thread(target=watch)
        watching.start()
        answers = traffic(installed.server.port, seconds=seconds, callers=callers, customers=customers)
        over.set()
        watching.join()
        failed = failings(installed, answers)
    if len(memory) != workers and seconds > 2 * _SAMPLE_SECONDS:
        failed.append(f"{len(memory)} processes served, expected the same {workers} from beginning to end")
    slopes = {pid: slope(samples) for pid, samples in memory.items()}
    if seconds >= _LONG_ENOUGH_SECONDS:
        failed += [
            f"process {pid} grows by {rate:.0f} B/s" for pid, rate in slopes.items() if rate > SPARE_BYTES_PER_SECOND
        ]
    return {
        "seconds": seconds,
        "workers": workers,
        "calls": dict(answers.counts),
        "degraded": dict(answers.degraded),
        "latency_ms": _latencies(answers),
        "memory_mb": {pid: [round(size / 1e6) for _, size in (one[0], one[-1])] for pid, one in memory.items()},
        "slope_bytes_per_second": {pid: round(rate) for pid, rate in slopes.items()},
        "failed": failed,
    }


def _latencies(answers: Answers) -> dict[str, dict[str, float]]:
    return {
        kind: {f"p{share}": round(float(np.percentile(seconds, share)) * 1_000, 1) for share in (50, 95, 99)}
        for kind, seconds in sorted(answers.seconds.items())
    }


def main() -> None:
    """Run one soak and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--callers", type=int, default=6)
    parser.add_argument("--customers", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headway-soak-") as folder:
        told = soak(
            Path(folder),
            seconds=60 * chosen.minutes,
            workers=chosen.workers,
            callers=chosen.callers,
            customers=chosen.customers,
        )
    print(json.dumps(told, indent=2))
    sys.exit(1 if told["failed"] else 0)


if __name__ == "__main__":
    main()
