"""The regret budget: exploring is not expected to lose more, from the first decision on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.policy import Exploration
from serving.regret import BUDGETED_DECISIONS, RegretMeter

LOSSES = st.lists(st.floats(0, 50), min_size=1, max_size=60)


def _exploration(budget: float | None, epsilon: float = 0.2) -> Exploration:
    return Exploration(epsilon=epsilon, temperature=1.0, regret_budget=budget)


def test_without_a_budget_nothing_holds_it_down() -> None:
    """The policy's own epsilon holds, and the record need not say one."""
    meter = RegretMeter()
    meter.note(50.0)

    assert meter.epsilon(_exploration(None)) is None


def test_nothing_is_explored_before_anything_is_known() -> None:
    """The first decision tells what exploring costs; until then it might cost anything."""
    assert RegretMeter().epsilon(_exploration(10.0)) == 0.0


@given(LOSSES, st.floats(0.01, 1000), st.floats(0, 1))
def test_the_expected_loss_stays_within_the_budget(losses: list[float], budget: float, epsilon: float) -> None:
    """Over decisions like those seen, and the share never exceeds the policy's."""
    meter = RegretMeter()
    for loss in losses:
        meter.note(loss)

    found = meter.epsilon(_exploration(budget, epsilon))

    assert found is not None
    assert 0 <= found <= epsilon
    expected = found * BUDGETED_DECISIONS * sum(losses) / len(losses)
    assert expected <= budget * (1 + 1e-9)


def test_epsilon_comes_down_to_the_budget_and_up_again() -> None:
    """1,000 decisions at 2.0 lose 2,000 by exploring: a budget of 100 leaves 5 percent; cheap ones give it back."""
    meter = RegretMeter()
    for _ in range(BUDGETED_DECISIONS):
        meter.note(2.0)
    assert meter.epsilon(_exploration(100.0)) == pytest.approx(0.05)

    for _ in range(BUDGETED_DECISIONS):
        meter.note(0.001)

    assert meter.epsilon(_exploration(100.0)) == 0.2
    assert not math.isnan(meter.epsilon(_exploration(0.0)) or 0.0)
