"""Events as tables that the kernel can fold: sorted columns of whole customers, out of a Parquet file or Arrow.

DuckDB sorts and takes the numbers out of the facts, spilling to disk where it must. A table never splits a customer, so
memory is bounded by the size of one table.

Events of linked ids stand under whom they were believed to be of, once for each belief: from when it was known, until
it was known to be otherwise. So a merge costs what a late event does, and nobody sees it before it was made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features import kernel
from features.duck import connected
from features.errors import Refused
from features.events import FactValue, JourneyEvent, day_of, load_facts
from features.identity import LATEST, Claim, Identities, claim_of
from features.kernel import Floats, Integers
from features.taxonomy import IDENTITY_KINDS, NPS, SENTIMENT, THEME, Taxonomy

EventSource: TypeAlias = Path | pa.Table
"""An events Parquet, or its columns in memory: position int64, source, event_id, customer_id, kind, channel,
occurred_at and arrived_at timestamp[us, UTC], sequence int64, facts JSON text."""

EVENTS_PER_TABLE: Final = 250_000
_IDENTITY_KINDS: Final = ", ".join(f"'{name}'" for name in IDENTITY_KINDS)
SORT_MEMORY: Final = "500MB"
"""Beyond it the sort goes to disk, so that memory does not grow with the events."""
_UNKNOWN: Final = ""
_FLOAT_COLUMNS: Final = ("occurred_at", "arrived_at", "known_until", "sequence", "value", "price", "nps", "sentiment")


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
        linked_at: by customer, of those on whom a claim bears: the position in the log of the last one.
    """

    customers: pa.Array
    starts: Integers
    events: kernel.Events
    positions: Integers
    sources: pa.Array
    event_ids: pa.Array
    profile_rows: Integers
    profile_facts: tuple[Mapping[str, FactValue], ...]
    linked_at: Mapping[str, int] = field(default_factory=dict)

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

    @property
    def lasting(self) -> EventTable:
        """What is believed now: without events that turned out to be another's, and without whom nothing is left of."""
        # Not cached: a table that holds itself is freed late, and a backfill grew by each table that it had passed.
        is_lasting = np.isinf(self.events.until)
        return self if is_lasting.all() else self.where(is_lasting)

    def where(self, keep: NDArray[np.bool_]) -> EventTable:
        """Only some rows, and the customers that have any of them."""
        kept_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
        starts = kept_before[self.starts]
        has_rows = np.diff(starts) > 0
        is_kept = keep[self.profile_rows]
        return EventTable(
            customers=self.customers.filter(pa.array(has_rows)),
            starts=np.concatenate([np.zeros(1, np.int64), starts[1:][has_rows]]),
            events=kernel.Events._make(column[keep] for column in self.events),
            positions=self.positions[keep],
            sources=self.sources.filter(pa.array(keep)),
            event_ids=self.event_ids.filter(pa.array(keep)),
            profile_rows=kept_before[self.profile_rows[is_kept]],
            profile_facts=tuple(itertools.compress(self.profile_facts, is_kept)),
            linked_at=self.linked_at,
        )


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
    graph = identities_of(source)
    linked_at = {one: graph.linked_at(one) for one in graph.customer_ids}
    with TemporaryDirectory(prefix="headway-sort-") as spilled, connected() as connection:
        # Two threads compete with everything else on a small machine; one loses little on a sort that is mostly I/O.
        connection.execute("SET threads = 1; SET preserve_insertion_order = true")
        connection.execute(f"SET memory_limit = '{SORT_MEMORY}'; SET temp_directory = '{spilled}'")
        for batch in _sorted_batches(connection, source, taxonomy, graph, min(events_per_table, 100_000)):
            pending.append(batch)
            n_pending += batch.num_rows
            if n_pending >= events_per_table:
                rows = pa.Table.from_batches(pending).combine_chunks()
                whole = _rows_of_whole_customers(rows["customer_id"])
                if whole:
                    yield _event_table(rows.slice(0, whole), taxonomy, linked_at, source)
                rest = rows.slice(whole).combine_chunks()
                pending, n_pending = rest.to_batches(), rest.num_rows
    if n_pending:
        yield _event_table(pa.Table.from_batches(pending).combine_chunks(), taxonomy, linked_at, source)


