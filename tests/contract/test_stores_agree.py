"""Memory, SQLite and PostgreSQL told the same things in the same order: the same answers, and the same left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.database_location import DatabaseLocation
from features.errors import HeadwayError
from features.event_log import EventLog, MemoryEventLog
from features.event_store import SqlEventLog
from features.sqlite_files import connect_reader
from models.database_migrations import all_tables
from models.decision import dump_record
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.records import (
    CapacityNeed,
    CapacityWindow,
    ConsentChange,
    ContactResponse,
    LeaseEnded,
    LostRace,
    RecordStore,
)
from models.workforce import Person, ToldPerson
from tests.decision_records import DECIDED_AT, cap, contact, record, reservation
from tests.histories import START_AT, event
from tests.postgres_servers import empty

Step: TypeAlias = Callable[[EventLog, RecordStore], Any]

CALLS = CapacityWindow("calls", 7)
ONE = 1_000_000
IDS = ["c1", "C1", "é", "e\u0301", "\U0001f600", "\uffff", "a b", "'; --", "%s", "ß"]
"""Ids that encodings, collations and statements put together by hand have got wrong."""

_ids = st.sampled_from(IDS)
_numbers = st.integers(1, 8)
_texts = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
_moments = st.integers(0, 40)


def _appended(batch: list[tuple[str, str, int, int, str | None]]) -> Step:
    events = [
        replace(
            event(event_id, customer_id=who, at=START_AT + at, arrived_at=START_AT + at, sequence=sequence),
            text=text,
        )
        for event_id, who, at, sequence, text in batch
    ]
    return lambda log, records: log.append(events)


def _linked(alias: str, who: str, at: int) -> Step:
    link = event(f"link-{alias}-{at}", customer_id=who, kind="identity_linked", facts={"alias": alias})
    return lambda log, records: log.append([link] if alias != who else [])


def _whose(number: int) -> str:
    """Whom a decision is about: few people, so that their decisions meet."""
    return IDS[number % 3]


def _decided(number: int, limit: int, status: str, send_id: str | None, others: str) -> Step:
    made = record(
        number, customer_id=_whose(number), request_hash=others, send_id=send_id, decided_at=DECIDED_AT + number
    )
    told = contact(made, status=status, send_id=send_id, expires_at=DECIDED_AT + 30)  # type: ignore[arg-type]  # of two
    needs = (CapacityNeed(0, CALLS, ONE, 4 * ONE),)
    held = replace(reservation(told, caps=(cap(limit),)), needs=needs)
    return lambda log, records: records.commit(made, f"{number} {others}".encode(), held)


def _activated(number: int, at: int) -> Step:
    made = record(number, customer_id=_whose(number), decided_at=DECIDED_AT + number)
    asked = reservation(contact(made), caps=(cap(2),))
    return lambda log, records: records.activate(asked, at=DECIDED_AT + at)


def _shown(number: int, at: int) -> Step:
    """Of a decision that was made: nobody knows the id of another."""
    made = record(number, customer_id=_whose(number))

    def show(log: EventLog, records: RecordStore) -> None:
        if records.decision(made.decision_id) is not None:
            records.confirm_contacts([contact(made, at=DECIDED_AT + at)])

    return show


def _answered(number: int, kind: str, at: int) -> Step:
    return lambda log, records: records.note_responses([ContactResponse(f"d-{number:06d}", _whose(number), kind, at)])  # type: ignore[arg-type]  # one of them


def _consented(who: str, state: str, at: int) -> Step:
    return lambda log, records: records.apply_consents([ConsentChange(who, "sms", state, at)])


def _staffed(number: int, work: int | None) -> Step:
    told = ToldPerson(Person(person_id=f"p{number}", queues=("desk",)), open_work=work)
    return lambda log, records: records.put_persons([told])


def _imported(numbers: list[int]) -> Step:
    made = [record(number, customer_id=_whose(number)) for number in numbers]
    return lambda log, records: records.append_imported(made)


def _texts_forgotten(at: int) -> Step:
    return lambda log, records: log.forget_texts(arrived_before=START_AT + at)


_steps: st.SearchStrategy[Step] = st.one_of(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), _ids, _moments, st.integers(-2, 2), _texts), max_size=5).map(
        _appended
    ),
    st.builds(_linked, _ids, _ids, _moments),
    st.builds(
        _decided,
        _numbers,
        st.integers(1, 3),
        st.sampled_from(["confirmed", "lease"]),
        st.none() | st.just("s"),
        st.sampled_from(["one", "other"]),
    ),
    st.builds(_activated, _numbers, _moments),
    st.builds(_shown, _numbers, _moments),
    st.builds(_answered, _numbers, st.sampled_from(["positive", "negative", "neutral"]), _moments),
    st.builds(_consented, _ids, st.sampled_from(["granted", "withdrawn", "objected"]), _moments),
    st.builds(_staffed, _numbers, st.none() | st.integers(0, 3)),
    st.builds(_imported, st.lists(_numbers, max_size=4, unique=True)),
    st.builds(_texts_forgotten, _moments),
)


def _outcome(step: Step, log: EventLog, records: RecordStore) -> Any:
    try:
        return step(log, records)
    except (HeadwayError, LostRace, LeaseEnded) as error:
        return type(error).__name__, str(error)


def _seen(log: EventLog, records: RecordStore) -> Any:
    """All that the ports tell of what is there."""
    people = [log.person(one, at=START_AT + 20) for one in IDS]
    return {
        "events": [one for page in log.read(page=3) for one in page],
        "people": people,
        "of_people": log.of_people([(one, 1) for one in people]),
        "last": [log.last_position(one) for one in IDS],
        "records": [dump_record(one) for page in records.read(page=2) for one in page],
        "back": [one.decision_id for page in records.read_back(page=3) for one in page],
        "customers": [records.customer(one, since=0, now=DECIDED_AT + 20, windows=[CALLS], send_id="s") for one in IDS],
        "used": records.capacity_used([CALLS], now=DECIDED_AT + 20),
        "workforce": records.workforce(now=DECIDED_AT + 20),
    }


def _rows(place: Path | DatabaseLocation) -> dict[str, list[Any]]:
    """What every table holds; of a file, of the tables that are in it."""
    found = {}
    with ExitStack() as stack:
        connection: Any = (
            stack.enter_context(closing(connect_reader(place)))
            if isinstance(place, Path)
            else stack.enter_context(psycopg.connect(place.url))
        )
        for table in all_tables().sorted_tables:
            names = ", ".join(column.name for column in table.columns)
            if (
                isinstance(place, Path)
                and not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()
            ):
                continue
            found[table.name] = sorted(connection.execute(f"SELECT {names} FROM {table.name}"), key=repr)  # noqa: S608  # ours
    return found


def _check(steps: list[Step], database: DatabaseLocation) -> None:
    empty(database)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = Path(folder) / "events.db", Path(folder) / "records.db"
        pairs: list[tuple[EventLog, RecordStore]] = [
            (MemoryEventLog(), MemoryRecordStore()),
            (SqlEventLog(files[0], durability="NORMAL"), SqlRecordStore(files[1], durability="NORMAL")),
            (SqlEventLog(database, durability="NORMAL"), SqlRecordStore(database, durability="NORMAL")),
        ]
        for pair in pairs:
            for store in pair:
                stack.callback(store.close)
        for step in steps:
            outcomes = [_outcome(step, *pair) for pair in pairs]
            assert outcomes == [outcomes[0]] * 3
        seen = [_seen(*pair) for pair in pairs]
        assert seen == [seen[0]] * 3
        assert _rows(database) == _rows(files[0]) | _rows(files[1])


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(_steps, min_size=10, max_size=20))
def test_a_few_histories_end_alike(database: DatabaseLocation, steps: list[Step]) -> None:
    """Every step answers alike, the ports tell the same afterwards, and both databases hold the same rows."""
    _check(steps, database)


@pytest.mark.slow
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(_steps, min_size=10, max_size=60))
def test_many_long_histories_end_alike(database: DatabaseLocation, steps: list[Step]) -> None:
    """Likewise, for as long as the slow tier has time."""
    _check(steps, database)
