"""The features that decisions were served with, beside those that the event log gives for the same moments.

Both are read page by page and met customer by customer, so memory is bounded whatever was recorded. Nothing is written
but temporary files, and no lock is taken: a server may run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.duck import connected
from features.errors import StoreCorrupted
from features.event_export import EVENTS_SCHEMA, export_events
from features.event_log import EventLog
from features.history import EventTable, event_tables, positions_at, reads_at, whole_table
from features.kernel import Floats, Integers
from features.parquet_files import written_whole
from features.schema import FeatureSet, attribute_number
from features.stable_hash import stable_hash
from features.taxonomy import Taxonomy
from models.decision import DecisionRecord
from models.parity import ParityReport, is_behind
from models.records import RecordStore

COMPARED_MODES: Final = ("live", "shadow")
_RECORDS_PER_PAGE: Final = 1_000
_DECISIONS_PER_PART: Final = 4_096
_EVENTS_PER_TABLE: Final = 100_000

_SCHEMA: Final = pa.schema(
    [
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("journey_id", pa.string(), nullable=False),
        pa.field("as_of", pa.int64(), nullable=False),
        pa.field("log_position", pa.int64(), nullable=False),
        pa.field("vector", pa.list_(pa.float64()), nullable=False),
        pa.field("context", pa.list_(pa.float64()), nullable=False),
        pa.field("degraded", pa.list_(pa.string()), nullable=False),
        pa.field("draw", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which decisions are compared.

    Attributes:
        journey_id: only of this journey; None for all.
        since: first moment of a decision, microseconds since the epoch.
        until: end of the moments, exclusive.
        sample: at most so many, the same ones each time; None for all.
    """

    journey_id: str | None = None
    since: int = 0
    until: int = 2**62
    sample: int | None = None

    def holds(self, record: DecisionRecord) -> bool:
        """Whether a decision is asked for."""
        return self.journey_id in (None, record.journey_id) and self.since <= record.as_of < self.until


class _Asked(msgspec.Struct):
    """What a request said of its own moment."""

    context: dict[str, str | float | bool | None] = {}