def whole_table(source: EventSource, taxonomy: Taxonomy) -> EventTable:
    """All events of a source as one table, for data that fits in memory.

    Raises:
        Refused: as ``event_tables``.
    """
    tables = list(event_tables(source, taxonomy, events_per_table=2**62))
    return tables[0] if tables else no_events()


def identities_of(source: EventSource) -> Identities:
    """The identity graph that the events of a source make."""
    with connected() as connection:
        rows: list[tuple[Any, ...]] = (
            _relation(connection, source)
            .query(
                "events",
                "SELECT position, source, event_id, customer_id, kind, epoch_us(occurred_at), epoch_us(arrived_at), "  # noqa: S608
                f"sequence, facts FROM events WHERE kind IN ({_IDENTITY_KINDS})",
            )
            .fetchall()
        )
    return Identities(frozenset(claim for row in rows if (claim := _claim(*row)) is not None))


def _claim(
    position: int,
    source: str,
    event_id: str,
    customer_id: str,
    kind: str,
    occurred_at: int,
    arrived_at: int,
    sequence: int,
    facts: str,
) -> Claim | None:
    event = JourneyEvent(
        source=source,
        event_id=event_id,
        customer_id=customer_id,
        kind=kind,
        occurred_at=occurred_at,
        arrived_at=arrived_at,
        sequence=sequence,
        day=day_of(occurred_at),
        facts=load_facts(facts.encode()),
    )
    return claim_of(event, position)


def _relation(connection: Any, source: EventSource) -> Any:
    return connection.read_parquet(str(source)) if isinstance(source, Path) else connection.from_arrow(source)


def _spells(graph: Identities) -> pa.Table:
    """The spells of a graph as columns; one that still lasts has the end ``inf``."""
    spells = list(graph.spells())
    until = np.array([one.known_until for one in spells], dtype=np.float64)
    until[until == LATEST] = np.inf
    return pa.table(
        {
            "alias": pa.array([one.alias for one in spells], pa.string()),
            "valid_from": pa.array([one.valid_from for one in spells], pa.int64()),
            "valid_until": pa.array([one.valid_until for one in spells], pa.int64()),
            "known_from": pa.array([one.known_from for one in spells], pa.int64()),
            "known_until": until,
            "owner": pa.array([one.owner for one in spells], pa.string()),
        }
    )


# One row for each time that an event was believed to be of somebody; of ids that were never linked, one row as it is.
_OWNED: Final = """
    (SELECT events.* REPLACE (coalesce(spells.owner, customer_id) AS customer_id),
            greatest(epoch_us(arrived_at), coalesce(spells.known_from, epoch_us(arrived_at))) AS known_from,
            coalesce(spells.known_until, 'inf'::DOUBLE) AS known_until
     FROM events LEFT JOIN spells ON spells.alias = customer_id
          AND epoch_us(occurred_at) >= spells.valid_from AND epoch_us(occurred_at) < spells.valid_until)
"""
_UNOWNED: Final = "(SELECT *, epoch_us(arrived_at) AS known_from, 'inf'::DOUBLE AS known_until FROM events)"


