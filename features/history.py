"""The kernel over tables of events: states per arrival, final states, reads at requested moments, transitions.

The source is the events Parquet (or the same columns in an Arrow table); DuckDB sorts it and takes the numbers out of
the facts, spilling to disk where it must, and the rows come as tables that never split a customer, so memory is bounded
by the size of one table. Every number comes out of the one kernel; only the profile's attributes are joined here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import kernel
from features.errors import Refused
from features.events import FactValue
from features.kernel import Floats, Integers
from features.schema import FeatureSet, attribute_number
from features.taxonomy import Taxonomy

EventSource: TypeAlias = Path | pa.Table
"""An events Parquet, or its columns in memory: position int64, source, event_id, customer_id, kind, channel,
occurred_at and arrived_at timestamp[us, UTC], sequence int64, facts JSON text."""

EVENTS_PER_TABLE: Final = 250_000
_FLOAT_COLUMNS: Final = ("occurred_at", "arrived_at", "sequence", "value", "nps", "sentiment")


@dataclass(frozen=True, eq=False)
class EventTable:
    """All events of some customers, sorted by customer, then by ``JourneyEvent.order``.

    Attributes:
        customers: ids, sorted; as text in Arrow.
        starts: ``(n_customers + 1,)`` row at which each customer's events start; the last is the number of events.
        events: what the kernel folds, each ``(n_events,)``.
        positions: ``(n_events,)`` position in the log.
        sources: ``(n_events,)`` text in Arrow.
        event_ids: ``(n_events,)`` text in Arrow.
        profile_rows: rows of the events that fold into the profile (roles ``profile`` and ``consent``), ascending.
        profile_facts: their facts.
    """

    customers: pa.Array
    starts: Integers
    events: kernel.Events
    positions: Integers
    sources: pa.Array
    event_ids: pa.Array
    profile_rows: Integers
    profile_facts: tuple[Mapping[str, FactValue], ...]

    @property
    def n_events(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

    @cached_property
    def customer_of_row(self) -> Integers:
        """``(n_events,)`` index into ``customers``."""
        return np.repeat(np.arange(len(self.customers)), np.diff(self.starts))

    @cached_property
    def known_at(self) -> Floats:
        """``(n_events,)`` from when on an event counts: strictly after it, it had both occurred and arrived."""
        return np.maximum(self.events.at, self.events.arrived)


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Folded states as columns, one row each, in the order of ``customers`` and then of time.

    Attributes:
        customers: ids, as text in Arrow.
        vectors: ``(n, n_slots)`` state vectors.
        last_event_at: ``(n,)`` ``occurred_at`` of the newest event folded, microseconds.
        known_at: ``(n,)`` since when this state was known, microseconds.
        last_sequence: ``(n,)`` sequence of the newest event folded.
        last_sources: its source, as text in Arrow.
        last_event_ids: its id, as text in Arrow.
        log_positions: ``(n,)`` highest position in the log among the events folded.
    """

    customers: pa.Array
    vectors: Floats
    last_event_at: Integers
    known_at: Integers
    last_sequence: Integers
    last_sources: pa.Array
    last_event_ids: pa.Array
    log_positions: Integers


