"""What must hold of a home whose service was killed: read from its files, asked again, and folded anew."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from features.backfill import backfill
from features.event_export import event_table
from features.event_store import SqlEventLog
from features.home import Home
from features.online import SqliteOnlineStore
from features.store_head import verify_head
from models.configuration import load_configuration
from models.record_store import SqlRecordStore
from models.rulebooks import feature_sets_of
from serving.bootstrap import open_runtime
from tests.faults.load import (
    CALLER,
    CONTACTS_A_WEEK,
    UNITS,
    Told,
    came_back,
    decision,
    digest,
    environment,
    events,
    outcomes,
)

_ONE = 1_000_000
"""A unit, as counters have it."""


def check_nothing_was_lost(home: Home, told: Told) -> None:
    """Every fact that was answered is on disk, before anything is asked again, and the heads of the files say so."""
    assert [verify_head(path).problem for path in (home.events_db, home.records_db)] == ["", ""]
    kept = set(_rows(home.events_db, "SELECT event_id FROM events"))
    for _, documents in told.sent("events", answered=True):
        assert {(one["event_id"],) for one in documents} <= kept
    for _, items in told.sent("outcomes", answered=True):
        assert {(one["outcome_event_id"],) for one in items} <= kept
    answers = _answers(home)
    for number, body in told.sent("decision", answered=True):
        assert digest(answers[body["request_id"]]) == told.answered[number]
    shown = {
        (item["decision_id"], item["action_id"])
        for _, items in told.sent("outcomes", answered=True)
        for item in items
        if item["type"] == "exposure"
    }
    assert shown <= set(
        _rows(home.records_db, "SELECT decision_id, action_id FROM contacts WHERE status = 'confirmed'")
    )


def check_asking_again(home: Home, told: Told) -> None:
    """Everything that was asked is answered when it is asked again, with the bytes that were committed, if any were."""
    committed = _answers(home)

    async def ask_again() -> None:
        async with open_runtime(environment(home)) as runtime:
            for _, documents in told.sent("events"):
                assert await events(runtime, documents) == len(documents)
            for number, body in told.sent("decision"):
                answer = await decision(runtime, body)
                assert digest(answer) == told.answered.get(number, digest(answer))
                assert answer == committed.get(body["request_id"], answer)
                items = came_back(answer, own=body["request_id"].removeprefix("r-"))
                assert await outcomes(runtime, items) == len(items)

    asyncio.run(ask_again())


def check_each_once(home: Home, told: Told) -> None:
    """Nothing that was asked twice is there twice, and nothing is there that nobody asked for."""
    sent = {one["event_id"] for _, documents in told.sent("events") for one in documents}
    kept = Counter(row[0] for row in _rows(home.events_db, "SELECT event_id FROM events"))
    own = {event_id for event_id in kept if not event_id.startswith(("shown-", "came-"))}
    assert own == sent
    assert set(kept.values()) == {1}
    positions = [row[0] for row in _rows(home.events_db, "SELECT position FROM events ORDER BY position")]
    assert positions == list(range(1, len(positions) + 1))
    requests = Counter(row[0] for row in _rows(home.records_db, "SELECT request_id FROM decisions"))
    assert requests == Counter(body["request_id"] for _, body in told.sent("decision"))


def check_counters(home: Home) -> None:
    """Contacts are those that records selected, no cap is exceeded, and counters equal a count of the contacts."""
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        found = [record for page in records.read() for record in page]
    channels = {one.treatment_id: one.channel for record in found for one in record.candidates}
    selected = {
        (record.decision_id, one.action_id, channels[one.treatment_id], record.customer_id)
        for record in found
        for one in record.selected
    }
    contacts = _rows(home.records_db, "SELECT decision_id, action_id, channel, customer_id, status FROM contacts")
    counted = [row for row in contacts if row[4] in ("confirmed", "lease")]
    assert selected == {row[:4] for row in counted}
    assert len(selected) == len(counted)
    assert max(Counter(row[3] for row in counted).values(), default=0) <= CONTACTS_A_WEEK
    used = dict(_rows(home.records_db, "SELECT limit_id, SUM(used) FROM capacity_counters GROUP BY limit_id"))
    of_channel = Counter(row[2] for row in counted)
    assert {channel: n // _ONE for channel, n in used.items() if n} == {
        channel: n for channel, n in of_channel.items() if channel in used
    }
    assert all(n <= UNITS for n in of_channel.values())


def check_states(home: Home, folder: Path) -> None:
    """What serving keeps of each customer is what a backfill of the log into another home makes of it."""
    configuration = load_configuration(home, environment(home))
    feature_sets = feature_sets_of(configuration)
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        logged = [one for page in log.read() for one in page]
    other = Home(folder).create()
    with (
        closing(SqliteOnlineStore(other.online_db, feature_sets, configuration.taxonomy)) as anew,
        closing(SqliteOnlineStore(home.online_db, feature_sets, configuration.taxonomy)) as served,
        closing(SqlRecordStore(home.records_db, readonly=True)) as records,
    ):
        backfill(
            event_table(logged),
            home=other,
            store=anew,
            feature_sets=feature_sets,
            taxonomy=configuration.taxonomy,
        )
        for customer_id in sorted({one.event.customer_id for one in logged}):
            for journey_id in feature_sets:
                found, wanted = served.read(customer_id, journey_id), anew.read(customer_id, journey_id)
                assert found.state is not None
                assert wanted.state is not None
                assert found.profile == wanted.profile
                assert found.state.vector.tobytes() == wanted.state.vector.tobytes()
                assert (found.state.order, found.state.log_position) == (wanted.state.order, wanted.state.log_position)
            assert wanted.profile is not None
            now = logged[-1].event.arrived_at
            assert records.customer(customer_id, since=0, now=now).consents == wanted.profile.consents


def _answers(home: Home) -> dict[str, bytes]:
    found = _rows(home.records_db, "SELECT source, request_id, answer FROM decisions")
    return {request_id: answer for source, request_id, answer in found if source == CALLER.source}


def _rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    return list(_read(path, statement))


def _read(path: Path, statement: str) -> Iterator[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        yield from connection.execute(statement).fetchall()
