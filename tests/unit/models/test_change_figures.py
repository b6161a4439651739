"""What a change does to decisions, in figures: shares, moves, funnel, money, access and groups."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from models.change_figures import Figuring, change_figures
from models.change_tally import ChangedDecisions, ChangeTally, Reading
from models.decision import Candidate, DecisionRecord, Selected
from tests.decision_records import DROPPED, NO_ACTION, SCORED, record

FIGURING = Figuring(reaching=frozenset({"sms"}), resamples=50, smallest_group=1)
READING = Reading(attributes=("tier", "is_member"), binary_outcomes=frozenset({"paid"}))


def _without(probability: float) -> Candidate:
    return msgspec.structs.replace(NO_ACTION, selection_probability=probability)


def _choosing(probability: float, **changes: Any) -> DecisionRecord:
    """The text message with a probability, drawn if that is above a half."""
    sent = msgspec.structs.replace(SCORED, selection_probability=probability)
    chosen = (Selected(slot=1, placement=None, action_id="nudge", treatment_id="nudge_sms"),)
    return record(
        **{
            "candidates": (sent, DROPPED, _without(1 - probability)),
            "selected": chosen if probability > 0.5 else (),
            **changes,
        }
    )


def _dropping_all(**changes: Any) -> DecisionRecord:
    capped = Candidate(
        action_id="nudge", treatment_id="nudge_sms", channel="sms", dropped="contact_policy", rule_ids=("cap.week",)
    )
    return record(**{"candidates": (capped, DROPPED, _without(1.0)), "selected": (), **changes})


def _table(*pairs: tuple[DecisionRecord, DecisionRecord], reading: Reading = READING) -> ChangedDecisions:
    tally = ChangeTally(reading)
    for before, after in pairs:
        tally.add(before, after)
    return tally.table()


def _figures(*pairs: tuple[DecisionRecord, DecisionRecord]) -> dict[str, Any]:
    return change_figures(_table(*pairs), FIGURING)


def test_shares_are_those_of_the_probability() -> None:
    """Not only of the draws, which stand beside them; no action is an action and a channel of its own."""
    found = _figures((_choosing(0.6), _choosing(0.2)), (_choosing(0.8), _choosing(0.8)))

    actions = {one["action_id"]: one for one in found["actions"]}
    assert (actions["nudge"]["before"], actions["nudge"]["after"]) == pytest.approx((0.7, 0.5))
    assert (actions["nudge"]["drawn_before"], actions["nudge"]["drawn_after"]) == (1.0, 0.5)
    assert {one["channel"]: one["after"] for one in found["channels"]} == pytest.approx({"sms": 0.5, "no_action": 0.5})


def test_moves_are_between_actions() -> None:
    """Counted where the first slot holds another one."""
    found = _figures((_choosing(0.6), _choosing(0.2)), (_choosing(0.8), _choosing(0.8)))

    assert found["moves"] == [{"before": "nudge", "after": "no_action", "decisions": 1}]
    assert found["changed"] == pytest.approx({"decisions": 1, "share": 0.5, "probability_moved": 0.2})


def test_the_funnel_counts_candidates_and_decisions() -> None:
    """By stage in its order, and by rule, the one that the change moves most first."""
    funnel = _figures((_choosing(0.6), _dropping_all()), (_choosing(0.6), _dropping_all()))["funnel"]

    assert (funnel["candidates"], funnel["allowed"]) == ({"before": 4, "after": 4}, {"before": 2, "after": 0})
    none, both = {"candidates": 0, "decisions": 0}, {"candidates": 2, "decisions": 2}
    assert funnel["stages"] == [
        {"stage": "eligibility", "before": both, "after": both},
        {"stage": "contact_policy", "before": none, "after": both},
    ]
    assert [one["rule_id"] for one in funnel["rules"]] == ["cap.week", "arrears", "too_young"]


def test_money_is_expected_over_the_draw() -> None:
    """The contact costs 0.1, the incentive of 2 is paid to the 15 % who respond; both by the probability."""
    paying = msgspec.structs.replace(SCORED, incentive_cost=2.0, selection_probability=0.5)
    after = _choosing(0.5, candidates=(paying, DROPPED, _without(0.5)))

    found = _figures((_choosing(0.2), after))

    assert (found["spend"]["contact_cost"]["before"], found["spend"]["contact_cost"]["after"]) == pytest.approx(
        (0.02, 0.05)
    )
    assert found["spend"]["incentive"]["after"] == pytest.approx(0.5 * 2.0 * 0.15)
    assert found["contacts"]["difference"]["estimate"] == pytest.approx(0.3)
    assert found["estimated_value"]["difference"]["estimate"] == pytest.approx(0.3 * 1.7)


def test_an_action_that_waits_for_the_customer_is_no_contact() -> None:
    """A contact is an action on a channel over which we reach out."""
    tally = _table((_choosing(0.6), _choosing(0.2)))

    found = change_figures(tally, Figuring(reaching=frozenset({"call"}), resamples=20))

    assert (found["contacts"]["before"], found["acting"]["before"]) == pytest.approx((0.0, 0.6))


def test_what_has_no_estimate_is_told() -> None:
    """Another arm's model may choose what this one did not score: value and spend lack it, and say how much."""
    unscored = msgspec.structs.replace(DROPPED, selection_probability=0.3)
    before = _choosing(0.6, candidates=(SCORED, unscored, _without(0.1)))

    assert _figures((before, before))["estimated_value"]["unpriced"] == pytest.approx({"before": 0.3, "after": 0.3})


