"""Decision records as Parquet, one row each: what training, evaluation, drift and reports read.

The schema is frozen by a golden file, and loses nothing: the very records come back from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.event_export import MOMENT
from features.parquet_files import written_whole
from models.decision import Candidate, CountedContact, DecisionRecord, Selected
from models.records import RecordStore

_TEXTS: Final = pa.list_(pa.field("element", pa.string(), nullable=False))
_CANDIDATE: Final = pa.struct(
    [
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("treatment_id", pa.string(), nullable=False),
        pa.field("channel", pa.string()),
        pa.field("dropped", pa.string()),
        pa.field("rule_ids", _TEXTS, nullable=False),
        pa.field("selection_probability", pa.float64(), nullable=False),
        pa.field("arm_selection_probability", pa.float64(), nullable=False),
        pa.field("control_response", pa.float64(), nullable=False),
        pa.field("uplift", pa.float64(), nullable=False),
        pa.field("sigma", pa.float64(), nullable=False),
        pa.field("effect_source", pa.string(), nullable=False),
        pa.field("outcome", pa.string()),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("contact_cost", pa.float64(), nullable=False),
        pa.field("incentive_cost", pa.float64(), nullable=False),
        pa.field("fatigue_cost", pa.float64(), nullable=False),
        pa.field("channel_price", pa.float64(), nullable=False),
        pa.field("budget_price", pa.float64(), nullable=False),
        pa.field("context_weight_pct", pa.float64(), nullable=False),
        pa.field("lever_pct", pa.float64(), nullable=False),
        pa.field("net_value", pa.float64(), nullable=False),
        pa.field("priority", pa.float64(), nullable=False),
    ]
)
_SELECTED: Final = pa.struct(
    [
        pa.field("slot", pa.int64(), nullable=False),
        pa.field("placement", pa.string()),
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("treatment_id", pa.string(), nullable=False),
        pa.field("conditional_probability", pa.float64(), nullable=False),
    ]
)
_CONTACT: Final = pa.struct(
    [
        pa.field("action_id", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("at", pa.int64(), nullable=False),
        pa.field("is_lease", pa.bool_(), nullable=False),
    ]
)
RECORDS_SCHEMA: Final = pa.schema(
    [
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("request_hash", pa.string(), nullable=False),
        pa.field("request", pa.binary(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("journey_id", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("decided_at", MOMENT, nullable=False),
        pa.field("as_of", MOMENT, nullable=False),
        pa.field("expires_at", MOMENT, nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("experiment_id", pa.string(), nullable=False),
        pa.field("arm_probabilities", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("versions", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("vector", pa.list_(pa.field("element", pa.float64(), nullable=False)), nullable=False),
        pa.field("log_position", pa.int64(), nullable=False),
        pa.field("last_event_at", MOMENT),
        pa.field("attributes", pa.string(), nullable=False),
        pa.field("holdings", _TEXTS),
        pa.field("consents", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("contacts", pa.list_(pa.field("element", _CONTACT, nullable=False)), nullable=False),
        pa.field("time_zone", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("state", pa.string()),
        pa.field("stall_propensity", pa.float64(), nullable=False),
        pa.field("abandon_probability", pa.float64(), nullable=False),
        pa.field("expected_days_to_progress", pa.float64(), nullable=False),
        pa.field("candidates", pa.list_(pa.field("element", _CANDIDATE, nullable=False)), nullable=False),
        pa.field("selected", pa.list_(pa.field("element", _SELECTED, nullable=False)), nullable=False),
        pa.field("explored", pa.bool_(), nullable=False),
        pa.field("activated", pa.bool_(), nullable=False),
        pa.field("send_id", pa.string()),
        pa.field("degraded", _TEXTS, nullable=False),
        pa.field("latency_us", pa.int64(), nullable=False),
        pa.field("linked_ids", _TEXTS, nullable=False),
        pa.field("benign_wait", pa.float64(), nullable=False),
        pa.field("contact_responses", _TEXTS, nullable=False),
        pa.field("capacity_used", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("assignees", pa.list_(pa.field("element", pa.string())), nullable=False),
        pa.field("epsilon", pa.float64(), nullable=False),
    ],
    metadata={"headway": "decision-records/4"},
)
"""Fields as in ``DecisionRecord``, in its order; attributes as JSON.

