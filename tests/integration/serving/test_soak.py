"""The service of two worker processes, over a PostgreSQL and a Redis, under a short soak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import soak


@pytest.mark.slow
def test_two_workers_lose_nothing_and_break_no_limit(tmp_path: Path) -> None:
    """Twenty seconds of callers: no error, every fact once, limits by recount, and features as training reads them."""
    told = soak(tmp_path, seconds=20, workers=2, callers=4, customers=60)

    assert told["failed"] == []
    assert min(told["calls"].get(kind, 0) for kind in ("events", "decision", "repeat", "exposure", "activation")) > 0
    # One worker may decide while the other folds: it says that it took the newest events from the log itself.
    assert set(told["degraded"]) <= {"model_missing", "record_store_slow", "features_rebuilt"}
