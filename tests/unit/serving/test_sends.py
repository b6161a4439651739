"""A send is decided once: whoever asks for it again is shown the same, until something stands against it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from features.events import dump_timestamp
from models.memory_records import MemoryRecordStore
from serving.recording import Asking
from serving.schemas import DecisionRequest
from tests.deciders import Desk
from tests.decisions import DAY_US, action, rulebook
from tests.histories import START_AT

NOW: Final = START_AT
MINUTE_US: Final = 60_000_000
SEND: Final[dict[str, Any]] = {"send_id": "camp-7/c1", "activate": False}
RANDOM: Final = {"experiment": {"id": "exp", "salt": "salt", "no_contact_holdout": 0.0, "random_eligible": 1.0}}


def _desk(**policy: Any) -> Desk:
    """Six actions and nothing to do, of which each decision draws one at random."""
    actions = [action(f"a{number}", prior_uplift=0.3) for number in range(6)]
    return Desk(*actions, records=MemoryRecordStore(), policy_changes=RANDOM | policy)


def _n_decisions(desk: Desk) -> int:
    return sum(map(len, desk.records.read()))


def test_decisions_are_drawn_anew_where_no_send_is_named() -> None:
    """Else none of these tests would say anything."""
    desk = _desk()

    drawn = {tuple(desk.actions(f"c{number}", now=NOW, activate=False)) for number in range(40)}

    assert len(drawn) == 7


@pytest.mark.parametrize("customer_id", [f"c{number}" for number in range(12)])
def test_several_renders_of_a_send_show_the_same(customer_id: str) -> None:
    """Each under a request id of its own, and with a deadline of its own; also where that is nothing."""
    desk = _desk()

    answers = [
        desk.ask(customer_id, now=NOW + number * MINUTE_US, deadline_ms=50 + number, **SEND) for number in range(8)
    ]

    assert answers == answers[:1] * 8
    assert _n_decisions(desk) == 1
    contacts = desk.records.customer(customer_id, since=0, now=NOW + 8 * MINUTE_US).contacts
    assert [one.action_id for one in contacts] == [one["action_id"] for one in answers[0]["selected"]]


def test_what_has_been_activated_is_still_shown_and_counts_once() -> None:
    """A message is opened again after it was sent."""
    desk = _desk()
    sent = desk.ask(now=NOW, **SEND | {"activate": True})

    again = desk.ask(now=NOW + MINUTE_US, **SEND | {"activate": True})

    assert again == sent
    assert [one.status for one in desk.records.customer("c1", since=0, now=NOW + MINUTE_US).contacts] == ["confirmed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"send_id": "camp-8/c1"},
        {"customer_id": "c2"},
        {"context": {"weather": "rain"}},
        {"direction": "inbound"},
        {"max_actions": 1},
        {"activate": True},
        {"mode": "shadow"},
        {"mode": "dry_run"},
    ],
)
def test_another_question_is_another_decision(changes: dict[str, Any]) -> None:
    """It says so by its id."""
    desk = _desk()
    first = desk.ask(now=NOW, **SEND)

    other = desk.ask(now=NOW + MINUTE_US, **SEND | changes)

    assert other["decision_id"] != first["decision_id"]


def test_a_question_that_took_the_place_of_another_keeps_it() -> None:
    """The first question, asked again, is decided anew: its lease is gone."""
    desk = _desk()
    first, second = desk.ask(now=NOW, **SEND), desk.ask(now=NOW + MINUTE_US, **SEND, max_actions=1)

    third = desk.ask(now=NOW + 2 * MINUTE_US, **SEND)

    assert len({one["decision_id"] for one in (first, second, third)}) == 3
    assert len(desk.records.customer("c1", since=0, now=NOW + 2 * MINUTE_US).contacts) <= 1


def test_another_source_is_not_told_of_it() -> None:
    """What one system was answered is its own."""
    desk = _desk()
    first = desk.ask(now=NOW, **SEND)

    request = DecisionRequest(request_id="r", customer_id="c1", **SEND)
    other = desk.decider.decide(request, source="other", now=NOW + MINUTE_US)

    assert first["decision_id"].encode() not in other


def test_it_holds_until_it_expires() -> None:
    """And not a microsecond longer: its lease has ended then."""
    desk = _desk()
    first = desk.ask(now=NOW, **SEND)

    assert first["expires_at"] == dump_timestamp(NOW + DAY_US)
    assert desk.ask(now=NOW + DAY_US - 1, **SEND) == first
    assert desk.ask(now=NOW + DAY_US, **SEND)["decision_id"] != first["decision_id"]


def test_an_objection_is_obeyed_by_the_next_render() -> None:
    """Nothing hard is outbid by showing the same thing."""
    desk = _desk()
    customer_id = next(c for c in (f"c{n}" for n in range(40)) if desk.actions(c, now=NOW, **SEND))
    desk.records.set_consents(customer_id, {"phone": "objected"}, at=NOW)

    assert desk.actions(customer_id, now=NOW + MINUTE_US, **SEND) == []


def test_an_action_that_was_taken_back_is_not_shown() -> None:
    """Nor to somebody who is in the holdout by now; what else changes in a policy does not change a send."""
    desk = _desk()
    (chosen,) = next(found for n in range(40) if (found := desk.actions(f"c{n}", now=NOW, **SEND)))
    customer_id = next(c for c in (f"c{n}" for n in range(40)) if desk.actions(c, now=NOW, **SEND) == [chosen])
    others = [one for one in desk.rulebook.catalogue.actions if one.id != chosen]
    everything = desk.rulebook

    desk.rulebook = rulebook(*everything.catalogue.actions, policy_changes=RANDOM | {"decision_ttl": "2h"})
    kept = desk.actions(customer_id, now=NOW + MINUTE_US, **SEND)
    desk.rulebook = rulebook(*others, policy_changes=RANDOM)
    gone = desk.actions(customer_id, now=NOW + 2 * MINUTE_US, **SEND)

    assert (kept, chosen in gone) == ([chosen], False)


def test_somebody_who_is_in_the_holdout_by_now_is_shown_nothing() -> None:
    """The effect of everything else is measured by them."""
    desk = _desk()
    customer_id = next(c for c in (f"c{n}" for n in range(40)) if desk.actions(c, now=NOW, **SEND))
    spared = {"id": "exp", "salt": "salt", "no_contact_holdout": 1.0, "random_eligible": 0.0}
    desk.rulebook = rulebook(*desk.rulebook.catalogue.actions, policy_changes={"experiment": spared})

    assert desk.actions(customer_id, now=NOW + MINUTE_US, **SEND) == []


def test_what_was_decided_because_time_was_up_is_decided_again() -> None:
    """A slow moment must not empty a message for a day."""
    desk = _desk(experiment={"id": "exp", "salt": "salt", "no_contact_holdout": 0.0, "random_eligible": 0.0})
    request = DecisionRequest(request_id="late", customer_id="c1", **SEND)
    long_ago = Asking(source="test", now=NOW, arrived=-10_000_000)
    late = msgspec.json.decode(desk.decider.answered(request, long_ago).answer)

    in_time = desk.ask(now=NOW + MINUTE_US, **SEND)

    assert (late["degraded"], late["selected"]) == (["model_missing", "deadline_exceeded"], [])
    assert len(in_time["selected"]) == 1
