"""What a process log holds, read once before it is imported: activities, cases, and the type that each column fits.

A log under the column names of process mining (``case:concept:name``, ``concept:name``, ``time:timestamp``, ...)
declares no vocabulary. This gives what a first one can be drafted from.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

from features.errors import MappingError, Problem
from features.mapping_values import Row, Unusable, parse_moment, parse_number
from features.tabular import DELIMITERS, DamagedFile, MalformedRow, Source, open_csv, open_parquet
from features.xes import open_xes

CASE: Final = "case:concept:name"
ACTIVITY: Final = "concept:name"
TIME: Final = "time:timestamp"
LIFECYCLE: Final = "lifecycle:transition"
RESOURCE: Final = "org:resource"
IDENTITY: Final = "identity:id"
CHANNEL: Final = "channel"
NEEDED: Final = (CASE, ACTIVITY, TIME)
STANDARD: Final = frozenset({*NEEDED, LIFECYCLE, RESOURCE, IDENTITY, CHANNEL})

MAX_CATEGORIES: Final = 20
_ROWS_PER_CATEGORY: Final = 10
"""A column with fewer rows per different text is free text rather than a category."""

_LONGEST_NAME: Final = 50
_FORMATS: Final = {".xes": "xes", ".parquet": "parquet", ".csv": "csv"}
_UTC: Final = ZoneInfo("UTC")

LogFormat = Literal["csv", "parquet", "xes"]
ColumnType = Literal["number", "boolean", "category", "text"]
Key = tuple[str, str]
"""An activity and its transition, empty where the event has none."""


@dataclass(slots=True)
class ColumnProfile:
    """What one column held, where it held anything."""

    filled: int = 0
    is_number: bool = True
    is_boolean: bool = True
    texts: set[str] = field(default_factory=set)

    def add(self, text: str) -> None:
        """Take one more text into account."""
        self.filled += 1
        self.is_number = self.is_number and _is_number(text)
        self.is_boolean = self.is_boolean and text in ("true", "false")
        if len(self.texts) <= MAX_CATEGORIES:
            self.texts.add(text)

    @property
    def dtype(self) -> ColumnType:
        """The type that all of it fits."""
        if self.is_boolean:
            return "boolean"
        if self.is_number:
            return "number"
        few = len(self.texts) <= MAX_CATEGORIES and self.filled >= _ROWS_PER_CATEGORY * len(self.texts)
        return "category" if few else "text"


@dataclass(slots=True)
class Case:
    """The events of one case in their order in the file: index of the key, and microseconds since the epoch."""

    keys: array[int] = field(default_factory=lambda: array("i"))
    at: array[int] = field(default_factory=lambda: array("q"))

    def in_order(self) -> list[tuple[int, int]]:
        """Time and key, in the order of time; ties as in the file."""
        return sorted(zip(self.at, self.keys, strict=True), key=lambda event: event[0])


@dataclass(slots=True)
class ProcessLog:
    """What some files of one log hold.

    Attributes:
        files: their names.
        formats: how they are written, with the delimiter of CSV.
        keys: every activity with its transition, in the order of their first events, with counts.
        cases: by id, in the order of their first events.
        columns: of the events, by name, beside the standard ones.
        filled_by_key: the columns that held something in events of a key.
        case_columns: of the cases, without ``case:``.
        everywhere: the columns that all files have.
        events: usable events.
        identities: events with an ``identity:id``.
        zoneless: a time had no offset.
    """

    files: list[str] = field(default_factory=list)
    formats: dict[LogFormat, str] = field(default_factory=dict)
    keys: Counter[Key] = field(default_factory=Counter)
    cases: dict[str, Case] = field(default_factory=dict)
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    filled_by_key: dict[Key, set[str]] = field(default_factory=dict)
    case_columns: dict[str, ColumnProfile] = field(default_factory=dict)
    everywhere: AbstractSet[str] = frozenset()
    events: int = 0
    identities: int = 0
    zoneless: bool = False

    @property
    def has_identities(self) -> bool:
        """Whether every event says its identity."""
        return IDENTITY in self.everywhere and self.identities == self.events

    def kept(self, columns: Iterable[str]) -> list[str]:
        """Those columns that every file has and that held something, sorted."""
        return sorted(name for name in columns if name in self.everywhere)


def read_process_logs(paths: Sequence[Path]) -> ProcessLog:
    """What the files of a log hold; rows without case, activity or time are left to the import to refuse.

    Raises:
        MappingError: a file cannot be read, lacks a column that every log has, or none holds a usable event.
    """
    log = ProcessLog()
    for path in paths:
        _read(log, path)
    if not log.events:
        expected = f"at least one event with {', '.join(NEEDED)}, times in ISO 8601"
        raise MappingError("There is no event to draft a configuration from:", [Problem("FILE", "", expected)])
    return log


def names_of(texts: Iterable[str], *, taken: AbstractSet[str] = frozenset()) -> dict[str, str]:
    """A configuration name for each text: lower case, digits and underscores, different from each other.

    >>> names_of(["Sent e-mail", "sent E-MAIL", "7 days"])
    {'Sent e-mail': 'sent_e_mail', 'sent E-MAIL': 'sent_e_mail_2', '7 days': 'n_7_days'}
    """
    names: dict[str, str] = {}
    used = set(taken)
    for text in texts:
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:_LONGEST_NAME].rstrip("_") or "activity"
        name = name if name[0].isalpha() else f"n_{name}"
        number, unique = 1, name
        while unique in used:
            number += 1
            unique = f"{name}_{number}"
        used.add(unique)
        names[text] = unique
    return names


def _read(log: ProcessLog, path: Path) -> None:
    source, delimiter = _opened(path)
    try:
        rows = _usable(source, path)
        columns = _add_rows(log, rows)
    except DamagedFile as error:
        raise MappingError("The log cannot be read:", [Problem(str(path), error.found, error.expected)]) from error
    finally:
        source.close()
    found = set(source.columns) if source.columns is not None else source.seen
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise _lacking(path, missing, sorted(found))
    log.everywhere = columns & found if not log.files else log.everywhere & found
    log.files.append(path.name)
    log.formats.setdefault(_format(path), delimiter)


def _lacking(path: Path, missing: Sequence[str], found: Sequence[str]) -> MappingError:
    expected = f"a column of {path.name}, which has: {', '.join(found) or '(none)'}"
    return MappingError(f"{path} is no process log:", [Problem("column", name, expected) for name in missing])


def _format(path: Path) -> LogFormat:
    name = path.name.lower().removesuffix(".gz")
    for suffix, form in _FORMATS.items():
        if name.endswith(suffix):
            return form  # type: ignore[return-value]  # the values of the table are the formats
    expected = f"a file that ends in {', '.join(_FORMATS)}, or one of them and .gz"
    raise MappingError("The process log is of no known format:", [Problem(str(path), path.name, expected)])


def _opened(path: Path) -> tuple[Source, str]:
    """The file, and the delimiter of a CSV under which it has the columns that every log has."""
    form = _format(path)
    try:
        if form == "xes":
            return open_xes(path), "comma"
        if form == "parquet":
            return _with_columns(open_parquet(path, group_by=None), path), "comma"
        for delimiter in DELIMITERS:
            source = open_csv(path, delimiter=delimiter, encoding="utf-8-sig", group_by=None)
            if source.columns is not None and set(NEEDED) <= set(source.columns):
                return source, delimiter
            source.close()
        return _with_columns(open_csv(path, delimiter="comma", encoding="utf-8-sig", group_by=None), path), "comma"
    except DamagedFile as error:
        raise MappingError("The log cannot be read:", [Problem(str(path), error.found, error.expected)]) from error
    except OSError as error:
        problem = Problem(str(path), error.strerror or type(error).__name__, "a file that can be read")
        raise MappingError("The log cannot be read:", [problem]) from error


def _with_columns(source: Source, path: Path) -> Source:
    missing = [name for name in NEEDED if name not in (source.columns or ())]
    if missing:
        source.close()
        raise _lacking(path, missing, source.columns or ())
    return source


def _usable(source: Source, path: Path) -> Iterator[tuple[Row, int, bool]]:
    """Rows with case, activity and time; the time in microseconds, and whether it had no offset."""
    for group in source.rows:
        for row in () if isinstance(group, MalformedRow) else group:
            if not all(row.cells.get(name) for name in NEEDED):
                continue
            text = row.cells[TIME]
            try:
                yield row, parse_moment(text, written=None, zone=None), False
            except Unusable:
                try:
                    yield row, parse_moment(text, written=None, zone=_UTC), True
                except Unusable:
                    continue


def _add_rows(log: ProcessLog, rows: Iterable[tuple[Row, int, bool]]) -> set[str]:
    """Take rows into account; gives the columns that held something."""
    filled: set[str] = set()
    index = {key: place for place, key in enumerate(log.keys)}
    for row, at, zoneless in rows:
        cells = row.cells
        key = (cells[ACTIVITY], cells.get(LIFECYCLE, ""))
        log.keys[key] += 1
        log.events += 1
        log.identities += bool(cells.get(IDENTITY))
        log.zoneless = log.zoneless or zoneless
        is_new = cells[CASE] not in log.cases
        case = log.cases.setdefault(cells[CASE], Case())
        case.keys.append(index.setdefault(key, len(index)))
        case.at.append(at)
        of_key = log.filled_by_key.setdefault(key, set())
        for name, text in cells.items():
            if not text:
                continue
            filled.add(name)
            if name.startswith("case:"):
                if is_new and name != CASE:
                    log.case_columns.setdefault(name.removeprefix("case:"), ColumnProfile()).add(text)
            elif name not in STANDARD or name == CHANNEL:
                of_key.add(name)
                log.columns.setdefault(name, ColumnProfile()).add(text)
    return filled


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except Unusable:
        return False
    return True
