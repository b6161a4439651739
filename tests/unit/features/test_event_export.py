"""Events as Parquet: all of them, in order, without the raw text, and never half a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import StoreUnavailable
from features.event_export import EVENTS_SCHEMA, export_events
from features.event_log import LoggedEvent, MemoryEventLog
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

    assert export_events(log, path, page=10) == 25

    table = pq.read_table(path)
    assert table.schema.equals(EVENTS_SCHEMA)
    assert table["position"].to_pylist() == list(range(1, 26))
    for name in ("source", "event_id", "customer_id", "kind", "channel", "sequence", "day"):
        assert table[name].to_pylist() == [getattr(one, name) for one in events]
    for name in ("occurred_at", "arrived_at"):
        assert table[name].cast(pa.int64()).to_pylist() == [getattr(one, name) for one in events]


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
    assert export_events(log, path, until=4, page=3) == 4
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