def test_who_loses_every_action_is_named_by_decision() -> None:
    """And who gains a first one; a customer counts once."""
    pairs = [
        (_choosing(0.6, decision_id="d-1"), _dropping_all(decision_id="d-1")),
        (_choosing(0.6, decision_id="d-2"), _dropping_all(decision_id="d-2")),
        (_dropping_all(decision_id="d-3", customer_id="c2"), _choosing(0.6, decision_id="d-3", customer_id="c2")),
    ]

    assert _figures(*pairs)["access"] == {
        "lost_all": {"decisions": 2, "customers": 1, "examples": ["d-1", "d-2"]},
        "gained_some": {"decisions": 1, "customers": 1, "examples": ["d-3"]},
    }


def test_stages_are_told_apart() -> None:
    """One that is not known is called so."""
    known, unknown = _choosing(0.6), _choosing(0.6, stage=None)

    found = _figures((known, _dropping_all()), (unknown, unknown))["stages"]

    assert [(one["stage"], one["lost_all"]["decisions"]) for one in found] == [("applied", 1), ("unknown", 0)]
    assert found[0]["before"]["contact_rate"] == pytest.approx(0.6)
    assert found[0]["after"]["contact_rate"] == 0.0


def _people(shares: dict[str, float], n: int = 40) -> list[tuple[DecisionRecord, DecisionRecord]]:
    """``n`` customers of each tier, one decision each, unchanged."""
    made = [
        _choosing(share, customer_id=f"{tier}-{number}", attributes={"tier": tier})
        for tier, share in shares.items()
        for number in range(n)
    ]
    return [(one, one) for one in made]


def test_a_group_is_compared_with_the_rest() -> None:
    """Difference of its mean to that of all others, and its ratio to the highest rate; below four fifths is flagged."""
    found = _figures(*_people({"gold": 0.8, "silver": 0.4, "bronze": 0.6}))["fairness"]

    groups = {one["group"]: one["after"] for one in found["groups"]}
    silver = groups["silver"]
    assert silver["difference_to_rest"]["contact_rate"]["estimate"] == pytest.approx(0.4 - 0.7)
    assert silver["difference_to_rest"]["actions"]["nudge"]["estimate"] == pytest.approx(0.4 - 0.7)
    assert silver["contact_ratio"] == pytest.approx(0.5)
    assert {name: one["below_four_fifths"] for name, one in groups.items()} == {
        "gold": False,
        "silver": True,
        "bronze": True,
    }


def test_intervals_widen_with_the_number_of_groups() -> None:
    """They hold for all groups at once: the same difference among more groups is less sure."""
    rng = np.random.default_rng(3)

    def half_width(others: int) -> float:
        pairs = []
        for number in range(200):
            attributes = {"tier": "gold" if number % 2 else "silver", "region": f"r{number % max(others, 1)}"}
            made = _choosing(float(rng.uniform(0.1, 0.9)), customer_id=f"c-{number}", attributes=attributes)
            pairs.append((made, made))
        table = _table(*pairs, reading=Reading(attributes=("tier", "region")))
        groups = change_figures(table, FIGURING)["fairness"]["groups"]
        found = next(one for one in groups if one["group"] == "gold")["after"]["difference_to_rest"]["contact_rate"]
        return float(found["high"] - found["estimate"])

    assert half_width(40) > 1.3 * half_width(0)


def test_a_small_group_is_named_and_not_told() -> None:
    """Nothing of few customers is shown, also not how many they are."""
    table = _table(*_people({"gold": 0.8, "silver": 0.4}), *_people({"rare": 0.9}, n=3))

    found = change_figures(table, Figuring(reaching=frozenset({"sms"}), resamples=20, smallest_group=30))["fairness"]

    assert [one for one in found["groups"] if one["suppressed"]] == [
        {"attribute": "tier", "group": "rare", "suppressed": True}
    ]
    assert (found["suppressed"], found["comparisons"]) == (1, 2)


def test_an_attribute_with_one_group_compares_nothing() -> None:
    """It is named as such."""
    found = _figures(*_people({"gold": 0.8, "silver": 0.4}))["fairness"]

    assert (found["attributes"], found["without_groups"]) == (["tier"], ["is_member"])


def test_nothing_is_known_of_no_decisions() -> None:
    """Shares and intervals are None, counts are 0."""
    found = _figures()

    assert found["changed"] == {"decisions": 0, "share": None, "probability_moved": None}
    assert (found["contacts"]["before"], found["contacts"]["difference"]) == (None, None)
    assert (found["moves"], found["stages"], found["fairness"]["groups"]) == ([], [], [])