def event_tables(
    source: EventSource, taxonomy: Taxonomy, *, events_per_table: int = EVENTS_PER_TABLE
) -> Iterator[EventTable]:
    """The events of a source as tables of whole customers, in the order of customer ids.

    Args:
        source: the events; read once, from start to end.
        taxonomy: the vocabulary that the events keep to.
        events_per_table: about how many events a table holds; a customer with more has a table of its own.

    Raises:
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    pending: list[pa.RecordBatch] = []
    n_pending = 0
    with duckdb.connect() as connection:
        # Two threads compete with everything else on a small machine; one loses little on a sort that is mostly I/O.
        connection.execute("SET threads = 1; SET preserve_insertion_order = true")
        for batch in _sorted_batches(connection, source, taxonomy, min(events_per_table, 100_000)):
            pending.append(batch)
            n_pending += batch.num_rows
            if n_pending >= events_per_table:
                rows = pa.Table.from_batches(pending).combine_chunks()
                whole = _rows_of_whole_customers(rows["customer_id"])
                if whole:
                    yield _event_table(rows.slice(0, whole), taxonomy)
                rest = rows.slice(whole).combine_chunks()
                pending, n_pending = rest.to_batches(), rest.num_rows
    if n_pending:
        yield _event_table(pa.Table.from_batches(pending).combine_chunks(), taxonomy)


def whole_table(source: EventSource, taxonomy: Taxonomy) -> EventTable:
    """All events of a source as one table, for data that fits in memory.

    Raises:
        Refused: as ``event_tables``.
    """
    tables = list(event_tables(source, taxonomy, events_per_table=2**62))
    return tables[0] if tables else _empty_table()


def reads_at(
    table: EventTable, feature_set: FeatureSet, customer_ids: Sequence[str] | pa.Array, at: Integers
) -> Floats:
    """Features of customers at moments, from what had occurred and had arrived strictly before.

    Args:
        table: the events; a customer that it does not hold is one of whom nothing is known.
        feature_set: the features to read.
        customer_ids: ``(n_moments,)`` in any order, repeated as needed.
        at: ``(n_moments,)`` microseconds since the epoch.

    Returns:
        ``(n_moments, n_features)`` in the order of the moments and of ``feature_set.names``; NaN means unknown.

    Raises:
        ValueError: ``customer_ids`` and ``at`` differ in length.
    """
    if len(customer_ids) != len(at):
        raise ValueError(f"{len(customer_ids)} customers and {len(at)} moments: expected one moment per customer id")
    moments = np.asarray(at, dtype=np.float64)
    customers = _customer_indices(table, customer_ids)
    features = np.full((moments.size, len(feature_set.specs)), np.nan)
    features[:, : feature_set.n_state_features] = _state_reads(table, feature_set, customers, moments)
    for i, (name, attribute) in enumerate(feature_set.attributes.items(), start=feature_set.n_state_features):
        rows, values = _updates(table, feature_set, name)
        numbers = np.array([attribute_number(value, attribute) for value in values], dtype=np.float64)
        features[:, i] = _latest_known(table, rows, numbers, customers, moments)
    return features


def final_states(table: EventTable, feature_set: FeatureSet) -> States:
    """The state of every customer of a table after all of its events: one row per customer."""
    vectors = np.empty((len(table.customers), kernel.new_state(feature_set.plan).size))
    kernel.final_states(feature_set.plan, table.events, table.starts, vectors)
    is_empty = not len(table.customers)
    positions = table.positions[:0] if is_empty else np.maximum.reduceat(table.positions, table.starts[:-1])
    known_at = table.known_at[:0] if is_empty else np.maximum.reduceat(table.known_at, table.starts[:-1])
    return _states(table, vectors, np.arange(len(table.customers)), table.starts[1:] - 1, known_at, positions)


def states_per_arrival(table: EventTable, feature_set: FeatureSet) -> States:
    """Every state that was ever known: one row per customer and moment at which events of it became known.

    An event becomes known when it has both occurred and arrived, so an event ahead of our clock waits for its own time.
    The state known strictly before t is the last row with ``known_at < t``; ``last_event_at`` never goes back.
    """
    order = np.lexsort((np.arange(table.n_events), table.known_at, table.customer_of_row))
    ranks = np.empty(table.n_events, dtype=np.int64)
    ranks[order] = np.arange(table.n_events)
    ranks -= table.starts[table.customer_of_row]
    vectors = np.empty((table.n_events, kernel.new_state(feature_set.plan).size))
    kernel.arrival_states(feature_set.plan, table.events, table.starts, ranks, vectors)

    # Rows of later customers are larger, so one running maximum serves all customers.
    newest = np.maximum.accumulate(order) if order.size else order
    positions = _running_maximum(table.positions[order], table.customer_of_row)
    is_last = np.ones(table.n_events, dtype=bool)
    is_last[:-1] = (np.diff(table.known_at[order]) != 0) | (np.diff(table.customer_of_row) != 0)
    return _states(
        table,
        vectors[is_last],
        table.customer_of_row[is_last],
        newest[is_last],
        table.known_at[order][is_last],
        positions[is_last],
    )


def transitions(table: EventTable, feature_set: FeatureSet) -> tuple[Integers, Integers]:
    """What each event did to its customer's journey: codes and stage indices, each ``(n_events,)``.

    The codes are those of ``kernel.transitions``; the stage is the one after the event, -1 where no journey is open.
    """
    codes = np.empty(table.n_events, dtype=np.int64)
    stages = np.empty(table.n_events, dtype=np.int64)
    kernel.transitions(feature_set.plan, table.events, table.starts, codes, stages)
    return codes, stages


def _sorted_batches(
    connection: Any, source: EventSource, taxonomy: Taxonomy, rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    relation = connection.read_parquet(str(source)) if isinstance(source, Path) else connection.from_arrow(source)
    roles = {"profile", "consent"}
    profile_kinds = ", ".join(f"'{name}'" for name, kind in taxonomy.all_kinds.items() if kind.role in roles)
    values = " ".join(
        f"WHEN '{name}' THEN {_number_of(kind.value_fact)}"
        for name, kind in taxonomy.all_kinds.items()
        if kind.value_fact
    )
    # Names are checked when the taxonomy loads (lower case, digits, underscores), so they need no quoting here.
    query = f"""
        SELECT customer_id, source, event_id, kind, channel, position,
               epoch_us(occurred_at)::DOUBLE AS occurred_at, epoch_us(arrived_at)::DOUBLE AS arrived_at,
               sequence::DOUBLE AS sequence, CASE kind {values} END AS value,
               {_number_of("nps")} AS nps, {_number_of("sentiment")} AS sentiment,
               CASE WHEN kind IN ({profile_kinds}) THEN facts END AS profile_facts
        FROM events ORDER BY customer_id, epoch_us(occurred_at), events.sequence, source, event_id
    """  # noqa: S608  # see above
    reader = relation.query("events", query).to_arrow_reader(rows_per_batch)
    yield from reader


def _number_of(fact: str) -> str:
    """SQL for a numeric fact as a double; NULL where it is missing or no number, as ``FeatureSet.encode`` reads it."""
    path = f"'$.{fact}'"
    return (
        f"CASE WHEN json_type(facts, {path}) IN ('DOUBLE', 'BIGINT', 'UBIGINT') "
        f"THEN json_extract(facts, {path})::DOUBLE END"
    )


def _rows_of_whole_customers(customer_ids: pa.ChunkedArray) -> int:
    """How many leading rows belong to customers that end before the last row's customer starts."""
    return int(pc.index(customer_ids, customer_ids[-1]).as_py())


