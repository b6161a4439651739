"""B3: from an event that arrives to the state that the next decision reads, against Feast's push of one row."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Any

import pandas as pd

from features.events import dump_timestamp
from features.feast_layout import (
    CREATED_TIME,
    CUSTOMER_KEY,
    EVENT_TIME,
    JOURNEY_KEY,
    STATE_COLUMNS,
    STATE_VIEW,
    layout,
    state_columns,
)
from features.home import Home
from models.configuration import load_configuration
from serving.bootstrap import feature_sets_of
from tests.benchmarks.decision import running
from tests.benchmarks.process import Client, service
from tests.benchmarks.report import Measure, absolute, faster
from tests.benchmarks.stages import stages
from tests.benchmarks.timing import interleaved
from tests.benchmarks.world import Worlds, present
from tests.redis_servers import empty_database, redis_answers

BATCH = 5_000
"""Events of one batch in the batch figure, over half as many customers."""


def measures(worlds: Worlds) -> list[Measure]:
    """One event at a time against ``push``, and batches."""
    home, now = worlds.copy("freshness"), present()
    with ExitStack() as opened:
        runtime: Any = opened.enter_context(running(home))
        runtime.ingest.ingest(worlds.documents(now), source="benchmark", arrived_at=now)
        ids = worlds.customer_ids()
        push = _Push(worlds, runtime, ids[0])

        def accept(number: int) -> None:
            document = _event(f"one-{number}", ids[number % len(ids)], now + number)
            runtime.ingest.ingest([document], source="b", arrived_at=now + number)

        configuration = load_configuration(worlds.trained, {})
        (journey,) = configuration.journeys.by_id
        parts = stages(
            opened,
            Home(worlds.folder / "stages"),
            configuration,
            [runtime.ingest.rebuild(one, journey) for one in ids],
            lambda number, customer_id: _event(f"part-{number}", customer_id, now),
            at=now,
            redis=opened.enter_context(empty_database()) if redis_answers() else None,
        )
        works = {"ours": accept, "push": push.push, **parts}
        times = interleaved(
            works, rounds=3 if worlds.quick else 30, calls={name: 2 if name == "push" else 20 for name in works}
        )
    rates = _batch_rates(worlds)
    ours, pushed = times["ours"], times["push"].median_ms
    writes = {kind: times[f"{kind}_write"] for kind in ("sqlite", "redis") if f"{kind}_write" in times}
    return [
        faster("vs_feast_push", ours.median_ms, pushed, target=30.0, spread=ours.spread_ms),
        *(
            faster(f"{kind}_write_vs_feast_push", write.median_ms, pushed, target=30.0, spread=write.spread_ms)
            for kind, write in writes.items()
        ),
        *(
            absolute(f"part_{name}", 1000 * times[name].median_ms, unit="us", target=None, at_most=True)
            for name in parts
        ),
        absolute("http_events_per_cpu_second", statistics.median(rates), unit="events/s", target=5_000, at_most=False),
    ]


def _batch_rates(worlds: Worlds) -> list[float]:
    """Events for each second of the server's CPU, batch by batch over HTTP; from the second on, customers are known."""
    size = 200 if worlds.quick else BATCH
    rates = []
    with service(worlds.copy("batches"), compiled=worlds.trained) as server:
        client = Client(server.port)
        for part in range(2 if worlds.quick else 8):
            now = present()
            events = [_event(f"batch-{part}-{i}", f"many-{i % (size // 2)}", now) for i in range(size)]
            before = server.cpu_seconds()
            client.post("/v1/events", {"events": events})
            rates.append(size / max(server.cpu_seconds() - before, 0.01))
    return rates


def _event(event_id: str, customer_id: str, at: int) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "customer_id": customer_id,
        "kind": "page_viewed",
        "occurred_at": dump_timestamp(at),
        "channel": "web",
        "facts": {"page": "status"},
    }


class _Push:
    """Feast's own way to bring one row online: ``push`` to a source of the same view."""

    def __init__(self, worlds: Worlds, runtime: Any, customer_id: str) -> None:
        import feast

        from features.feast_repo import feast_objects, repo_config

        home = Home(worlds.folder / "push").create()
        configuration = load_configuration(worlds.trained, {})
        feature_sets = feature_sets_of(configuration)
        (features,) = feature_sets.values()
        self._store = feast.FeatureStore(config=repo_config(home))
        objects = feast_objects(home, feature_sets.values(), configuration.taxonomy)
        (view,) = [each for each in objects if getattr(each, "name", None) == STATE_VIEW]
        source = feast.PushSource(name="state_push", batch_source=view.batch_source)
        pushed = feast.FeatureView(
            name=f"{STATE_VIEW}_pushed", entities=_entities(objects), schema=view.schema, source=source, ttl=view.ttl
        )
        self._store.apply([*objects, source, pushed])
        state, _ = runtime.ingest.rebuild(customer_id, features.journey_id)
        row = {
            CUSTOMER_KEY: customer_id,
            JOURNEY_KEY: features.journey_id,
            **state_columns(state, features),
            EVENT_TIME: pd.Timestamp(state.last_event_at, unit="us", tz="UTC"),
            CREATED_TIME: pd.Timestamp(state.last_event_at, unit="us", tz="UTC"),
        }
        assert set(row) >= {*layout(feature_sets.values(), configuration.taxonomy).fields, *STATE_COLUMNS}
        self._frame = pd.DataFrame([row])

    def push(self, _: int) -> None:
        from feast.data_source import PushMode

        self._store.push("state_push", self._frame, to=PushMode.ONLINE)


def _entities(objects: Any) -> list[Any]:
    import feast

    return [each for each in objects if isinstance(each, feast.Entity)]
