"""Apply a mapping to files: rows in, validated events and past decisions out, every refusal on the record.

Nothing is lost silently: per kind of item, accepted + duplicate + rejected is what the rows gave, and every row that
gave nothing is counted as skipped.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol

from features.errors import InvalidInput, MappingError, Problem
from features.events import JourneyEvent
from features.json_lines import open_event_documents, open_json_lines
from features.mapping import Mapping, Table
from features.mapping_fields import Vocabulary
from features.mapping_items import Item, Kind, Maker, makers_of
from features.mapping_values import Row
from features.ocel import open_ocel
from features.past_decisions import PastDecision
from features.tabular import DamagedFile, MalformedRow, Source, open_csv, open_parquet
from features.xes import open_xes

BATCH: Final = 5_000
"""Events per commit."""

KINDS: Final[tuple[Kind, ...]] = ("events", "attributes", "decisions", "outcomes")

FIRST_REJECTS: Final = 5
"""Refusals that are shown at once."""

Progress = Callable[[Path, int], None]
"""Called with a file and the compressed bytes of it that were read so far."""


class Sink(Protocol):
    """Where an import puts what it accepts. What it answered is durable."""

    def append_events(self, events: Sequence[JourneyEvent]) -> Sequence[bool]:
        """Keep events; for each, whether it was new."""

    def append_decisions(self, decisions: Sequence[PastDecision]) -> int:
        """Keep past decisions; how many were new."""


class DryRun:
    """A sink that keeps nothing but the identities, to tell duplicates within the files."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def append_events(self, events: Sequence[JourneyEvent]) -> Sequence[bool]:
        """Whether each identity is met for the first time."""
        return [self._is_new(hash((event.source, event.event_id))) for event in events]

    def append_decisions(self, decisions: Sequence[PastDecision]) -> int:
        """How many identities are met for the first time."""
        return sum(self._is_new(hash(decision.decision_id)) for decision in decisions)

    def _is_new(self, identity: int) -> bool:
        before = len(self._known)
        self._known.add(identity)
        return len(self._known) > before


@dataclass(slots=True)
class Tally:
    """What became of the items of one kind."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0


@dataclass(slots=True)
class ImportResult:
    """What an import did.

    Attributes:
        rows: rows read; a row may give several items.
        rows_rejected: rows with at least one item that was refused, or that were no rows.
        rows_skipped: rows that gave nothing, by the conditions of the mapping or for lack of values.
        tallies: by kind of item.
        customers: different customers met.
        first_at: the earliest ``occurred_at`` accepted, or None.
        last_at: the latest.
        problems: what kept a file from being read, or from being read to its end.
    """

    rows: int = 0
    rows_rejected: int = 0
    rows_skipped: int = 0
    tallies: dict[Kind, Tally] = field(default_factory=lambda: {kind: Tally() for kind in KINDS})
    customers: int = 0
    first_at: int | None = None
    last_at: int | None = None
    problems: list[Problem] = field(default_factory=list)


class Rejects:
    """Everything that was refused: the first few in memory, all in a file of JSON lines, made only when needed.

    Each line holds file, line, row, field, value and expectation.

    Args:
        path: the file; None keeps the first few only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.first: list[tuple[Row, Problem]] = []
        self._file: IO[str] | None = None

    def add(self, row: Row, problem: Problem) -> None:
        """Write down one refusal."""
        if len(self.first) < FIRST_REJECTS:
            self.first.append((row, problem))
        if self.path is None:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        entry = {
            "file": row.file,
            "line": row.line,
            "row": row.number,
            "field": problem.path,
            "value": problem.value,
            "expected": problem.expected,
        }
        self._file.write(json.dumps(entry, ensure_ascii=True) + "\n")

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


