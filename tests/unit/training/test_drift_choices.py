"""Effects of what was decided: a promise that is not kept is found on few decisions, and one that is kept is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.kernel import Floats
from tests.drifting import decided
from training.drift_choices import ALL_OUTCOMES, CHOICES, choice_effects, choice_reasons
from training.drift_effects import action_effects, effect_reasons
from training.drift_samples import Decided
from training.params import EffectDriftParams

PARAMS = EffectDriftParams()


def chosen(n: int, seed: int, *, works: bool, believed: float = 0.12) -> Decided:
    """Each of two actions is chosen for those whom it is believed to help; where it does not work, it does nothing."""
    rng = np.random.default_rng(seed)
    base = decided(n, seed)
    helped_by_first = rng.random(n) < 0.5
    liked = np.where(helped_by_first, 1, 2)
    probabilities = np.full((n, 3), 0.1)
    probabilities[np.arange(n), liked] = 0.8
    arm = np.array([rng.choice(3, p=one) for one in probabilities])
    uplift: Floats = np.full((n, 3), np.nan)
    uplift[:, 1:] = 0.0
    uplift[np.arange(n), liked] = believed
    control = 0.15 + 0.4 * rng.random(n)
    y = (rng.random(n) < control + np.where(works & (arm == liked), 0.12, 0.0)).astype(np.float64)
    told = {"arm": arm, "probabilities": probabilities, "uplift": uplift, "response": y[:, None]}
    return replace(base, control=control[:, None], **told)


def test_a_promise_that_is_not_kept_calls_for_training() -> None:
    """The figures hold the truth, and the text both numbers."""
    found = choice_effects(chosen(6_000, 1, works=False), PARAMS)

    one, together = found
    assert (one.outcome_id, together.outcome_id) == ("paid", ALL_OUTCOMES)
    assert one.predicted == pytest.approx(0.8 * 0.12)
    low, high = one.observed.interval(3.5)
    assert low < 0.0 < high
    reason, of_all = choice_reasons(found, PARAMS)
    assert (reason.code, reason.calls_for, reason.subject) == ("effect.missed", "retrain", CHOICES)
    assert reason.threshold == one.least >= 0.33 * one.predicted
    assert "predicted to change paid by +0.096" in reason.text
    assert "predicted to add were worth +3.84 a decision" in of_all.text


def test_it_is_found_where_no_action_by_itself_tells() -> None:
    """Over everybody each action does little, before and lately: only those it was chosen for know."""
    before, lately = chosen(3_000, 2, works=True), chosen(3_000, 3, works=False)

    assert effect_reasons(action_effects(before, lately, PARAMS), PARAMS) == []
    assert [one.is_missed for one in choice_effects(lately, PARAMS)] == [True, True]


def test_a_promise_that_is_kept_is_left_alone() -> None:
    """Twenty times; one that is off by less than a third as well."""
    assert not any(
        one.is_missed for seed in range(20) for one in choice_effects(chosen(6_000, seed, works=True), PARAMS)
    )
    flattered = chosen(40_000, 1, works=True, believed=0.15)
    assert not any(one.is_missed for one in choice_effects(flattered, PARAMS))


def test_the_error_is_right() -> None:
    """The gaps of repeated draws spread as their standard errors say."""
    gaps = [choice_effects(chosen(3_000, seed, works=True), PARAMS)[0].gap for seed in range(60)]

    z = np.array([one.value / one.se for one in gaps])
    assert abs(z.mean()) < 0.5
    assert 0.7 < z.std() < 1.35


def test_what_cannot_be_judged_is_left_out() -> None:
    """Too few decisions with none, open windows, and predictions that were not recorded then."""
    lately = chosen(6_000, 1, works=False)

    assert choice_effects(chosen(1_000, 1, works=False), PARAMS) == []
    assert choice_effects(replace(lately, response=np.full_like(lately.response, np.nan)), PARAMS) == []
    assert choice_effects(replace(lately, is_recorded=np.zeros(6_000, dtype=np.bool_)), PARAMS) == []


def test_a_person_in_many_decisions_counts_once() -> None:
    """Every decision twice makes nothing surer."""
    once = chosen(3_000, 4, works=False)
    rows = np.tile(np.arange(3_000), 2)
    names = ("place", "people", "at", "arm", "probabilities", "control", "uplift", "is_recorded", "response")
    twice = replace(once, **{name: getattr(once, name)[rows] for name in names})

    one, two = choice_effects(once, PARAMS)[0], choice_effects(twice, PARAMS)[0]
    assert two.gap.se == pytest.approx(one.gap.se, rel=1e-9)
    assert (two.n_treated, two.n_control) == (2 * one.n_treated, 2 * one.n_control)


def test_outcomes_are_added_up_by_what_they_are_worth() -> None:
    """With one outcome, all together are that one in money; with a second that nobody aims at, nothing changes."""
    lately = chosen(6_000, 5, works=True)
    one, together = choice_effects(lately, PARAMS)
    assert together.gap.value == pytest.approx(40.0 * one.gap.value)
    assert together.gap.se == pytest.approx(40.0 * one.gap.se)

    unknown = np.full((6_000, 1), np.nan)
    two = replace(
        lately,
        outcome_ids=("paid", "liked"),
        worth=np.array([40.0, 7.0]),
        response=np.hstack([lately.response, unknown]),
        control=np.hstack([lately.control, unknown]),
    )
    assert choice_effects(two, PARAMS) == [one, together]
