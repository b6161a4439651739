"""What would have to change: beyond each bound the action wins, before it it does not, and None means never."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from models.arbitration import Factors
from models.winning import Change, changes_to_exceed

MONEY = st.floats(0, 100)
PERCENT = st.floats(-100, 1000)
NEAR = 1e-6


@st.composite
def losing(draw: st.DrawFn) -> tuple[Factors, float]:
    """A candidate, and a priority that it does not exceed."""
    is_binary = draw(st.booleans())
    control = draw(st.one_of(st.floats(0, 1), st.just(math.nan))) if is_binary else draw(st.floats(0, 50))
    uplift = draw(st.floats(-1, 1))
    if is_binary and not math.isnan(control):
        uplift = min(max(uplift, -control), 1 - control)
    factors = Factors(
        control_response=control,
        uplift=uplift,
        sigma=0.1,
        is_binary=is_binary,
        value=draw(st.floats(0, 200)),
        contact_cost=draw(MONEY),
        incentive_cost=draw(MONEY),
        fatigue_cost=draw(st.floats(0, 5)),
        channel_price=draw(st.floats(0, 5)),
        budget_price=draw(st.floats(0, 5)),
        context_weight_pct=draw(PERCENT),
        lever_pct=draw(PERCENT),
    )
    priority = draw(st.one_of(st.just(0.0), st.floats(0, 500)))
    assume(factors.priority <= priority)
    return factors, priority


def moved(factors: Factors, change: Change, by: float) -> Factors:
    """The candidate with the number of a change set that far beyond its bound, or before it where negative."""
    step = by * max(1.0, abs(change.bound)) * (1 if change.sense == "above" else -1)
    return replace(factors, **{change.quantity: change.bound + step})


@given(losing())
def test_a_bound_is_where_it_turns(case: tuple[Factors, float]) -> None:
    """The closed form is exact, for every quantity, in money, percent and probability."""
    factors, priority = case
    for change in changes_to_exceed(factors, priority).values():
        if change is None:
            continue
        at = replace(factors, **{change.quantity: change.bound})
        # Where a boost is next to nothing, so is what moving beyond the bound adds to the priority.
        assert at.priority == pytest.approx(priority, rel=1e-6, abs=1e-6)
        assert moved(factors, change, NEAR).priority >= priority - 1e-9 * max(1.0, priority)
        assert moved(factors, change, -NEAR).priority <= priority + 1e-9 * max(1.0, priority)


@given(losing())
def test_it_stands_on_the_other_side_of_every_bound(case: tuple[Factors, float]) -> None:
    """What is needed is never what is there already."""
    factors, priority = case
    for change in changes_to_exceed(factors, priority).values():
        if change is None:
            continue
        slack = 1e-6 * max(1.0, abs(change.bound))
        if change.sense == "above":
            assert change.present <= change.bound + slack
        else:
            assert change.present >= change.bound - slack


@given(losing(), st.floats(0, 1))
def test_none_means_that_no_value_does_it(case: tuple[Factors, float], share: float) -> None:
    """Anywhere in the range that the quantity may have."""
    factors, priority = case
    is_probability = factors.is_binary and not math.isnan(factors.control_response)
    low, high = (-factors.control_response, 1 - factors.control_response) if is_probability else (-1.0, 1.0)
    tried = {
        "uplift": low + share * (high - low),
        "incentive_cost": share * factors.incentive_cost,
        "contact_cost": share * factors.contact_cost,
        "lever_pct": -100 + share * 1100,
    }
    for quantity, change in changes_to_exceed(factors, priority).items():
        if change is None and (quantity != "uplift" or factors.is_binary):
            assert replace(factors, **{quantity: tried[quantity]}).priority <= priority + 1e-9 * max(1.0, priority)
