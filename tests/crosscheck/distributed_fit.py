"""``python -m tests.crosscheck.distributed_fit FOLDER``: fit one task on this machine, and on two Dask workers.

Workers are started as processes that import this module anew, hence the guard at its end. The table goes through
Parquet, as larger ones would. Prints what came out as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from models.boosting import Boosting, TrainingTable, boosted
from models.forest import forest_from_text, raw_scores_block
from models.metrics import auc, log_loss
from training.distributed import distributed_booster

N_TRAIN, N_TEST, N_FEATURES = 60_000, 40_000, 20
BOOSTING = Boosting(rounds=80, num_leaves=15, min_rows=100)
WORKERS = 2


def task(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A task like the stall label: four in ten, some features telling, some unknown for a fifth of the rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, N_FEATURES))
    margin = -0.4 + 0.8 * x[:, 0] + 0.5 * (x[:, 1] > 0) * x[:, 2] - 0.4 * (x[:, 3] ** 2 > 1)
    x[:, 4:8][rng.random((n, 4)) < 0.2] = np.nan
    return x, (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(np.float64)


def main(folder: Path) -> None:
    """Fit both, and judge both on the same later rows."""
    import dask.dataframe as dd
    from dask.distributed import Client, LocalCluster

    x, y = task(1, N_TRAIN)
    names = [f"f{place}" for place in range(N_FEATURES)]
    pd.DataFrame(x, columns=names).assign(stalled=y).to_parquet(folder / "rows.parquet", row_group_size=10_000)
    started = time.perf_counter()
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        rows = dd.read_parquet(folder / "rows.parquet", split_row_groups=True).repartition(npartitions=WORKERS)
        rows = client.persist(rows)
        texts = {
            "distributed": distributed_booster(
                rows[names], rows["stalled"], client=client, objective="binary", boosting=BOOSTING, seed=1
            )
        }
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
    taken, started = time.perf_counter() - started, time.perf_counter()
    everything = np.arange(N_TRAIN)
    texts["local"] = boosted(TrainingTable(x), y, objective="binary", boosting=BOOSTING, seed=1, rows=everything).text()
    taken_here = time.perf_counter() - started
    later_x, later_y = task(2, N_TEST)
    scores = raw_scores_block(forest_from_text(list(texts.values())), later_x)
    probability = 1 / (1 + np.exp(-scores))
    found = {
        name: {"auc": auc(later_y, scores[:, place]), "log_loss": log_loss(later_y, probability[:, place])}
        for place, name in enumerate(texts)
    }
    json.dump({"workers": workers, "seconds": taken, "local_seconds": taken_here, **found}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
