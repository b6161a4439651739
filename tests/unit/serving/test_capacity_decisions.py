"""Decisions under capacities, budgets and people: what is full is dropped by name, and what is taken is taken once."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import StoreUnavailable
from models.actions import Action
from models.capacity import window_start
from models.decision import DecisionRecord
from models.memory_records import MemoryRecordStore
from models.policy import Capacity
from models.records import CapacityWindow, Committed, Contact, Reservation
from models.workforce import Person, Results, ToldPerson
from serving.reservations import used_shares
from tests.deciders import Desk
from tests.decisions import DAY_US, action
from tests.histories import START_AT

NOW = START_AT + DAY_US // 2
ZONE = "Europe/Amsterdam"
CALLS = {"limits": [{"id": "calls", "units": 2, "period": "1d", "queue": "desk"}]}


def call(**changes: Any) -> Action:
    """A call that the desk works."""
    return action("call", assigned_to="desk", **changes)


def tip(**changes: Any) -> Action:
    """Something that takes nobody's capacity and is worth less than a call."""
    return action("tip", **({"prior_uplift": 0.1} | changes))


def desk(*actions: Action, capacity: dict[str, Any] | None = None, records: Any = None, **policy: Any) -> Desk:
    """A decider over an empty store under these limits; two calls a day unless told otherwise."""
    changes = {"capacity": CALLS if capacity is None else capacity} | policy
    return Desk(*actions, records=records or MemoryRecordStore(), policy_changes=changes)


def taken(one: Desk, limit_id: str = "calls", *, now: int = NOW) -> float:
    """What is taken of a limit of a day."""
    window = CapacityWindow(limit_id, window_start(DAY_US, now, ZONE))
    return one.records.capacity_used([window], now=now).get(limit_id, 0.0)


def stored(one: Desk, answer: dict[str, Any]) -> DecisionRecord:
    """The record of an answer."""
    found = one.records.decision(answer["decision_id"])
    assert found is not None
    return found.record


def test_a_full_capacity_leaves_the_next_best_action() -> None:
    """First come, first served; the answer names the limit, and probabilities are over what remained."""
    one = desk(call(), tip())
    assert [one.actions(f"c{i}", now=NOW) for i in (1, 2)] == [["call"], ["call"]]

    third = one.ask("c3", now=NOW)

    assert [each["action_id"] for each in third["selected"]] == ["tip"]
    assert {"action_id": "call", "stage": "capacity", "rule_id": "calls"} in third["dropped"]
    assert (third["funnel"]["contactable"], third["funnel"]["capacity"]) == (2, 1)
    assert third["ranked_actions"][0]["selection_probability"] == 1.0
    assert stored(one, third).capacity_used == {"calls": 2.0}


def test_the_next_period_is_a_new_one() -> None:
    """It begins at midnight of the installation."""
    one = desk(call())
    for i in (1, 2):
        one.ask(f"c{i}", now=NOW)
    midnight = window_start(DAY_US, NOW, ZONE) + DAY_US

    assert [one.actions(f"c{at}", now=at) for at in (midnight - 1, midnight)] == [[], ["call"]]


@pytest.mark.parametrize("changes", [{"mode": "dry_run"}, {"mode": "shadow"}])
def test_a_decision_that_nobody_acts_on_takes_nothing(changes: dict[str, Any]) -> None:
    """However often it is asked."""
    one = desk(call())
    assert [one.actions("c1", now=NOW, **changes) for _ in range(3)] == [["call"]] * 3
    assert taken(one) == 0.0


def test_the_holdout_takes_nothing() -> None:
    """It is never contacted."""
    one = desk(call(), experiment={"id": "exp", "salt": "s", "no_contact_holdout": 1.0, "random_eligible": 0.0})
    one.ask(now=NOW)
    assert taken(one) == 0.0


