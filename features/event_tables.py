"""Events as tables that the kernel can fold: sorted columns of whole customers, out of a Parquet file or Arrow.

DuckDB sorts and takes the numbers out of the facts, spilling to disk where it must. A table never splits a customer, so
memory is bounded by the size of one table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import kernel
from features.duck import connected
from features.errors import Refused
from features.events import FactValue
from features.kernel import Floats, Integers
from features.taxonomy import NPS, SENTIMENT, THEME, Taxonomy

EventSource: TypeAlias = Path | pa.Table
"""An events Parquet, or its columns in memory: position int64, source, event_id, customer_id, kind, channel,
occurred_at and arrived_at timestamp[us, UTC], sequence int64, facts JSON text."""

EVENTS_PER_TABLE: Final = 250_000
_FLOAT_COLUMNS: Final = ("occurred_at", "arrived_at", "sequence", "value", "price", "nps", "sentiment")


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
    with connected() as connection:
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


def _sorted_batches(
    connection: Any, source: EventSource, taxonomy: Taxonomy, rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    relation = connection.read_parquet(str(source)) if isinstance(source, Path) else connection.from_arrow(source)
    roles = {"profile", "consent"}
    profile_kinds = ", ".join(f"'{name}'" for name, kind in taxonomy.all_kinds.items() if kind.role in roles)
    kinds = taxonomy.all_kinds
    value = _number_by_kind({name: kind.value_fact for name, kind in kinds.items() if kind.value_fact})
    price = _number_by_kind({name: kind.price_fact for name, kind in kinds.items() if kind.price_fact})
    # Names are checked when the taxonomy loads (lower case, digits, underscores), so they need no quoting here.
    query = f"""
        SELECT customer_id, source, event_id, kind, channel, position,
               epoch_us(occurred_at)::DOUBLE AS occurred_at, epoch_us(arrived_at)::DOUBLE AS arrived_at,
               sequence::DOUBLE AS sequence, {value} AS value, {price} AS price,
               {_number_of(NPS)} AS nps, {_number_of(SENTIMENT)} AS sentiment,
               CASE WHEN json_type(facts, '$.{THEME}') = 'VARCHAR' THEN facts ->> '$.{THEME}' END AS theme,
               CASE WHEN kind IN ({profile_kinds}) THEN facts END AS profile_facts
        FROM events ORDER BY customer_id, epoch_us(occurred_at), events.sequence, source, event_id
    """  # noqa: S608  # see above
    reader = relation.query("events", query).to_arrow_reader(rows_per_batch)
    yield from reader


def _number_by_kind(facts: Mapping[str, str]) -> str:
    """SQL for the fact that each kind names; NULL for other kinds."""
    if not facts:
        return "NULL::DOUBLE"
    cases = " ".join(f"WHEN '{kind}' THEN {_number_of(fact)}" for kind, fact in facts.items())
    return f"CASE kind {cases} END"


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
            until=np.full(rows.num_rows, np.inf),
            sequence=floats["sequence"],
            value=floats["value"],
            price=floats["price"],
            nps=floats["nps"],
            sentiment=floats["sentiment"],
            theme=_known_indices(columns["theme"], tuple(taxonomy.themes)),
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
    events = kernel.Events(none, none, empty, empty, empty, empty, empty, empty, empty, empty, none)
    return EventTable(text, np.zeros(1, np.int64), events, none, text, text, none, ())


def _floats(column: pa.Array) -> Floats:
    # A copy: numba compiles once more for arrays that cannot be written, as Arrow's are.
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _indices(column: pa.Array, names: Sequence[str], what: str) -> Integers:
    """Positions of a text column in ``names``, -1 for null.

    Raises:
        Refused: a text that is none of them.
    """
    indices = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string()))
    if indices.null_count > column.null_count:
        unknown = column.filter(pc.and_(indices.is_null(), column.is_valid()))[0].as_py()
        raise Refused(
            f"the events hold the {what} {unknown!r}, expected one of the taxonomy: {', '.join(names)}; "
            f"declare it in taxonomy.yaml, or use the configuration that the events were taken in under"
        )
    return _known_indices(column, names)


def _known_indices(column: pa.Array, names: Sequence[str]) -> Integers:
    """Positions of a text column in ``names``, -1 for null and for every other text."""
    indices = pc.index_in(column.cast(pa.string()), value_set=pa.array(names, pa.string()))
    return np.array(indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
