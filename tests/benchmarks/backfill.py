"""B5: window and decayed counts at requested moments, Parquet to Parquet, against DuckDB and pandas.

All compute the same columns: the counts of every kind and channel that occurs, in four windows and decayed. Ours is
measured once more writing the whole last state of every customer besides, as a backfill does and the others do not.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features import kernel
from features.event_export import EVENTS_SCHEMA
from features.home import Home, use_numba_cache
from features.moment_frames import write_moment_frame
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from models.configuration import load_configuration
from serving.bootstrap import feature_sets_of
from tests.benchmarks.report import Measure, absolute, faster
from tests.benchmarks.timing import Times
from tests.benchmarks.world import SEED, Worlds

KINDS = ("page_viewed", "app_opened", "call_received", "message_opened", "feedback_given", "application_submitted")
SHARES = (0.55, 0.18, 0.08, 0.1, 0.03, 0.06)
CHANNELS = ("web", "app", "email", "call")
WINDOWS = {"1h": "1 HOUR", "1d": "1 DAY", "7d": "7 DAYS", "30d": "30 DAYS"}
EVENTS_PER_CUSTOMER = 25
START_US = 1_760_000_000_000_000
SPAN_US = 90 * 86_400_000_000
UTC = pa.timestamp("us", "UTC")


def measures(worlds: Worlds) -> list[Measure]:
    """CPU-seconds of each on the same files; then ours alone on many more events, with its memory."""
    folder = worlds.folder / "backfill"
    folder.mkdir()
    n = 20_000 if worlds.quick else 300_000
    events, moments = _written(folder, n)
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: frame(events, moments, folder, states=None),
        "with_states": lambda: frame(events, moments, folder, states=folder / "states.parquet"),
        "duckdb": lambda: _by_duckdb(events, moments, folder / "duckdb.parquet"),
        "pandas": lambda: _by_pandas(events, moments, folder / "pandas.parquet"),
    }
    spent: dict[str, list[float]] = {name: [] for name in works}
    use_numba_cache(Home(folder))
    frame(events, moments, folder, states=folder / "states.parquet")  # compiled code is loaded
    for _ in range(1 if worlds.quick else 3):
        for name, work in works.items():
            started = time.process_time()
            work()
            spent[name].append(time.process_time() - started)
    _check(folder)
    times = {name: Times(tuple(seconds)) for name, seconds in spent.items()}
    found = [
        faster(
            f"vs_{name}{suffix}",
            times[ours].median_ms,
            times[name].median_ms,
            target=target,
            spread=times[ours].spread_ms,
            unit="CPU-ms",
        )
        for ours, suffix in (("ours", ""), ("with_states", "_with_states"))
        for name, target in (("duckdb", 2.0), ("pandas", 10.0))
    ]
    return [*found, *_alone(folder, (40_000, 80_000) if worlds.quick else (1_000_000, 10_000_000))]


def columns() -> list[str]:
    """The columns that all of them write."""
    names = [*(f"count_{kind}" for kind in KINDS), *(f"events_on_{channel}" for channel in CHANNELS)]
    return [f"{name}_{part}" for name in names for part in (*WINDOWS, "decayed_7d")]


def frame(events: Path, moments: Path, folder: Path, *, states: Path | None) -> None:
    """Ours: the columns at the moments, and the last states where they shall go somewhere."""
    taxonomy, features = _declared(folder)
    write_moment_frame(
        events,
        moments,
        folder / "ours.parquet",
        feature_set=features,
        taxonomy=taxonomy,
        names=columns(),
        states=states,
    )


@cache
def _declared(folder: Path) -> tuple[Taxonomy, FeatureSet]:
    """Read once, before anything is measured."""
    configuration = load_configuration(Home(folder), {})
    (features,) = feature_sets_of(configuration).values()
    return configuration.taxonomy, features


def _alone(folder: Path, sizes: tuple[int, int]) -> list[Measure]:
    """Events per CPU-second and memory at two sizes, each in a process of its own."""
    found = []
    peaks = []
    for n in sizes:
        events, moments = _written(folder, n)
        script = "import sys; from tests.benchmarks.backfill import child; child(*sys.argv[1:])"
        arguments = [str(events), str(moments), str(folder)]
        ran = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
        seconds, peak = map(float, ran.stdout.split()[-2:])
        found.append(absolute(f"events_per_cpu_s_{n}", n / seconds, unit="1/s", target=400_000.0, at_most=False))
        found.append(absolute(f"peak_memory_{n}", peak, unit="MB", target=None, at_most=True))
        peaks.append(peak)
        events.unlink()
    return [*found, absolute("memory_growth", peaks[1] / peaks[0], unit="times", target=1.5, at_most=True)]


def child(events: str, moments: str, folder: str) -> None:
    """Ours in a process of its own: prints CPU-seconds and the peak of its memory in MB."""
    use_numba_cache(Home(Path(folder)))
    tiny = _written(Path(folder), 2_000)
    frame(*tiny, Path(folder), states=Path(folder) / "states.parquet")  # compiled code is loaded
    started = time.process_time()
    frame(Path(events), Path(moments), Path(folder), states=Path(folder) / "states.parquet")
    seconds = time.process_time() - started
    # Not getrusage: a child's begins at the peak of the process that started it.
    peak_kb = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(seconds, int(peak_kb.split()[1]) / 1_000)


def _written(folder: Path, n: int) -> tuple[Path, Path]:
    """So many events in the order of their arrival, and a moment for each ten of them."""
    events, moments = folder / f"events-{n}.parquet", folder / f"moments-{n}.parquet"
    rng = np.random.default_rng(SEED)
    customers = max(n // EVENTS_PER_CUSTOMER, 1)
    with pq.ParquetWriter(events, EVENTS_SCHEMA, compression="zstd") as file:
        for start in range(0, n, 500_000):
            file.write_table(_events(rng, start, min(500_000, n - start), n, customers))
    at = START_US + rng.integers(0, SPAN_US, n // 10) * 2 + 1  # odd, where events are even: no ties
    rows = {"customer_id": _names("c", rng.integers(0, customers, n // 10)), "at": pa.array(at).cast(UTC)}
    pq.write_table(pa.table(rows), moments)
    return events, moments


def _events(rng: np.random.Generator, start: int, size: int, n: int, customers: int) -> pa.Table:
    numbers = np.arange(start, start + size)
    at = START_US + (numbers * (SPAN_US // n)) * 2
    moments = pa.array(at).cast(UTC)
    columns = {
        "position": pa.array(numbers + 1),
        "source": pa.repeat("bench", size),
        "event_id": _names("e", numbers),
        "customer_id": _names("c", rng.integers(0, customers, size)),
        "kind": pa.array(np.array(KINDS)[rng.choice(len(KINDS), size, p=SHARES)]),
        "channel": pa.array(np.array(CHANNELS)[rng.integers(0, len(CHANNELS), size)]),
        "occurred_at": moments,
        "arrived_at": moments,
        "sequence": pa.array(np.zeros(size, np.int64)),
        "day": pa.array((at // 86_400_000_000).astype(np.int32)),
        "facts": pa.repeat("{}", size),
    }
    return pa.table(columns, schema=EVENTS_SCHEMA)


def _names(prefix: str, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    return pa.array(np.char.add(prefix, numbers.astype(str)))


def _by_duckdb(events: Path, moments: Path, out: Path) -> None:
    """Window functions over events and moments together, each window without the moment itself."""
    tests = {f"count_{kind}": f"kind = '{kind}'" for kind in KINDS}
    tests |= {f"events_on_{channel}": f"channel = '{channel}'" for channel in CHANNELS}
    age = f"(epoch_us(t) - {START_US}) / {kernel.HALF_LIFE_US}"
    chosen = []
    for name, test in tests.items():
        chosen += [f"count(*) FILTER ({test}) OVER w{window} AS {name}_{window}" for window in WINDOWS]
        chosen.append(
            f"coalesce(sum(pow(2, {age})) FILTER ({test}) OVER past * pow(2, -({age})), 0) AS {name}_decayed_7d"
        )
    before = "PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING"
    by_time = "PARTITION BY customer_id ORDER BY t RANGE BETWEEN"
    windows = [f"w{window} AS ({by_time} INTERVAL {length} {before})" for window, length in WINDOWS.items()]
    windows.append(f"past AS ({by_time} UNBOUNDED {before})")
    query = f"""
        COPY (
            SELECT customer_id, t AS "at", {", ".join(chosen)}
            FROM (SELECT customer_id, occurred_at AS t, kind, channel, false AS asked FROM '{events}'
                  UNION ALL SELECT customer_id, "at", NULL, NULL, true FROM '{moments}')
            WINDOW {", ".join(windows)} QUALIFY asked ORDER BY customer_id, t
        ) TO '{out}' (FORMAT parquet)
    """  # noqa: S608  # our own names and files
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute(query)


def _by_pandas(events: Path, moments: Path, out: Path) -> None:
    """Rolling sums by customer over events and moments together."""
    happened = pd.read_parquet(events, columns=["customer_id", "occurred_at", "kind", "channel"])
    asked = pd.read_parquet(moments)
    rows = pd.concat([happened.rename(columns={"occurred_at": "at"}), asked.assign(kind=None, channel=None)])
    rows = rows.sort_values(["customer_id", "at"], kind="stable").reset_index(drop=True)
    flags = {f"count_{kind}": (rows["kind"] == kind).astype(float) for kind in KINDS}
    flags |= {f"events_on_{channel}": (rows["channel"] == channel).astype(float) for channel in CHANNELS}
    base = rows[["customer_id", "at"]].assign(**flags)
    names = list(flags)
    found = {}
    for window, length in {"1h": "1h", "1d": "1D", "7d": "7D", "30d": "30D"}.items():
        rolled = base.groupby("customer_id").rolling(length, on="at", closed="left")[names].sum()
        for name in names:
            found[f"{name}_{window}"] = rolled[name].fillna(0.0).to_numpy()
    age = (rows["at"].astype("int64") - START_US) / kernel.HALF_LIFE_US
    for name in names:
        weights: Any = flags[name] * np.exp2(age)
        grown = weights.groupby(rows["customer_id"]).cumsum() - weights
        found[f"{name}_decayed_7d"] = (grown * np.exp2(-age)).to_numpy()
    frame = rows[["customer_id", "at"]].assign(**found)
    frame[rows["kind"].isna()].to_parquet(out)


def _check(folder: Path) -> None:
    """All three wrote the same."""
    ours, *others = (pd.read_parquet(folder / f"{name}.parquet") for name in ("ours", "duckdb", "pandas"))
    for other in others:
        same = np.allclose(ours[columns()], other[columns()], rtol=1e-6, atol=1e-6)
        if len(ours) != len(other) or not same:
            raise RuntimeError("the frames differ; expected the same rows and values")