def _sorted_batches(
    connection: Any, source: EventSource, taxonomy: Taxonomy, graph: Identities, rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    relation = _relation(connection, source)
    if graph.claims:
        connection.register("spells", _spells(graph))
    roles = {"profile", "consent"}
    profile_kinds = ", ".join(f"'{name}'" for name, kind in taxonomy.all_kinds.items() if kind.role in roles)
    kinds = taxonomy.all_kinds
    value = _number_by_kind({name: kind.value_fact for name, kind in kinds.items() if kind.value_fact})
    price = _number_by_kind({name: kind.price_fact for name, kind in kinds.items() if kind.price_fact})
    # Only feedback is asked for these: looking into the facts of every event took longer than sorting them.
    feedback = [name for name, kind in kinds.items() if kind.role == "feedback"]
    nps, sentiment = (_number_by_kind(dict.fromkeys(feedback, fact)) for fact in (NPS, SENTIMENT))
    is_feedback = " OR ".join(f"kind = '{name}'" for name in feedback) or "false"
    theme = f"CASE WHEN {is_feedback} THEN TRY_CAST({_text_of(THEME)} AS {_enumeration(taxonomy.themes)}) END"
    # Names are checked when the taxonomy loads (lower case, digits, underscores), so they need no quoting here.
    query = f"""
        SELECT customer_id, source, event_id, {_coded("kind", taxonomy.all_kinds)} AS kind,
               {_coded("channel", taxonomy.channels)} AS channel, position,
               epoch_us(occurred_at)::DOUBLE AS occurred_at, known_from::DOUBLE AS arrived_at, known_until,
               sequence::DOUBLE AS sequence, {value} AS value, {price} AS price,
               {nps} AS nps, {sentiment} AS sentiment, {theme} AS theme,
               CASE WHEN kind IN ({profile_kinds}) THEN facts END AS profile_facts
        FROM {_OWNED if graph.claims else _UNOWNED} AS events
        WHERE kind NOT IN ({_IDENTITY_KINDS}) AND known_until > greatest(epoch_us(events.occurred_at), known_from)
        ORDER BY customer_id, epoch_us(events.occurred_at), events.sequence, source, event_id, known_until
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


def _enumeration(names: Iterable[str]) -> str:
    """SQL for the type of these names: sorted and handed over as small numbers, where texts took a third longer."""
    quoted = [f"'{name}'" for name in (*names, _UNKNOWN)]
    return f"ENUM({', '.join(quoted)})"


def _coded(column: str, names: Iterable[str]) -> str:
    """SQL for a column of names as their numbers; the one after the last for a text that is none of them."""
    coded = _enumeration(names)
    return f"CASE WHEN {column} IS NOT NULL THEN coalesce(TRY_CAST({column} AS {coded}), '{_UNKNOWN}'::{coded}) END"


def _text_of(fact: str) -> str:
    """SQL for a fact that is text; NULL where it is missing or no text."""
    return f"CASE WHEN json_type(facts, '$.{fact}') = 'VARCHAR' THEN facts ->> '$.{fact}' END"


def _rows_of_whole_customers(customer_ids: pa.ChunkedArray) -> int:
    """How many leading rows belong to customers that end before the last row's customer starts."""
    return int(pc.index(customer_ids, customer_ids[-1]).as_py())


def _event_table(rows: pa.Table, taxonomy: Taxonomy, linked_at: Mapping[str, int], source: EventSource) -> EventTable:
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
            kind=_indices(columns["kind"], tuple(taxonomy.all_kinds), "kind", source),
            channel=_indices(columns["channel"], tuple(taxonomy.channels), "channel", source),
            at=floats["occurred_at"],
            arrived=floats["arrived_at"],
            until=floats["known_until"],
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
        linked_at=linked_at,
    )


def no_events() -> EventTable:
    """A table of nothing."""
    empty = np.empty(0)
    none = np.empty(0, dtype=np.int64)
    text = pa.array([], pa.string())
    events = kernel.Events(none, none, empty, empty, empty, empty, empty, empty, empty, empty, none)
    return EventTable(text, np.zeros(1, np.int64), events, none, text, text, none, ())


def _floats(column: pa.Array) -> Floats:
    # A copy: numba compiles once more for arrays that cannot be written, as Arrow's are.
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _indices(column: pa.DictionaryArray, names: Sequence[str], what: str, source: EventSource) -> Integers:
    """Positions of a column of names in ``names``, -1 for null.

    Raises:
        Refused: a text that is none of them.
    """
    indices = _numbers(column)
    if (indices == len(names)).any():
        raise Refused(
            f"the events hold the {what} {_stranger(source, what, names)!r}, expected one of the taxonomy: "
            f"{', '.join(names)}; declare it in taxonomy.yaml, or use the configuration that the events were taken in "
            f"under"
        )
    return indices


def _known_indices(column: pa.DictionaryArray, names: Sequence[str]) -> Integers:
    """Positions of a column of names in ``names``, -1 for null and for every other text."""
    indices = _numbers(column)
    indices[indices == len(names)] = -1
    return indices


def _numbers(column: pa.DictionaryArray) -> Integers:
    """The numbers of names as ``_enumeration`` gives them, -1 for null."""
    numbers = column.indices.cast(pa.int64()).fill_null(-1)
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)


def _stranger(source: EventSource, column: str, names: Sequence[str]) -> str:
    """A text of a column that is none of the names."""
    known = ", ".join(f"'{name}'" for name in (*names, *IDENTITY_KINDS))
    with connected() as connection:
        query = f"SELECT {column} FROM events WHERE {column} NOT IN ({known}) LIMIT 1"  # noqa: S608  # our own names
        return str(_relation(connection, source).query("events", query).fetchall()[0][0])
