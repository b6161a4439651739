"""B2: decisions over HTTP, each recorded before it is answered, against a route of the same service that is idle."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tests.benchmarks.process import Client, Server, free_port, service
from tests.benchmarks.report import Measure, absolute, slower
from tests.benchmarks.timing import Times, interleaved
from tests.benchmarks.world import Worlds, present
from tests.postgres_servers import postgres_database

CALLERS = 8
DECISIONS = "/v1/decisions"
TRIVIAL = "/benchmark/trivial"


def measures(worlds: Worlds) -> list[Measure]:
    """Latency of a lone caller with and without full durability, and throughput with several."""
    full, cpu_rate, wall_rate = _against_trivial(worlds, "full")
    normal, _, _ = _against_trivial(worlds, "normal")
    ours = full["decision"]
    found = [
        slower("vs_trivial_route", ours.median_ms, full["trivial"].median_ms, target=4.0, spread=ours.spread_ms),
        slower(
            "vs_trivial_route_normal_durability",
            normal["decision"].median_ms,
            normal["trivial"].median_ms,
            target=2.5,
            spread=normal["decision"].spread_ms,
        ),
        absolute("p99", ours.milliseconds(0.99), unit="ms", target=10.0, at_most=True),
        absolute("decisions_per_cpu_second", cpu_rate, unit="decisions/s", target=1_000, at_most=False),
    ]
    if worlds.postgres:
        with postgres_database() as location:
            other, _, other_rate = _against_trivial(worlds, "full", database=location.url)
        spread = other["decision"].spread_ms
        found += [
            slower("postgres_vs_sqlite", other["decision"].median_ms, ours.median_ms, target=None, spread=spread),
            slower("sqlite_rate_vs_postgres", wall_rate, other_rate, target=None, unit="decisions/s"),
        ]
    if not worlds.quick:
        rate = _mlflow_rate(worlds)
        found.append(
            Measure(
                name="vs_mlflow_serve",
                unit="answers/s",
                ours=wall_rate,
                baseline=rate,
                ratio=wall_rate / rate,
                target=10.0,
                at_most=False,
            )
        )
    return found


def _against_trivial(
    worlds: Worlds, durability: str, *, database: str = "sqlite"
) -> tuple[dict[str, Times], float, float]:
    """Times of a lone caller, decisions for each second of the server's CPU, and decisions a second."""
    home = worlds.copy(f"http-{durability}-{'sqlite' if database == 'sqlite' else 'postgres'}")
    ids = worlds.customer_ids()
    with service(home, compiled=worlds.trained, durability=durability, database=database) as server:
        client = Client(server.port)
        client.post("/v1/events", {"events": worlds.documents(present())})
        answer = json.loads(client.post(DECISIONS, {"customer_id": ids[0]}))
        if answer["degraded"] or not answer["funnel"]["scored"]:
            raise RuntimeError(f"nothing to measure: {answer['degraded']}, {answer['funnel']}")

        def call(path: str) -> Callable[[int], object]:
            return lambda number: client.post(path, {"customer_id": ids[number % len(ids)]})

        times = interleaved(
            {"decision": call(DECISIONS), "trivial": call(TRIVIAL)}, rounds=4 if worlds.quick else 100, calls=10
        )
        count = 80 if worlds.quick else 4_000
        before = server.cpu_seconds()
        wall = _rate(server.port, DECISIONS, [{"customer_id": ids[i % len(ids)]} for i in range(count)])
        return times, count / (server.cpu_seconds() - before), wall


def _rate(port: int, path: str, bodies: Sequence[object]) -> float:
    """Answers a second with several callers."""

    def caller(place: int) -> None:
        client = Client(port)
        for body in bodies[place::CALLERS]:
            client.post(path, body)

    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(caller, range(CALLERS)))
    return len(bodies) / (time.perf_counter() - started)


def _mlflow_rate(worlds: Worlds) -> float:
    """``mlflow models serve`` of one LightGBM model with as many features, one row a call."""
    folder = worlds.folder / "mlflow-model"
    names = _save_model(folder)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
    log = worlds.folder / "mlflow.log"
    server = Server([*command, "--port", str(port), "--workers", "1"], port=port, env=os.environ, log=log)
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.wait_for("/ping")
        row = {"dataframe_split": {"columns": names, "data": [[0.5] * len(names)]}}
        _rate(port, "/invocations", [row] * 80)
        return _rate(port, "/invocations", [row] * 800)


def _save_model(folder: Path) -> list[str]:
    import lightgbm
    import mlflow.lightgbm
    import pandas as pd

    rng = np.random.default_rng(0)
    names = [f"feature_{place}" for place in range(145)]
    frame = pd.DataFrame(rng.normal(size=(2_000, len(names))), columns=names)
    params = {"objective": "binary", "num_leaves": 31, "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(params, lightgbm.Dataset(frame, rng.random(2_000) < 0.3), num_boost_round=100)
    mlflow.lightgbm.save_model(booster, folder, pip_requirements=[])
    return names