def _event_table(rows: pa.Table, taxonomy: Taxonomy) -> EventTable:
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    runs = pc.run_end_encode(columns["customer_id"])
    if isinstance(runs, pa.ChunkedArray):
        runs = runs.combine_chunks()
    floats = {name: _floats(columns[name]) for name in _FLOAT_COLUMNS}
    facts = columns["profile_facts"]
    profile_rows = np.flatnonzero(facts.is_valid().to_numpy(zero_copy_only=False))
    decode = msgspec.json.Decoder(dict[str, str | float | bool]).decode
    return EventTable(
        customers=runs.values,
        starts=np.concatenate([np.zeros(1, np.int64), runs.run_ends.to_numpy().astype(np.int64)]),
        events=kernel.Events(
            kind=_indices(columns["kind"], tuple(taxonomy.all_kinds), "kind"),
            channel=_indices(columns["channel"], tuple(taxonomy.channels), "channel"),
            at=floats["occurred_at"],
            arrived=floats["arrived_at"],
            sequence=floats["sequence"],
            value=floats["value"],
            nps=floats["nps"],
            sentiment=floats["sentiment"],
        ),
        positions=columns["position"].to_numpy().astype(np.int64),
        sources=columns["source"],
        event_ids=columns["event_id"],
        profile_rows=profile_rows,
        profile_facts=tuple(decode(text) for text in facts.take(pa.array(profile_rows)).to_pylist()),
    )


def _empty_table() -> EventTable:
    empty = np.empty(0)
    none = np.empty(0, dtype=np.int64)
    text = pa.array([], pa.string())
    events = kernel.Events(none, none, empty, empty, empty, empty, empty, empty)
    return EventTable(text, np.zeros(1, np.int64), events, none, text, text, none, ())


