"""Limits hold whoever decides at once: thirty-two threads, one real record store, and every mix of asking."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.capacity import MILLIONTHS, millionths, window_start
from models.decision import DecisionRecord
from models.record_store import SqlRecordStore
from models.records import CapacityWindow, Contact
from models.replay import replayed
from models.workforce import Person, Results, ToldPerson
from serving.schemas import CandidateFilter
from tests.deciders import Desk
from tests.decisions import DAY_US, action
from tests.histories import START_AT

NOW = START_AT + DAY_US // 2
THREADS = 32
CAPACITY = {
    "limits": [
        {"id": "calls", "units": 25, "period": "1d", "channel": "phone", "queue": "desk"},
        {"id": "everything", "units": 70, "period": "7d", "channel": "phone"},
    ],
    "budgets": [{"id": "money", "amount": 20.0, "period": "1d", "issues": ["grow"]}],
}
ROOM = {"p1": 4, "p2": 7, "p3": 12}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecordStore]:
    """A record store on disk."""
    store = SqlRecordStore(tmp_path / "records.db")
    yield store
    store.close()


def _desk(records: SqlRecordStore) -> Desk:
    """A call of the desk, an offer with an incentive, and a tip that only the widest limit stops."""
    return Desk(
        action("call", assigned_to="desk", prior_uplift=0.4),
        action("offer", issue="grow", incentive_cost=0.6, prior_uplift=0.3),
        action("tip", prior_uplift=0.1),
        records=records,
        policy_changes={
            "capacity": CAPACITY,
            "decision_ttl": "1h",
            "experiment": {"id": "exp", "salt": "s", "no_contact_holdout": 0.1, "random_eligible": 0.3},
            "exploration": {"epsilon": 0.3, "temperature": 1.0},
        },
    )


def _taken(records: SqlRecordStore, now: int) -> dict[str, float]:
    periods = {"calls": DAY_US, "everything": 7 * DAY_US, "money": DAY_US}
    windows = [CapacityWindow(name, window_start(period, now, "Europe/Amsterdam")) for name, period in periods.items()]
    return records.capacity_used(windows, now=now)


def _all(records: SqlRecordStore) -> list[DecisionRecord]:
    return [one for page in records.read() for one in page]


def _ask(desk: Desk, worker: int, failures: list[BaseException]) -> None:
    """Ten questions of one caller: live and dry, activated and leased, of one slot and two, some twice, sends anew."""
    chance = np.random.default_rng(worker)
    try:
        for i in range(10):
            customer = f"c{worker}-{i}"
            changes: dict[str, Any] = {
                "request_id": f"{worker}-{i}",
                "activate": bool(chance.random() < 0.5),
                "mode": str(chance.choice(["live", "live", "live", "shadow", "dry_run"])),
                "send_id": "s" if chance.random() < 0.5 else None,
                "direction": "outbound" if chance.random() < 0.7 else "inbound",
                "placements": ("phone/first", "phone/second") if chance.random() < 0.3 else (),
            }
            answer = desk.ask(customer, now=NOW, **changes)
            if chance.random() < 0.3:
                again = desk.ask(customer, now=NOW, **changes)
                assert changes["mode"] == "dry_run" or again == answer
            if changes["send_id"] and chance.random() < 0.5:
                desk.ask(customer, now=NOW, **changes | {"request_id": f"{worker}-{i}-again", "max_actions": 5})
    except BaseException as error:
        failures.append(error)


def _decide_at_once(desk: Desk) -> None:
    failures: list[BaseException] = []
    threads = [threading.Thread(target=_ask, args=(desk, worker, failures)) for worker in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_limits_hold_and_leases_come_back(records: SqlRecordStore) -> None:
    """Never more than there is of units, money and people; and after all leases what was activated remains."""
    records.put_persons(
        [
            ToldPerson(
                Person(
                    person_id=name,
                    queues=("desk",),
                    most_open=room,
                    results={"desk": Results(handled=50, succeeded=10 * i)},
                )
            )
            for i, (name, room) in enumerate(ROOM.items())
        ]
    )
    desk = _desk(records)
    _decide_at_once(desk)

    taken = _taken(records, NOW)
    open_work = {one.person.person_id: one.open_work for one in records.workforce(now=NOW)}
    assert taken["everything"] == 70.0
    assert 15 < taken["calls"] == sum(open_work.values()) <= sum(ROOM.values())
    assert 10 < taken["money"] <= 20.0
    assert all(open_work[name] <= room for name, room in ROOM.items())
    live = [one for one in _all(records) if one.mode == "live"]
    assert all(one.selected == () for one in live if one.arm == "no_contact_holdout")

    # A confirmed contact is there as a row of its own; what is left over must be the same by counter and by row.
    later = NOW + DAY_US // 24
    confirmed: Counter[str] = Counter()
    for record in live:
        kept = records.customer(record.customer_id, since=0, now=later).contacts
        confirmed.update(one.action_id for one in kept if one.decision_id == record.decision_id)
    left = _taken(records, later)
    assert left["calls"] == confirmed["call"]
    assert left["everything"] == confirmed.total()
    assert left["money"] == confirmed["offer"] * millionths(0.7) / MILLIONTHS
    assert [one.open_work for one in records.workforce(now=later)] == [0, 0, 0]


def test_a_day_after_there_is_the_full_capacity_again(records: SqlRecordStore) -> None:
    """Where all were leases; and exactly as much can be had as on the first day."""
    desk = _desk(records)
    for day in (0, 1):
        selected = [desk.actions(f"c{day}-{i}", now=NOW + day * DAY_US, activate=False) for i in range(150)]
        counts = Counter(action_id for actions in selected for action_id in actions)
        assert counts["call"] == 25
        assert sum(counts.values()) == 70


def test_exposures_at_once_count_once(records: SqlRecordStore) -> None:
    """Every lease confirmed by four threads, in and after its time."""
    desk = _desk(records)
    leases = [(desk.ask(f"c{i}", now=NOW, activate=False, candidates=_only("call")), f"c{i}") for i in range(40)]
    told = [
        Contact(answer["decision_id"], customer_id, "call", "phone", NOW + 1, "confirmed", NOW + 1)
        for answer, customer_id in leases
        if answer["selected"]
    ]
    threads = [threading.Thread(target=lambda: [records.confirm_contacts([one]) for one in told]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert _taken(records, NOW + DAY_US // 12)["calls"] == len(told) <= 25


def _only(action_id: str) -> CandidateFilter:
    return CandidateFilter(include=(action_id,))


def test_decisions_under_limits_are_made_again_from_their_records(records: SqlRecordStore) -> None:
    """What was full, lost, or without people is in the record, and who handles what."""
    records.put_persons([ToldPerson(Person(person_id="p1", queues=("desk",), most_open=9))])
    desk = _desk(records)
    _decide_at_once(desk)

    made = _all(records)
    dropped = {one.rule_ids[0] for record in made for one in record.candidates if one.dropped == "capacity"}
    assert {"everything", "capacity.nobody_available"} <= dropped
    for record in made:
        assert replayed(record, desk.rulebook, None).differences == ()
