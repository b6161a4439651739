"""B7: from the start of ``headway serve`` to the answer of its first decision."""

from __future__ import annotations

import os
import sys
import time

from features.home import HOME_VARIABLE, use_numba_cache
from tests.benchmarks.process import Client, Server, free_port
from tests.benchmarks.report import Measure, absolute
from tests.benchmarks.world import KEY, Worlds


def measures(worlds: Worlds) -> list[Measure]:
    """The best of a few starts: the machine is shared, and a start is the same work each time."""
    home = worlds.copy("start")
    seconds = []
    for _ in range(1 if worlds.quick else 3):
        port = free_port()
        env = {**os.environ, HOME_VARIABLE: str(home.root), "HEADWAY_BOOTSTRAP_KEY": KEY, "HEADWAY_PORT": str(port)}
        use_numba_cache(home, env)
        command = [sys.executable, "-c", "from features.cli import main; main()", "serve"]
        server = Server(command, port=port, env=env, log=home.root / "start.log")
        try:
            server.wait_for("/readyz")
            Client(port).post("/v1/decisions", {"customer_id": "bench-0000"})
            seconds.append(time.perf_counter() - server.started)
        finally:
            server.stop()
    return [absolute("first_decision", min(seconds), unit="s", target=10.0, at_most=True)]