def _floats(column: pa.Array) -> Floats:
    # A copy: numba compiles once more for arrays that cannot be written, as Arrow's are.
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _indices(column: pa.Array, names: Sequence[str], what: str) -> Integers:
    """Positions of a text column in ``names``, -1 for null.

    Raises:
        Refused: a text that is none of them.
    """
    indices = pc.index_in(column, value_set=pa.array(names, pa.string()))
    if indices.null_count > column.null_count:
        unknown = column.filter(pc.and_(indices.is_null(), column.is_valid()))[0].as_py()
        raise Refused(
            f"the events hold the {what} {unknown!r}, expected one of the taxonomy: {', '.join(names)}; "
            f"declare it in taxonomy.yaml, or use the configuration that the events were taken in under"
        )
    return np.array(indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _customer_indices(table: EventTable, customer_ids: Sequence[str] | pa.Array) -> Integers:
    ids = pa.array(customer_ids, pa.string())
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    indices = pc.index_in(ids, value_set=table.customers.cast(pa.string()))
    return np.array(indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _state_reads(table: EventTable, feature_set: FeatureSet, customers: Integers, moments: Floats) -> Floats:
    order = np.lexsort((moments, customers))
    n_unknown = int(np.searchsorted(customers[order], 0))
    known = order[n_unknown:]
    reads = np.empty((moments.size, feature_set.n_state_features))
    moment_starts = np.searchsorted(customers[known], np.arange(len(table.customers) + 1))
    sorted_reads = np.empty((known.size, feature_set.n_state_features))
    kernel.reads_at(feature_set.plan, table.events, table.starts, moment_starts, moments[known], sorted_reads)
    reads[known] = sorted_reads
    nothing = kernel.new_state(feature_set.plan)
    for row in order[:n_unknown]:
        kernel.read(nothing, feature_set.plan, moments[row], reads[row])
    return reads


def _updates(table: EventTable, feature_set: FeatureSet, attribute: str) -> tuple[Integers, list[FactValue]]:
    """Rows at which an attribute was told, ascending, and what was told."""
    roles = feature_set.plan.kinds[table.events.kind[table.profile_rows], kernel.ROLE]
    told = [
        (row, facts[attribute])
        for row, facts, role in zip(table.profile_rows, table.profile_facts, roles, strict=True)
        if role == kernel.PROFILE and attribute in facts
    ]
    return np.array([row for row, _ in told], dtype=np.int64), [value for _, value in told]


def _latest_known(table: EventTable, rows: Integers, values: Floats, customers: Integers, moments: Floats) -> Floats:
    """For each moment the value of the customer's newest update known strictly before it; NaN where there is none."""
    n = rows.size
    at = np.concatenate([table.known_at[rows], moments])
    owner = np.concatenate([table.customer_of_row[rows], customers])
    # A moment sorts before an update of the same time, which it must not see; updates of one time keep their order.
    order = np.lexsort((np.concatenate([np.ones(n), np.zeros(moments.size)]), at, owner))
    # Updates are numbered in event order and by customer, so the running maximum is the newest update known by then,
    # also where an older one arrived later.
    newest = np.maximum.accumulate(np.where(order < n, order, -1)) if order.size else order
    is_moment = order >= n
    asked, found = order[is_moment] - n, newest[is_moment]
    is_own = (found >= 0) & (owner[found] == customers[asked])
    latest = np.full(moments.size, np.nan)
    latest[asked[is_own]] = values[found[is_own]]
    return latest


def _running_maximum(values: Integers, groups: Integers) -> Integers:
    """Running maximum of non-negative ``values`` inside runs of equal, ascending ``groups``."""
    if not values.size:
        return values
    span = int(values.max()) + 1
    return np.maximum.accumulate(values + groups * span) - groups * span


def _states(
    table: EventTable, vectors: Floats, customers: Integers, newest: Integers, known_at: Floats, positions: Integers
) -> States:
    return States(
        customers=table.customers.take(pa.array(customers)),
        vectors=vectors,
        last_event_at=table.events.at[newest].astype(np.int64),
        known_at=known_at.astype(np.int64),
        last_sequence=table.events.sequence[newest].astype(np.int64),
        last_sources=table.sources.take(pa.array(newest)),
        last_event_ids=table.event_ids.take(pa.array(newest)),
        log_positions=positions,
    )
