"""What the decisions of a period have taken of capacities and budgets."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from models.actions import Catalogue
from models.capacity_taken import taken
from models.decision import Candidate, Selected
from models.ids import decision_id
from models.memory_records import MemoryRecordStore
from tests import decision_records
from tests.decisions import DAY_US, action, policy
from tests.unit.models.test_prices import CAPACITY

NOON = 1_700_000_000_000_000 // DAY_US * DAY_US + DAY_US // 2
CATALOGUE = Catalogue(
    version=1, actions=(action("nudge"), action("offer", issue="grow", incentive_cost=10.0, assigned_to="desk"))
)


def decided(records: MemoryRecordStore, *, at: int, action_id: str = "nudge", **changes: Any) -> None:
    """A decision on an action over the phone, activated unless told otherwise."""
    candidate: Candidate = structs.replace(
        decision_records.SCORED,
        action_id=action_id,
        treatment_id=f"{action_id}_phone",
        channel="phone",
        contact_cost=2.0,
        incentive_cost=10.0 if action_id == "offer" else 0.0,
        control_response=0.25,
        uplift=0.25,
    )
    fields: dict[str, Any] = {
        "decision_id": decision_id(at=at, customer_id="c1", randomness=at.to_bytes(9, "big")),
        "request_id": f"r-{at}",
        "decided_at": at,
        "expires_at": at + DAY_US,
        "candidates": (candidate,),
        "selected": (Selected(slot=1, placement=None, action_id=action_id, treatment_id=candidate.treatment_id),),
    }
    records.commit(decision_records.record(**(fields | changes)), b"{}", None)


def found(records: MemoryRecordStore, at: int = NOON) -> dict[str, float]:
    """What is taken of the capacities of the price lists' tests, in UTC."""
    return taken(records, policy(capacity=CAPACITY), CATALOGUE, {"paid": True}, at=at, time_zone="UTC")


def test_units_and_money_of_the_period_are_counted() -> None:
    """Of today for the day's limits, of the month for its budgets; what was selected, and nothing of other modes."""
    records = MemoryRecordStore()
    decided(records, at=NOON - 1)
    decided(records, at=NOON - 2, action_id="offer")
    decided(records, at=NOON - 3, mode="shadow")
    decided(records, at=NOON - 4, selected=())
    decided(records, at=NOON - DAY_US)
    decided(records, at=NOON + 1)

    assert found(records) == {
        "limit.phone": 2.0,
        "limit.desk": 1.0,
        "limit.desk_phone": 1.0,
        "budget.all": 2.0 + (2.0 + 0.5 * 10.0) + 2.0,
        "budget.grow": 2.0 + 0.5 * 10.0,
    }


def test_leases_count_while_they_live() -> None:
    """Of several for one send the last."""
    records = MemoryRecordStore()
    decided(records, at=NOON - 9, activated=False, expires_at=NOON + 1)
    decided(records, at=NOON - 8, activated=False, expires_at=NOON - 1)
    decided(records, at=NOON - 7, activated=False, expires_at=NOON + 1, send_id="s")
    decided(records, at=NOON - 6, activated=False, expires_at=NOON + 1, send_id="s")

    assert found(records)["limit.phone"] == 2.0


def test_without_capacities_nothing_is_read() -> None:
    """There is nothing to count."""
    assert taken(MemoryRecordStore(), policy(), CATALOGUE, {}, at=NOON, time_zone="UTC") == {}


def test_an_action_that_is_no_longer_declared_is_not_counted() -> None:
    """Nobody knows its queue or its issue."""
    records = MemoryRecordStore()
    decided(records, at=NOON - 1, action_id="gone")

    assert found(records)["limit.phone"] == pytest.approx(0.0)
