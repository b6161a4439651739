"""Capacities, budgets and people in the record store: what every adapter promises, against a list of reservations."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import structs

from features.sql_store import Place
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.records import (
    AssigneeTaken,
    CapacityNeed,
    CapacityWindow,
    Contact,
    ContactStatus,
    LeaseEnded,
    LostRace,
    RecordStore,
    Reservation,
)
from models.workforce import OpenPerson, Person, ToldPerson
from tests.decision_records import DECIDED_AT, contact, record, reservation

ONE = 1_000_000
CALLS = CapacityWindow("calls", 7)
MONEY = CapacityWindow("money", 7)


@pytest.fixture
def store(place: Place | None) -> Iterator[RecordStore]:
    """An empty store of every adapter."""
    store: RecordStore = MemoryRecordStore() if place is None else SqlRecordStore(place)
    yield store
    store.close()


def need(limit: int = 1, *, window: CapacityWindow = CALLS, units: float = 1, position: int = 0) -> CapacityNeed:
    """One of so many calls."""
    return CapacityNeed(position, window, round(units * ONE), limit * ONE)


def taken(store: RecordStore, window: CapacityWindow = CALLS, *, now: int = DECIDED_AT) -> float:
    """Units or money that are taken."""
    return store.capacity_used([window], now=now).get(window.limit_id, 0.0)


def decide(
    store: RecordStore,
    number: int = 1,
    *needs: CapacityNeed,
    status: ContactStatus = "confirmed",
    assignees: tuple[str | None, ...] = (),
    send_id: str | None = None,
    decided_at: int | None = None,
    lasts: int = 100,
) -> Contact:
    """A decision that takes what it needs, or a lease on it."""
    at = DECIDED_AT + number if decided_at is None else decided_at
    made = record(number, decided_at=at, send_id=send_id)
    told = contact(made, status=status, expires_at=at + lasts, send_id=send_id)
    store.commit(made, b"", replace(reservation(told), needs=needs, assignees=assignees))
    return told


def test_nothing_is_taken_of_what_nobody_asked_for(store: RecordStore) -> None:
    """Of a limit that no decision fell under."""
    assert store.capacity_used([CALLS, MONEY], now=DECIDED_AT) == {}


def test_a_contact_takes_for_good(store: RecordStore) -> None:
    """In its own period, long after its decision ended; of money a part."""
    decide(store, 1, need(), need(10, window=MONEY, units=0.1))
    decide(store, 2, need(10, window=MONEY, units=0.2))

    assert taken(store, now=DECIDED_AT * 2) == 1.0
    assert taken(store, MONEY) == 0.3
    assert taken(store, CapacityWindow("calls", 8)) == 0.0


def test_what_is_full_refuses_by_name_and_keeps_nothing(store: RecordStore) -> None:
    """The decision, its contact, and what it took of other limits are all undone."""
    decide(store, 1, need())
    with pytest.raises(LostRace) as lost:
        decide(store, 2, need(window=CapacityWindow("a_budget", 7)), need())

    assert (lost.value.treatment_id, lost.value.rule_id) == ("nudge_sms", "calls")
    assert store.decision("d-000002") is None
    assert taken(store, CapacityWindow("a_budget", 7)) == 0.0
    assert taken(store) == 1.0


def test_a_repeated_request_takes_once(store: RecordStore) -> None:
    """It gets the answer given before."""
    decide(store, 1, need(2))
    again = record(2, request_id="r-1")
    store.commit(again, b"", replace(reservation(contact(again)), needs=(need(2),)))
    assert taken(store) == 1.0


def test_a_slate_that_does_not_fit_names_the_slot(store: RecordStore) -> None:
    """The first slot has the room that the second lacks."""
    made = record(1)
    slate = reservation(contact(made), contact(made, action_id="survey"))
    with pytest.raises(LostRace) as lost:
        store.commit(made, b"", replace(slate, needs=(need(position=1), need(position=0))))
    assert lost.value.treatment_id == "survey_sms"
    assert taken(store) == 0.0


def test_a_lease_gives_back_at_its_end(store: RecordStore) -> None:
    """From that very moment on, to a reader and to the next decision alike."""
    decide(store, 1, need(), status="lease")

    assert [taken(store, now=DECIDED_AT + at) for at in (1, 100, 101)] == [1.0, 1.0, 0.0]
    with pytest.raises(LostRace):
        decide(store, 2, need(), decided_at=DECIDED_AT + 100)
    decide(store, 3, need(), decided_at=DECIDED_AT + 101)
    assert taken(store, now=DECIDED_AT + 500) == 1.0


def test_a_confirmed_lease_takes_for_good(store: RecordStore) -> None:
    """Once, however often it is told."""
    lease = decide(store, 1, need(3), status="lease")
    for _ in range(3):
        store.confirm_contacts([structs.replace(lease, status="confirmed")])
    assert taken(store, now=DECIDED_AT + 500) == 1.0


def test_a_lease_that_is_confirmed_late_takes_again(store: RecordStore) -> None:
    """It happened, so it counts, also beyond the limit that another decision has filled meanwhile."""
    lease = decide(store, 1, need(), status="lease")
    decide(store, 2, need(), decided_at=DECIDED_AT + 200)
    for _ in range(2):
        store.confirm_contacts([structs.replace(lease, at=DECIDED_AT + 300)])

    assert taken(store, now=DECIDED_AT + 300) == 2.0
    with pytest.raises(LostRace):
        decide(store, 3, need(2), decided_at=DECIDED_AT + 301)


def test_a_lease_whose_unit_was_given_away_is_not_activated(store: RecordStore) -> None:
    """By a decision of a later moment, though the clock of who activates it has not got there yet."""
    lease = decide(store, 1, need(), status="lease")
    decide(store, 2, need(), decided_at=lease.expires_at)

    with pytest.raises(LeaseEnded):
        store.activate(reservation(structs.replace(lease, status="confirmed")), at=lease.expires_at - 1)

    assert taken(store, now=lease.expires_at) == 1.0


def test_a_lease_that_ended_unseen_is_confirmed_once(store: RecordStore) -> None:
    """Where nobody has given it back yet, it is not taken twice."""
    lease = decide(store, 1, need(), status="lease")
    store.confirm_contacts([structs.replace(lease, at=DECIDED_AT + 300)])
    assert taken(store, now=DECIDED_AT + 300) == 1.0


def test_what_nothing_was_reserved_for_takes_nothing(store: RecordStore) -> None:
    """An exposure without a decision, or of another action than the selected one, counts under the caps alone."""
    lease = decide(store, 1, need(5), status="lease")
    store.confirm_contacts([structs.replace(lease, decision_id=""), structs.replace(lease, action_id="other")])
    assert taken(store, now=DECIDED_AT + 500) == 0.0


def test_a_send_holds_one_unit(store: RecordStore) -> None:
    """Its next decision takes the place of its lease where there is no other room, and sees its own room as free."""
    for number in (1, 2, 3):
        decide(store, number, need(), status="lease", send_id="s-1")

    assert taken(store, now=DECIDED_AT + 3) == 1.0
    seen = store.customer("c1", since=0, now=DECIDED_AT + 3, windows=[CALLS], send_id="s-1")
    assert seen.capacity_used == {}
    other = store.customer("c1", since=0, now=DECIDED_AT + 3, windows=[CALLS], send_id="s-2")
    assert other.capacity_used == {"calls": 1.0}


def test_a_send_that_is_activated_takes_one_unit(store: RecordStore) -> None:
    """The lease goes, the contact stays."""
    decide(store, 1, need(), status="lease", send_id="s-1")
    decide(store, 2, need(), send_id="s-1")
    assert taken(store, now=DECIDED_AT + 500) == 1.0


def test_a_send_that_gets_no_action_gives_back(store: RecordStore) -> None:
    """As its lease is released."""
    decide(store, 1, need(), status="lease", send_id="s-1")
    store.commit(record(2, send_id="s-1", selected=()), b"", Reservation((), (), (), "s-1"))
    assert taken(store, now=DECIDED_AT + 2) == 0.0


def test_a_replaced_lease_that_is_confirmed_takes_again(store: RecordStore) -> None:
    """Both were really shown; the one in its place keeps its own."""
    first = decide(store, 1, need(3), status="lease", send_id="s-1")
    second = decide(store, 2, need(3), status="lease", send_id="s-1")
    store.confirm_contacts([first, second, first])
    assert taken(store, now=DECIDED_AT + 500) == 2.0


def test_a_lost_race_leaves_what_the_send_holds(store: RecordStore) -> None:
    """What it would have replaced is still reserved."""
    decide(store, 1, need(), status="lease", send_id="s-1")
    decide(store, 2, need(window=MONEY))
    with pytest.raises(LostRace):
        decide(store, 3, need(), need(window=MONEY), status="lease", send_id="s-1")
    assert taken(store, now=DECIDED_AT + 3) == 1.0
    assert taken(store, now=DECIDED_AT + 101) == 0.0


def test_imported_decisions_take_nothing(store: RecordStore) -> None:
    """They are history."""
    store.append_imported([record(1, mode="imported")])
    assert taken(store) == 0.0


def test_past_periods_are_forgotten_but_not_the_last(store: RecordStore) -> None:
    """A commit that comes late finds the period that has just ended as it was."""
    day = 86_400_000_000
    for number in (1, 2, 3, 4):
        decide(store, number, need(window=CapacityWindow("calls", number * day)), status="lease", lasts=10 * day)
    with pytest.raises(LostRace):
        decide(store, 5, need(window=CapacityWindow("calls", 3 * day)))


def _told(
    person_id: str = "p1", *, most_open: int = 2, open_work: int | None = None, available: bool = True
) -> ToldPerson:
    return ToldPerson(
        Person(person_id=person_id, queues=("desk",), most_open=most_open, available=available), open_work
    )


def _open(store: RecordStore, *, now: int = DECIDED_AT) -> list[tuple[str, int]]:
    return [(one.person.person_id, one.open_work) for one in store.workforce(now=now)]


def test_people_are_remembered(store: RecordStore) -> None:
    """The newest word of each, by id; open work that is not told stays."""
    store.put_persons([_told("b", open_work=1), _told("a", open_work=2)])
    store.put_persons([_told("b", most_open=9)])

    assert store.workforce(now=DECIDED_AT) == (
        OpenPerson(_told("a").person, 2),
        OpenPerson(_told("b", most_open=9).person, 1),
    )


def test_work_is_open_until_its_decision_ends(store: RecordStore) -> None:
    """Also that of a contact which counts for good: nobody says when the work is done but the caller."""
    store.put_persons([_told(open_work=1)])
    decide(store, 1, assignees=("p1",))

    assert [_open(store, now=DECIDED_AT + at) for at in (100, 101)] == [[("p1", 2)], [("p1", 1)]]


def test_who_is_full_refuses_by_name(store: RecordStore) -> None:
    """Told and given work count together."""
    store.put_persons([_told(open_work=1)])
    decide(store, 1, assignees=("p1",))
    with pytest.raises(AssigneeTaken) as lost:
        decide(store, 2, assignees=("p1",))
    assert (lost.value.person_id, lost.value.treatment_id) == ("p1", "nudge_sms")
    assert lost.value.rule_id == "capacity.nobody_available"
    decide(store, 3, assignees=("p1",), decided_at=DECIDED_AT + 101)


@pytest.mark.parametrize("told", [(), (_told(available=False),), (_told(most_open=0),)])
def test_whoever_has_gone_meanwhile_gets_nothing(store: RecordStore, told: Sequence[ToldPerson]) -> None:
    """The commit goes by what is known then, not by what the decision had read."""
    store.put_persons(told)
    with pytest.raises(AssigneeTaken):
        decide(store, 1, assignees=("p1",))


def test_told_open_work_takes_the_place_of_what_decisions_gave(store: RecordStore) -> None:
    """And the leases that end later do not lower it."""
    store.put_persons([_told()])
    decide(store, 1, assignees=("p1",))
    store.put_persons([_told(open_work=1)])

    assert _open(store, now=DECIDED_AT + 5) == [("p1", 1)]
    assert _open(store, now=DECIDED_AT + 500) == [("p1", 1)]
    decide(store, 2, assignees=("p1",))
    with pytest.raises(AssigneeTaken):
        decide(store, 3, assignees=("p1",))


def test_a_send_gives_one_piece_of_work(store: RecordStore) -> None:
    """Decided again, the first is given back, and to its own next decision the person has room."""
    store.put_persons([_told(most_open=1)])
    for number in (1, 2):
        decide(store, number, status="lease", assignees=("p1",), send_id="s-1")
    assert _open(store, now=DECIDED_AT + 2) == [("p1", 1)]
    seen = store.workforce(now=DECIDED_AT + 2, customer_ids=["c1"], send_id="s-1")
    assert [one.open_work for one in seen] == [0]


def test_work_that_was_really_shown_is_not_given_back_by_its_send(store: RecordStore) -> None:
    """The contact is no lease any more; the work ends with the decision."""
    store.put_persons([_told(most_open=2)])
    lease = decide(store, 1, status="lease", assignees=("p1",), send_id="s-1")
    store.confirm_contacts([lease])
    decide(store, 2, status="lease", assignees=("p1",), send_id="s-1")
    assert [_open(store, now=DECIDED_AT + at) for at in (2, 101, 102)] == [[("p1", 2)], [("p1", 1)], [("p1", 0)]]


def test_limits_are_exact_under_concurrency(store: RecordStore) -> None:
    """Thirty-two threads take exactly what there is, of units, money and people, and after all leases all is back."""
    store.put_persons([_told(most_open=9)])
    lost: list[str] = []
    start = threading.Barrier(32)

    def work(worker: int) -> None:
        start.wait(10)
        for i in range(4):
            number = 100 * worker + i
            kinds = ((need(20),), (need(30, window=MONEY, units=3.0),), ())
            people = ((), (), ("p1",))
            try:
                decide(store, number, *kinds[i % 3], assignees=people[i % 3], status="lease", decided_at=DECIDED_AT)
            except LostRace as race:
                lost.append(race.rule_id)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (taken(store), taken(store, MONEY), _open(store)) == (20.0, 30.0, [("p1", 9)])
    assert len(lost) == 32 * 4 - 20 - 10 - 9
    end = DECIDED_AT + 100
    assert (taken(store, now=end), taken(store, MONEY, now=end), _open(store, now=end)) == (0.0, 0.0, [("p1", 0)])


@dataclass
class _Naive:
    """One reservation as a child would keep it."""

    contact: Contact
    needs: tuple[CapacityNeed, ...]
    person_id: str | None
    is_confirmed: bool
    is_replaced: bool = False
    is_told: bool = False

    def takes(self, window: CapacityWindow, now: int) -> int:
        """What it takes of a window."""
        live = not self.is_replaced and self.contact.expires_at > now
        return sum(one.need for one in self.needs if one.window == window and (self.is_confirmed or live))

    def is_work(self, person_id: str, now: int) -> bool:
        """Whether it is open work of somebody."""
        live = not (self.is_replaced or self.is_told) and self.contact.expires_at > now
        return self.person_id == person_id and live


class _Counters(RuleBasedStateMachine):
    """Any order of decisions, confirmations, told loads and time, against a list of reservations."""

    open_store: Callable[[Path], RecordStore] = SqlRecordStore

    @initialize()
    def open(self) -> None:
        """An empty store with two people."""
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.open_store(Path(self.folder.name) / "records.db")
        self.now = DECIDED_AT
        self.all: list[_Naive] = []
        self.most = {"p1": (1, 0), "p2": (3, 1)}
        self.store.put_persons(
            [_told(name, most_open=most, open_work=work) for name, (most, work) in self.most.items()]
        )

    def _window(self, limit_id: str) -> CapacityWindow:
        return CapacityWindow(limit_id, self.now - self.now % (150 if limit_id == "calls" else 400))

    def _used(self, window: CapacityWindow, without: str | None = None) -> int:
        return sum(one.takes(window, self.now) for one in self.all if not self._is_of(one, without))

    def _work(self, person_id: str, without: str | None = None) -> int:
        told = self.most[person_id][1]
        return told + sum(one.is_work(person_id, self.now) for one in self.all if not self._is_of(one, without))

    @staticmethod
    def _is_of(one: _Naive, send_id: str | None) -> bool:
        return one.contact.is_lease_of(send_id) and not one.is_confirmed

    @rule(
        status=st.sampled_from(["lease", "confirmed"]),
        send_id=st.sampled_from([None, "s-1", "s-2"]),
        lasts=st.sampled_from([1, 60, 300]),
        person_id=st.sampled_from([None, "p1", "p2"]),
        units=st.sampled_from([0, 1]),
        money=st.sampled_from([0, 400_000, 1_100_000]),
    )
    def decide(
        self, status: ContactStatus, send_id: str | None, lasts: int, person_id: str | None, units: int, money: int
    ) -> None:
        """Decide; it is refused exactly where the list says that there is no room."""
        calls, budget = self._window("calls"), self._window("money")
        needs = (
            *([CapacityNeed(0, calls, ONE, 3 * ONE)] if units else []),
            *([CapacityNeed(0, budget, money, 2_500_000)] if money else []),
        )
        fits = all(self._used(one.window, send_id) + one.need <= one.limit for one in needs)
        if person_id is not None:
            fits = fits and self._work(person_id, send_id) < self.most[person_id][0]
        number = len(self.all) + 1
        people = (person_id,) if person_id else ()
        options = {"status": status, "send_id": send_id, "lasts": lasts, "assignees": people}
        try:
            told = decide(self.store, number, *needs, decided_at=self.now, **options)  # type: ignore[arg-type]  # named
        except LostRace:
            assert not fits
            return
        assert fits
        for one in self.all:
            if self._is_of(one, send_id):
                one.is_replaced = True
        self.all.append(_Naive(told, needs, person_id, is_confirmed=status == "confirmed"))

    @rule(which=st.integers(0, 1_000))
    def confirm(self, which: int) -> None:
        """Tell that a contact happened: one of the period that holds now, or of the one before."""
        if self.all:
            one = self.all[which % len(self.all)]
            self.store.confirm_contacts([one.contact])
            one.is_confirmed = True

    @rule(passed=st.sampled_from([1, 30, 100, 250]))
    def wait(self, passed: int) -> None:
        """Let time pass."""
        self.now += passed

    @rule(person_id=st.sampled_from(["p1", "p2"]), most_open=st.integers(0, 4), work=st.sampled_from([None, 0, 2]))
    def tell(self, person_id: str, most_open: int, work: int | None) -> None:
        """Tell of a person anew."""
        self.store.put_persons([_told(person_id, most_open=most_open, open_work=work)])
        self.most[person_id] = (most_open, self.most[person_id][1] if work is None else work)
        for one in self.all if work is not None else ():
            one.is_told = one.is_told or one.person_id == person_id

    @invariant()
    def agrees(self) -> None:
        """The counters say what the list says."""
        for name in ("calls", "money"):
            assert taken(self.store, self._window(name), now=self.now) == self._used(self._window(name)) / ONE
        assert _open(self.store, now=self.now) == [(one, self._work(one)) for one in ("p1", "p2")]

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()
        self.folder.cleanup()


@pytest.mark.parametrize("adapter", ["memory", "sqlite"])
def test_counters_are_a_list_of_reservations(adapter: str) -> None:
    """Whatever happens, in whatever order, and however late."""

    class Counters(_Counters):
        open_store = staticmethod(
            (lambda _: MemoryRecordStore())
            if adapter == "memory"
            else (lambda path: SqlRecordStore(path, durability="NORMAL"))
        )

    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # untyped there
        Counters,
        settings=settings(
            max_examples=60 if adapter == "memory" else 25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
