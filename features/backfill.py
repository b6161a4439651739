"""Rebuild everything that the feature store keeps from the events: the history for training, the states for serving.

Feast is not needed to write either: its history is Parquet, its online store the tables of ``features.online``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from features.event_tables import EventSource, event_tables
from features.feast_layout import (
    CREATED_TIME,
    CUSTOMER_KEY,
    EVENT_TIME,
    JOURNEY_KEY,
    PROFILE_VIEW,
    STATE_VIEW,
    ColumnType,
    Layout,
    layout,
    profile_columns,
)
from features.feast_repo import offline_file
from features.history import States, final_states, profiles, states_per_arrival
from features.home import Home
from features.kernel import Integers
from features.online_stores import OnlineStore
from features.parquet_files import written_whole
from features.schema import FeatureSet
from features.store import FeatureStore, ProfileRow, StateRow
from features.subjects import forget_subjects, write_subjects
from features.taxonomy import Taxonomy

EVENTS_PER_TABLE: Final = 40_000
"""A state of 200 slots per event makes this about 64 MB."""
_ROWS_PER_WRITE: Final = 500
_MOMENT: Final = pa.timestamp("us", "UTC")
_ARROW: Final[Mapping[ColumnType, pa.DataType]] = {
    "floats": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill wrote.

    Attributes:
        events: events folded.
        customers: customers with at least one event.
        states: states in the online store, one per customer and journey.
        profiles: profiles in the online store, one per customer.
        history_states: rows of the states' history.
        history_profiles: rows of the profiles' history.
    """

    events: int = 0
    customers: int = 0
    states: int = 0
    profiles: int = 0
    history_states: int = 0
    history_profiles: int = 0


def backfill(
    source: EventSource,
    *,
    home: Home,
    store: OnlineStore,
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
    progress: Callable[[int], None] = lambda events: None,
) -> Backfilled:
    """Write the history of every state and profile to ``home.offline``, and the last ones to ``store``.

    The files of the history are replaced whole once all is folded; the online store is emptied first, so what it holds
    afterwards is what the events say and nothing else; where an event is refused it must be filled again.

    Args:
        source: all events of the log.
        home: the home whose history is written.
        store: the online store.
        feature_sets: the feature sets to fold, by journey.
        taxonomy: their taxonomy.
        progress: called with the number of events just folded.

    Raises:
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    columns = layout(feature_sets.values(), taxonomy)
    totals = [0] * 6
    customer_ids: set[str] = set()
    forget_subjects(home.offline)
    with ExitStack() as stack:
        states_file = stack.enter_context(written_whole(offline_file(home, STATE_VIEW), state_schema(columns)))
        profiles_file = stack.enter_context(written_whole(offline_file(home, PROFILE_VIEW), profile_schema(columns)))
        store.clear()
        for table in event_tables(source, taxonomy, events_per_table=EVENTS_PER_TABLE):
            n_history = 0
            finals: list[StateRow] = []
            for feature_set in feature_sets.values():
                history = states_per_arrival(table, feature_set)
                states_file.write_table(state_table(history, feature_set, columns))
                n_history += len(history.customers)
                finals += state_rows(final_states(table, feature_set), feature_set)
            known = list(profiles(table, taxonomy))
            profiles_file.write_table(profile_table(known, columns))
            lasting = set(table.lasting.customers.to_pylist())
            last = {profile.customer_id: profile for profile, _ in known if profile.customer_id in lasting}
            _write(store, finals, list(last.values()))
            counts = (table.n_events, len(table.customers), len(finals), len(last), n_history, len(known))
            totals = [total + count for total, count in zip(totals, counts, strict=True)]
            customer_ids.update(table.customers.to_pylist())
            progress(table.n_events)
    write_subjects(home.offline, customer_ids)
    return Backfilled(*totals)


def state_rows(states: States, feature_set: FeatureSet) -> Iterator[StateRow]:
    """States as rows of the feature store."""
    for customer_id, vector, at, sequence, source, event_id, position in zip(
        states.customers.to_pylist(),
        states.vectors,
        states.last_event_at.tolist(),
        states.last_sequence.tolist(),
        states.last_sources.to_pylist(),
        states.last_event_ids.to_pylist(),
        states.log_positions.tolist(),
        strict=True,
    ):
        yield StateRow(
            customer_id=customer_id,
            journey_id=feature_set.journey_id,
            version=feature_set.version,
            vector=vector,
            last_event_at=at,
            last_sequence=sequence,
            last_source=source,
            last_event_id=event_id,
            log_position=position,
        )


def state_schema(columns: Layout) -> pa.Schema:
    """Columns of the states' history: keys, the view's columns, since when it held and when it was known."""
    return _schema((CUSTOMER_KEY, JOURNEY_KEY), columns.state)


def profile_schema(columns: Layout) -> pa.Schema:
    """Columns of the profiles' history, likewise."""
    return _schema((CUSTOMER_KEY,), columns.profile)


