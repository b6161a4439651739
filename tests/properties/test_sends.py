"""Sends that are decided again while their contacts are activated and shown: each unit is taken by one contact."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.capacity import capacity_windows
from models.record_store import SqlRecordStore
from models.records import CapacityWindow, Contact, LeaseEnded, LostRace, RecordStore, Reservation
from tests.deciders import Desk
from tests.decisions import DAY_US, action
from tests.histories import START_AT

CALLERS: Final = 32
SENDS: Final = 6
NOW: Final = START_AT


def test_a_send_is_decided_again_while_it_is_activated(tmp_path: Path) -> None:
    """By 32 callers: the counter and contacts say the same then, while leases live and when they have ended."""
    with closing(SqlRecordStore(tmp_path / "records.db", durability="NORMAL")) as records:
        desk = Desk(
            action("call", prior_uplift=0.4),
            records=records,
            policy_changes={
                "contact_policy": {"caps": [{"id": "cap.call", "contacts": 5, "period": "30d"}]},
                "capacity": {"limits": [{"id": "calls", "units": 20, "period": "1d", "channel": "phone"}]},
            },
        )
        start = threading.Barrier(CALLERS)
        activated: set[str] = set()

        def calls(worker: int) -> None:
            chance = np.random.default_rng(worker)
            start.wait(30)
            for _ in range(10):
                person = f"c{chance.integers(SENDS)}"
                most = int(chance.integers(1, 3))  # another question, and so another decision, about half of the time
                answer = desk.ask(person, now=NOW, activate=False, send_id="s", max_actions=most)
                if answer["selected"] and chance.random() < 0.6:
                    contact = _contact(answer["decision_id"], person)
                    if chance.random() < 0.2:
                        records.confirm_contacts([contact])
                    elif not _is_activated(records, contact):
                        continue
                    activated.add(answer["decision_id"])

        threads = [threading.Thread(target=calls, args=(worker,)) for worker in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for now in (NOW, NOW + 2 * DAY_US):
            contacts = [
                one for number in range(SENDS) for one in records.customer(f"c{number}", since=0, now=now).contacts
            ]
            assert records.capacity_used([_calls(desk)], now=now).get("calls", 0.0) == len(contacts)
        assert {one.decision_id for one in contacts} == activated


def test_a_send_is_decided_once(tmp_path: Path) -> None:
    """By 32 callers at once, each of whom would draw something else: all are answered the same."""
    chance = {"experiment": {"id": "e", "salt": "s", "no_contact_holdout": 0.0, "random_eligible": 1.0}}
    drawn = [action(f"a{number}", prior_uplift=0.3) for number in range(6)]
    with closing(SqlRecordStore(tmp_path / "records.db", durability="NORMAL")) as records:
        desk = Desk(*drawn, records=records, policy_changes=chance)
        with ThreadPoolExecutor(CALLERS) as pool:
            asked = [
                pool.submit(desk.ask, f"c{number // 16}", now=NOW, activate=False, send_id="s")
                for number in range(SENDS * 16)
            ]
            answers = [msgspec.json.encode(one.result()) for one in asked]

        assert len(set(answers)) == SENDS
        assert sum(map(len, records.read())) == SENDS


def _calls(desk: Desk) -> CapacityWindow:
    rules = desk.rulebook
    return capacity_windows(rules.policy.capacity, NOW, rules.taxonomy.time_zone)[0]


def _contact(decision_id: str, person: str) -> Contact:
    return Contact(decision_id, person, "call", "phone", NOW, "confirmed", NOW + DAY_US, "s")


def _is_activated(records: RecordStore, contact: Contact) -> bool:
    try:
        records.activate(Reservation((contact,), ("call_phone",), (), "s"), at=NOW)
    except (LeaseEnded, LostRace):
        return False
    return True
