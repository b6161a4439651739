"""The event log as Parquet, for the offline side. A golden file freezes the schema; raw text never leaves the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from features.event_log import Columns, EventLog, LoggedEvent, columns_of
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

_EVENTS_PER_PAGE: Final = 2_000
"""So few that they still are in the processor's cache when their columns are built: 50,000 take a third longer."""


def export_events(log: EventLog, path: Path, *, until: int | None = None, group: int = 50_000) -> int:
    """Write the events up to a position, page by page, without keeping a writer of the log waiting.

    Args:
        log: the event log; open it read-only where another process writes it.
        path: the file, replaced only once it is whole.
        until: the last position; None for all there are.
        group: events of a row group, of which one is in memory at a time.

    Returns:
        How many were written.

    Raises:
        StoreUnavailable: the log does not answer, or the file cannot be written.
        StoreCorrupted: the log holds facts that are no JSON.
    """
    n = 0
    with written_whole(path, EVENTS_SCHEMA) as writer:
        for table in _row_groups(log.read_columns(until=until, page=min(group, _EVENTS_PER_PAGE)), group):
            writer.write_table(table)
            n += table.num_rows
    return n


def event_table(events: Sequence[LoggedEvent]) -> pa.Table:
    """Events as a table of ``EVENTS_SCHEMA``."""
    return pa.Table.from_batches([_batch(columns_of(events))], schema=EVENTS_SCHEMA)


def _row_groups(pages: Iterable[Columns], size: int) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    for page in pages:
        pending.append(_batch(page))
        if sum(batch.num_rows for batch in pending) >= size:
            yield _joined(pending)
            pending = []
    if pending:
        yield _joined(pending)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches, schema=EVENTS_SCHEMA).combine_chunks()


def _batch(columns: Columns) -> pa.RecordBatch:
    arrays = [_array(values, field.type) for values, field in zip(columns, EVENTS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENTS_SCHEMA)


def _array(values: Sequence[object], dtype: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(dtype) if dtype == MOMENT else pa.array(values, dtype)
