"""What came of each past decision within the reward window, and when it was or will be settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features import kernel
from features.duck import connected
from features.history import EventSource, EventTable
from features.journeys import PROGRESS, Outcome
from features.kernel import Floats, Integers
from features.taxonomy import OUTCOME_OBSERVED

_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Reported:
    """``outcome_observed`` events of one outcome, each ``(n,)``.

    Attributes:
        decision_ids: the decision they came back for, as text in Arrow; null where none was named.
        customer_ids: as text in Arrow.
        at: when they occurred, microseconds since the epoch.
        value: what was observed; 0 is a "no".
    """

    decision_ids: pa.Array
    customer_ids: pa.Array
    at: Integers
    value: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """One outcome of decisions, each ``(n,)``.

    Attributes:
        value: 0 or 1, or a sum of values; NaN while the window is not over.
        settled_after: microseconds from the decision to when nothing can change the outcome any more: the first yes
            within the window where the outcome is binary and one was seen, the window elsewhere; 0 in a complete table.
    """

    value: Floats
    settled_after: Integers


def reported_outcomes(source: EventSource, outcome_id: str) -> Reported:
    """The ``outcome_observed`` events of one outcome, in the order of the log."""
    with connected() as connection:
        events = (
            connection.read_parquet(str(source)) if not isinstance(source, pa.Table) else connection.from_arrow(source)
        )
        relation: Any = events.query(
            "events",
            f"""
            SELECT json_extract_string(facts, '$.decision_id') AS decision_id, customer_id,
                   epoch_us(occurred_at) AS at, json_extract(facts, '$.value')::DOUBLE AS value
            FROM events
            WHERE kind = '{OUTCOME_OBSERVED}' AND json_extract_string(facts, '$.outcome_id') = '{outcome_id}'
            ORDER BY position
            """,  # noqa: S608  # outcome ids are checked when the journeys load: lower case, digits, underscores
        )
        rows = relation.to_arrow_table()
    return Reported(
        decision_ids=_text(rows["decision_id"]),
        customer_ids=_text(rows["customer_id"]),
        at=rows["at"].to_numpy().astype(np.int64),
        value=rows["value"].to_numpy().astype(np.float64),
    )


def responses(
    outcome: Outcome,
    *,
    decision_ids: pa.Array,
    customer_ids: pa.Array,
    decided_at: Integers,
    table: EventTable,
    codes: Integers,
    kind: int,
    reported: Reported,
    observed_until: int,
) -> Responses:
    """The outcome of each decision.

    A table in which every decision has its own report is complete, whenever it ends: the noughts are in it. Where some
    have none, a report before the end of the window tells nothing of those still to come.

    What counts lies in ``(decided_at, decided_at + window]``: every reported outcome of the decision (or of the
    customer, where the report names no decision), and the journey events that the outcome is declared by.

    Args:
        outcome: as declared.
        decision_ids: ``(n,)`` text in Arrow.
        customer_ids: ``(n,)`` likewise.
        decided_at: ``(n,)`` microseconds since the epoch.
        table: all events.
        codes: ``(n_events,)`` of ``history.transitions``.
        kind: number of the kind that the outcome is declared by, -1 where it is no kind.
        reported: from ``reported_outcomes``.
        observed_until: end of observation, microseconds since the epoch.
    """
    until = decided_at + outcome.window
    happened, happened_value = _events_of(outcome, table, codes, kind)
    customers = _positions(table.customers, customer_ids)
    total, first_at = _between(
        table.customer_of_row[happened],
        table.events.at[happened].astype(np.int64),
        happened_value,
        customers,
        decided_at,
        until,
    )
    named = reported.decision_ids.is_valid().to_numpy(zero_copy_only=False)
    for chosen, keys, asked in (
        (named, reported.decision_ids, decision_ids),
        (~named, reported.customer_ids, customer_ids),
    ):
        if chosen.any():
            groups = _positions(asked, keys.filter(pa.array(chosen)))
            own = _positions(asked, asked)
            value = (
                (reported.value[chosen] != 0).astype(np.float64) if outcome.type == "binary" else reported.value[chosen]
            )
            more, at = _between(groups, reported.at[chosen], value, own, decided_at, until)
            total += more
            first_at = np.minimum(first_at, at)
    response = (total > 0).astype(np.float64) if outcome.type == "binary" else total
    is_complete = bool(np.isin(np.arange(len(decided_at)), _positions(decision_ids, reported.decision_ids)).all())
    settled_after = np.where(first_at <= until, first_at - decided_at, outcome.window)
    if outcome.type != "binary":
        settled_after = np.full(len(until), outcome.window)  # a sum may grow until the end
    return Responses(
        value=np.where((until <= observed_until) | is_complete, response, np.nan),
        settled_after=np.zeros_like(settled_after) if is_complete else settled_after,
    )


def _events_of(outcome: Outcome, table: EventTable, codes: Integers, kind: int) -> tuple[NDArray[np.bool_], Floats]:
    """Which events the outcome is declared by, and what each of them adds."""
    if outcome.event == PROGRESS:
        happened = (codes == kernel.PROGRESSED) | (codes == kernel.GOAL_REACHED)
    elif outcome.event == OUTCOME_OBSERVED:
        happened = np.zeros(len(codes), dtype=np.bool_)  # these count as reported outcomes
    else:
        happened = table.events.kind == kind
    n = int(happened.sum())
    if outcome.type == "binary" or outcome.event == PROGRESS:
        return happened, np.ones(n)
    return happened, np.nan_to_num(table.events.value[happened])


def _between(
    groups: Integers, at: Integers, values: Floats, asked: Integers, after: Integers, until: Integers
) -> tuple[Floats, Integers]:
    """For each asked group the sum of its values with ``after < at <= until``, and when the first that is not 0 came.

    Group -1 is nobody's; where nothing came it came at ``_NEVER``.
    """
    by_group = np.lexsort((at, groups))
    first, last = (_count_until(groups, at, asked, bound) for bound in (after, until))
    ends = np.stack([first, last], axis=1).ravel()
    # Summed slice by slice: differences of running sums would leave rounding where there was nothing.
    sums = np.add.reduceat(np.r_[values[by_group], 0.0], ends)[::2]
    came = np.where(values[by_group] != 0, at[by_group], _NEVER)
    earliest = np.minimum.reduceat(np.r_[came, _NEVER], ends)[::2]
    return np.where(last > first, sums, 0.0), np.where(last > first, earliest, _NEVER)


def _count_until(groups: Integers, at: Integers, asked: Integers, until: Integers) -> Integers:
    """For each asked group how many rows are of a lower group, or its own and not after ``until``."""
    n = len(at)
    is_asked = np.r_[np.zeros(n, dtype=np.int64), np.ones(len(until), dtype=np.int64)]
    order = np.lexsort((is_asked, np.r_[at, until], np.r_[groups, asked]))
    running = np.cumsum(1 - is_asked[order])
    found = np.empty(len(until), dtype=np.int64)
    asked_places = order[order >= n]
    found[asked_places - n] = running[order >= n]
    return found


def _positions(names: pa.Array, wanted: pa.Array) -> Integers:
    """Position of each wanted text in ``names`` (the first, where it stands twice), -1 where it is not there."""
    index = pc.index_in(wanted.cast(pa.string()), value_set=names.cast(pa.string()))
    return np.array(index.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _text(column: pa.ChunkedArray) -> pa.Array:
    return column.cast(pa.string()).combine_chunks()
