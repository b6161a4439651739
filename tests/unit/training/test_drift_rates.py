"""Drift of how decisions come out: each kind is found, and only it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from features.kernel import Floats
from tests.drifting import decided
from training.drift_rates import mix_index, rate_reasons, rates
from training.params import load_params

PARAMS = load_params().drift


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"shares": (0.1, 0.6, 0.3)}, ["actions.mix", "actions.none"]),
        ({"held": 0.5}, ["limits.saturation"]),
        ({"degraded": 0.3}, ["decisions.degraded"]),
        ({"held": 0.0}, []),
        ({"degraded": 0.0}, []),
        ({}, []),
    ],
)
def test_each_change_is_found_and_only_it(change: dict[str, Any], codes: list[str]) -> None:
    """What got better is no reason to look into anything."""
    reasons = rate_reasons(rates(decided(3_000, 1), decided(3_000, 2, **change)), PARAMS)
    assert [one.code for one in reasons] == codes
    assert {one.calls_for for one in reasons} <= {"investigate"}


def test_shares_are_those_of_the_decisions() -> None:
    """Counted, not estimated."""
    before, lately = decided(500, 1), decided(700, 2)
    found = rates(before, lately)
    assert found.no_action.lately == pytest.approx((lately.arm == 0).mean())
    assert found.saturation.before == pytest.approx(before.held.sum() / before.reached.sum())
    assert sum(pair[1] for pair in found.mix.values()) == pytest.approx(1)
    assert list(found.rules) == ["cap.week"]
    assert found.rules["cap.week"][1] == pytest.approx((lately.held > 0).mean())


def test_where_nothing_came_to_the_limits_saturation_is_unknown() -> None:
    """No share of nothing, and no reason from it."""
    before, lately = decided(500, 1), decided(500, 2)
    none = np.zeros(500, dtype=np.int64)
    found = rates(before, replace(lately, reached=none, held=none))
    assert math.isnan(found.saturation.lately)
    assert rate_reasons(found, PARAMS) == []


_COUNTS = arrays.arrays(np.float64, 5, elements=st.integers(0, 500).map(float))


@given(_COUNTS, _COUNTS)
def test_the_index_is_symmetric_and_never_negative(before: Floats, lately: Floats) -> None:
    """It is 0 for the same mix, whatever the numbers."""
    found = mix_index(before, lately)
    assert found >= 0 or math.isnan(found)
    assert found == pytest.approx(mix_index(lately, before), nan_ok=True)
    assert not before.any() or mix_index(before, before) == pytest.approx(0)