NaN stays NaN; ``last_event_at`` is null where there was no event.
"""

_JSON: Final = msgspec.json.Encoder(order="deterministic")
_ATTRIBUTES: Final = msgspec.json.Decoder(dict[str, str | float | bool])


def export_records(
    store: RecordStore, path: Path, *, until: str | None = None, page: int = 2_000, mode: int = 0o666
) -> int:
    """Write the records up to a decision id, a row group per page, without keeping a writer of the store waiting.

    Args:
        store: the record store; open it read-only where another process writes it.
        path: the file, replaced only once it is whole.
        until: the last decision id; None for all there are.
        page: records in memory at a time.
        mode: who may read the file.

    Returns:
        How many were written.

    Raises:
        StoreUnavailable: the store does not answer, or the file cannot be written.
    """
    n = 0
    with written_whole(path, RECORDS_SCHEMA, mode=mode) as writer:
        for records in store.read(page=page):
            chosen = [record for record in records if until is None or record.decision_id <= until]
            if chosen:
                writer.write_table(record_table(chosen))
                n += len(chosen)
            if len(chosen) < len(records):
                break
    return n


def record_table(records: Sequence[DecisionRecord]) -> pa.Table:
    """Records as a table of ``RECORDS_SCHEMA``, in the order given."""
    rows = [msgspec.structs.astuple(record) for record in records]
    columns = dict(zip(DecisionRecord.__struct_fields__, zip(*rows, strict=True), strict=True)) if rows else {}
    return pa.Table.from_arrays(
        [_array(columns.get(field.name, ()), field) for field in RECORDS_SCHEMA], schema=RECORDS_SCHEMA
    )


def records_from_parquet(
    path: Path, *, page: int = 2_000, only: Sequence[str] | None = None
) -> Iterator[list[DecisionRecord]]:
    """Pages of the records that ``export_records`` wrote, equal to those in the store byte for byte.

    Args:
        path: the file.
        page: rows read at a time.
        only: ids of the decisions wanted; all if None. The others are read past, and never made into records.
    """
    wanted = None if only is None else pa.array(only, pa.string())
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=page):
            if wanted is not None:
                batch = batch.filter(pc.is_in(batch["decision_id"], value_set=wanted))
            yield [_record(row) for row in _with_whole_times(batch).to_pylist(maps_as_pydicts="strict")]


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    if field.name == "last_event_at":
        values = [at or None for at in values]
    if field.name == "attributes":
        values = [_JSON.encode(attributes).decode() for attributes in values]
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.int64()).cast(field.type)
    if pa.types.is_map(field.type):
        return pa.array([list(mapping.items()) for mapping in values], field.type)
    if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
        return _structs(values, field.type)
    return pa.array(values, field.type)


def _structs(values: Sequence[Sequence[msgspec.Struct]], dtype: pa.ListType) -> pa.Array:
    """Lists of structs, built column by column."""
    fields = list(dtype.value_type)
    rows = [msgspec.structs.astuple(struct) for struct in chain.from_iterable(values)]
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in fields]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    offsets = pa.array(accumulate((len(each) for each in values), initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=fields), type=dtype)


def _with_whole_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _record(row: dict[str, Any]) -> DecisionRecord:
    candidates = tuple(
        Candidate(**{**candidate, "rule_ids": tuple(candidate["rule_ids"])}) for candidate in row["candidates"]
    )
    return DecisionRecord(
        **{
            **row,
            "vector": tuple(row["vector"]),
            "last_event_at": row["last_event_at"] or 0,
            "candidates": candidates,
            "attributes": _ATTRIBUTES.decode(row["attributes"]),
            "holdings": None if row["holdings"] is None else tuple(row["holdings"]),
            "contacts": tuple(CountedContact(**contact) for contact in row["contacts"]),
            "selected": tuple(Selected(**selected) for selected in row["selected"]),
            "degraded": tuple(row["degraded"]),
            # Files of earlier versions lack some of these.
            "linked_ids": tuple(row.get("linked_ids", ())),
            "contact_responses": tuple(row.get("contact_responses", ())),
            "assignees": tuple(row.get("assignees", ())),
        }
    )