def state_table(states: States, feature_set: FeatureSet, columns: Layout) -> pa.Table:
    """States as rows of their history."""
    n = len(states.customers)
    offsets = feature_set.plan.offsets
    arrays: dict[str, pa.Array] = {
        CUSTOMER_KEY: states.customers,
        JOURNEY_KEY: pa.repeat(feature_set.journey_id, n),
        "version": pa.repeat(feature_set.version, n),
        "last_event_at": pa.array(states.last_event_at),
        "last_sequence": pa.array(states.last_sequence),
        "last_source": states.last_sources,
        "last_event_id": states.last_event_ids,
        "log_position": pa.array(states.log_positions),
        EVENT_TIME: _moments(states.newest_at),
        CREATED_TIME: _moments(states.known_at),
    }
    for i, each in enumerate(feature_set.fields):
        width = len(each.slots)
        slots = np.ascontiguousarray(states.vectors[:, offsets[i] : offsets[i + 1]]).ravel()
        starts = np.arange(n + 1, dtype=np.int32) * np.int32(width)
        arrays[each.name] = pa.ListArray.from_arrays(starts, slots)
    schema = state_schema(columns)
    return pa.table([arrays[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


def profile_table(known: Sequence[tuple[ProfileRow, int]], columns: Layout) -> pa.Table:
    """Profiles, each with the moment since when it was known, as rows of their history."""
    rows: list[dict[str, Any]] = [
        {CUSTOMER_KEY: profile.customer_id, **profile_columns(profile, columns.attributes)} for profile, _ in known
    ]
    table = pa.Table.from_pylist(rows, schema=_schema((CUSTOMER_KEY,), columns.profile, times=()))
    at = np.array(_newest_of_each(known), dtype=np.int64)
    known_at = np.array([moment for _, moment in known], dtype=np.int64)
    return table.append_column(EVENT_TIME, _moments(at)).append_column(CREATED_TIME, _moments(known_at))


def _newest_of_each(known: Sequence[tuple[ProfileRow, int]]) -> list[int]:
    """Times of the profiles that never go back within a customer, though what they rest on may be taken away."""
    newest: list[int] = []
    customer_id = None
    for profile, _ in known:
        is_first = profile.customer_id != customer_id
        newest.append(profile.updated_at if is_first else max(newest[-1], profile.updated_at))
        customer_id = profile.customer_id
    return newest


def _schema(
    keys: Iterable[str], columns: Mapping[str, ColumnType], *, times: Iterable[str] = (EVENT_TIME, CREATED_TIME)
) -> pa.Schema:
    return pa.schema(
        [
            *((key, pa.string()) for key in keys),
            *((name, _ARROW[kind]) for name, kind in columns.items()),
            *((name, _MOMENT) for name in times),
        ]
    )


def _moments(at: Integers) -> pa.Array:
    return pa.array(at, pa.int64()).cast(_MOMENT)


def _write(store: FeatureStore, states: Sequence[StateRow], last_profiles: Sequence[ProfileRow]) -> None:
    for start in range(0, len(states), _ROWS_PER_WRITE):
        store.write(states[start : start + _ROWS_PER_WRITE], [])
    for start in range(0, len(last_profiles), _ROWS_PER_WRITE):
        store.write([], last_profiles[start : start + _ROWS_PER_WRITE])