@pytest.mark.parametrize("changes", [{"activate": False}, {"direction": "inbound"}])
def test_a_lease_takes_until_it_ends(changes: dict[str, Any]) -> None:
    """Its end is the decision's."""
    one = desk(call(), decision_ttl="1h")
    one.ask(now=NOW, **changes)
    assert [taken(one, now=at) for at in (NOW, NOW + DAY_US // 24 - 1, NOW + DAY_US // 24)] == [1.0, 1.0, 0.0]


def test_a_send_that_is_asked_for_again_sees_its_own_room() -> None:
    """Its lease is the last that fits, and the answer is the same."""
    one = desk(call(), capacity={"limits": [{"id": "calls", "units": 1, "period": "1d", "queue": "desk"}]})
    asked = [one.actions(now=NOW, activate=False, send_id="s-1") for _ in range(3)]
    assert asked == [["call"]] * 3
    assert taken(one) == 1.0
    assert one.actions("c2", now=NOW) == []


def test_slots_of_one_decision_share_what_is_left() -> None:
    """The better one gets the only unit; the other slot stays empty rather than lose the race with itself."""
    better, worse = call(), action("survey", prior_uplift=0.15, assigned_to="desk")
    one = desk(better, worse, capacity={"limits": [{"id": "calls", "units": 1, "period": "1d", "queue": "desk"}]})

    selected = one.actions(now=NOW, placements=("phone/first", "phone/second"), direction="inbound")

    assert selected == ["call"]
    assert taken(one) == 1.0


def test_something_mandatory_finds_a_full_capacity_full() -> None:
    """It goes before everything else, and not beyond the limit."""
    one = desk(call(mandatory=True, prior_uplift=0.001), tip())
    assert [one.actions(f"c{i}", now=NOW) for i in (1, 2, 3)] == [["call"], ["call"], ["tip"]]


def test_who_asks_is_told_of_full_capacities_behind_other_rules() -> None:
    """Of an action that an earlier stage dropped, too."""
    one = desk(call(), action("late", assigned_to="desk", valid_to="2020-01-01T00:00:00Z"))
    for i in (1, 2):
        one.ask(f"c{i}", now=NOW)

    dropped = [(each["action_id"], each["rule_id"]) for each in one.ask("c3", now=NOW, explain="stages")["dropped"]]

    assert set(dropped) == {("call", "calls"), ("late", "catalogue.validity"), ("late", "calls")}


def test_a_budget_pays_contacts_and_likely_incentives() -> None:
    """Without a model it is not known who is paid, so everybody is: 0.1 and 1 of a budget of 2."""
    offer = action("offer", issue="grow", incentive_cost=1.0, prior_uplift=0.5)
    one = desk(offer, capacity={"budgets": [{"id": "money", "amount": 2.0, "period": "1d", "issues": ["grow"]}]})

    first, second = one.ask("c1", now=NOW), one.ask("c2", now=NOW)

    assert [each["action_id"] for each in first["selected"]] == ["offer"]
    assert taken(one, "money") == 1.1
    assert second["dropped"] == [{"action_id": "offer", "stage": "capacity", "rule_id": "money"}]
    assert (second["funnel"]["capacity"], second["funnel"]["scored"]) == (0, 0)


def test_a_budget_that_has_nothing_left_drops_before_scoring() -> None:
    """Not even the contact fits."""
    offer = action("offer", issue="grow")
    one = desk(offer, capacity={"budgets": [{"id": "money", "amount": 0.15, "period": "1d"}]})
    assert [one.actions(f"c{i}", now=NOW) for i in (1, 2)] == [["offer"], []]


class _Overtaken(MemoryRecordStore):
    """A store in which another decision commits between what was read and the commit."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Any = None

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        if self.before is not None:
            before, self.before = self.before, None
            before()
        return super().commit(record, answer, reservation)


def test_a_lost_race_is_decided_again_by_name() -> None:
    """The unit that was free when it was read is gone at the commit."""
    records = _Overtaken()
    one = desk(call(), tip(), records=records)
    one.ask("c1", now=NOW)
    records.before = lambda: one.ask("c2", now=NOW)

    answer = one.ask("c3", now=NOW)

    assert [each["action_id"] for each in answer["selected"]] == ["tip"]
    lost = [each["rule_id"] for each in answer["dropped"] if each["stage"] == "capacity"]
    assert lost == ["capacity.lost_race", "calls"]
    assert answer["ranked_actions"][0]["selection_probability"] == 1.0
    assert taken(one) == 2.0


def test_an_exposure_keeps_what_the_lease_took() -> None:
    """Told at any time."""
    one = desk(call(), decision_ttl="1h")
    answer = one.ask(now=NOW, activate=False)
    one.records.confirm_contacts([Contact(answer["decision_id"], "c1", "call", "phone", NOW + 5, "confirmed", NOW + 5)])
    assert taken(one, now=NOW + DAY_US // 12) == 1.0


def test_the_past_knows_no_capacity() -> None:
    """In a dry run as of an earlier moment nothing is taken and nobody is known."""
    one = desk(call())
    tell(one, "p1", available=False)
    assert one.actions(now=NOW, mode="dry_run", as_of="2023-11-14T23:00:00Z") == ["call"]


def tell(one: Desk, person_id: str, *, open_work: int | None = None, **changes: Any) -> None:
    """Tell of somebody at the desk with room for one."""
    fields: dict[str, Any] = {"person_id": person_id, "queues": ("desk",)}
    one.records.put_persons([ToldPerson(Person(**(fields | changes)), open_work)])


def test_an_action_of_a_queue_without_people_is_unassigned() -> None:
    """As before; the answer has no assignee."""
    one = desk(call())
    answer = one.ask(now=NOW)
    assert answer["selected"] == [{"slot": 1, "placement": None, "action_id": "call", "treatment_id": "call_phone"}]
    assert stored(one, answer).assignees == ()


def test_somebody_handles_it() -> None:
    """In the answer, in the record, and in the load that the next decision sees."""
    one = desk(call(), capacity={})
    tell(one, "good", results={"desk": Results(handled=100, succeeded=80)})
    tell(one, "bad", results={"desk": Results(handled=100, succeeded=20)})

    answers = [one.ask(f"c{i}", now=NOW) for i in (1, 2, 3)]

    assert [answer["selected"][0]["assignee"] for answer in answers[:2]] == ["good", "bad"]
    assert stored(one, answers[0]).assignees == ("good",)
    assert answers[2]["no_action"]["chosen"]
    assert answers[2]["dropped"] == [{"action_id": "call", "stage": "capacity", "rule_id": "capacity.nobody_available"}]


def test_a_change_of_presence_holds_for_the_very_next_decision() -> None:
    """Gone, and back."""
    one = desk(call(), capacity={})
    tell(one, "p1", available=False)
    assert one.actions(now=NOW) == []
    tell(one, "p1", available=True)
    assert one.actions(now=NOW) == ["call"]


def test_skills_are_needed() -> None:
    """All of them."""
    one = desk(call(skills=("dutch", "cards")), capacity={})
    tell(one, "p1", skills=("dutch",))
    assert one.actions(now=NOW) == []
    tell(one, "p2", skills=("cards", "dutch"))
    assert one.ask(now=NOW)["selected"][0]["assignee"] == "p2"


def test_whoever_is_taken_meanwhile_is_replaced_by_the_next_best() -> None:
    """The action is not lost, and no race is told of."""
    records = _Overtaken()
    one = desk(call(), tip(), records=records, capacity={})
    tell(one, "good", results={"desk": Results(handled=100, succeeded=80)})
    tell(one, "bad", results={"desk": Results(handled=100, succeeded=20)})
    records.before = lambda: one.ask("c1", now=NOW)

    answer = one.ask("c2", now=NOW)

    assert answer["selected"][0] == {
        "slot": 1,
        "placement": None,
        "action_id": "call",
        "treatment_id": "call_phone",
        "assignee": "bad",
    }
    assert answer["dropped"] == []


def test_where_everybody_is_taken_meanwhile_the_action_is_dropped() -> None:
    """For want of people, not for a race."""
    records = _Overtaken()
    one = desk(call(), tip(), records=records, capacity={})
    tell(one, "p1")
    records.before = lambda: one.ask("c1", now=NOW)

    answer = one.ask("c2", now=NOW)

    assert [each["action_id"] for each in answer["selected"]] == ["tip"]
    assert answer["dropped"] == [{"action_id": "call", "stage": "capacity", "rule_id": "capacity.nobody_available"}]


def test_two_slots_are_handled_by_two_people() -> None:
    """The one with room for one gets one of them."""
    one = desk(call(), action("case", assigned_to="desk", prior_uplift=0.15), capacity={})
    tell(one, "p1")
    tell(one, "p2")

    answer = one.ask(now=NOW, placements=("phone/a", "phone/b"), direction="inbound")

    assert {each["assignee"] for each in answer["selected"]} == {"p1", "p2"}


def test_shares_of_what_is_taken() -> None:
    """By limit; a limit of none is full."""
    limits = [*CALLS["limits"], {"id": "none", "units": 0, "period": "1d", "channel": "web"}]
    one = desk(call(), capacity={"limits": limits})
    one.ask(now=NOW)

    capacity = Capacity.model_validate({"limits": limits})
    assert used_shares(one.records, capacity, NOW, ZONE) == {"calls": 0.5, "none": 1.0}


class _Down(MemoryRecordStore):
    def workforce(self, **_: Any) -> Any:
        raise StoreUnavailable("down")


def test_nobody_is_asked_for_where_no_action_needs_anybody() -> None:
    """One read less on the hot path."""
    assert desk(tip(), records=_Down()).actions(now=NOW) == ["tip"]
    with pytest.raises(StoreUnavailable):
        desk(call(), records=_Down()).ask(now=NOW)
