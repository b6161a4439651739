"""The service over a Redis, opened as by ``headway serve``: both readers, a Redis that is down, and one emptied."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from features.events import dump_timestamp
from features.home import Home
from features.online_location import RedisLocation
from serving.bootstrap import open_runtime
from serving.runtime import Runtime
from serving.schemas import DecisionRequest

HOUR_US = 3_600_000_000

# Feast's reader of Parquet, ibis, calls a method that this DuckDB renames.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning:ibis")


@contextmanager
def _running(root: Path, **settings: str) -> Iterator[Runtime]:
    env = {"HEADWAY_HOME": str(root), "HEADWAY_LOG_LEVEL": "error", **settings}
    with asyncio.Runner() as runner:
        opened = open_runtime(env)
        runtime = runner.run(opened.__aenter__())
        try:
            yield runtime
        finally:
            runner.run(opened.__aexit__(None, None, None))


def _accepted(runtime: Runtime, event_id: str, *, hours_ago: int) -> tuple[int, tuple[str, ...]]:
    now = time.time_ns() // 1000
    document = {
        "event_id": event_id,
        "customer_id": "c-1",
        "kind": "application_submitted",
        "channel": "web",
        "facts": {"product": "classic"},
        "occurred_at": dump_timestamp(now - hours_ago * HOUR_US),
    }
    report = runtime.ingest.ingest([document], source="web", arrived_at=now)
    return report.accepted, report.degraded


def _features(runtime: Runtime) -> tuple[int, list[str]]:
    """Hours since the newest event, and what was degraded about features."""
    request = DecisionRequest(request_id=f"r-{time.time_ns()}", customer_id="c-1", mode="dry_run")
    answer: Any = msgspec.json.decode(runtime.decider.decide(request, source="web", now=time.time_ns() // 1000))
    degraded = [reason for reason in answer["degraded"] if reason.startswith("feature")]
    return int(answer["features"]["age_seconds"] // 3600), degraded


def test_either_reader_finds_what_the_other_left(redis_location: RedisLocation, tmp_path: Path) -> None:
    """Our reader and Feast's serve the same home in turn, over the same Redis."""
    seen = []
    for number, reader in enumerate(("online", "feast", "online")):
        with _running(tmp_path, HEADWAY_ONLINE_STORE=redis_location.url, HEADWAY_FEATURE_READER=reader) as runtime:
            found = _features(runtime) if number else None
            seen.append((found, _accepted(runtime, f"e-{number}", hours_ago=72 - 24 * number), _features(runtime)))

    assert seen == [
        (None, (1, ()), (72, [])),
        ((72, []), (1, ()), (48, [])),
        ((48, []), (1, ()), (24, [])),
    ]
    assert not Home(tmp_path).online_db.exists()


@pytest.mark.parametrize("reader", ["online", "feast"])
def test_the_service_starts_while_the_redis_is_down(reader: str, tmp_path: Path) -> None:
    """It is a cache: events are accepted and decisions made, and both say what is missing."""
    settings = {"HEADWAY_ONLINE_STORE": "redis://127.0.0.1:1/0", "HEADWAY_FEATURE_READER": reader}
    with _running(tmp_path, **settings) as runtime:
        accepted, seen = _accepted(runtime, "e-1", hours_ago=72), _features(runtime)

    assert accepted == (1, ("feature_store_unavailable",))
    assert seen == (72, ["feature_store_unavailable"])


def test_a_redis_that_is_emptied_while_the_service_runs(redis_location: RedisLocation, tmp_path: Path) -> None:
    """The next decision says so and is right; the state is back by the next start at the latest."""
    with _running(tmp_path, HEADWAY_ONLINE_STORE=redis_location.url) as runtime:
        _accepted(runtime, "e-1", hours_ago=72)
        with redis.Redis.from_url(redis_location.url) as server:
            server.flushdb()
        emptied = _features(runtime)
    with _running(tmp_path, HEADWAY_ONLINE_STORE=redis_location.url) as runtime:
        healed = _features(runtime)

    assert emptied == (72, ["feature_store_reset"])
    assert healed == (72, [])
