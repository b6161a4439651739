"""Files of process logs: what a spreadsheet must not make of a cell."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pytest

from features.log_files import log_writer


@pytest.mark.parametrize("text", ["\r=1+1", "\n=1+1", "a\r=1+1", "a\n=1+1", 'a"\r\n=1+1'])
def test_a_line_break_in_a_cell_begins_no_row(tmp_path: Path, text: str) -> None:
    """What stands behind it would be the first cell of a row of its own, which a spreadsheet runs."""
    schema = pa.schema([("case:concept:name", pa.string()), ("stage", pa.string())])
    path = tmp_path / "out.csv"

    with log_writer(path, "csv", schema) as writer:
        writer.write(pa.table([[text], ["applied"]], schema=schema))

    with path.open(encoding="utf-8", newline="") as file:
        _, row = csv.reader(file)
    assert row == [text if text.startswith("a") else f"'{text}", "applied"]