class Importer:
    """One mapping, ready to be applied to files."""

    def __init__(self, mapping: Mapping, vocabulary: Vocabulary, sink: Sink, rejects: Rejects) -> None:
        self._tables = [(table, makers_of(table, mapping, vocabulary)) for table in mapping.tables]
        self._time_zone = mapping.time_zone
        self._sink = sink
        self._rejects = rejects
        self._events: list[tuple[Kind, JourneyEvent]] = []
        self._decisions: list[PastDecision] = []
        self._customers: set[int] = set()
        self.result = ImportResult()

    def read(self, path: Path, progress: Progress) -> None:
        """Import one file.

        What keeps it from being read to its end goes to the result's problems, as do columns of a process log that were
        met in no row; what was accepted before stays.

        Raises:
            MappingError: if no table of the mapping reads such a file, or the file lacks a column; nothing was read.
        """
        table, makers = self._table_of(path)
        try:
            source = _opened(path, table, makers, self._time_zone)
        except (DamagedFile, OSError) as error:
            self.result.problems.append(_unreadable(path, error))
            return
        try:
            if source.columns is not None:
                _require(source.name, source.columns, makers, table.group_by)
            self._read_rows(source, makers, lambda: progress(path, source.position()))
        except DamagedFile as error:
            self.result.problems.append(_unreadable(path, error))
        else:
            if source.columns is None:
                self.result.problems += _missing(source.name, sorted(source.seen), makers, None)
        finally:
            source.close()
            self.flush()

    def flush(self) -> None:
        """Hand everything that waits to the sink."""
        events, self._events = self._events, []
        decisions, self._decisions = self._decisions, []
        if events:
            news = self._sink.append_events([event for _, event in events])
            for (kind, _), is_new in zip(events, news, strict=True):
                tally = self.result.tallies[kind]
                tally.accepted += is_new
                tally.duplicate += not is_new
        if decisions:
            new = self._sink.append_decisions(decisions)
            self.result.tallies["decisions"].accepted += new
            self.result.tallies["decisions"].duplicate += len(decisions) - new
        self.result.customers = len(self._customers)

    def _table_of(self, path: Path) -> tuple[Table, list[Maker]]:
        for table, makers in self._tables:
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in table.files):
                return table, makers
        patterns = ", ".join(pattern for table, _ in self._tables for pattern in table.files)
        problem = Problem(str(path), path.name, f"a file name that fits one of the mapping's patterns: {patterns}")
        raise MappingError("The mapping does not read this file:", [problem])

    def _read_rows(self, source: Source, makers: Sequence[Maker], progress: Callable[[], None]) -> None:
        for group in source.rows:
            if isinstance(group, MalformedRow):
                self.result.rows += 1
                self.result.rows_rejected += 1
                self._rejects.add(group.row, Problem(group.field, group.value, group.expected))
                continue
            given: set[int] = set()
            for row in group:
                self._read_row(row, makers, given)
            if len(self._events) + len(self._decisions) >= BATCH:
                self.flush()
                progress()

    def _read_row(self, row: Row, makers: Sequence[Maker], given: set[int]) -> None:
        self.result.rows += 1
        items = rejected = 0
        for index, maker in enumerate(makers):
            if row.sections is not None and maker.kind not in row.sections:
                continue
            if (maker.per_group and index in given) or not maker.meets(row):
                continue
            given.add(index)
            try:
                item = maker.make(row)
            except InvalidInput as error:
                rejected += 1
                self.result.tallies[maker.kind].rejected += 1
                for problem in error.problems:
                    self._rejects.add(row, problem)
                continue
            if item is not None:
                items += 1
                self._take(maker.kind, item)
        self.result.rows_rejected += rejected > 0
        self.result.rows_skipped += items == rejected == 0

    def _take(self, kind: Kind, item: Item) -> None:
        self._customers.add(hash(item.customer_id))
        if isinstance(item, PastDecision):
            self._decisions.append(item)
            at = item.decided_at
        else:
            self._events.append((kind, item))
            at = item.occurred_at
        result = self.result
        result.first_at = at if result.first_at is None else min(result.first_at, at)
        result.last_at = at if result.last_at is None else max(result.last_at, at)


def _opened(path: Path, table: Table, makers: Sequence[Maker], time_zone: str | None) -> Source:
    if table.format == "xes":
        return open_xes(path)
    if table.format == "jsonl":
        return open_json_lines(path, columns=_needed(makers, table.group_by), group_by=table.group_by)
    if table.format == "headway_events":
        return open_event_documents(path)
    if table.ocel is not None:
        return open_ocel(path, table.ocel, time_zone=time_zone)
    if table.format == "parquet":
        return open_parquet(path, group_by=table.group_by)
    return open_csv(path, delimiter=table.delimiter, encoding=table.encoding, group_by=table.group_by)


def _require(name: str, columns: Sequence[str], makers: Sequence[Maker], group_by: str | None) -> None:
    """Raises MappingError if a column that the mapping reads is not in the file."""
    problems = _missing(name, columns, makers, group_by)
    if problems:
        raise MappingError(f"The mapping reads columns that {name} does not have:", problems)


def _needed(makers: Sequence[Maker], group_by: str | None) -> frozenset[str]:
    return frozenset(column for maker in makers for column in maker.columns) | ({group_by} if group_by else set())


def _missing(name: str, columns: Sequence[str], makers: Sequence[Maker], group_by: str | None) -> list[Problem]:
    needed = _needed(makers, group_by)
    expected = f"a column of {name}, which has: {', '.join(columns) or '(none)'}"
    return [Problem("column", column, expected) for column in sorted(needed - set(columns))]


def _unreadable(path: Path, error: DamagedFile | OSError) -> Problem:
    if isinstance(error, DamagedFile):
        return Problem(str(path), error.found, error.expected)
    return Problem(str(path), error.strerror or type(error).__name__, "a file that can be read")
