"""B4: features of many customers at moments of the past, against Feast's historical join on DuckDB."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import numpy as np

from features.event_export import export_events
from features.event_store import SqlEventLog
from features.event_tables import whole_table
from features.feast_store import historical_reads, open_feast
from features.history import reads_at
from features.kernel import Floats
from models.configuration import load_configuration
from models.feature_commands import fill_feature_store
from serving.bootstrap import feature_sets_of
from tests.benchmarks.report import Measure, faster
from tests.benchmarks.timing import Times
from tests.benchmarks.world import SEED, Worlds


def measures(worlds: Worlds) -> list[Measure]:
    """CPU-seconds from files to a frame of the same values; ours reads events, Feast the history made of them."""
    home = worlds.copy("frames")
    configuration = load_configuration(home, {})
    (features,) = feature_sets_of(configuration).values()
    fill_feature_store(home, configuration)
    events = home.snapshot / "benchmark.parquet"
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        export_events(log, events, until=log.head())
    table = whole_table(events, configuration.taxonomy)
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(0, len(table.customers), 500 if worlds.quick else 20_000)
    customer_ids = [table.customers[int(place)].as_py() for place in chosen]
    at = rng.integers(table.known_at.min(), table.known_at.max(), len(chosen))
    feast = open_feast(home)

    def ours() -> Floats:
        return reads_at(whole_table(events, configuration.taxonomy), features, customer_ids, at)

    def by_feast() -> Floats:
        return historical_reads(feast, features, customer_ids, at)

    if not np.array_equal(ours(), by_feast(), equal_nan=True):
        raise RuntimeError("the two frames differ; expected the same rows and values")
    spent: dict[Callable[[], Floats], list[float]] = {ours: [], by_feast: []}
    for _ in range(1 if worlds.quick else 5):
        for work, seconds in spent.items():
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
    mine, theirs = Times(tuple(spent[ours])), Times(tuple(spent[by_feast]))
    return [
        faster("vs_feast_duckdb", mine.median_ms, theirs.median_ms, target=4.0, spread=mine.spread_ms, unit="CPU-ms")
    ]
