"""The kernel over tables of events: states per arrival, final states, reads at moments, transitions, profiles.

Every number comes out of the one kernel, and every profile out of the one fold; here are only the tables around them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import kernel
from features.event_tables import EventSource, EventTable, event_tables, whole_table
from features.events import FactValue, JourneyEvent, day_of, fact_problem
from features.kernel import Floats, Integers
from features.profile import fold_profile
from features.schema import FeatureSet, attribute_number
from features.store import ProfileRow
from features.taxonomy import Taxonomy

__all__ = [  # what callers of this module pass in comes along, so that they need one import
    "EventSource",
    "EventTable",
    "States",
    "event_tables",
    "final_states",
    "positions_at",
    "profiles",
    "profiles_at",
    "reads_at",
    "states_per_arrival",
    "transitions",
    "whole_table",
]


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Folded states as columns, one row each, in the order of ``customers`` and then of time.

    Attributes:
        customers: ids, as text in Arrow.
        vectors: ``(n, n_slots)`` state vectors.
        last_event_at: ``(n,)`` ``occurred_at`` of the newest event folded, microseconds; 0 where none is left.
        newest_at: ``(n,)`` the same, never going back as what is known grows: the event time of the history.
        known_at: ``(n,)`` since when this state was known, microseconds.
        last_sequence: ``(n,)`` sequence of the newest event folded.
        last_sources: its source, as text in Arrow.
        last_event_ids: its id, as text in Arrow.
        log_positions: ``(n,)`` highest position in the log among the events folded by then; in a customer's last state
            also of the claims that bear on it.
    """

    customers: pa.Array
    vectors: Floats
    last_event_at: Integers
    newest_at: Integers
    known_at: Integers
    last_sequence: Integers
    last_sources: pa.Array
    last_event_ids: pa.Array
    log_positions: Integers


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


def positions_at(table: EventTable, customer_ids: Sequence[str] | pa.Array, at: Integers) -> Integers:
    """Of customers at moments, the highest position in the log among what ``reads_at`` reads; 0 where there is nothing.

    Args:
        table: the events.
        customer_ids: ``(n_moments,)`` in any order, repeated as needed.
        at: ``(n_moments,)`` microseconds since the epoch.
    """
    newest = np.zeros(len(at), dtype=np.int64)
    customers = _customer_indices(table, customer_ids)
    for i in np.flatnonzero(customers >= 0):
        rows = slice(table.starts[customers[i]], table.starts[customers[i] + 1])
        is_read = (table.known_at[rows] < at[i]) & (at[i] <= table.events.until[rows])
        newest[i] = table.positions[rows][is_read].max(initial=0)
    return newest


def final_states(table: EventTable, feature_set: FeatureSet) -> States:
    """The state of every customer of a table after all of its events: one row per customer.

    Whoever's events all turned out to be somebody else's has none.
    """
    table = table.lasting
    vectors = np.empty((len(table.customers), kernel.new_state(feature_set.plan).size))
    kernel.final_states(feature_set.plan, table.events, table.starts, vectors)
    is_empty = not len(table.customers)
    positions = table.positions[:0] if is_empty else np.maximum.reduceat(table.positions, table.starts[:-1])
    known_at = table.known_at[:0] if is_empty else np.maximum.reduceat(table.known_at, table.starts[:-1])
    customers = np.arange(len(table.customers))
    return _states(table, vectors, customers, table.starts[1:] - 1, known_at, _with_links(table, customers, positions))


def states_per_arrival(table: EventTable, feature_set: FeatureSet) -> States:
    """Every state that was ever known: one row per customer and moment at which events of it became known, or left it.

    An event becomes known when it has both occurred and arrived, so an event ahead of our clock waits for its own time.
    The state known strictly before t is the last row with ``known_at < t``.
    """
    at, rows, begins = _changes(table)
    customers = table.customer_of_row[rows]
    is_last = np.ones(rows.size, dtype=np.int64)
    is_last[:-1] = (np.diff(at) != 0) | (np.diff(customers) != 0)
    last = np.flatnonzero(is_last)
    vectors = np.empty((last.size, kernel.new_state(feature_set.plan).size))
    newest = np.empty(last.size, dtype=np.int64)
    change_starts = np.searchsorted(customers, np.arange(len(table.customers) + 1))
    kernel.known_states(
        feature_set.plan, table.events, table.starts, change_starts, rows, begins, is_last, vectors, newest
    )
    positions = _running_maximum(table.positions[rows], customers)[last]
    is_final = np.ones(last.size, dtype=np.bool_)
    is_final[:-1] = np.diff(customers[last]) != 0
    positions[is_final] = _with_links(table, customers[last][is_final], positions[is_final])
    return _states(table, vectors, customers[last], newest, at[last], positions)


def _changes(table: EventTable) -> tuple[Floats, Integers, Integers]:
    """When each row begins to count, and ceases to: moment, row, and 1 or 0, by customer and then by moment."""
    ended = np.flatnonzero(np.isfinite(table.events.until))
    at = np.concatenate([table.known_at, table.events.until[ended]])
    rows = np.concatenate([np.arange(table.n_events), ended])
    begins = np.concatenate([np.ones(table.n_events, np.int64), np.zeros(ended.size, np.int64)])
    order = np.lexsort((rows, at, table.customer_of_row[rows]))
    return at[order], rows[order], begins[order]


def _with_links(table: EventTable, customers: Integers, positions: Integers) -> Integers:
    """Positions of whole states, which the claims that bear on a customer belong to like its events."""
    if not table.linked_at:
        return positions
    names = table.customers.take(pa.array(customers)).to_pylist()
    return np.maximum(positions, np.array([table.linked_at.get(name, 0) for name in names], dtype=np.int64))


