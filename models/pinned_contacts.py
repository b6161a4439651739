"""Contacts of everybody, pinned: what a batch that takes long, or is begun again, counts does not move under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.identity import Span
from features.parquet_files import written_whole
from models.records import Contact, CustomerRecords, RecordStore

_OWNER_ONLY: Final = 0o600
_SCHEMA: Final = pa.schema(
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("expires_at", pa.int64(), nullable=False),
        pa.field("send_id", pa.string()),
        pa.field("response", pa.string(), nullable=False),
        pa.field("response_at", pa.int64(), nullable=False),
    ]
)


def pin_contacts(records: RecordStore, path: Path, *, since: int, now: int) -> None:
    """Write the contacts of everybody since a moment, with the leases live at ``now``, to a file.

    Raises:
        StoreUnavailable: the records do not answer, or the file cannot be written.
    """
    with written_whole(path, _SCHEMA, mode=_OWNER_ONLY) as writer:
        for page in records.contacts(since=since, now=now):
            columns = [[getattr(one, name) for one in page] for name in _SCHEMA.names]
            writer.write_table(pa.table(columns, schema=_SCHEMA))


class PinnedContacts:
    """The contacts in a file, by customer; consents are not among them.

    Args:
        path: as ``pin_contacts`` wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._table = pq.read_table(path).combine_chunks()
        ids = np.array(self._table["customer_id"].to_pylist(), dtype=object)
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.empty(0, dtype=np.int64)
        ends = np.append(starts[1:], len(ids))
        self._rows = {ids[start]: (int(start), int(end)) for start, end in zip(starts, ends, strict=False)}

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """The contacts of a customer, or of the spans of a person, not older than ``since``, oldest first.

        Args:
            customer_id: the customer.
            since: microseconds since the epoch, not before what was pinned.
            now: the moment that was pinned.
            spans: of the person.
        """
        found = [
            each
            for span in spans or (Span(customer_id),)
            for each in self._of(span.customer_id)
            if each.at >= since and span.holds(each.at)
        ]
        return CustomerRecords(tuple(sorted(found, key=lambda each: each.at)))

    def _of(self, customer_id: str) -> list[Contact]:
        start, end = self._rows.get(customer_id, (0, 0))
        if start == end:
            return []
        return [Contact(**row) for row in self._table.slice(start, end - start).to_pylist()]
