"""The parts of taking in one event, each alone, over stores that nothing else uses."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from features.event_store import SqlEventLog
from features.events import parse_event
from features.home import Home
from features.online_location import RedisLocation
from features.online_stores import open_online_store
from features.store import FeatureStore, ProfileRow, StateRow
from models.configuration import Configuration
from serving.bootstrap import feature_sets_of
from tests.benchmarks.timing import Work

Known = list[tuple[StateRow, ProfileRow]]


def stages(
    opened: ExitStack,
    home: Home,
    configuration: Configuration,
    known: Known,
    document: Any,
    *,
    at: int,
    redis: RedisLocation | None,
) -> dict[str, Work]:
    """One piece of work for each part, by name.

    Args:
        opened: closes the stores at the end.
        home: an empty home.
        configuration: what the customers' states were folded under.
        known: states and profiles of customers.
        document: makes an event of a number and a customer id, as a caller sends it.
        at: now, microseconds since the epoch.
        redis: an empty database; None where there is no server.
    """
    (features,) = feature_sets_of(configuration).values()
    log = SqlEventLog(home.create().events_db)
    opened.callback(log.close)

    def parsed(number: int) -> Any:
        return parse_event(
            document(number, known[number % len(known)][0].customer_id),
            taxonomy=configuration.taxonomy,
            source="b",
            arrived_at=at,
            position=0,
            path="event",
        )

    waiting = {number: parsed(number) for number in range(-1, 2_000)}
    works: dict[str, Work] = {
        "check": parsed,
        "append": lambda number: log.append([waiting[number]]),
        "fold": lambda number: features.fold(known[number % len(known)][0].vector.copy(), waiting[number]),
    }
    locations = {"sqlite": None} if redis is None else {"sqlite": None, "redis": redis}
    for kind, location in locations.items():
        store = open_online_store(
            home if location is None else Home(home.root / kind).create(),
            location,
            {features.journey_id: features},
            configuration.taxonomy,
        )
        opened.callback(store.close)
        store.write([state for state, _ in known], [profile for _, profile in known])
        works |= {f"{kind}_read": _read(store, known), f"{kind}_write": _write(store, known)}
    return works


def _read(store: FeatureStore, known: Known) -> Work:
    keys = [(state.customer_id, state.journey_id) for state, _ in known]
    return lambda number: store.read(*keys[number % len(keys)])


def _write(store: FeatureStore, known: Known) -> Work:
    return lambda number: store.write([known[number % len(known)][0]], [])
