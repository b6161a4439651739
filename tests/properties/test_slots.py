"""Slates: no action twice, each place by its channel, and draws with the probabilities that are recorded."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.actions import Treatment, channel_of_placement
from models.decision import Candidate, Selected
from models.policy import Arm
from models.records import CustomerRecords
from models.slots import Filling, filled_slots, following_chances
from tests.decisions import question

CHANNELS = ("web", "app")
PLACES = st.lists(st.sampled_from(["web/top", "web/side", "app/card", "app/push"]), max_size=4, unique=True)
OPTIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(CHANNELS), st.floats(-5, 5), st.booleans()),
    min_size=1,
    max_size=8,
)
ARMS = st.sampled_from(["random_eligible", "champion", "challenger"])


def _filling(
    options: list[tuple[str, str, float, bool]], places: list[str], arm: Arm, *, decision_id: str = "d-1"
) -> Filling:
    candidates = {
        f"t{i}": Candidate(
            action_id=action_id, treatment_id=f"t{i}", channel=channel, priority=priority, arm_selection_probability=0.5
        )
        for i, (action_id, channel, priority, _) in enumerate(options)
    }
    mandatory = frozenset(f"t{i}" for i, option in enumerate(options) if option[3])
    order = sorted(candidates, key=lambda one: (one not in mandatory, -candidates[one].priority))
    return Filling(
        ranking=order,
        candidates=candidates,
        mandatory=mandatory,
        question=question(placements=tuple(places)),
        records=CustomerRecords(),
        treatments={
            name: Treatment(id=name, channel=one.channel or "", contact_cost=0.0) for name, one in candidates.items()
        },
        caps=(),
        arm=arm,
        fits=lambda treatment_id, beside: True,
        seed=(decision_id, "p1"),
    )


@given(OPTIONS, PLACES, ARMS)
def test_a_slate_is_consistent(options: list[tuple[str, str, float, bool]], places: list[str], arm: Arm) -> None:
    """Slots are numbered, no action and no place is there twice, and each treatment fits its place."""
    filling = _filling(options, places, arm)

    slate = filled_slots(filling)

    assert [one.slot for one in slate] == list(range(1, len(slate) + 1))
    assert len({one.action_id for one in slate}) == len(slate) <= max(1, len(places))
    assert len({one.placement for one in slate}) == len(slate)
    for one in slate:
        channel = filling.candidates[one.treatment_id].channel
        assert one.placement is None or channel_of_placement(one.placement) == channel
        assert 0 < one.conditional_probability <= 1


@given(OPTIONS, PLACES)
def test_behind_the_first_slot_only_what_is_worth_it_stands(
    options: list[tuple[str, str, float, bool]], places: list[str]
) -> None:
    """The champion fills further slots with what is mandatory or worth more than nothing, best first, for certain."""
    filling = _filling(options, places, "champion")

    _, *rest = filled_slots(filling) or (None,)

    behind = [one for one in rest if isinstance(one, Selected)]
    assert all(one.conditional_probability == 1.0 for one in behind)
    assert all(
        one.treatment_id in filling.mandatory or filling.candidates[one.treatment_id].priority > 0 for one in behind
    )


@pytest.mark.parametrize("n", [20_000])
def test_a_random_slate_is_drawn_with_what_is_recorded(n: int) -> None:
    """The second slot is each remaining action or nothing with one third each; its record says the same."""
    options = [("a", "web", 3.0, False), ("b", "web", 1.0, False), ("c", "web", -9.0, False)]
    seconds: Counter[str] = Counter()
    for i in range(n):
        slate = filled_slots(_filling(options, ["web/top", "web/side"], "random_eligible", decision_id=f"d-{i}"))
        assert [one.action_id for one in slate][:1] == ["a"]
        second = slate[1] if len(slate) > 1 else None
        assert second is None or math.isclose(second.conditional_probability, 1 / 3)
        seconds[second.action_id if second else "nothing"] += 1

    error = (1 / 3 * 2 / 3 / n) ** 0.5
    assert {name: count / n for name, count in seconds.items()} == pytest.approx(
        {"b": 1 / 3, "c": 1 / 3, "nothing": 1 / 3}, abs=4 * error
    )


@given(OPTIONS, PLACES, ARMS)
def test_chances_of_a_slate_are_those_that_are_recorded(
    options: list[tuple[str, str, float, bool]], places: list[str], arm: Arm
) -> None:
    """Slot by slot behind the first."""
    filling = _filling(options, places, arm)

    slate = filled_slots(filling)

    found = following_chances(filling, [one.treatment_id for one in slate])
    assert found[: len(slate) - 1] == tuple(one.conditional_probability for one in slate[1:])
    assert all(chance > 0 for chance in found)


@given(OPTIONS, PLACES, ARMS)
def test_chances_of_all_slates_behind_a_first_sum_to_one(
    options: list[tuple[str, str, float, bool]], places: list[str], arm: Arm
) -> None:
    """The end among them; what cannot be filled has none."""
    filling = _filling(options, places, arm)
    names = list(filling.candidates)
    first = filled_slots(filling)[:1]
    if not first:
        return

    def total(slate: list[str]) -> float:
        """Of all slates that begin like this, given that they do."""
        ends = following_chances(filling, slate)
        if len(ends) < len(slate):
            return 1.0
        going_on = [
            (one, following_chances(filling, [*slate, one])[len(slate) - 1]) for one in names if one not in slate
        ]
        return ends[-1] + sum(chance * total([*slate, one]) for one, chance in going_on if chance > 0)

    assert math.isclose(total([first[0].treatment_id]), 1.0, abs_tol=1e-9)
