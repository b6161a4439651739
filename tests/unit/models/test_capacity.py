"""Capacities and budgets: periods, what a candidate takes, and what has room."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.actions import Action
from models.capacity import (
    MILLIONTHS,
    Room,
    capacity_windows,
    fits_calendar,
    limits_in_millionths,
    millionths,
    needs_of,
    recorded_assignees,
    reserved_needs,
    window_start,
)
from models.decision import Candidate, Selected
from models.policy import Capacity
from models.records import CapacityNeed, CapacityWindow, CustomerRecords
from tests.decision_records import record
from tests.decisions import action

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
AMSTERDAM = "Europe/Amsterdam"


def at(text: str) -> int:
    """A UTC moment in microseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def capacity(**changes: Any) -> Capacity:
    """Two phone calls a day, one piece of desk work an hour, and ten of money a day for growing."""
    fields: dict[str, Any] = {
        "limits": [
            {"id": "calls", "units": 2, "period": "1d", "channel": "phone"},
            {"id": "desk", "units": 1, "period": "1h", "queue": "desk"},
        ],
        "budgets": [{"id": "money", "amount": 10.0, "period": "1d", "issues": ["grow"]}],
    }
    return Capacity.model_validate(fields | changes)


def offer(**changes: Any) -> Action:
    """A call of the desk that grows, with an incentive of 6."""
    fields = {"issue": "grow", "assigned_to": "desk", "incentive_cost": 6.0}
    return action("offer", **(fields | changes))


@pytest.mark.parametrize(
    ("period", "moment", "start"),
    [
        (DAY_US, "2026-06-10T21:59:59", "2026-06-09T22:00"),
        (DAY_US, "2026-06-10T22:00:00", "2026-06-10T22:00"),
        (7 * DAY_US, "2026-06-14T21:59:59", "2026-06-07T22:00"),
        (7 * DAY_US, "2026-06-14T22:00:00", "2026-06-14T22:00"),
        (HOUR_US, "2026-06-10T12:34:56", "2026-06-10T12:00"),
        (6 * HOUR_US, "2026-06-10T12:34:56", "2026-06-10T10:00"),
        (DAY_US, "2026-03-29T21:59:59", "2026-03-28T23:00"),
        (DAY_US, "2026-10-25T22:59:59", "2026-10-24T22:00"),
        (12 * HOUR_US, "2026-10-25T22:30:00", "2026-10-25T22:00"),
    ],
)
def test_a_period_begins_at_midnight_of_the_installation(period: int, moment: str, start: str) -> None:
    """Weeks on Mondays, parts of a day from midnight on, and days of 23 and 25 hours are one day."""
    assert window_start(period, at(moment), AMSTERDAM) == at(start)


