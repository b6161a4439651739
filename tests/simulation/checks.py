"""What is looked at when calls are over: the stores hold what was told and nothing else, and all follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from features.event_export import event_table
from features.event_tables import whole_table
from features.history import final_states, reads_at
from models.records import CapacityWindow
from serving.governing_views import ReplayRequest
from tests.doors import JOURNEY
from tests.simulation.installation import Installation
from tests.simulation.model import Model, hold, window_start


def check_everything(records: Any, model: Model, customer_ids: Iterable[str], *, now: int) -> None:
    """The record store counts what the model counts, of some customers and of all capacities."""
    for one in customer_ids:
        told = records.customer(one, since=0, now=now).contacts
        found = sorted((each.decision_id, each.action_id, each.channel, each.at, each.status) for each in told)
        hold("contacts", found == model.counting(one, now), (one, found, model.counting(one, now)))
    windows = [
        CapacityWindow(one["id"], window_start(one["period"], now))
        for one in (*model.policy["capacity"]["limits"], *model.policy["capacity"]["budgets"])
    ]
    used, expected = records.capacity_used(windows, now=now), model.capacity_used(now)
    is_same = used.keys() == expected.keys() and all(abs(used[name] - expected[name]) < 1e-6 for name in used)
    hold("capacity_counters", is_same, (used, expected))


def check_stores(there: Installation, model: Model, *, is_calling: bool = False) -> None:
    """Every event and decision that was told is there once, as it was told, and no other is.

    Args:
        there: what is looked at.
        model: what was told.
        is_calling: a call is under way, so that more may be there than was told.
    """
    stores = there.stores
    logged = [one.event for page in stores.log.read() for one in page]
    found = {(one.source, one.event_id): one for one in logged}
    hold("log_once", len(found) == len(logged), len(logged))
    hold("log_lost", model.events.keys() <= found.keys(), sorted(model.events.keys() - found.keys()))
    invented = found.keys() - model.events.keys()
    hold("log_invented", is_calling or not invented, sorted(invented))
    for key, told in model.events.items():
        event = found[key]
        hold(
            "log_changed",
            (event.customer_id, event.kind, event.occurred_at) == (told.customer_id, told.kind, told.at),
            key,
        )
    recorded = {one.decision_id: one for page in stores.records.read() for one in page}
    hold("decisions_lost", model.by_id.keys() <= recorded.keys(), sorted(model.by_id.keys() - recorded.keys()))
    invented_ids = recorded.keys() - model.by_id.keys()
    hold("decisions_invented", is_calling or not invented_ids, sorted(invented_ids))
    for decision_id, known in model.by_id.items():
        hold("same_bytes", stores.records.decision(decision_id).answer == known.answer, decision_id)
    if is_calling:
        return
    people = sorted({one.customer_id for one in (*model.events.values(), *model.contacts)})
    check_everything(stores.records, model, people, now=there.now)


def check_history(there: Installation, model: Model) -> str:
    """Features are those of the log, now and at each decision; and each decision comes out of its own record again."""
    stores, runtime = there.stores, there.runtime
    people = sorted({model.canonical(one.customer_id) for one in model.events.values()})
    logged = [one for page in stores.log.read() for one in page]
    if not logged:
        return "nothing happened"
    table = whole_table(event_table(logged), there.taxonomy)
    _check_states(there, table, people, is_healed=False)
    runtime.ingest.refresh(people)
    _check_states(there, table, people, is_healed=True)
    records = [one.record for one in model.decisions]
    features = there.feature_sets[JOURNEY]
    moments = np.array([one.as_of for one in records], dtype=np.int64)
    reads = reads_at(table, features, [one.customer_id for one in records], moments)
    for record, row in zip(records, reads, strict=True):
        hold("parity", np.array(record.vector).tobytes() == row.tobytes(), (record.decision_id, record.degraded))
    for record in records:
        again = runtime.replays.replay(stores.records.decision(record.decision_id), ReplayRequest())
        hold(
            "replay", again.replay.identical and again.answer_identical, (record.decision_id, again.replay.differences)
        )
    return f"{len(logged)} events, {len(records)} decisions, {len(people)} people"


def _check_states(there: Installation, table: Any, people: list[str], *, is_healed: bool) -> None:
    """Stored states that claim to be whole, or all of them, are those of a backfill."""
    states = final_states(table, there.feature_sets[JOURNEY])
    expected = dict(zip(states.customers.to_pylist(), states.vectors, strict=True))
    positions = dict(zip(states.customers.to_pylist(), states.log_positions.tolist(), strict=True))
    for one in people:
        state = there.stores.features.read(one, JOURNEY).state
        if one not in expected:
            hold("features_gone", not is_healed or state is None, one)
            continue
        if not is_healed and (state is None or state.log_position != positions[one]):
            continue
        hold("features_there", state is not None and state.log_position == positions[one], (one, state))
        hold("features", state is not None and state.vector.tobytes() == expected[one].tobytes(), one)
