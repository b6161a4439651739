"""What is taken of capacities, budgets and people, for every record store alike: keys, amounts and refusals.

A contact that is counted at once takes for good. A lease holds what it took until it ends: then it is given back by
whoever next looks at that capacity, so nothing but stored data and the moment decides what is taken. A lease that is
confirmed no longer holds: what it took stays taken. The work of a person is a capacity too, of one window without end;
it is always held, until the lease ends or the person's load is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from features.events import MICROSECONDS_PER_DAY
from models.records import AssigneeTaken, CapacityWindow, Contact, LostRace, Reservation

ONE: Final = 1_000_000
"""A unit, or one of money."""

WORK: Final = 0
"""The start of the one window of a person's work. Windows of limits start later."""

OF_PERSON: Final = "person/"
"""Before the id of a person; no limit's id has a slash."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What one contact takes of one window; ``limit`` is None for a person, whose room is looked up in the commit."""

    window: CapacityWindow
    position: int
    need: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Hold:
    """What a lease holds of a window.

    Attributes:
        is_released: it was given back; a late confirmation takes it again.
    """

    decision_id: str
    action_id: str
    window: CapacityWindow
    customer_id: str
    send_id: str | None
    need: int
    expires_at: int
    is_released: bool = False

    def released(self) -> Hold:
        """The same after it was given back."""
        return replace(self, is_released=True)

    def confirmed(self) -> Hold:
        """The same, of a contact that its send no longer replaces."""
        return replace(self, send_id=None)


def work_window(person_id: str) -> CapacityWindow:
    """The window of a person's work."""
    return CapacityWindow(f"{OF_PERSON}{person_id}", WORK)


def takings(reservation: Reservation) -> list[Taking]:
    """Everything that a reservation takes, in the one order in which all of them take: by key, then by slot."""
    found = [Taking(one.window, one.position, one.need, one.limit) for one in reservation.needs]
    for position, person_id in enumerate(reservation.assignees):
        if person_id is not None:
            found.append(Taking(work_window(person_id), position, ONE, None))
    return sorted(found, key=lambda one: (one.window.limit_id, one.window.start, one.position))


def refusal(taking: Taking, reservation: Reservation) -> LostRace:
    """What is raised where a taking finds too little left."""
    treatment_id = reservation.treatment_ids[taking.position]
    if taking.limit is None:
        return AssigneeTaken(treatment_id, taking.window.limit_id.removeprefix(OF_PERSON))
    return LostRace(treatment_id, taking.window.limit_id)


def holds(reservation: Reservation, taken: Iterable[Taking]) -> Iterator[Hold]:
    """What has to be given back one day: everything of a lease, and of a contact that counts the work alone."""
    for one in taken:
        contact: Contact = reservation.contacts[one.position]
        if contact.status == "lease" or one.window.start == WORK:
            yield Hold(
                decision_id=contact.decision_id,
                action_id=contact.action_id,
                window=one.window,
                customer_id=contact.customer_id,
                send_id=contact.send_id if contact.status == "lease" else None,
                need=one.need,
                expires_at=contact.expires_at,
            )


def forgotten_before(window: CapacityWindow, previous: int | None) -> int:
    """Windows of a limit that started before this are over for every decision, however late it commits."""
    day_before = window.start - MICROSECONDS_PER_DAY
    return day_before if previous is None else min(previous, day_before)
