"""Drift of effects: a changed effect is found, for that action alone, and an unchanged one is not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drifting import decided
from training.drift_effects import (
    ALL_ACTIONS,
    UNKNOWN,
    ActionEffect,
    Estimate,
    action_effects,
    effect_reasons,
    effects_together,
    holm,
    two_sided,
)
from training.drift_samples import Decided
from training.params import EffectDriftParams

PARAMS = EffectDriftParams()


def _by_action(before: Decided, lately: Decided) -> dict[str, ActionEffect]:
    return {one.action_id: one for one in action_effects(before, lately, PARAMS)}


def test_an_effect_that_turns_around_calls_for_training() -> None:
    """From +0.2 to -0.1: that action drifted, the other did not, and the figures hold the truth."""
    found = _by_action(decided(4_000, 1), decided(4_000, 2, effects=(-0.1, 0.05), predicted=(0.2, 0.05)))
    nudge, call = found["nudge"], found["call"]
    assert (nudge.has_drifted, call.has_drifted) == (True, False)
    for estimate, truth in ((nudge.before, 0.2), (nudge.lately, -0.1), (nudge.change, -0.3), (call.change, 0.0)):
        low, high = estimate.interval(3.5)
        assert low < truth < high
    reasons = effect_reasons(list(found.values()), PARAMS)
    assert [(one.code, one.calls_for, one.subject) for one in reasons] == [("effect.drifted", "retrain", "nudge")]


def test_an_effect_that_was_never_so_is_missed() -> None:
    """Nothing changed, but the prediction does not come true."""
    before, lately = (decided(6_000, seed, predicted=(-0.1, 0.05)) for seed in (1, 2))
    reasons = effect_reasons(action_effects(before, lately, PARAMS), PARAMS)
    assert [(one.code, one.subject) for one in reasons] == [("effect.missed", "nudge")]


def test_the_models_own_doubt_counts() -> None:
    """A prediction that says it may be off by as much is not missed."""
    before, lately = (decided(6_000, seed, predicted=(-0.1, 0.05)) for seed in (1, 2))
    unsure = replace(lately, sigma=np.full_like(lately.sigma, 0.3))
    assert effect_reasons(action_effects(before, unsure, PARAMS), PARAMS) == []


def test_what_is_too_small_to_matter_is_no_drift() -> None:
    """However certain: the bound is in standard deviations of the outcome."""
    before, lately = decided(4_000, 1), decided(4_000, 2, effects=(-0.1, 0.05))
    lenient = EffectDriftParams(smallest_change=0.9)
    assert [one.has_drifted for one in action_effects(before, lately, lenient)] == [False, False]


def test_who_chose_by_the_customer_biases_nothing() -> None:
    """An action that is given where it is needed least looks good by itself, and not once it is weighted."""
    sides = []
    for seed in (1, 2):
        side = decided(8_000, seed, shares=(0.34, 0.33, 0.33))
        rng = np.random.default_rng(seed)
        chance = np.where(side.control[:, 0] > 0.35, 0.8, 0.2) if seed == 2 else np.full(len(side), 0.5)
        treated = rng.random(len(side)) < chance
        y = (rng.random(len(side)) < side.control[:, 0] + 0.1 * treated).astype(np.float64)
        probabilities = np.stack([1 - chance, chance, np.zeros(len(side))], axis=1)
        sides.append(
            replace(
                side,
                arm=treated.astype(np.int64),
                probabilities=probabilities,
                response=y[:, None],
                is_recorded=np.zeros(len(side), dtype=np.bool_),
            )
        )
    naive = sides[1].response[sides[1].arm == 1].mean() - sides[1].response[sides[1].arm == 0].mean()
    found = _by_action(*sides)["nudge"]
    assert naive > 0.15
    assert abs(found.lately.value - 0.1) < 4 * found.lately.se
    assert not found.has_drifted


def test_decisions_that_left_no_choice_are_left_out() -> None:
    """Where the action could not be chosen, or nothing was logged, there is nothing to learn of it."""
    before = decided(4_000, 1)
    lately = decided(4_000, 2)
    table = lately.probabilities.copy()
    table[:, 1] = 0.0
    table[:10] = np.nan
    found = action_effects(before, replace(lately, probabilities=table), PARAMS)
    assert [one.action_id for one in found] == ["call"]
    assert found[0].n_control[1] < 4_000 * 0.45


def test_too_few_of_an_action_are_not_judged() -> None:
    """Two hundred on either side are asked for, of the action and of none."""
    assert action_effects(decided(500, 1), decided(4_000, 2), PARAMS) == []


def test_open_windows_do_not_count() -> None:
    """A decision of yesterday has no outcome yet, which is no "no"."""
    assert action_effects(decided(4_000, 1), decided(4_000, 2, seen=False), PARAMS) == []


def test_a_person_in_many_decisions_counts_once() -> None:
    """Repeating every decision five times makes no estimate surer."""
    before, lately = decided(2_000, 1), decided(2_000, 2)
    five = np.tile(np.arange(2_000), 5)
    once, often = (_by_action(*pair)["nudge"] for pair in ((before, lately), (before.where(five), lately.where(five))))
    assert often.change.value == pytest.approx(once.change.value)
    assert often.change.se == pytest.approx(once.change.se, rel=1e-6)


def test_unknown_predictions_leave_the_gap_unknown() -> None:
    """Nothing was predicted, so nothing was missed."""
    lately = decided(4_000, 2)
    found = _by_action(decided(4_000, 1), replace(lately, uplift=np.full_like(lately.uplift, np.nan)))["nudge"]
    assert found.gap == UNKNOWN or math.isnan(found.gap.value)
    assert (found.is_missed, found.has_drifted) == (False, False)


@given(st.lists(st.floats(min_value=0, max_value=1), max_size=12))
def test_holm_never_lessens_and_keeps_the_order(p_values: list[float]) -> None:
    """Adjusted values are no smaller, at most 1, and ordered as they were."""
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    ordered = [adjusted[place] for place in np.argsort(p_values, kind="stable")]
    assert ordered == sorted(ordered)


def test_what_is_unknown_is_not_counted() -> None:
    """An action that was not judged makes the test of the others no harder."""
    assert holm([0.01, math.nan]) == [0.01, pytest.approx(math.nan, nan_ok=True)]
    assert math.isnan(two_sided(Estimate(value=0.1, se=0.0)))


def test_changes_too_faint_by_themselves_are_seen_together() -> None:
    """Both actions lose a tenth: neither is named at this alpha, all of them together are."""
    before, lately = decided(3_000, 3), decided(3_000, 4, effects=(0.1, -0.05), predicted=(0.2, 0.05))
    params = EffectDriftParams(alpha=0.0004)
    together = effects_together(before, lately, params)
    assert (together.n_actions, together.has_drifted) == (2, True)
    assert not any(one.has_drifted for one in action_effects(before, lately, params))
    reasons = effect_reasons([], params, together)
    assert [(one.code, one.calls_for, one.subject) for one in reasons] == [("effect.drifted", "retrain", ALL_ACTIONS)]


def test_one_population_is_seldom_called_changed_together() -> None:
    """Of a hundred pairs a twentieth has a p-value below 0.05, give or take what chance allows."""
    found = [effects_together(decided(600, 2 * seed), decided(600, 2 * seed + 1), PARAMS) for seed in range(1, 101)]
    assert sum(one.p_value < 0.05 for one in found) <= 12
    assert not any(one.has_drifted for one in found)


def test_repeating_decisions_makes_all_actions_together_no_surer() -> None:
    """A person's decisions count as one, however often they are told."""
    before, lately = decided(1_000, 1), decided(1_000, 2)
    five = np.tile(np.arange(1_000), 5)
    once, often = (
        effects_together(before, lately, PARAMS),
        effects_together(before.where(five), lately.where(five), PARAMS),
    )
    assert often.p_value == pytest.approx(once.p_value, rel=1e-6)


def test_without_outcomes_nothing_is_said_of_all_actions_together() -> None:
    """No window is over yet."""
    found = effects_together(decided(1_000, 1), decided(1_000, 2, seen=False), PARAMS)
    assert (found.n_actions, found.has_drifted) == (0, False)
    assert math.isnan(found.p_value)