def served_against_log(
    records: RecordStore,
    log: EventLog,
    *,
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
    chosen: Chosen,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ParityReport:
    """Every chosen decision's recorded vector, compared with the same moment read from the event log.

    Args:
        records: the decisions.
        log: the events; a longer log than the decisions saw gives the same answer.
        feature_sets: today's, by journey; decisions that were made with others are counted as skipped.
        taxonomy: theirs.
        chosen: which decisions.
        folder: for temporary files.
        progress: called with the number of events read so far, and of all.

    Raises:
        StoreUnavailable: a store does not answer.
        StoreCorrupted: a recorded vector is not as long as its version says.
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    report = ParityReport()
    decisions, events = folder / "decisions.parquet", folder / "events.parquet"
    # Decisions first: whatever they saw is in the log by then.
    with written_whole(decisions, _SCHEMA) as writer:
        for page in records.read(page=_RECORDS_PER_PAGE):
            writer.write_table(_table(_comparable(page, feature_sets, chosen, report), feature_sets))
    total = export_events(log, events)
    done = 0
    with connected() as connection:
        queue = _Queue(_sorted_decisions(connection, decisions, chosen.sample))
        for table in event_tables(events, taxonomy, events_per_table=_EVENTS_PER_TABLE):
            for part in queue.up_to(table.customers[-1].as_py()):
                _compare(report, table, part, feature_sets)
            done += table.n_events
            progress(done, total)
        nobody = whole_table(EVENTS_SCHEMA.empty_table(), taxonomy)
        for part in queue.rest():
            _compare(report, nobody, part, feature_sets)
    return report


def _comparable(
    records: Iterable[DecisionRecord], feature_sets: Mapping[str, FeatureSet], chosen: Chosen, report: ParityReport
) -> list[DecisionRecord]:
    found = []
    for record in records:
        if not chosen.holds(record):
            continue
        reason = _incomparable(record, feature_sets)
        if reason is None:
            found.append(record)
        else:
            report.skip(reason)
    return found


def _incomparable(record: DecisionRecord, feature_sets: Mapping[str, FeatureSet]) -> str | None:
    """Why a decision cannot be compared; None where it can."""
    if record.mode not in COMPARED_MODES:
        return f"mode_{record.mode}"
    if not record.vector:
        return "no_vector"
    feature_set = feature_sets.get(record.journey_id)
    if feature_set is None:
        return "journey_not_declared"
    if record.versions.get("features") != feature_set.version:
        return "other_features_version"
    if len(record.vector) != len(feature_set.names):
        raise StoreCorrupted(
            f"decision {record.decision_id} holds {len(record.vector)} features, expected the "
            f"{len(feature_set.names)} of version {feature_set.version}: restore a backup"
        )
    return None


def _table(records: list[DecisionRecord], feature_sets: Mapping[str, FeatureSet]) -> pa.Table:
    rows = [
        {
            "customer_id": record.customer_id,
            "decision_id": record.decision_id,
            "journey_id": record.journey_id,
            "as_of": record.as_of,
            "log_position": record.log_position,
            "vector": record.vector,
            "context": _context_numbers(record, feature_sets[record.journey_id]),
            "degraded": record.degraded,
            "draw": stable_hash("parity", record.decision_id) >> 1,
        }
        for record in records
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _context_numbers(record: DecisionRecord, feature_set: FeatureSet) -> list[float]:
    if not feature_set.context:
        return []
    try:
        stated = msgspec.json.decode(record.request, type=_Asked).context
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupted(
            f"decision {record.decision_id} holds a request that cannot be read ({error}): restore a backup"
        ) from error
    return [attribute_number(stated.get(name), declared) for name, declared in feature_set.context.items()]


def _sorted_decisions(connection: Any, path: Path, sample: int | None) -> Iterator[pa.Table]:
    """Decisions in the order of their customers, as pages."""
    connection.execute("SET threads = 1")
    rows = connection.read_parquet(str(path))
    query = "SELECT * FROM decisions"
    if sample is not None:
        query = f"SELECT * FROM (SELECT * FROM decisions ORDER BY draw, decision_id LIMIT {int(sample)})"  # noqa: S608  # a number
    reader = rows.query("decisions", f"{query} ORDER BY customer_id, decision_id").to_arrow_reader(_DECISIONS_PER_PART)
    for batch in reader:
        yield pa.Table.from_batches([batch])


class _Queue:
    """Pages of decisions in the order of their customers, taken customer by customer."""

    def __init__(self, pages: Iterator[pa.Table]) -> None:
        self._pages = pages
        self._page: pa.Table | None = None

    def up_to(self, customer_id: str) -> Iterator[pa.Table]:
        """Those of all customers up to and with this one."""
        while (page := self._peek()) is not None:
            n = int(pc.sum(pc.less_equal(page["customer_id"], customer_id)).as_py())
            if n:
                yield page.slice(0, n)
            self._page = page.slice(n)
            if n < page.num_rows:
                return

    def rest(self) -> Iterator[pa.Table]:
        """All that are left."""
        while (page := self._peek()) is not None:
            yield page
            self._page = None

    def _peek(self) -> pa.Table | None:
        if self._page is None or not self._page.num_rows:
            self._page = next(self._pages, None)
        return self._page


def _compare(
    report: ParityReport, table: EventTable, decisions: pa.Table, feature_sets: Mapping[str, FeatureSet]
) -> None:
    for journey_id in pc.unique(decisions["journey_id"]).to_pylist():
        rows = decisions.filter(pc.equal(decisions["journey_id"], journey_id)).combine_chunks()
        feature_set = feature_sets[journey_id]
        customers, at = rows["customer_id"], _integers(rows["as_of"])
        recomputed = reads_at(table, feature_set, customers, at)
        if feature_set.context:
            recomputed[:, -len(feature_set.context) :] = _matrix(rows["context"], len(feature_set.context))
        report.add(
            feature_set.names,
            rows["decision_id"].to_pylist(),
            _matrix(rows["vector"], len(feature_set.names)),
            recomputed,
            is_behind=is_behind(_integers(rows["log_position"]), positions_at(table, customers, at)),
            degraded=rows["degraded"].to_pylist(),
        )


def _integers(column: pa.ChunkedArray) -> Integers:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _matrix(column: pa.ChunkedArray, width: int) -> Floats:
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], pa.float64())
    return np.asarray(flat.to_numpy(), dtype=np.float64).reshape(-1, width)
