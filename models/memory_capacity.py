"""What is taken of capacities, budgets and people in memory, as ``models.capacity_tables`` keeps it in SQLite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from models.capacity_ledger import ONE, WORK, Hold, Taking, holds, refusal, takings, work_window
from models.records import CapacityWindow, Reservation
from models.workforce import OpenPerson, ToldPerson


class MemoryLedger:
    """Counters and what leases hold of them; the caller sees to it that one thread at a time comes in."""

    def __init__(self) -> None:
        self._used: defaultdict[CapacityWindow, int] = defaultdict(int)
        self._holds: dict[tuple[str, str, CapacityWindow], Hold] = {}
        self._persons: dict[str, OpenPerson] = {}

    def used(
        self,
        windows: Iterable[CapacityWindow],
        *,
        now: int,
        customer_ids: Collection[str] = (),
        send_id: str | None = None,
    ) -> dict[str, float]:
        """What is taken of some windows at a moment, where it is anything, without what leases of a send hold."""
        taken = {window: self._taken(window, now, customer_ids, send_id) for window in windows}
        return {window.limit_id: used / ONE for window, used in taken.items() if used}

    def reserve(self, reservation: Reservation, *, now: int, customer_ids: Collection[str]) -> None:
        """Take what a reservation needs, in place of what the leases of its send hold; nothing where it does not fit.

        Raises:
            LostRace: there is too little left.
        """
        wanted = takings(reservation)
        before = {one.window: self._taken(one.window, now, customer_ids, reservation.send_id) for one in wanted}
        for one in wanted:
            before[one.window] += one.need
            if before[one.window] > self._limit(one):
                raise refusal(one, reservation)
        for key, hold in list(self._holds.items()):
            is_replaced = hold.customer_id in customer_ids and hold.send_id == reservation.send_id is not None
            is_over = hold.expires_at <= now and hold.window in before
            if not hold.is_released and (is_replaced or is_over):
                self._used[hold.window] -= hold.need
                self._holds[key] = hold.released()
        for one in wanted:
            self._used[one.window] += one.need
        for hold in holds(reservation, wanted):
            self._holds[_key(hold)] = hold

    def given_back(self, decision_id: str) -> frozenset[str]:
        """The actions of a decision whose leases hold nothing of a capacity any more."""
        holds = self._holds.values()
        return frozenset(hold.action_id for hold in holds if hold.decision_id == decision_id and hold.is_released)

    def confirm(self, contacts: Iterable[tuple[str, str]]) -> None:
        """Let what leases hold stay taken, by decision and action; what was given back already is taken again."""
        for contact in contacts:
            for key, hold in list(self._holds.items()):
                if (hold.decision_id, hold.action_id) != contact:
                    continue
                if hold.window.start == WORK:
                    self._holds[key] = hold.confirmed()
                else:
                    self._used[hold.window] += hold.need if hold.is_released else 0
                    del self._holds[key]

    def put_persons(self, persons: Iterable[ToldPerson]) -> None:
        """Remember people; told open work takes the place of what decisions hold."""
        for told in persons:
            person_id = told.person.person_id
            known = self._persons.get(person_id)
            open_work = (0 if known is None else known.open_work) if told.open_work is None else told.open_work
            self._persons[person_id] = OpenPerson(told.person, open_work)
            if told.open_work is not None:
                window = work_window(person_id)
                self._used.pop(window, None)
                for key in [key for key in self._holds if key[2] == window]:
                    del self._holds[key]

    def workforce(
        self, *, now: int, customer_ids: Collection[str] = (), send_id: str | None = None
    ) -> tuple[OpenPerson, ...]:
        """Everybody, by id, with told and held work."""
        return tuple(
            OpenPerson(
                one.person, one.open_work + self._taken(work_window(person_id), now, customer_ids, send_id) // ONE
            )
            for person_id, one in sorted(self._persons.items())
        )

    def _taken(self, window: CapacityWindow, now: int, customer_ids: Collection[str], send_id: str | None) -> int:
        free = sum(
            hold.need
            for hold in self._holds.values()
            if hold.window == window
            and not hold.is_released
            and (hold.expires_at <= now or (hold.send_id == send_id is not None and hold.customer_id in customer_ids))
        )
        return self._used[window] - free

    def _limit(self, taking: Taking) -> int:
        if taking.limit is not None:
            return taking.limit
        one = self._persons.get(taking.window.limit_id.partition("/")[2])
        return (one.person.most_open - one.open_work) * ONE if one is not None and one.person.available else 0


def _key(hold: Hold) -> tuple[str, str, CapacityWindow]:
    return (hold.decision_id, hold.action_id, hold.window)
