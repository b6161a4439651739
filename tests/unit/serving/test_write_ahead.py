"""A write-ahead log that grows is told of: in bytes, in a note, and once in the log."""

from __future__ import annotations

import io
import json
from pathlib import Path

from serving.telemetry import configure_logging
from serving.write_ahead import WriteAheadLogs


def test_one_that_is_too_long_is_told_of_until_it_is_short(tmp_path: Path) -> None:
    """The event comes once each time."""
    written = io.StringIO()
    configure_logging("info", written)
    wal = tmp_path / "records.db-wal"
    logs = WriteAheadLogs({"events": tmp_path / "events.db", "records": tmp_path / "records.db"}, noted_above=2 << 20)
    told = []

    for size in (1 << 20, 3 << 20, 4 << 20, 0, 5 << 20):
        wal.write_bytes(bytes(size))
        logs.refresh()
        told.append((logs.sizes()["records"], len(logs.notes())))

    assert told == [(1 << 20, 0), (3 << 20, 1), (4 << 20, 1), (0, 0), (5 << 20, 1)]
    assert logs.notes() == (
        "the write-ahead log of records has 5 MB; expected less: end whatever reads records.db for long",
    )
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["event"], line["store"], line["bytes"]) for line in lines] == [
        ("write_ahead_log_grows", "records", 3 << 20),
        ("write_ahead_log_grows", "records", 5 << 20),
    ]
