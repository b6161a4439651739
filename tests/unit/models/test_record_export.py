"""Records as Parquet: nothing is lost, memory is bounded by a page, and never half a file."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.decision import Candidate, DecisionRecord, Selected, dump_record, load_record
from models.memory_records import MemoryRecordStore
from models.record_export import RECORDS_SCHEMA, export_records, record_table, records_from_parquet
from tests.decision_records import DECIDED_AT, NO_ACTION, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file goes."""
    return tmp_path / "snapshot" / "records.parquet"


def _store(*records: DecisionRecord) -> MemoryRecordStore:
    store = MemoryRecordStore()
    store.append_imported(records)
    return store


def test_the_same_records_come_back(path: Path) -> None:
    """Byte for byte: NaN, negative zero, no candidates, no event, nothing selected, a slate, and non-ASCII text."""
    slots = tuple(Selected(slot=n, placement="web:top", action_id="nudge", treatment_id="nudge_sms") for n in (1, 2))
    records = [
        record(1),
        record(2, candidates=(), selected=(), vector=(), arm_probabilities={}, versions={}),
        record(3, last_event_at=0, log_position=0, stage=None, state=None, mode="imported", request=b"\x00\xff"),
        record(4, selected=slots, candidates=(NO_ACTION,), send_id="s-1", degraded=("model_missing", "deadline")),
        record(6, attributes={}, holdings=None, consents={}, contacts=(), time_zone=None),
        record(7, attributes={"score": -0.0, "Zoë": "ü", "tiny": 5e-324}, holdings=()),
        record(5, customer_id="Zoë \U0001f600", explored=True, activated=False, stall_propensity=math.nan),
    ]
    assert export_records(_store(*records), path, page=2) == 7

    returned = [each for page in records_from_parquet(path, page=3) for each in page]

    assert [dump_record(each) for each in returned] == [
        dump_record(each) for each in sorted(records, key=lambda each: each.decision_id)
    ]


def test_a_row_holds_what_analysts_ask_for(path: Path) -> None:
    """Times are UTC timestamps, versions a map, candidates a list of structs that columns can be taken from."""
    table = record_table([record(1), record(2, last_event_at=0)])
    assert table["decided_at"].cast(pa.int64()).to_pylist() == [DECIDED_AT + 1, DECIDED_AT + 2]
    assert table["versions"].to_pylist()[0] == [("features", "f1"), ("policy", "p1")]
    assert table["last_event_at"].null_count == 1
    first = table["candidates"].to_pylist()[0]
    assert [(each["treatment_id"], each["dropped"], each["rule_ids"]) for each in first] == [
        ("nudge_sms", None, []),
        ("offer_mail", "eligibility", ["too_young", "arrears"]),
        ("no_action", None, []),
    ]
    assert first[0]["selection_probability"] == 0.6


def test_every_field_of_a_record_is_exported() -> None:
    """A new field of record, candidate or slot cannot be forgotten here."""
    candidates, selected = (RECORDS_SCHEMA.field(name).type.value_type for name in ("candidates", "selected"))
    assert tuple(RECORDS_SCHEMA.names) == DecisionRecord.__struct_fields__
    assert tuple(field.name for field in candidates) == Candidate.__struct_fields__
    assert tuple(field.name for field in selected) == Selected.__struct_fields__


def test_no_records_give_an_empty_table(path: Path) -> None:
    """Nothing to export is a file with the schema and no row."""
    assert record_table([]).schema.equals(RECORDS_SCHEMA)
    assert export_records(_store(), path) == 0
    assert pq.read_table(path).num_rows == 0


def test_the_export_ends_where_asked(path: Path) -> None:
    """``until`` is the last decision id, also inside a page."""
    store = _store(*(record(number) for number in range(1, 8)))
    assert export_records(store, path, until="d-000005", page=3) == 5
    assert pq.read_table(path)["decision_id"].to_pylist() == [f"d-{number:06d}" for number in range(1, 6)]


def test_a_page_is_a_row_group(path: Path) -> None:
    """So that neither writing nor reading holds more than a page."""
    export_records(_store(*(record(number) for number in range(1, 8))), path, page=3)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 3, 1]


def test_linked_ids_survive_and_cost_nobody_else_a_byte(tmp_path: Path) -> None:
    """They come back from the record's bytes and from Parquet; a record without them has the bytes of before."""
    plain, linked = record(1), record(1, linked_ids=("cookie", "phone"))
    pq.write_table(record_table([plain, linked]), tmp_path / "records.parquet")

    (from_parquet,) = records_from_parquet(tmp_path / "records.parquet")

    assert [one.linked_ids for one in from_parquet] == [(), ("cookie", "phone")]
    assert load_record(dump_record(linked)).linked_ids == ("cookie", "phone")
    assert len(dump_record(linked)) - len(dump_record(plain)) == 1 + len("cookie") + 1 + len("phone") + 1


def test_a_benign_wait_survives_and_costs_nobody_else_a_byte(tmp_path: Path) -> None:
    """It comes back from the record's bytes and from Parquet, with linked ids and without."""
    waits = [record(1, benign_wait=0.25), record(2, benign_wait=0.5, linked_ids=("cookie",))]
    pq.write_table(record_table(waits), tmp_path / "records.parquet")

    (from_parquet,) = records_from_parquet(tmp_path / "records.parquet")

    assert [(one.benign_wait, one.linked_ids) for one in from_parquet] == [(0.25, ()), (0.5, ("cookie",))]
    assert [load_record(dump_record(one)).benign_wait for one in waits] == [0.25, 0.5]
    assert dump_record(record(1)) == dump_record(record(1, benign_wait=math.nan))


def test_what_capacity_and_people_said_survives_and_costs_nobody_else_a_byte(tmp_path: Path) -> None:
    """It comes back from the record's bytes and from Parquet; what stands before it is written where it is needed."""
    said = [
        record(1, contact_responses=("positive", "")),
        record(2, capacity_used={"calls": 3.0}, benign_wait=0.5),
        record(3, assignees=("agent-7", None), linked_ids=("cookie",), epsilon=0.01),
    ]
    pq.write_table(record_table(said), tmp_path / "records.parquet")

    (from_parquet,) = records_from_parquet(tmp_path / "records.parquet")

    for back in (from_parquet, [load_record(dump_record(one)) for one in said]):
        assert [one.epsilon for one in back] == [pytest.approx(math.nan, nan_ok=True)] * 2 + [0.01]
        assert [(one.contact_responses, one.capacity_used, one.assignees) for one in back] == [
            (("positive", ""), {}, ()),
            ((), {"calls": 3.0}, ()),
            ((), {}, ("agent-7", None)),
        ]
    assert [dump_record(one) for one in from_parquet] == [dump_record(one) for one in said]
    assert dump_record(record(1)) == dump_record(record(1, contact_responses=(), capacity_used={}, assignees=()))


_VERSION_4 = ["contact_responses", "capacity_used", "assignees", "epsilon"]


@pytest.mark.parametrize("earlier", [[], ["benign_wait"], ["linked_ids", "benign_wait"]])
def test_exports_of_earlier_versions_are_read(tmp_path: Path, earlier: list[str]) -> None:
    """What a version did not have yet is unknown, or none."""
    pq.write_table(record_table([record(1)]).drop_columns([*earlier, *_VERSION_4]), tmp_path / "records.parquet")

    (from_parquet,) = records_from_parquet(tmp_path / "records.parquet")

    assert [dump_record(one) for one in from_parquet] == [dump_record(record(1))]
