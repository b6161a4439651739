"""Files of process logs, written in pieces and seen only once they are whole: CSV, Parquet and XES.

A CSV opened in a spreadsheet must not run what a customer wrote: text that a spreadsheet takes for a formula gets an
apostrophe before it.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import IO, Final, Literal, Protocol, cast
from xml.sax.saxutils import quoteattr

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import Refused
from features.parquet_files import written_whole
from features.whole_files import whole_file

LogFormat = Literal["csv", "parquet", "xes"]

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the start of a formula, in full width too (OWASP, CSV injection; ASVS 1.2.10)."""

CASE: Final = "case:"
CASE_ID: Final = "case:concept:name"
_NOT_IN_XML: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUFFIXES: Final[Mapping[str, LogFormat]] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".xes": "xes",
    ".xes.gz": "xes",
}


class LogWriter(Protocol):
    """Takes tables of one schema, whole cases in their order."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""


def format_of(path: Path) -> LogFormat:
    """The format that a file's name says.

    Raises:
        Refused: it says none.
    """
    for suffix, form in _SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return form
    raise Refused(f"the name {path.name} says no format; expected one that ends in {', '.join(_SUFFIXES)}, or --format")


@contextmanager
def log_writer(path: Path, form: LogFormat, schema: pa.Schema, *, mode: int = 0o666) -> Iterator[LogWriter]:
    """A writer of ``path``, which holds what it held before until the block ends without an error.

    Args:
        path: the file.
        form: of the file.
        schema: of the tables.
        mode: who may read and write it, less what the process's umask takes.

    Raises:
        StoreUnavailable: if the file cannot be written.
    """
    with ExitStack() as stack:
        if form == "parquet":
            yield _ParquetWriter(stack.enter_context(written_whole(path, schema, mode=mode)))
            return
        text = stack.enter_context(text_written_whole(path, mode=mode))
        if form == "csv":
            yield _CsvWriter(text, schema)
            return
        text.write(_XES_HEAD)
        yield _XesWriter(text, schema)
        text.write("</log>\n")


@contextmanager
def text_written_whole(path: Path, *, mode: int = 0o666) -> Iterator[IO[str]]:
    """UTF-8 text of ``path``, compressed where it is called ``.gz``, replaced only once it is whole.

    Args:
        path: the file.
        mode: who may read and write it, less what the process's umask takes.

    Raises:
        StoreUnavailable: if the file cannot be written.
    """
    with whole_file(path, mode=mode) as partial, ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(partial.open("wb"))
        if path.name.lower().endswith(".gz"):
            # No name and no time: the same rows give the same bytes.
            compressed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
            raw = cast(IO[bytes], stack.enter_context(compressed))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def guarded(text: str) -> str:
    """Text as a cell that no spreadsheet runs.

    >>> guarded("=1+1"), guarded("1+1")
    ("'=1+1", '1+1')
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


class _ParquetWriter:
    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)


class _CsvWriter:
    def __init__(self, file: IO[str], schema: pa.Schema) -> None:
        # RFC 4180; only the characters of the terminator are quoted, and a bare one in a cell would begin a row.
        self._writer = csv.writer(file, lineterminator="\r\n")
        self._writer.writerow(schema.names)

    def write(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=10_000):
            columns = [map(_cell, column.to_pylist()) for column in batch.columns]
            self._writer.writerows(zip(*columns, strict=True))


def _cell(value: object) -> str:
    """A value as CSV: numbers as they are, so that -5 stays a number, and text guarded."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return guarded(value) if isinstance(value, str) else str(value)


_XES_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1.0" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
<extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
<extension name="Identity" prefix="identity" uri="http://www.xes-standard.org/identity.xesext"/>
"""


class _XesWriter:
    def __init__(self, file: IO[str], schema: pa.Schema) -> None:
        self._file = file
        self._case = [name for name in schema.names if name.startswith(CASE)]
        self._event = [name for name in schema.names if not name.startswith(CASE)]

    def write(self, table: pa.Table) -> None:
        rows = (row for batch in table.to_batches(max_chunksize=10_000) for row in batch.to_pylist())
        for _, events in groupby(rows, key=lambda row: row[CASE_ID]):
            case = list(events)
            about = "".join(_attribute(name.removeprefix(CASE), case[0][name]) for name in self._case)
            self._file.write(f"<trace>{about}\n")
            self._file.writelines(map(self._event_element, case))
            self._file.write("</trace>\n")

    def _event_element(self, row: Mapping[str, object]) -> str:
        return f"<event>{''.join(_attribute(name, row[name]) for name in self._event)}</event>\n"


def _attribute(key: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        element, text = "boolean", "true" if value else "false"
    elif isinstance(value, datetime):
        element, text = "date", value.isoformat()
    elif isinstance(value, float):
        element, text = "float", repr(value)
    else:
        # XML 1.0 has no way to write most control characters, not even escaped.
        element, text = "id" if key == "identity:id" else "string", _NOT_IN_XML.sub("�", str(value))
    return f"<{element} key={quoteattr(key)} value={quoteattr(text)}/>"
