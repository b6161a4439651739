"""Capacities and budgets of the policy: which of them a candidate takes from, how much, and in which period.

Amounts are counted in whole millionths, so that adding and giving back leaves nothing behind. What other decisions have
taken comes from the record store; value decides through prices, these limits only say no.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from features.events import MICROSECONDS_PER_DAY, moment_of
from models.actions import Action, Treatment
from models.decision import DecisionRecord, Selected
from models.policy import Budget, Capacity, CapacityLimit
from models.records import NOBODY_AVAILABLE, CapacityNeed, CapacityWindow, CustomerRecords

MILLIONTHS: Final = 1_000_000
_MOST: Final = 2**62
"""More is never taken, and a counter with what one more contact takes stays a 64-bit integer."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MONDAY: Final = datetime(1970, 1, 5).toordinal()  # so that weeks begin on Mondays
_MICROSECOND: Final = timedelta(microseconds=1)


def window_start(period: int, at: int, time_zone: str) -> int:
    """When the period began that a moment is in, microseconds since the epoch.

    Whole days begin at midnight in the zone, several of them are counted from a Monday. Shorter periods are counted
    from midnight on: where clocks are set back the last one of the day is followed by a short one.

    >>> noon = 1_772_366_400_000_000  # 2026-03-01T12:00Z, a Sunday
    >>> hours = lambda start: (noon - start) / 3_600_000_000
    >>> [hours(window_start(days * 86_400_000_000, noon, "Europe/Amsterdam")) for days in (1, 7)]
    [13.0, 157.0]
    >>> hours(window_start(6 * 3_600_000_000, noon, "Europe/Amsterdam"))
    1.0

    Args:
        period: a number of whole days, or a part of one that divides it; microseconds.
        at: microseconds since the epoch.
        time_zone: IANA name.
    """
    n_days = max(1, period // MICROSECONDS_PER_DAY)
    day = moment_of(at).astimezone(ZoneInfo(time_zone)).date().toordinal()
    start = _midnight(day - (day - _FIRST_MONDAY) % n_days, time_zone)
    return start if period >= MICROSECONDS_PER_DAY else at - (at - start) % period


@lru_cache(maxsize=256)
def _midnight(day: int, time_zone: str) -> int:
    return (datetime.fromordinal(day).replace(tzinfo=ZoneInfo(time_zone)) - _EPOCH) // _MICROSECOND


def fits_calendar(period: int) -> bool:
    """Whether periods of this length can begin at midnight every day, or every so many days."""
    if period <= 0:
        return False
    return period % MICROSECONDS_PER_DAY == 0 or MICROSECONDS_PER_DAY % period == 0


def capacity_windows(capacity: Capacity, at: int, time_zone: str) -> tuple[CapacityWindow, ...]:
    """The period of every capacity and budget that a moment is in."""
    periods = {limit.id: limit.period for limit in capacity.limits} | {one.id: one.period for one in capacity.budgets}
    return tuple([CapacityWindow(name, window_start(period, at, time_zone)) for name, period in periods.items()])


def millionths(amount: float) -> int:
    """An amount in whole millionths, rounded up.

    >>> millionths(0.1), millionths(3), millionths(0.00000001)
    (100000, 3000000, 1)
    """
    return math.ceil(round(amount * MILLIONTHS, 3))


def limits_in_millionths(capacity: Capacity) -> dict[str, int]:
    """How much of each capacity and budget there is in a period."""
    units = {limit.id: limit.units * MILLIONTHS for limit in capacity.limits}
    money = {budget.id: math.floor(round(budget.amount * MILLIONTHS, 3)) for budget in capacity.budgets}
    return {limit_id: min(limit, _MOST) for limit_id, limit in (units | money).items()}


def takes_unit(limit: CapacityLimit, *, channel: str, queue: str | None) -> bool:
    """Whether a treatment over a channel, of an action that a queue works, takes a unit of a capacity."""
    return limit.channel in (None, channel) and limit.queue in (None, queue)


def takes_money(budget: Budget, *, issue: str) -> bool:
    """Whether actions of an issue are paid out of a budget."""
    return not budget.issues or issue in budget.issues


def needs_of(capacity: Capacity, action: Action, treatment: Treatment, incentive_share: float) -> dict[str, int]:
    """What a candidate takes of each capacity and budget that it falls under, in millionths, where it is more than 0.

    One unit of a capacity; of a budget ``contact_cost + share * incentive_cost``, where ``incentive_share`` is the
    probability that the incentive is paid.
    """
    channel, queue = treatment.channel, action.assigned_to
    needs = {one.id: MILLIONTHS for one in capacity.limits if takes_unit(one, channel=channel, queue=queue)}
    money = _money(action, treatment, incentive_share) if capacity.budgets else 0
    if money:
        needs |= {budget.id: money for budget in capacity.budgets if takes_money(budget, issue=action.issue)}
    return needs


def _money(action: Action, treatment: Treatment, incentive_share: float) -> int:
    return millionths(treatment.contact_cost + min(max(incentive_share, 0.0), 1.0) * action.incentive_cost)


class Room:
    """What is left of capacities, budgets and people for one decision.

    Args:
        capacity: of the policy.
        records: what was taken, and who could handle what.

    Attributes:
        is_free: nothing that is known before the scores is short.
        has_budgets: what a candidate costs may be more than is left.
    """

    def __init__(self, capacity: Capacity, records: CustomerRecords) -> None:
        self._budgets = capacity.budgets
        self.has_budgets = bool(capacity.budgets)
        self._assignees = records.assignees
        self._left = {
            limit_id: limit - millionths(records.capacity_used.get(limit_id, 0.0))
            for limit_id, limit in limits_in_millionths(capacity).items()
        }
        self._full = [limit for limit in capacity.limits if self._left[limit.id] < MILLIONTHS]
        self.is_free = not (self._full or self._budgets or self._assignees)

    def failing(self, action: Action, treatment: Treatment) -> tuple[str, ...]:
        """Ids of what has no room for a candidate whatever its score: of a budget, not even for the contact's cost."""
        channel, queue = treatment.channel, action.assigned_to
        full = [limit.id for limit in self._full if takes_unit(limit, channel=channel, queue=queue)]
        nobody = (NOBODY_AVAILABLE,) if self._assignees.get(action.id, "") is None else ()
        return (*full, *self.too_dear(action, treatment, 0.0), *nobody)

    def too_dear(self, action: Action, treatment: Treatment, incentive_share: float) -> tuple[str, ...]:
        """Ids of the budgets that have too little left for a candidate."""
        if not self._budgets:
            return ()
        money = _money(action, treatment, incentive_share)
        short = [one for one in self._budgets if 0 < money > self._left[one.id]]
        return tuple([one.id for one in short if takes_money(one, issue=action.issue)])

    def fits_beside(self, needs: Mapping[str, int], others: Sequence[Mapping[str, int]]) -> bool:
        """Whether a candidate's needs fit together with those of others in the same decision."""
        return all(
            need + sum(other.get(limit_id, 0) for other in others) <= self._left[limit_id]
            for limit_id, need in needs.items()
        )


def reserved_needs(
    chosen: Sequence[tuple[Action, Treatment, float]], capacity: Capacity, at: int, time_zone: str
) -> tuple[CapacityNeed, ...]:
    """What the contacts of a decision take, to be checked in its commit.

    Args:
        chosen: action, treatment and incentive share of each contact, in order of the slots.
        capacity: of the policy.
        at: when it was decided.
        time_zone: the installation's.
    """
    if not (capacity.limits or capacity.budgets):
        return ()
    windows = {one.limit_id: one for one in capacity_windows(capacity, at, time_zone)}
    limits = limits_in_millionths(capacity)

    def found() -> Iterator[CapacityNeed]:
        for position, (action, treatment, share) in enumerate(chosen):
            for limit_id, need in needs_of(capacity, action, treatment, share).items():
                yield CapacityNeed(position, windows[limit_id], need, limits[limit_id])

    return tuple(found())


def slot_assignees(selected: Sequence[Selected], records: CustomerRecords) -> tuple[str | None, ...]:
    """Who handles each selected slot; empty where no slot needs anybody."""
    chosen = tuple(records.assignees.get(one.action_id) for one in selected)
    return chosen if any(one is not None for one in chosen) else ()


def recorded_assignees(record: DecisionRecord) -> dict[str, str | None]:
    """Who could handle what, as far as it made a difference to a recorded decision: what deciding it again needs."""
    nobody = {one.action_id: None for one in record.candidates if NOBODY_AVAILABLE in one.rule_ids}
    found = {one.action_id: person for one, person in zip(record.selected, record.assignees, strict=False) if person}
    return nobody | found
