"""Everybody at once, by hand: mandatory actions, fatigue, reasons, and until when the prices hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.events import parse_timestamp
from models.actions import Action
from models.allocation import NOTHING
from models.batch_observation import Scene
from models.batch_population import Population, Standing
from models.batch_ranking import price_list, ranking_of, reasons_of
from models.scoring import EffectBlock
from tests.decisions import action, rulebook

AT = parse_timestamp("2026-03-10T12:00:00Z")
PHONES = {"limits": [{"id": "limit.phone", "units": 2, "period": "1d", "channel": "phone"}]}

STANDING = Standing("champion", None, None, (), "looking", None, "ACTIVE", math.nan, None)


def scene(*actions: Action, capacity: Any = PHONES) -> Scene:
    """Actions over the phone, and two calls a day."""
    return Scene(rulebook=rulebook(*actions, policy_changes={"capacity": capacity}), scorer=None, at=AT)


def population(uplift: list[list[float]], *, fatigue: list[float] | None = None) -> Population:
    """Customers whose effects are these; each action has one treatment, and the funnel leaves all."""
    table = np.array(uplift)
    n, m = table.shape
    return Population(
        [f"c{row}" for row in range(n)],
        [STANDING] * n,
        np.arange(n),
        np.ones((n, m), dtype=np.bool_),
        EffectBlock(np.full((n, m), np.nan), table, np.full((n, m), 0.01), tuple("model" for _ in range(m))),
        np.ones(n) if fatigue is None else np.array(fatigue),
    )


def test_calls_go_to_whom_they_change_most_for() -> None:
    """A yes is worth 10, a call costs .1; the price lies between the second and the third."""
    about = scene(action("nudge"))
    everybody = population([[0.1], [0.4], [0.2], [0.3]])
    found = ranking_of(everybody, about, taken={})

    assert found.allocation.choice.tolist() == [NOTHING, 0, NOTHING, 0]
    assert found.prices["limit.phone"] == pytest.approx(2.4)
    assert found.money == found.allocation.value == pytest.approx(3.9 + 2.9)
    assert found.net_value[1] == found.priority[1] == pytest.approx(3.9 - 2.4)
    assert found.paid[1] == pytest.approx(2.4)
    assert reasons_of(everybody, found) == ["capacity", None, "capacity", None]


def test_what_is_taken_already_is_not_shared_out() -> None:
    """One call is left, or none; more than there is may be taken."""
    everybody = population([[0.1], [0.4], [0.2]])

    for taken, expected in ((1.0, [NOTHING, 0, NOTHING]), (2.0, [NOTHING] * 3), (5.0, [NOTHING] * 3)):
        found = ranking_of(everybody, scene(action("nudge")), taken={"limit.phone": taken})
        assert found.allocation.choice.tolist() == expected


def test_mandatory_actions_go_first_whatever_they_are_worth() -> None:
    """As far as there is capacity, for whom they are worth most; what is left is shared out by value."""
    about = scene(action("notice", mandatory=True), action("nudge"), capacity={"limits": [PHONES["limits"][0]]})
    everybody = population([[-0.3, 0.9], [-0.1, 0.2], [-0.2, 0.8]])
    found = ranking_of(everybody, about, taken={})

    assert found.allocation.choice.tolist() == [NOTHING, 0, 0]
    assert found.allocation.used.tolist() == [2.0]
    assert found.allocation.gap == pytest.approx(0.0)

    everybody.allowed[1:, 0] = False
    found = ranking_of(everybody, about, taken={})
    assert found.allocation.choice.tolist() == [0, NOTHING, 1]
    assert found.allocation.value == pytest.approx((-0.3 * 10 - 0.1) + (0.8 * 10 - 0.1))


def test_fatigue_costs_grow_with_each_customers_contacts() -> None:
    """A contact that costs 1 in patience costs three times that after so many."""
    treatments = [{"id": "call", "channel": "phone", "contact_cost": 0.0, "fatigue_cost": 1.0}]
    found = ranking_of(
        population([[0.4], [0.4]], fatigue=[1.0, 3.0]), scene(action("nudge", treatments=treatments)), taken={}
    )

    assert found.net_value.tolist() == pytest.approx([3.0, 1.0])


def test_who_gets_nothing_is_told_why() -> None:
    """Worth less than nothing, or of unknown worth; capacity is there for both."""
    everybody = population([[-0.1], [math.nan], [0.5]])
    found = ranking_of(everybody, scene(action("nudge")), taken={})

    assert reasons_of(everybody, found) == ["not_worth_it", "scoring", None]
    assert math.isnan(found.net_value[0])


def test_nobody_at_all_is_no_error() -> None:
    """There is nothing to share out."""
    nobody = population([[0.1]])
    nobody = Population([], [], np.empty(0, np.int64), nobody.allowed[:0], _none(nobody.effects), np.empty(0))
    found = ranking_of(nobody, scene(action("nudge")), taken={})

    assert found.allocation.value == found.allocation.gap == found.money == 0.0
    assert found.prices == {"limit.phone": 0.0}


def _none(effects: EffectBlock) -> EffectBlock:
    return EffectBlock(effects.control_response[:0], effects.uplift[:0], effects.sigma[:0], effects.source)


def test_prices_hold_until_the_first_scarce_period_ends() -> None:
    """Here the hour of the mail, of which there is enough, does not matter; where nothing is scarce it does."""
    capacity = {"limits": [*PHONES["limits"], {"id": "limit.mail", "units": 9, "period": "1h", "channel": "web"}]}
    about = scene(action("nudge"), capacity=capacity)
    scarce = ranking_of(population([[0.1], [0.4], [0.2]]), about, taken={})
    plenty = ranking_of(population([[0.1]]), about, taken={})

    listed = price_list(scarce, about, bundle=None, created_at=AT)
    assert listed.valid_until == parse_timestamp("2026-03-11T00:00:00+01:00")
    assert listed.prices["limit.mail"] == 0.0
    assert (listed.value, listed.gap) == (scarce.allocation.value, scarce.allocation.gap)
    assert price_list(plenty, about, bundle=None, created_at=AT).valid_until == AT + 3_600_000_000


def test_levers_count_as_in_a_single_decision() -> None:
    """The lever lifts one of two actions of equal value above the other."""
    about = scene(action("nudge"), action("pushed", lever_pct=50.0), capacity={})
    found = ranking_of(population([[0.2, 0.2]]), about, taken={})

    assert found.allocation.choice.tolist() == [1]
    assert (found.priority[0], found.money) == (pytest.approx(1.9 * 1.5), pytest.approx(1.9))
