"""Events as Parquet: all of them, in order, without the raw text, and never half a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import StoreUnavailable
from features.event_export import EVENTS_SCHEMA, event_table, export_events
from features.event_log import LoggedEvent, MemoryEventLog
from features.event_store import SqlEventLog
from tests.histories import START_AT, event, random_history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "snapshot" / "events.parquet"


def test_every_event_is_exported_in_order(path: Path) -> None:
    """Rows are the log's, in order of position, over several row groups."""
    log = MemoryEventLog()
    events = random_history(3, n_events=25)
    log.append(events)

    assert export_events(log, path, group=10) == 25

    table = pq.read_table(path)
    assert table.schema.equals(EVENTS_SCHEMA)
    assert table["position"].to_pylist() == list(range(1, 26))
    for name in ("source", "event_id", "customer_id", "kind", "channel", "sequence", "day"):
        assert table[name].to_pylist() == [getattr(one, name) for one in events]
    for name in ("occurred_at", "arrived_at"):
        assert table[name].cast(pa.int64()).to_pylist() == [getattr(one, name) for one in events]


def test_a_file_is_exported_as_its_events_are(path: Path, tmp_path: Path) -> None:
    """Row for row the events that the log gives, whichever log; a row group for as many as were asked for."""
    events = random_history(4, n_events=5_003)
    log = SqlEventLog(tmp_path / "events.db")
    log.append(events)

    assert export_events(log, path, until=5_000, group=4_000) == 5_000

    expected = event_table([LoggedEvent(position, one) for position, one in enumerate(events[:5_000], start=1)])
    assert pq.read_table(path).equals(expected, check_metadata=True)
    found = pq.ParquetFile(path).metadata
    assert [found.row_group(place).num_rows for place in range(found.num_row_groups)] == [4_000, 1_000]
    log.close()


def test_facts_are_canonical_json(path: Path) -> None:
    """Sorted keys, so that equal facts are equal text."""
    log = MemoryEventLog()
    log.append([event("a", facts={"b": 1.0, "a": "é"}), event("b")])
    export_events(log, path)
    assert pq.read_table(path)["facts"].to_pylist() == ['{"a":"é","b":1.0}', "{}"]


def test_raw_text_stays_in_the_log(path: Path) -> None:
    """What a customer wrote is in no byte of the file."""
    log = MemoryEventLog()
    log.append([replace(event("a"), text="I am very unhappy")])
    export_events(log, path)
    assert "text" not in pq.read_schema(path).names
    assert b"unhappy" not in path.read_bytes()


def test_the_export_ends_where_asked(path: Path) -> None:
    """``until`` is the last position."""
    log = MemoryEventLog()
    log.append([event(f"e-{i}", at=START_AT + i) for i in range(9)])
    assert export_events(log, path, until=4, group=3) == 4
    assert pq.read_table(path)["event_id"].to_pylist() == ["e-0", "e-1", "e-2", "e-3"]


def test_an_empty_log_gives_an_empty_table(path: Path) -> None:
    """Nothing to export is a file with the schema and no row."""
    assert export_events(MemoryEventLog(), path) == 0
    assert pq.read_table(path).schema.equals(EVENTS_SCHEMA)


def test_a_failed_export_leaves_the_file_before(path: Path) -> None:
    """Where the log fails halfway, the earlier file stays whole and nothing else is left."""

    class FailingLog(MemoryEventLog):
        def read(self, *, after: int = 0, until: int | None = None, page: int = 10_000) -> Iterator[list[LoggedEvent]]:
            yield [LoggedEvent(1, event("a"))]
            raise StoreUnavailable("gone")

    log = MemoryEventLog()
    log.append([event("before")])
    export_events(log, path)

    with pytest.raises(StoreUnavailable, match="gone"):
        export_events(FailingLog(), path)

    assert pq.read_table(path)["event_id"].to_pylist() == ["before"]
    assert [each.name for each in path.parent.iterdir()] == ["events.parquet"]
