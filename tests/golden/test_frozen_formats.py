"""Frozen from the first release: hash, event wire, record codec, state layout, tables and Parquet schemas.

A difference here is a format that stored data no longer fits. Do not write the files anew: give the format a new
version, and keep reading the old one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from sqlalchemy import MetaData

from features.event_export import EVENTS_SCHEMA
from features.event_log_tables import metadata as events_metadata
from features.events import JourneyEvent, dump_event, load_event
from features.journeys import Journey
from features.schema import FeatureSet, feature_set
from features.sql_text import sqlite_layout
from features.stable_hash import stable_hash, stable_unit
from features.taxonomy import Taxonomy
from models.decision import Candidate, CountedContact, DecisionRecord, Selected, dump_record, load_record
from models.record_export import RECORDS_SCHEMA
from models.record_tables import metadata as records_metadata

STORED = Path(__file__).parent
NAN = float("nan")

EVENTS = (
    JourneyEvent(
        source="crm",
        event_id="e-1",
        customer_id="Zoë",
        kind="rated",
        channel="web",
        occurred_at=1_750_000_000_000_001,
        arrived_at=1_750_000_060_000_000,
        sequence=-2,
        day=20_254,
        facts={"nps": 9.0, "name": 'quote " and \u2028', "is_first": True, "tiny": 5e-324},
        text="slow, but friendly",
    ),
    JourneyEvent(
        source="web",
        event_id="e-2",
        customer_id="c-2",
        kind="applied",
        occurred_at=0,
        arrived_at=0,
        sequence=0,
        day=0,
    ),
)

RECORDS = (
    DecisionRecord(
        decision_id="d-01JXR0000000000000000000AB",
        source="crm",
        request_id="r-1",
        request_hash="0123456789abcdef",
        request=b'{"customer_id":"Zo\xc3\xab"}',
        customer_id="Zoë",
        journey_id="card",
        mode="live",
        decided_at=1_750_000_000_000_000,
        as_of=1_750_000_000_000_000,
        expires_at=1_750_086_400_000_000,
        arm="champion",
        experiment_id="main",
        arm_probabilities={"champion": 0.85, "holdout": 0.05, "random_eligible": 0.1},
        versions={"features": "f1", "policy": "p1"},
        vector=(1.5, NAN, -0.0),
        log_position=42,
        last_event_at=1_749_999_999_999_999,
        attributes={"age": 41.5, "is_member": True, "tier": "gold"},
        holdings=("account", "card"),
        consents={"marketing": "objected", "sms": "granted"},
        contacts=(
            CountedContact(action_id="nudge", channel="sms", at=1_749_900_000_000_000, is_lease=False),
            CountedContact(action_id="offer", channel="web", at=1_749_990_000_000_000, is_lease=True),
        ),
        time_zone="Europe/Amsterdam",
        stage="verified",
        state="WAITING_ON_US",
        stall_propensity=0.75,
        abandon_probability=0.25,
        expected_days_to_progress=NAN,
        candidates=(
            Candidate(
                action_id="nudge",
                treatment_id="nudge_sms",
                channel="sms",
                control_response=0.1,
                uplift=0.05,
                sigma=0.01,
                effect_source="model",
                outcome="paid",
                value=40.0,
                contact_cost=0.1,
                incentive_cost=0.0,
                fatigue_cost=0.2,
                channel_price=0.0,
                budget_price=0.0,
                context_weight_pct=5.0,
                lever_pct=-5.0,
                net_value=1.7,
                priority=1.7,
                selection_probability=0.6,
                arm_selection_probability=0.95,
            ),
            Candidate(
                action_id="offer",
                treatment_id="offer_mail",
                channel="email",
                dropped="eligibility",
                rule_ids=("arrears", "too_young"),
            ),
            Candidate(action_id="no_action", treatment_id="no_action", channel=None, selection_probability=0.4),
        ),
        selected=(
            Selected(
                slot=1,
                placement="sms/next",
                action_id="nudge",
                treatment_id="nudge_sms",
                conditional_probability=0.95,
            ),
        ),
        explored=True,
        activated=True,
        send_id="s-1",
        degraded=("model_missing",),
        latency_us=1_234,
    ),
    DecisionRecord(
        decision_id="d-01JXR0000000000000000000AC",
        source="import:campaign",
        request_id="d-01JXR0000000000000000000AC",
        request_hash="",
        request=b"",
        customer_id="c-2",
        journey_id="card",
        mode="imported",
        decided_at=1_750_000_000_000_000,
        as_of=1_750_000_000_000_000,
        expires_at=1_750_000_000_000_000,
        arm="",
        experiment_id="",
        arm_probabilities={},
        versions={},
        vector=(),
        log_position=0,
        last_event_at=0,
        attributes={},
        holdings=None,
        consents={},
        contacts=(),
        time_zone=None,
        stage=None,
        state=None,
        stall_propensity=NAN,
        abandon_probability=NAN,
        expected_days_to_progress=NAN,
        candidates=(),
        selected=(),
        explored=False,
        activated=True,
        send_id=None,
        degraded=(),
        latency_us=0,
    ),
)

TAXONOMY = Taxonomy.model_validate(
    {
        "version": 1,
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "channels": {"web": {"title": "Web", "digital": True}, "branch": {"title": "Branch", "digital": False}},
        "kinds": {
            "applied": {"title": "Applied"},
            "checked": {"title": "Checked", "role": "operation", "waiting": "ends"},
            "paid": {"title": "Paid", "value_fact": "amount", "facts": {"amount": {"dtype": "number"}}},
        },
        "attributes": {
            "age": {"dtype": "number", "feature": True},
            "tier": {"dtype": "category", "values": ["basic", "gold"], "feature": True},
            "name": {"dtype": "text", "pii": True},
        },
    }
)
JOURNEY = Journey.model_validate(
    {
        "id": "card",
        "title": "Card",
        "entry": ["applied"],
        "stages": [
            {"id": "applied", "title": "Applied", "enter": ["applied"], "stall_after": "2d", "stall_state": "IDLE"},
            {"id": "checked", "title": "Checked", "enter": ["checked"], "stall_after": "6h", "stall_state": "IDLE"},
        ],
        "goal": {"id": "used", "title": "Used", "enter": ["paid"]},
        "abandon_after": "45d",
        "horizon": "7d",
        "outcomes": [{"id": "paid", "title": "Paid", "event": "paid", "window": "14d", "value": 10.0}],
    }
)


def hashes() -> list[list[Any]]:
    """Salt, parts, hash as text (it does not fit a double), number in the unit interval."""
    keys = [["arm"], ["arm", ""], ["arm", "c-1"], ["shard", "c-1"], ["a", "bc"], ["ab", "c"], ["arm", "Zoë \U0001f600"]]
    return [[*key, str(stable_hash(*key)), stable_unit(*key)] for key in keys]


def events() -> str:
    """One event a line."""
    return "".join(f"{dump_event(event).decode()}\n" for event in EVENTS)


def records() -> str:
    """One record a line, in hexadecimal."""
    return "".join(f"{dump_record(record).hex()}\n" for record in RECORDS)


def state_layout() -> dict[str, Any]:
    """Every slot and feature of a small journey, and the version that stands for them."""
    features: FeatureSet = feature_set(TAXONOMY, JOURNEY)
    return {
        "version": features.version,
        "fields": {field.name: list(field.slots) for field in features.fields},
        "features": list(features.names),
        "offsets": features.plan.offsets.tolist(),
        "kinds": features.plan.kinds.tolist(),
    }


def tables(metadata: MetaData) -> str:
    """Tables and indexes as SQLite makes them."""
    lines = "\n".join(sqlite_layout(metadata)).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def schema(of: pa.Schema) -> dict[str, Any]:
    """Fields in order with type, and what the file says of itself."""
    return {
        "metadata": {key.decode(): value.decode() for key, value in (of.metadata or {}).items()},
        "fields": [[field.name, str(field.type), "null" if field.nullable else "not null"] for field in of],
    }


def _json(name: str) -> Any:
    return json.loads((STORED / name).read_text(encoding="utf-8"))


def _text(name: str) -> str:
    return (STORED / name).read_text(encoding="utf-8")


def test_stable_hashes_stay() -> None:
    """Else customers would move between arms and shards."""
    assert hashes() == _json("stable_hash.json")


def test_events_are_written_as_before() -> None:
    """Wire version 1, byte for byte."""
    assert events() == _text("events_v1.jsonl")


def test_stored_events_are_read_as_before() -> None:
    """Every field comes back."""
    lines = _text("events_v1.jsonl").split("\n")[:-1]
    assert tuple(load_event(line.encode()) for line in lines) == EVENTS


def test_records_are_written_as_before() -> None:
    """Codec version 1, byte for byte."""
    assert records() == _text("records_v1.hex")


def test_the_order_of_a_mapping_is_not_written() -> None:
    """Equal records are equal bytes."""
    turned = dict(reversed(RECORDS[0].versions.items()))
    assert dump_record(msgspec.structs.replace(RECORDS[0], versions=turned)) == dump_record(RECORDS[0])


def test_stored_records_are_read_as_before() -> None:
    """Every field comes back, NaN and negative zero included."""
    loaded = [load_record(bytes.fromhex(line)) for line in _text("records_v1.hex").splitlines()]
    # NaN is not equal to itself, but shows the same.
    assert [repr(record) for record in loaded] == [repr(record) for record in RECORDS]


def test_the_state_layout_stays() -> None:
    """Slots, features, their order, and the version that is stored with every state and vector."""
    assert state_layout() == _json("state_layout_v1.json")


@pytest.mark.parametrize(
    ("name", "metadata"), [("events_layout_v2", events_metadata), ("records_layout_v4", records_metadata)]
)
def test_tables_stay(name: str, metadata: MetaData) -> None:
    """A file of a layout version has these tables and no others."""
    assert tables(metadata) == _text(f"{name}.sql")


@pytest.mark.parametrize(("name", "of"), [("events_parquet_v1", EVENTS_SCHEMA), ("records_parquet_v4", RECORDS_SCHEMA)])
def test_parquet_schemas_stay(name: str, of: pa.Schema) -> None:
    """What training and others read."""
    assert schema(of) == _json(f"{name}.json")
