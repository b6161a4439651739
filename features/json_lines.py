"""Rows of JSON lines, streaming: one JSON object a line, gzip or not, its nested fields by dotted path."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from features.mapping_values import Row
from features.tabular import (
    DAMAGE,
    DamagedFile,
    MalformedRow,
    Source,
    cell_text,
    close_both,
    grouped,
    open_compressed,
)

MAX_LINE_BYTES: Final = 16_000_000
"""A line above this is not one row; it is refused without being held whole."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DECODE: Final = msgspec.json.Decoder(dict[str, Any]).decode
_ABSENT: Final = object()

Rows = Iterator[Row | MalformedRow]


def open_json_lines(path: Path, *, columns: Collection[str], group_by: str | None) -> Source:
    """A file of JSON lines, of which only the given columns are read: ``customer.id`` is ``id`` inside ``customer``.

    A key that is written with dots is found before a path is; a number leads into a list. A list or an object is given
    as JSON text.

    Raises:
        OSError: if it cannot be opened.
    """
    seen: set[str] = set()

    def cells(document: dict[str, Any]) -> dict[str, str]:
        found = {column: value for column in columns if (value := _value_at(document, column)) is not _ABSENT}
        seen.update(found)
        return {column: cell_text(value) for column, value in found.items()}

    def rows(numbered: Iterator[tuple[int, dict[str, Any] | MalformedRow]]) -> Rows:
        for number, (line, document) in enumerate(numbered, start=1):
            if isinstance(document, MalformedRow):
                yield _numbered(document, number)
                continue
            try:
                row = Row(path.name, number, line, cells(document))
            except RecursionError:  # it could be read, and is too deep to be written as the text of a cell
                place = Row(path.name, number, line, {})
                yield MalformedRow(place, "a value nested too deeply", "fewer objects and lists in each other")
                continue
            if group_by is not None:
                row.cells.setdefault(group_by, "")
            yield row

    source = _opened(path, lambda numbered: grouped(rows(numbered), group_by))
    source.seen = seen
    return source


def open_event_documents(path: Path) -> Source:
    """A file of event documents, one a line, or several in a line ``{"events": [...]}`` as the API takes them.

    Raises:
        OSError: if it cannot be opened.
    """

    def rows(numbered: Iterator[tuple[int, dict[str, Any] | MalformedRow]]) -> Rows:
        number = 0
        for line, document in numbered:
            if isinstance(document, MalformedRow):
                number += 1
                yield _numbered(document, number)
                continue
            for each in _documents(document):
                number += 1
                yield Row(path.name, number, line, {}, document=each)

    return _opened(path, lambda numbered: grouped(rows(numbered), None))


def _documents(document: dict[str, Any]) -> list[Any]:
    events = document.get("events")
    return events if isinstance(events, list) and len(document) == 1 else [document]


def _opened(
    path: Path,
    groups: Callable[[Iterator[tuple[int, dict[str, Any] | MalformedRow]]], Iterator[list[Row] | MalformedRow]],
) -> Source:
    plain_bytes, raw = open_compressed(path)
    rows = groups(_decoded(path.name, plain_bytes))
    return Source(path.name, None, rows, raw.tell, lambda: close_both(plain_bytes, raw))


def _decoded(name: str, lines: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | MalformedRow]]:
    """Line number and document of every line that is not empty."""
    number = 0
    while True:
        try:
            line = lines.readline(MAX_LINE_BYTES + 1)
            is_whole = len(line) <= MAX_LINE_BYTES or _skip_line(lines)
        except DAMAGE as error:
            raise DamagedFile(f"{error} behind line {number}", "a whole gzip file") from error
        if not line:
            return
        number += 1
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not is_whole:
            place = Row(name, 0, number, {})
            yield number, MalformedRow(place, "a longer line", f"a line of at most {MAX_LINE_BYTES} bytes")
        elif not text.isspace() and text:
            yield number, _document(name, number, text)


def _skip_line(lines: IO[bytes]) -> bool:
    """Reads on to the end of a line that is too long; False, for the line is not whole."""
    while (rest := lines.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass
    return False


def _document(name: str, line: int, text: bytes) -> dict[str, Any] | MalformedRow:
    try:
        return _DECODE(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return MalformedRow(Row(name, 0, line, {}), _start_of(text), f"one JSON object a line: {error}")


def _start_of(text: bytes) -> str:
    shown = text.decode("utf-8", "replace").strip()
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _numbered(malformed: MalformedRow, number: int) -> MalformedRow:
    malformed.row.number = number
    return malformed


def _value_at(value: Any, path: str) -> Any:
    """What a dotted path leads to inside a document; ``_ABSENT`` for nothing."""
    if isinstance(value, dict) and path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    if isinstance(value, list):
        inner = value[int(head)] if head.isdecimal() and int(head) < len(value) else _ABSENT
        return _value_at(inner, rest) if dot else inner
    if isinstance(value, dict) and dot and head in value:
        return _value_at(value[head], rest)
    return _ABSENT
