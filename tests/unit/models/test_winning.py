"""What would have to change for an action to win, by hand on small tables."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import UnknownObject
from models.decision import Candidate
from models.winning import ToWin, strongest_rival, to_win

NOTHING = Candidate(action_id="no_action", treatment_id="no_action", channel=None, net_value=0.0, priority=0.0)


def candidate(action_id: str, *, uplift: float = 0.1, lever_pct: float = 0.0, **changes: Any) -> Candidate:
    """A scored candidate on a binary outcome worth 100, with 1 of contact cost and an even p0."""
    fields: dict[str, Any] = {
        "action_id": action_id,
        "treatment_id": f"{action_id}_sms",
        "channel": "sms",
        "control_response": 0.5,
        "uplift": uplift,
        "sigma": 0.01,
        "effect_source": "model",
        "outcome": "paid",
        "value": 100.0,
        "contact_cost": 1.0,
        "incentive_cost": 0.0,
        "fatigue_cost": 0.0,
        "channel_price": 0.0,
        "budget_price": 0.0,
        "lever_pct": lever_pct,
    }
    fields |= changes
    net_value = (
        fields["uplift"] * fields["value"]
        - fields["contact_cost"]
        - (fields["control_response"] + fields["uplift"]) * fields["incentive_cost"]
    )
    priority = net_value * (1 + fields["lever_pct"] / 100) if net_value > 0 else net_value
    return Candidate(**{"net_value": net_value, "priority": priority, **fields})


def asked(action_id: str, *candidates: Candidate) -> ToWin:
    """The question, of a yes or no."""
    return to_win((*candidates, NOTHING), action_id, is_binary={"paid": True})


def bounds(found: ToWin) -> dict[str, tuple[str, float] | None]:
    """Sense and bound by quantity, of the only treatment."""
    (treatment,) = found.treatments
    return {
        quantity: None if change is None else (change.sense, pytest.approx(change.bound))
        for quantity, change in treatment.changes.items()
    }


def test_each_number_alone_is_given_with_its_bound() -> None:
    """0.05 * 100 - 1 = 4 against 9: 0.1 of uplift, or a lever of 125 %; costing nothing is not enough."""
    found = asked("weak", candidate("weak", uplift=0.05), candidate("strong"))

    assert (found.wins, found.rival, found.rival_priority) == (False, "strong_sms", pytest.approx(9.0))
    assert bounds(found) == {
        "uplift": ("above", 0.1),
        "incentive_cost": None,
        "contact_cost": None,
        "lever_pct": ("above", 125.0),
    }


def test_an_incentive_may_be_what_loses() -> None:
    """0.2 * 100 - 1 - 0.7 * 20 = 5 against 9: a cheaper one wins below (19 - 9) / 0.7; the contact costs too little."""
    found = asked("offer", candidate("offer", uplift=0.2, incentive_cost=20.0), candidate("strong"))

    assert bounds(found)["incentive_cost"] == ("below", 10 / 0.7)
    assert bounds(found)["contact_cost"] is None
    # 80 of each more response stay: (9 + 1 + 0.5 * 20) / 80.
    assert bounds(found)["uplift"] == ("above", 0.25)


def test_a_contact_may_be_what_costs() -> None:
    """0.15 * 100 - 8 = 7 against 9: below 6 it wins."""
    assert bounds(asked("call", candidate("call", uplift=0.15, contact_cost=8.0), candidate("strong")))[
        "contact_cost"
    ] == ("below", 6.0)


def test_against_doing_nothing_it_has_to_be_worth_something() -> None:
    """Harmful: no lever lifts it; an uplift above its cost does."""
    found = asked("harmful", candidate("harmful", uplift=-0.02))

    assert (found.rival, found.rival_priority) == ("no_action", 0.0)
    assert bounds(found) == {
        "uplift": ("above", 0.01),
        "incentive_cost": None,
        "contact_cost": None,
        "lever_pct": None,
    }


def test_what_wins_needs_no_change() -> None:
    """Its rival is the second."""
    found = asked("strong", candidate("weak", uplift=0.05), candidate("strong"))

    assert (found.wins, found.rival) == (True, "weak_sms")
    assert found.treatments[0].changes == {}


def test_treatments_of_one_action_are_no_rivals() -> None:
    """The action wins by either of them; each has its own changes."""
    sms, call = candidate("weak", uplift=0.05), candidate("weak", treatment_id="weak_call", uplift=0.08)
    found = asked("weak", sms, call, candidate("strong"))

    assert found.rival == "strong_sms"
    assert [one.treatment_id for one in found.treatments] == ["weak_sms", "weak_call"]
    assert all(one.changes["uplift"] is not None for one in found.treatments)


def test_all_rules_of_a_dropped_one_are_named() -> None:
    """Each would have had to pass; there are no numbers to change."""
    dropped = Candidate(
        action_id="offer",
        treatment_id="offer_sms",
        channel="sms",
        dropped="eligibility",
        rule_ids=("too_young", "arrears"),
    )
    (treatment,) = asked("offer", dropped, candidate("strong")).treatments

    assert (treatment.dropped, treatment.rule_ids) == ("eligibility", ("too_young", "arrears"))
    assert treatment.changes == {}


@pytest.mark.parametrize("action_id", ["no_action", "other"])
def test_what_was_no_candidate_is_refused(action_id: str) -> None:
    """With the names of those that were."""
    with pytest.raises(UnknownObject, match="was no candidate, expected one of strong"):
        asked(action_id, candidate("strong"))


def test_a_tie_is_won_by_the_catalogues_order() -> None:
    """As the greedy choice has it: the earlier of two equal ones stands first."""
    first, second = candidate("first"), candidate("second")

    assert asked("first", first, second).wins
    assert not asked("second", first, second).wins


def test_without_a_worthy_rival_it_is_doing_nothing() -> None:
    """Others that harm are no rivals."""
    assert strongest_rival((candidate("bad", uplift=-0.1), candidate("good"), NOTHING), "good") == ("no_action", 0.0)
