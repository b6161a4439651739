"""Rows of CSV and Parquet files as text, streaming, with the position in the compressed file for progress bars."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any, cast

from features.mapping_values import Row, plain

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
PARQUET_BATCH = 5_000

MAX_LINE_CHARACTERS = 16_000_000
"""Of CSV; the file is not read on behind a line above this."""

DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a cut or damaged gzip file raises."""


class DamagedFile(Exception):
    """A file that cannot be read to its end; every row before the damage was given."""

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(f"got {found}, expected {expected}")


class MalformedRow(Exception):
    """A row that is not one; reading may go on behind it.

    Args:
        row: where it stands.
        value: what was found.
        expected: what it should have been.
        field: what of the row is wrong.
    """

    def __init__(self, row: Row, value: str, expected: str, *, field: str = "row") -> None:
        self.row = row
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"got {value}, expected {expected}")


@dataclass(slots=True)
class Source:
    """An opened file: its rows, what it has for columns, and how far reading has come.

    Attributes:
        name: the file's name without folders.
        columns: its columns; None where the format only shows them as it goes.
        rows: its rows, one group at a time; a malformed row is given as the error that describes it.
        position: the compressed bytes read so far.
        close: releases the file.
        seen: the columns met so far, where ``columns`` is None.
    """

    name: str
    columns: tuple[str, ...] | None
    rows: Iterator[list[Row] | MalformedRow]
    position: Callable[[], int]
    close: Callable[[], None]
    seen: set[str] = field(default_factory=set)


def open_compressed(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """A file's plain bytes, uncompressed if it is gzip, and the raw file below, whose ``tell`` is the progress.

    Raises:
        OSError: if it cannot be opened.
    """
    raw = path.open("rb")
    is_gzip = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return (cast(IO[bytes], gzip.GzipFile(fileobj=raw)), raw) if is_gzip else (raw, raw)


def close_both(plain_bytes: IO[Any], raw: IO[bytes]) -> None:
    """Close what ``open_compressed`` opened; a gzip file leaves the raw one below open."""
    plain_bytes.close()
    raw.close()


def open_csv(path: Path, *, delimiter: str, encoding: str, group_by: str | None) -> Source:
    """A CSV file with a line of headings.

    Raises:
        DamagedFile: if not even the headings can be read, or two columns share a name.
        OSError: if it cannot be opened.
    """
    plain_bytes, raw = open_compressed(path)
    # surrogateescape keeps reading behind a byte that is not text; the row that holds it is refused.
    lines = io.TextIOWrapper(plain_bytes, encoding=encoding, errors="surrogateescape", newline="")
    reader = csv.reader(_bounded(lines), delimiter=DELIMITERS[delimiter])
    try:
        columns = tuple(cell.strip() for cell in next(reader, ()))
    except DamagedFile:
        close_both(lines, raw)
        raise
    except (*DAMAGE, csv.Error, UnicodeError) as error:
        close_both(lines, raw)
        raise DamagedFile(str(error), "a line of headings") from error
    if not columns or len(set(columns)) != len(columns):
        close_both(lines, raw)
        raise DamagedFile(f"the headings {', '.join(columns) or '(none)'}", "one heading per column, each once")
    rows = grouped(_csv_rows(path.name, reader, columns), group_by)
    return Source(path.name, columns, rows, raw.tell, lambda: close_both(lines, raw))


def _bounded(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text; a few bytes of gzip may hold one that no memory does."""
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise DamagedFile("a longer line", f"lines of at most {MAX_LINE_CHARACTERS} characters")
        yield line


def _csv_rows(name: str, reader: Any, columns: Sequence[str]) -> Iterator[Row | MalformedRow]:
    number = 0
    while True:
        try:
            cells = next(reader, None)
        except DAMAGE as error:
            raise DamagedFile(f"{error} behind row {number}", "a whole gzip file") from error
        except csv.Error as error:
            number += 1
            yield MalformedRow(Row(name, number, reader.line_num, {}), str(error), "a row of CSV")
            continue
        if cells is None:
            return
        if not cells:
            continue  # an empty line holds no row
        number += 1
        row = Row(name, number, reader.line_num, dict(zip(columns, map(str.strip, cells), strict=False)))
        if len(cells) != len(columns):
            yield MalformedRow(row, f"{len(cells)} fields", f"{len(columns)} fields, one per heading")
        elif not _is_text(cells):
            yield MalformedRow(row, "bytes that are no text", "text in the encoding of the table")
        else:
            yield row


def _is_text(cells: Sequence[str]) -> bool:
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def open_parquet(path: Path, *, group_by: str | None) -> Source:
    """A Parquet file.

    Raises:
        DamagedFile: if it is none.
        OSError: if it cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    try:
        table = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise DamagedFile(str(error), "a whole Parquet file") from error
    columns = tuple(str(name).strip() for name in table.schema_arrow.names)
    done = [0]
    total = max(int(table.metadata.num_rows), 1)

    def rows() -> Iterator[Row | MalformedRow]:
        number = 0
        try:
            for batch in table.iter_batches(batch_size=PARQUET_BATCH):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    cells = dict(zip(columns, map(cell_text, values), strict=True))
                    yield Row(path.name, number, None, cells)
                done[0] = number
        except pa.ArrowException as error:
            raise DamagedFile(f"{error} behind row {number}", "a whole Parquet file") from error

    return Source(path.name, columns, grouped(rows(), group_by), lambda: size * done[0] // total, table.close)


def cell_text(value: object) -> str:
    """The text of one typed cell; empty for null and NaN.

    >>> [cell_text(value) for value in (None, float("nan"), 1.0, 1.5, True, " a ", b"a")]
    ['', '', '1', '1.5', 'true', 'a', 'a']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape").strip()
    if isinstance(value, str | bool | int | float):
        return plain(value).strip()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return str(value).strip()


def grouped(rows: Iterator[Row | MalformedRow], group_by: str | None) -> Iterator[list[Row] | MalformedRow]:
    """Neighbouring rows with the same text in a column together; each on its own where no column is named."""
    group: list[Row] = []
    try:
        for row in rows:
            if isinstance(row, MalformedRow):
                yield row
                continue
            if group and (group_by is None or group[0].cells[group_by] != row.cells[group_by]):
                yield group
                group = []
            row.group, row.index = group, len(group)
            group.append(row)
    except DamagedFile:
        # What was read before the damage is whole, though the last group may have had more rows.
        if group:
            yield group
        raise
    if group:
        yield group
