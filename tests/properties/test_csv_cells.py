"""Cells of CSV files: whatever text comes in, no spreadsheet runs it, nothing is lost, and numbers stay numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.log_files import FORMULA_STARTS, log_writer

SCHEMA = pa.schema([("text", pa.string()), ("number", pa.float64())])
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    st.builds(str.__add__, st.sampled_from(FORMULA_STARTS), st.text(st.characters(exclude_categories=("Cs",)))),
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(TEXT, NUMBER), min_size=1, max_size=8))
def test_text_is_quoted_and_numbers_are_not(rows: list[tuple[str, float]]) -> None:
    """An apostrophe stands before what would be run, and before nothing else; the rest of the text is what it was."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cells.csv"
        with log_writer(path, "csv", SCHEMA) as writer:
            writer.write(pa.table([[text for text, _ in rows], [number for _, number in rows]], schema=SCHEMA))
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.reader(file))[1:]

    assert [float(number) for _, number in found] == [number for _, number in rows]
    for (cell, _), (text, _) in zip(found, rows, strict=True):
        assert not cell.startswith(FORMULA_STARTS)
        assert cell == (f"'{text}" if text.startswith(FORMULA_STARTS) else text)
