"""Features at moments of the past, Parquet to Parquet: a training frame of any size in bounded memory.

Rows out are rows in. The moments are sorted as the events are, so that both run past each other table by table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.backfill import state_schema, state_table
from features.duck import connected
from features.errors import InvalidInput, Problem
from features.event_tables import EVENTS_PER_TABLE, SORT_MEMORY, EventSource, EventTable, event_tables, no_events
from features.events import shown
from features.feast_layout import layout
from features.history import final_states, reads_at
from features.parquet_files import written_whole
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from features.yaml_files import one_of

CUSTOMER: Final = "customer_id"
AT: Final = "at"
_WHO: Final = f"moments.{CUSTOMER}"
_WHEN: Final = f"moments.{AT}"  # alone it is a word of SQL
_ROWS: Final = 20_000
"""Rows read at a time: 400 features of them make 64 MB."""
_MOMENT: Final = pa.timestamp("us", "UTC")

Moments: TypeAlias = Path | pa.Table
"""A Parquet file or its columns: ``customer_id``, ``at``, and whatever else shall stand beside the features."""


@dataclass(frozen=True, slots=True)
class Framed:
    """What was written.

    Attributes:
        rows: rows of the frame, as many as there are moments.
        features: columns of features.
        events: events folded.
        customers: customers with events.
    """

    rows: int
    features: int
    events: int
    customers: int


def write_moment_frame(
    source: EventSource,
    moments: Moments,
    out: Path,
    *,
    feature_set: FeatureSet,
    taxonomy: Taxonomy,
    names: Sequence[str] | None = None,
    states: Path | None = None,
    events_per_table: int = EVENTS_PER_TABLE,
    progress: Callable[[int], None] = lambda events: None,
) -> Framed:
    """Write the moments with the features as of each, from what had occurred and had arrived strictly before it.

    Args:
        source: all events.
        moments: who and when; sorted by customer and time in the frame, and otherwise as they are.
        out: the frame, replaced only once it is whole.
        feature_set: the features.
        taxonomy: that the events keep to.
        names: which features, in this order; all where None.
        states: where the last state of every customer goes too, as the feature store's history has it.
        events_per_table: about how many events are in memory at a time.
        progress: called with the number of events just folded.

    Raises:
        InvalidInput: the moments lack a column, have one of another type or named like a feature, or a value is
            missing; or a name is no feature.
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    chosen = _chosen(feature_set, names)
    columns = [feature_set.names.index(name) for name in chosen]
    schema = _frame_schema(moments, chosen)
    rows = n_events = n_customers = 0
    with (
        _sorted_moments(moments) as batches,
        written_whole(out, schema) as frame,
        _kept_states(states, feature_set, taxonomy) as keep,
    ):
        queue = _MomentQueue(batches, schema)
        for table in event_tables(source, taxonomy, events_per_table=events_per_table):
            for asked in queue.until(table.customers[-1].as_py()):
                frame.write_table(_read(asked, table, feature_set, columns, schema))
                rows += asked.num_rows
            keep(table)
            n_events += table.n_events
            n_customers += len(table.customers)
            progress(table.n_events)
        for asked in queue.until(None):
            frame.write_table(_read(asked, no_events(), feature_set, columns, schema))
            rows += asked.num_rows
    return Framed(rows, len(chosen), n_events, n_customers)


def _read(
    asked: pa.Table, table: EventTable, feature_set: FeatureSet, columns: Sequence[int], schema: pa.Schema
) -> pa.Table:
    """Moments with their features, in their order."""
    at = asked[AT].cast(pa.int64()).to_numpy()
    features = reads_at(table, feature_set, asked[CUSTOMER], at)
    arrays = [*asked.columns, *(pa.array(np.ascontiguousarray(features[:, column])) for column in columns)]
    return pa.Table.from_arrays(arrays, schema=schema)


