"""The event log as Parquet, for the offline side. A golden file freezes the schema; raw text never leaves the log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from features.event_log import EventLog, LoggedEvent
from features.events import dump_facts
from features.parquet_files import written_whole

MOMENT: Final = pa.timestamp("us", "UTC")

EVENTS_SCHEMA: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("channel", pa.string()),
        pa.field("occurred_at", MOMENT, nullable=False),
        pa.field("arrived_at", MOMENT, nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),
        pa.field("facts", pa.string(), nullable=False),
    ],
    metadata={"headway": "events/1"},
)
"""One row per event in order of position; ``facts`` is canonical JSON, ``day`` is days since the epoch as sent."""


def export_events(log: EventLog, path: Path, *, until: int | None = None, page: int = 50_000) -> int:
    """Write the events up to a position, a row group per page, without keeping a writer of the log waiting.

    Args:
        log: the event log; open it read-only where another process writes it.
        path: the file, replaced only once it is whole.
        until: the last position; None for all there are.
        page: events in memory at a time.

    Returns:
        How many were written.

    Raises:
        StoreUnavailable: the log does not answer, or the file cannot be written.
    """
    n = 0
    with written_whole(path, EVENTS_SCHEMA) as writer:
        for events in log.read(until=until, page=page):
            writer.write_table(event_table(events))
            n += len(events)
    return n


def event_table(logged: Sequence[LoggedEvent]) -> pa.Table:
    """Events as a table of ``EVENTS_SCHEMA``."""
    events = [each.event for each in logged]
    columns: dict[str, list[object]] = {
        "position": [each.position for each in logged],
        "facts": [dump_facts(event.facts).decode() for event in events],
    }
    arrays = []
    for field in EVENTS_SCHEMA:
        values = columns[field.name] if field.name in columns else [getattr(event, field.name) for event in events]
        arrays.append(_array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=EVENTS_SCHEMA)


def _array(values: Sequence[object], dtype: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(dtype) if dtype == MOMENT else pa.array(values, dtype)
