"""Where a drift report reads from: the live databases of a home, or the frozen snapshot that does not move.

Both are only read, and neither keeps whoever writes them waiting: a page of ids, a few records or the events of a few
customers are each a read of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.duck import connected
from features.event_export import EVENTS_SCHEMA, event_table
from features.event_store import SqlEventLog, open_event_log
from features.event_tables import identities_of
from features.home import Home
from features.identity import unlinked
from features.taxonomy import IDENTITY_KINDS
from models.decision import DecisionRecord
from models.record_export import records_from_parquet
from models.record_store import open_record_store
from training.snapshot import EVENTS_FILE, RECORDS_FILE, Snapshot

_PEOPLE_PER_READ: Final = 250
_IDS_PER_PAGE: Final = 65_536
_STEPS: Final = pa.schema(
    [("customer_id", pa.string()), ("kind", pa.string()), ("moment", pa.int64()), ("sequence", pa.int64())]
)


class Source(Protocol):
    """What a drift report reads.

    Attributes:
        trained_until: id of the last decision that was trained on; empty where there was none.
        observed_until: end of observation, microseconds since the epoch.
    """

    trained_until: str
    observed_until: int

    def ids(self, *, after: str = "") -> Iterator[list[str]]:
        """Pages of decision ids in order, from after ``after`` on."""

    def records(self, decision_ids: Sequence[str]) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids, in any order."""

    def events(self, customer_ids: Iterable[str]) -> pa.Table:
        """All events of some customers, and of all ids that were ever linked to theirs."""

    def steps(self, since: int) -> pa.Table:
        """Events that occurred at ``since`` or later: ``customer_id``, ``kind``, ``moment`` and ``sequence``."""


class FrozenSource:
    """The snapshot of a home: the same answer however often it is asked.

    Args:
        home: holds it.
        snapshot: which one.
    """

    def __init__(self, home: Home, snapshot: Snapshot) -> None:
        self._records, self._events = home.snapshot / RECORDS_FILE, home.snapshot / EVENTS_FILE
        self.trained_until = snapshot.watermark.last_decision_id
        self.observed_until = snapshot.watermark.observed_until

    def ids(self, *, after: str = "") -> Iterator[list[str]]:
        """Pages of decision ids in order."""
        with pq.ParquetFile(self._records) as file:
            for batch in file.iter_batches(batch_size=_IDS_PER_PAGE, columns=["decision_id"]):
                if page := [one for one in batch["decision_id"].to_pylist() if one > after]:
                    yield page

    def records(self, decision_ids: Sequence[str]) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids."""
        return records_from_parquet(self._records, only=decision_ids)

    def events(self, customer_ids: Iterable[str]) -> pa.Table:
        """All events of some customers and of the ids linked to theirs."""
        graph = identities_of(self._events)
        wanted = set(customer_ids)
        for one in wanted & graph.customer_ids:
            for owner in (one, *graph.above(one)):
                wanted = wanted | {owner, *graph.below(owner)}
        return _of_customers(self._events, sorted(wanted))

    def steps(self, since: int) -> pa.Table:
        """Events that occurred at a moment or later."""
        return _steps_since(self._events, since)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""


class LiveSource:
    """The databases of a home, read beside a service that writes them, and its snapshot for what is older.

    Args:
        home: holds them.
        snapshot: what was trained on; None where nothing was frozen.
    """

    def __init__(self, home: Home, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot
        self._frozen_events = home.snapshot / EVENTS_FILE
        self._store = open_record_store(home, readonly=True) if home.has_records else None
        self._log = open_event_log(home, readonly=True) if home.has_events else None
        self.trained_until = "" if snapshot is None else snapshot.watermark.last_decision_id
        head = 0 if snapshot is None or not self._frozen_events.is_file() else snapshot.watermark.log_head
        self._new_steps, newest = _steps_after(self._log, head)
        self.observed_until = max(newest, 0 if snapshot is None else snapshot.watermark.observed_until)

    def ids(self, *, after: str = "") -> Iterator[list[str]]:
        """Pages of decision ids in order."""
        return iter(()) if self._store is None else self._store.ids(after=after)

    def records(self, decision_ids: Sequence[str]) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids."""
        return iter(()) if self._store is None else self._store.decisions(decision_ids)

    def events(self, customer_ids: Iterable[str]) -> pa.Table:
        """All events of some customers and of the ids linked to theirs."""
        if self._log is None:
            return EVENTS_SCHEMA.empty_table()
        asked = set(customer_ids)
        wanted = sorted(asked | self._log.identities(asked).customer_ids)
        parts = [EVENTS_SCHEMA.empty_table()]
        for start in range(0, len(wanted), _PEOPLE_PER_READ):
            people = [(unlinked(one), 0) for one in wanted[start : start + _PEOPLE_PER_READ]]
            parts.append(event_table([one for events in self._log.of_people(people) for one in events]))
        return pa.concat_tables(parts)

    def steps(self, since: int) -> pa.Table:
        """Events that occurred at a moment or later: those of the snapshot, and what came into the log since."""
        is_frozen = self._snapshot is not None and self._frozen_events.is_file()
        old = _steps_since(self._frozen_events, since) if is_frozen else _STEPS.empty_table()
        return pa.concat_tables([old, self._new_steps.filter(pc.greater_equal(self._new_steps["moment"], since))])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both files."""
        for opened in (self._store, self._log):
            if opened is not None:
                opened.close()


def _steps_after(log: SqlEventLog | None, head: int) -> tuple[pa.Table, int]:
    """Steps past a position in the log, and the newest moment that any event there tells of; 0 where there is none."""
    parts, newest = [_STEPS.empty_table()], 0
    for page in () if log is None else log.read_columns(after=head):
        parts.append(pa.table([page[3], page[4], page[6], page[8]], schema=_STEPS))
        newest = max(newest, *page[6], *page[7])
    return _without_links(pa.concat_tables(parts)), newest


def _of_customers(events: Path, customer_ids: Sequence[str]) -> pa.Table:
    with connected() as connection:
        connection.register("wanted", pa.table({"customer_id": pa.array(customer_ids, pa.string())}))
        relation: Any = connection.read_parquet(str(events)).query(
            "events", "SELECT events.* FROM events SEMI JOIN wanted USING (customer_id) ORDER BY position"
        )
        return relation.to_arrow_table().select(EVENTS_SCHEMA.names).cast(_CAST)


_CAST: Final = pa.schema([pa.field(one.name, one.type) for one in EVENTS_SCHEMA])


def _steps_since(events: Path, since: int) -> pa.Table:
    with connected() as connection:
        relation: Any = connection.read_parquet(str(events)).query(
            "events",
            f"SELECT customer_id, kind, epoch_us(occurred_at) AS moment, sequence FROM events "  # noqa: S608  # a number
            f"WHERE epoch_us(occurred_at) >= {int(since)}",
        )
        return _without_links(relation.to_arrow_table().cast(_STEPS))


def _without_links(steps: pa.Table) -> pa.Table:
    """Without events that only say who is who, which are no steps."""
    return steps.filter(pc.invert(pc.is_in(steps["kind"], value_set=pa.array(sorted(IDENTITY_KINDS), pa.string()))))
