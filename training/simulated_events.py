"""Collects the events of a block of simulated customers as columns, then puts them into their order and gives them ids.

Late and repeated arrivals are made here too: they happen to events, whatever the events are about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.simulated_draws import Draws, Floats, Integers

SOURCE: Final = "simulator"
HOUR_US: Final = 3_600_000_000
LATE_SHARE: Final = {"store": 0.12, "partner": 0.15, "call": 0.06, "back_office": 0.05}
LATE_SHARE_ELSEWHERE: Final = 0.015
LATE_HOURS: Final = (1.0, 60.0)
REPEATED_SHARE: Final = 0.007
ANONYMOUS_KINDS: Final = ("ad_clicked", "page_viewed")

EVENT_SCHEMA: Final = pa.schema(
    [
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("customer_id", pa.string()),
        ("kind", pa.string()),
        ("channel", pa.string()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("arrived_at", pa.timestamp("us", tz="UTC")),
        ("sequence", pa.int64()),
        ("facts", pa.string()),
        ("text", pa.string()),
    ]
)

Column = Sequence[object] | NDArray[np.generic]


def facts_json(columns: Mapping[str, Column]) -> list[str]:
    """One JSON object per row; None leaves nothing out, so columns hold values only. Text must need no escaping."""
    template = "{" + ",".join(f'"{name}":%s' for name in columns) + "}"
    return [template % row for row in zip(*(_json_values(column) for column in columns.values()), strict=True)]


def _json_values(column: Column) -> list[object]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    if values and isinstance(values[0], bool):
        return ["true" if value else "false" for value in values]
    if values and isinstance(values[0], str):
        return [f'"{value}"' for value in values]
    return values


def picked(draws: Draws, purpose: str, rows: Integers, step: int | Integers, options: Sequence[str]) -> list[str]:
    """One of some texts for each row, evenly."""
    positions = (draws.words(purpose, rows, step) % np.uint64(len(options))).tolist()
    return [options[position] for position in positions]


@dataclass(frozen=True, slots=True)
class Visits:
    """What was not known to be a customer's when it happened: it is logged under a cookie.

    Attributes:
        cookies: one for each customer.
        known_at: when each customer made themselves known, microseconds since the epoch.
    """

    cookies: NDArray[np.object_]
    known_at: Integers


class Added(NamedTuple):
    """Events as columns, each ``(n,)``, in the order in which they were added.

    Attributes:
        rows: positions of customers in the block.
        at: when they happened, microseconds since the epoch.
    """

    rows: Integers
    at: Integers
    kinds: NDArray[np.object_]
    channels: NDArray[np.object_]
    facts: NDArray[np.object_]
    texts: NDArray[np.object_]


class EventSheet:
    """Events of one block; rows are positions of customers in the block."""

    def __init__(self) -> None:
        self._rows: list[Integers] = []
        self._at: list[Integers] = []
        self._kinds: list[str] = []
        self._channels: list[NDArray[np.object_]] = []
        self._facts: list[NDArray[np.object_]] = []
        self._texts: list[NDArray[np.object_]] = []

    def add(
        self,
        kind: str,
        rows: Integers,
        at: Integers,
        *,
        channel: str | Sequence[str] | None,
        facts: Sequence[str] | None = None,
        text: Sequence[str] | None = None,
    ) -> None:
        """Add events of one kind, one per row, in any order of time."""
        if not rows.size:
            return
        self._rows.append(rows)
        self._at.append(at)
        self._kinds.append(kind)
        self._channels.append(_objects(channel, rows.size))
        self._facts.append(_objects("{}" if facts is None else facts, rows.size))
        self._texts.append(_objects(text, rows.size))

    def take(self) -> Added:
        """Every event added since the last call; they stand here no longer."""
        taken = self._columns()
        for column in (self._rows, self._at, self._kinds, self._channels, self._facts, self._texts):
            column.clear()
        return taken

    def _columns(self) -> Added:
        nothing = np.empty(0, dtype=np.object_)
        none = np.empty(0, dtype=np.int64)
        sizes = [rows.size for rows in self._rows]
        kinds = np.repeat(np.array(self._kinds, dtype=object), sizes)
        channels, facts, texts = (
            np.concatenate([nothing, *part]) for part in (self._channels, self._facts, self._texts)
        )
        return Added(
            np.concatenate([none, *self._rows]), np.concatenate([none, *self._at]), kinds, channels, facts, texts
        )

    def table(self, draws: Draws, ids: NDArray[np.object_], visits: Visits, until: int) -> pa.Table:
        """The events that had arrived by ``until``, by customer in order of arrival, repetitions among them."""
        rows, at, kinds, channels, facts, texts = self._columns()
        order = np.lexsort((np.arange(rows.size), at, rows))
        rows, at, kinds = rows[order], at[order], kinds[order]
        channels, facts, texts = channels[order], facts[order], texts[order]
        starts = np.searchsorted(rows, np.arange(ids.size))
        position = np.arange(rows.size) - starts[rows]
        arrived = at + arrival_delay(draws, rows, position, channels)
        again = np.flatnonzero(draws.happens("repeated", rows, position, REPEATED_SHARE))
        source = np.concatenate([np.arange(rows.size), again])
        repeat_delay = draws.between("repeated-after", rows[again], position[again], 0.01, 30.0) * HOUR_US
        arrival = np.concatenate([arrived, arrived[again] + repeat_delay.astype(np.int64)])
        source_order = np.lexsort((position[source], arrival, rows[source]))
        keep = source_order[arrival[source_order] <= until]
        taken = source[keep]
        numbers = position[taken].tolist()
        customers = ids[rows[taken]]
        is_visit = np.isin(kinds[taken].astype(str), ANONYMOUS_KINDS) & (at[taken] < visits.known_at[rows[taken]])
        return pa.table(
            {
                "source": pa.array(np.full(taken.size, SOURCE, dtype=object), pa.string()),
                "event_id": pa.array([f"{c}-{n:04d}" for c, n in zip(customers, numbers, strict=True)], pa.string()),
                "customer_id": pa.array(np.where(is_visit, visits.cookies[rows[taken]], customers), pa.string()),
                "kind": pa.array(kinds[taken], pa.string()),
                "channel": pa.array(channels[taken], pa.string()),
                "occurred_at": pa.array(at[taken], pa.timestamp("us", tz="UTC")),
                "arrived_at": pa.array(arrival[keep], pa.timestamp("us", tz="UTC")),
                "sequence": pa.array(position[taken], pa.int64()),
                "facts": pa.array(facts[taken], pa.string()),
                "text": pa.array(texts[taken], pa.string()),
            },
            schema=EVENT_SCHEMA,
        )


def _objects(values: str | Sequence[str] | None, n: int) -> NDArray[np.object_]:
    if values is None or isinstance(values, str):
        return np.full(n, values, dtype=object)
    return np.array(values, dtype=object)


def arrival_delay(draws: Draws, rows: Integers, position: Integers, channels: NDArray[np.object_]) -> Integers:
    """How long events are under way, microseconds, ``(n,)``; 0 for most."""
    shares: Floats = np.array([LATE_SHARE.get(channel, LATE_SHARE_ELSEWHERE) for channel in channels.tolist()])
    late = draws.happens("late", rows, position, shares)
    hours = draws.between("late-by", rows, position, *LATE_HOURS)
    # Decisions are made on what is known: an event that arrives at once must not count as late by a rounding.
    delay: Integers = np.where(late, hours * HOUR_US, 0.0).astype(np.int64)
    return delay