def profiles(table: EventTable, taxonomy: Taxonomy) -> Iterator[tuple[ProfileRow, int]]:
    """Every profile that was ever known, and since when: in the order of customers and then of time.

    One for each customer and moment at which events that fold into the profile became known, or left it; the last one
    of a customer is what is known now. A customer of whom nothing was ever told has an empty one, since its first event
    was known.
    """
    told = itertools.groupby(_profile_events(table, taxonomy), key=lambda one: one[0].customer_id)
    customer_id, events = next(told, (None, iter(())))
    firsts = np.minimum.reduceat(table.known_at, table.starts[:-1]) if table.n_events else table.known_at
    for customer, first in zip(table.customers.to_pylist(), firsts.tolist(), strict=True):
        if customer != customer_id:
            yield ProfileRow(customer), int(first)
            continue
        own = [(event, max(event.occurred_at, event.arrived_at), until) for event, until in events]
        moments = {known_at for _, known_at, _ in own} | {int(until) for _, _, until in own if until < np.inf}
        for moment in sorted(moments):
            known = (event for event, known_at, until in own if known_at <= moment < until)
            yield fold_profile(ProfileRow(customer), known, taxonomy), moment
        customer_id, events = next(told, (None, iter(())))


def profiles_at(table: EventTable, taxonomy: Taxonomy, at: int) -> dict[str, ProfileRow]:
    """The profile of every customer of whom anything was known strictly before a moment, as it was known then."""
    known = table.where((table.known_at < at) & (at <= table.events.until))
    found = {one: ProfileRow(one) for one in known.customers.to_pylist()}
    told = itertools.groupby(_profile_events(known, taxonomy), key=lambda one: one[0].customer_id)
    for customer_id, events in told:
        found[customer_id] = fold_profile(found[customer_id], (event for event, _ in events), taxonomy)
    return found


def _profile_events(table: EventTable, taxonomy: Taxonomy) -> Iterator[tuple[JourneyEvent, float]]:
    """The events that fold into profiles, each with the moment until which it was believed to be the customer's."""
    kinds = tuple(taxonomy.all_kinds)
    for row, facts in zip(table.profile_rows.tolist(), table.profile_facts, strict=True):
        at = int(table.events.at[row])
        event = JourneyEvent(
            source=table.sources[row].as_py(),
            event_id=table.event_ids[row].as_py(),
            customer_id=table.customers[int(table.customer_of_row[row])].as_py(),
            kind=kinds[table.events.kind[row]],
            occurred_at=at,
            arrived_at=int(table.events.arrived[row]),
            sequence=int(table.events.sequence[row]),
            day=day_of(at),
            facts=facts,
        )
        yield event, float(table.events.until[row])


def transitions(table: EventTable, feature_set: FeatureSet) -> tuple[Integers, Integers]:
    """What each event did to its customer's journey: codes and stage indices, each ``(n_events,)``.

    The codes are those of ``kernel.transitions``; the stage is the one after the event, -1 where no journey is open.
    """
    codes = np.empty(table.n_events, dtype=np.int64)
    stages = np.empty(table.n_events, dtype=np.int64)
    kernel.transitions(feature_set.plan, table.events, table.starts, codes, stages)
    return codes, stages


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
    """Rows at which an attribute was told, ascending, and what was told; only what ``fold_profile`` takes too."""
    declared = feature_set.attributes[attribute]
    roles = feature_set.plan.kinds[table.events.kind[table.profile_rows], kernel.ROLE]
    told = [
        (row, facts[attribute])
        for row, facts, role in zip(table.profile_rows, table.profile_facts, roles, strict=True)
        if role == kernel.PROFILE and attribute in facts and fact_problem(attribute, facts[attribute], declared) is None
    ]
    return np.array([row for row, _ in told], dtype=np.int64), [value for _, value in told]


def _latest_known(table: EventTable, rows: Integers, values: Floats, customers: Integers, moments: Floats) -> Floats:
    """For each moment the value of the customer's newest update known strictly before it; NaN where there is none."""
    if not rows.size:
        return np.full(moments.size, np.nan)
    if np.isfinite(table.events.until[rows]).any():
        latest = np.empty(moments.size)
        owners = table.customer_of_row[rows]
        spans = np.searchsorted(owners, customers, "left"), np.searchsorted(owners, customers, "right")
        kernel.latest_known(*spans, table.known_at[rows], table.events.until[rows], values, moments, latest)
        return latest
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
    """Running maximum of ``values`` inside runs of equal, ascending ``groups``."""
    if not values.size:
        return values
    # By rank, since times times the number of customers are too large for an integer.
    ranked, ranks = np.unique(values, return_inverse=True)
    return ranked[np.maximum.accumulate(ranks + groups * ranked.size) - groups * ranked.size]


def _states(
    table: EventTable, vectors: Floats, customers: Integers, newest: Integers, known_at: Floats, positions: Integers
) -> States:
    has_event = newest >= 0
    last_event_at = np.where(has_event, table.events.at[newest], 0).astype(np.int64)
    rows = pa.array(newest, mask=~has_event)
    return States(
        customers=table.customers.take(pa.array(customers)),
        vectors=vectors,
        last_event_at=last_event_at,
        newest_at=_running_maximum(last_event_at, customers),
        known_at=known_at.astype(np.int64),
        last_sequence=np.where(has_event, table.events.sequence[newest], 0).astype(np.int64),
        last_sources=table.sources.take(rows).fill_null(""),
        last_event_ids=table.event_ids.take(rows).fill_null(""),
        log_positions=positions,
    )