class _MomentQueue:
    """Moments in the order of customers, taken as the events come by."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
        self._batches = batches
        self._schema = schema
        self._waiting: pa.Table | None = self._next()

    def _next(self) -> pa.Table | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        rows = pa.Table.from_batches([batch])
        return rows.cast(pa.schema([self._schema.field(name) for name in rows.column_names]))

    def until(self, customer_id: str | None) -> Iterator[pa.Table]:
        """The moments of customers up to this one, in pieces; all that are left for None."""
        while self._waiting is not None:
            n = self._waiting.num_rows
            if customer_id is not None:
                n = int(pc.sum(pc.less_equal(self._waiting[CUSTOMER], customer_id)).as_py())
            if n:
                yield self._waiting.slice(0, n)
            if n < self._waiting.num_rows:
                self._waiting = self._waiting.slice(n)
                return
            self._waiting = self._next()


@contextmanager
def _sorted_moments(moments: Moments) -> Iterator[Iterator[pa.RecordBatch]]:
    """Batches of the moments, by customer and time."""
    with TemporaryDirectory(prefix="headway-sort-") as spilled, connected() as connection:
        connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{SORT_MEMORY}'; SET temp_directory = '{spilled}'")
        relation = _relation(connection, moments)
        missing = relation.query("moments", f"SELECT * FROM moments WHERE {_WHO} IS NULL OR {_WHEN} IS NULL LIMIT 1")  # noqa: S608
        for row in missing.fetchall():
            empty = next(name for name in (CUSTOMER, AT) if row[relation.columns.index(name)] is None)
            raise _refused(empty, None, "a value in every row")
        ordered = relation.query("moments", f"SELECT * FROM moments ORDER BY {_WHO}, {_WHEN}")  # noqa: S608  # our names
        yield iter(ordered.to_arrow_reader(_ROWS))


def _relation(connection: Any, moments: Moments) -> Any:
    return connection.read_parquet(str(moments)) if isinstance(moments, Path) else connection.from_arrow(moments)


def _frame_schema(moments: Moments, names: Sequence[str]) -> pa.Schema:
    """The columns of the moments, then the features.

    Raises:
        InvalidInput: the moments cannot be used.
    """
    given = pq.read_schema(moments) if isinstance(moments, Path) else moments.schema
    for column in (CUSTOMER, AT):
        if column not in given.names:
            raise _refused(column, None, f"a column of the moments, which have {', '.join(given.names)}")
    if not pa.types.is_string(given.field(CUSTOMER).type) and not pa.types.is_large_string(given.field(CUSTOMER).type):
        raise _refused(CUSTOMER, str(given.field(CUSTOMER).type), "a column of text")
    kind = given.field(AT).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise _refused(AT, str(kind), "a column of timestamps with a time zone, such as timestamp[us, UTC]")
    for name in given.names:
        if name in names:
            raise _refused(name, name, "a column named unlike every feature: rename it")
    carried = [pa.field(AT, _MOMENT) if each.name == AT else pa.field(each.name, each.type) for each in given]
    return pa.schema([*carried, *(pa.field(name, pa.float64()) for name in names)])


def _refused(column: str, value: object, expected: str) -> InvalidInput:
    problem = Problem(f"moments.{column}", "" if value is None else shown(value), expected)
    return InvalidInput("the moments cannot be read", [problem])


def _chosen(feature_set: FeatureSet, names: Sequence[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in feature_set.names:
            expected = f"a feature of {feature_set.journey_id}: {one_of(feature_set.names, name)}"
            raise InvalidInput("the features cannot be read", [Problem("feature", shown(name), expected)])
    return feature_set.names if names is None else tuple(dict.fromkeys(names))


@contextmanager
def _kept_states(
    path: Path | None, feature_set: FeatureSet, taxonomy: Taxonomy
) -> Iterator[Callable[[EventTable], None]]:
    """Takes the last states of tables to a file, where there shall be one."""
    if path is None:
        yield lambda table: None
        return
    columns = layout([feature_set], taxonomy)
    with written_whole(path, state_schema(columns)) as file:
        yield lambda table: file.write_table(state_table(final_states(table, feature_set), feature_set, columns))
