"""What holds of every change: shares are whole, nothing comes of nothing, and there and back are mirror images."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.change_figures import Figuring, change_figures
from models.change_tally import ChangedDecisions, ChangeTally, Reading
from models.decision import Candidate, DecisionRecord, Selected
from tests.decision_records import NO_ACTION, SCORED, record

TREATMENTS = (("nudge", "sms"), ("nudge", "email"), ("offer", "web"), ("call", "call"))
STAGES = ("eligibility", "suitability", "contact_policy")
FIGURING = Figuring(reaching=frozenset({"sms", "email", "call"}), resamples=10, smallest_group=1)


@st.composite
def _sides(draw: st.DrawFn) -> dict[str, Any]:
    """One side of a decision: which treatments are allowed, with what weight each is chosen, and which was."""
    weights = [draw(st.integers(0, 3)) for _ in TREATMENTS]
    kept = [draw(st.booleans()) for _ in TREATMENTS]
    idle = draw(st.integers(1, 3))
    total = idle + sum(weight for weight, is_kept in zip(weights, kept, strict=True) if is_kept)
    candidates = []
    for (action, channel), weight, is_kept in zip(TREATMENTS, weights, kept, strict=True):
        treatment = f"{action}_{channel}"
        if is_kept:
            fields = {"action_id": action, "treatment_id": treatment, "channel": channel}
            candidates.append(msgspec.structs.replace(SCORED, **fields, selection_probability=weight / total))
        else:
            stage = draw(st.sampled_from(STAGES))
            rules = tuple(draw(st.lists(st.sampled_from(["r1", "r2", "r3"]), min_size=1, max_size=3)))
            candidates.append(
                Candidate(action_id=action, treatment_id=treatment, channel=channel, dropped=stage, rule_ids=rules)
            )
    candidates.append(msgspec.structs.replace(NO_ACTION, selection_probability=idle / total))
    chosen = draw(st.sampled_from([one for one in candidates if one.selection_probability > 0]))
    selected = (Selected(slot=1, placement=None, action_id=chosen.action_id, treatment_id=chosen.treatment_id),)
    return {
        "candidates": tuple(candidates),
        "selected": () if chosen.treatment_id == "no_action" else selected,
    }


@st.composite
def _pairs(draw: st.DrawFn) -> list[tuple[DecisionRecord, DecisionRecord]]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        about = {
            "customer_id": draw(st.sampled_from(["c1", "c2", "c3"])),
            "stage": draw(st.sampled_from(["applied", "verified", None])),
            "attributes": {"tier": draw(st.sampled_from(["gold", "silver"]))},
        }
        made.append((record(number, **about, **draw(_sides())), record(number, **about, **draw(_sides()))))
    return made


def _table(pairs: list[tuple[DecisionRecord, DecisionRecord]]) -> ChangedDecisions:
    tally = ChangeTally(Reading(attributes=("tier",), binary_outcomes=frozenset({"paid"})))
    for before, after in pairs:
        tally.add(before, after)
    return tally.table()


@settings(deadline=None, max_examples=40)
@given(_pairs())
def test_shares_are_whole(pairs: list[tuple[DecisionRecord, DecisionRecord]]) -> None:
    """Of actions and of channels, before and after, of the probability and of the draws."""
    found = change_figures(_table(pairs), FIGURING)

    for shares in (found["actions"], found["channels"]):
        for column in ("before", "after", "drawn_before", "drawn_after"):
            assert sum(one[column] for one in shares) == pytest.approx(1.0)
        assert sum(one["difference"] for one in shares) == pytest.approx(0.0)
    for group in found["fairness"]["groups"]:
        for side in ("before", "after"):
            told = group[side]
            assert sum(told["actions"].values()) + told["no_action_rate"] == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(_pairs())
def test_no_change_changes_nothing(pairs: list[tuple[DecisionRecord, DecisionRecord]]) -> None:
    """Exactly: every difference is 0, nothing moves, nobody loses or gains."""
    table = _table([(before, before) for before, _ in pairs])
    found = change_figures(table, FIGURING)

    # How far chance reaches cannot be told of one customer.
    bound = 0.0 if len(set(table.people.tolist())) > 1 else None
    assert found["changed"] == {"decisions": 0, "share": 0.0, "probability_moved": 0.0}
    assert found["moves"] == []
    assert {one["difference"] for one in (*found["actions"], *found["channels"])} == {0.0}
    for told in (found["contacts"], found["acting"], found["estimated_value"], *found["spend"].values()):
        assert told["difference"] == {"estimate": 0.0, "low": bound, "high": bound}
    for one in (*found["funnel"]["stages"], *found["funnel"]["rules"], *found["stages"]):
        assert one["before"] == one["after"]
    assert [found["access"][name]["decisions"] for name in ("lost_all", "gained_some")] == [0, 0]


@settings(deadline=None, max_examples=40)
@given(_pairs())
def test_the_way_back_mirrors_the_way_there(pairs: list[tuple[DecisionRecord, DecisionRecord]]) -> None:
    """Swapping the sides swaps gains with losses and turns every difference round."""
    there = change_figures(_table(pairs), FIGURING)
    back = change_figures(_table([(after, before) for before, after in pairs]), FIGURING)

    assert there["access"]["lost_all"] == back["access"]["gained_some"]
    assert there["access"]["gained_some"] == back["access"]["lost_all"]
    assert {(one["before"], one["after"]): one["decisions"] for one in there["moves"]} == {
        (one["after"], one["before"]): one["decisions"] for one in back["moves"]
    }
    for name in ("contacts", "acting", "estimated_value"):
        difference, turned = back[name]["difference"], there[name]["difference"]
        assert turned["estimate"] == pytest.approx(-difference["estimate"])
        if difference["low"] is None:
            assert (turned["low"], turned["high"], difference["high"]) == (None, None, None)
        else:
            assert (turned["low"], turned["high"]) == pytest.approx((-difference["high"], -difference["low"]))
    for one, other in zip(there["stages"], back["stages"], strict=True):
        assert (one["before"], one["after"]) == (other["after"], other["before"])
        assert one["lost_all"]["decisions"] == other["gained_some"]["decisions"]


@settings(deadline=None, max_examples=40)
@given(_pairs())
def test_stages_add_up_to_the_whole(pairs: list[tuple[DecisionRecord, DecisionRecord]]) -> None:
    """Decisions, losses and contacts of all stages are those of the sample."""
    found = change_figures(_table(pairs), FIGURING)

    assert sum(one["decisions"] for one in found["stages"]) == len(pairs)
    for name in ("lost_all", "gained_some"):
        assert sum(one[name]["decisions"] for one in found["stages"]) == found["access"][name]["decisions"]
    contacts = sum(one["decisions"] * one["after"]["contact_rate"] for one in found["stages"])
    assert contacts / len(pairs) == pytest.approx(found["contacts"]["after"])