@given(
    moment=st.integers(0, at("2090-01-01")),
    later=st.integers(0, 3 * DAY_US),
    period=st.sampled_from([60_000_000, 15 * 60_000_000, HOUR_US, 8 * HOUR_US, DAY_US, 7 * DAY_US, 30 * DAY_US]),
    zone=st.sampled_from(["UTC", AMSTERDAM, "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_periods_follow_each_other(moment: int, later: int, period: int, zone: str) -> None:
    """Every moment is in the period that began last, none is longer than told, and later moments are never earlier."""
    start = window_start(period, moment, zone)

    assert start <= moment < start + period + 2 * HOUR_US
    assert window_start(period, start, zone) == start
    assert start <= window_start(period, moment + later, zone)


@pytest.mark.parametrize(
    ("period", "fits"),
    [(0, False), (7 * HOUR_US, False), (36 * HOUR_US, False), (8 * HOUR_US, True), (3 * DAY_US, True)],
)
def test_a_period_fits_the_calendar_or_is_refused(period: int, fits: bool) -> None:
    """Whole days, or what divides one."""
    assert fits_calendar(period) is fits


def test_a_candidate_takes_from_every_limit_that_it_falls_under() -> None:
    """A unit of its channel and of its queue; the contact and the likely incentive of the budget of its issue."""
    one = offer()

    assert needs_of(capacity(), one, one.treatments[0], 0.25) == {
        "calls": MILLIONTHS,
        "desk": MILLIONTHS,
        "money": 1_600_000,
    }
    other = action("survey", issue="service")
    assert needs_of(capacity(), other, other.treatments[0], 0.25) == {"calls": MILLIONTHS}


def test_an_incentive_is_never_paid_more_than_once_nor_less_than_never() -> None:
    """A share outside 0 to 1 is an estimate that went too far."""
    one = offer()
    assert [needs_of(capacity(), one, one.treatments[0], share)["money"] for share in (-1.0, 7.0)] == [
        100_000,
        6_100_000,
    ]


def test_what_costs_nothing_has_room_in_an_empty_budget() -> None:
    """A free message is dropped by no budget, however overspent."""
    free = action("tip", issue="grow", treatments=[{"id": "tip_web", "channel": "web", "contact_cost": 0}])
    room = Room(capacity(), CustomerRecords(capacity_used={"money": 12.0}))
    assert room.failing(free, free.treatments[0]) == ()


def test_a_full_capacity_drops_by_its_own_name() -> None:
    """All that are full are named; of a budget the contact alone must fit before there is a score."""
    one = offer()
    full = Room(capacity(), CustomerRecords(capacity_used={"calls": 2.0, "desk": 1.0, "money": 9.95}))
    nearly = Room(capacity(), CustomerRecords(capacity_used={"calls": 1.0, "money": 9.9}))

    assert full.failing(one, one.treatments[0]) == ("calls", "desk", "money")
    assert nearly.failing(one, one.treatments[0]) == ()
    assert nearly.too_dear(one, one.treatments[0], 0.1) == ("money",)


def test_nobody_to_do_it_drops_only_what_has_people() -> None:
    """None says that nobody can; an action that is not named needs nobody."""
    one = offer()
    nobody = Room(Capacity(), CustomerRecords(assignees={"offer": None}))
    somebody = Room(Capacity(), CustomerRecords(assignees={"offer": "p1"}))

    assert nobody.failing(one, one.treatments[0]) == ("capacity.nobody_available",)
    assert somebody.failing(one, one.treatments[0]) == ()
    assert Room(Capacity(), CustomerRecords()).failing(one, one.treatments[0]) == ()


def test_slots_of_one_decision_fit_together() -> None:
    """Each alone would; both would take one too many."""
    room = Room(capacity(), CustomerRecords(capacity_used={"calls": 1.0}))
    call = {"calls": MILLIONTHS}
    assert room.fits_beside(call, [])
    assert room.fits_beside(call, [{"desk": MILLIONTHS}])
    assert not room.fits_beside(call, [call])


def test_a_reservation_names_slot_period_and_limit() -> None:
    """What the commit checks."""
    one = offer()
    only = capacity(budgets=[], limits=[{"id": "calls", "units": 2, "period": "1d", "channel": "phone"}])
    now = at("2026-06-10T12:00")

    found = reserved_needs([(one, one.treatments[0], 1.0)] * 2, only, now, AMSTERDAM)

    window = CapacityWindow("calls", at("2026-06-09T22:00"))
    assert found == tuple(CapacityNeed(slot, window, MILLIONTHS, 2 * MILLIONTHS) for slot in (0, 1))
    assert capacity_windows(only, now, AMSTERDAM) == (window,)
    assert reserved_needs([(one, one.treatments[0], 1.0)], Capacity(), now, AMSTERDAM) == ()


@given(amounts=st.lists(st.floats(0, 1e6), max_size=50))
def test_amounts_that_are_within_a_budget_in_millionths_are_within_it(amounts: list[float]) -> None:
    """Needs are rounded up and budgets down, so that rounding never overspends; and what is read back is the same."""
    whole = [millionths(amount) for amount in amounts]
    budget = limits_in_millionths(capacity(budgets=[{"id": "money", "amount": sum(amounts), "period": "1d"}]))["money"]

    assert all(one >= amount * MILLIONTHS - 1e-3 * max(1, amount) for one, amount in zip(whole, amounts, strict=True))
    assert budget <= sum(amounts) * MILLIONTHS + 1
    assert [millionths(one / MILLIONTHS) for one in whole] == whole


def test_a_record_tells_who_could_handle_what() -> None:
    """The chosen ones, and the actions for which there was nobody."""
    dropped = Candidate(
        action_id="case", treatment_id="c", channel=None, dropped="capacity", rule_ids=("capacity.nobody_available",)
    )
    slots = tuple(
        Selected(slot=slot, placement=None, action_id=name, treatment_id=name)
        for slot, name in ((1, "call"), (2, "tip"))
    )
    made = record(candidates=(dropped,), selected=slots, assignees=("p1", None))
    assert recorded_assignees(made) == {"case": None, "call": "p1"}


def test_a_limit_that_nobody_reaches_can_be_stored() -> None:
    """In millionths it would be more than a 64-bit integer holds, and no decision could be committed."""
    endless = capacity(
        limits=[{"id": "calls", "units": 10**15, "period": "1d", "channel": "phone"}],
        budgets=[{"id": "money", "amount": 1e15, "period": "1d"}],
    )

    limits = limits_in_millionths(endless)

    assert all(10**18 < limit < 2**63 - 1 for limit in limits.values())
