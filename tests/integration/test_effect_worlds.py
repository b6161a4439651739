"""Effects against worlds where they are known: calibrated, with intervals that hold, and better with more rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from models.forest import forest_from_text, raw_scores_block
from models.heads import effect_head, head_table, head_values
from models.uplift import FittedUplift, UpliftParams, fit_uplift
from tests.effect_worlds import EffectWorld, Floats, effect_error, effect_world, mean_effect_error, policy_share

ARM_IDS = ("no_action", "a", "b", "c", "d")
Z90 = 1.645


@cache
def judged(name: str, n: int, seed: int) -> tuple[EffectWorld, FittedUplift, Floats, Floats]:
    """New rows of a world, a fit of ``n`` others, and predicted effects and deviations ``(m, 5)``."""
    known, later = effect_world(name, n, seed), effect_world(name, 20_000, 1_000 + seed)
    fit = fit_uplift(
        known.x,
        known.arm,
        known.y,
        outcome_id="y",
        arm_ids=ARM_IDS,
        binary=known.binary,
        selection_probability=known.taken,
        arm_probabilities=known.probabilities,
        params=UpliftParams(),
        seed=seed,
    )
    table = head_table(fit.fitted.heads, list(fit.fitted.boosters))
    forest = forest_from_text(list(fit.fitted.boosters.values()), later.x.shape[1])
    columns = [table.names.index(effect_head("y", action_id)) for action_id in ARM_IDS[1:]]
    raw = raw_scores_block(forest, later.x)
    values, sigmas = (np.pad(found[:, columns], ((0, 0), (1, 0))) for found in head_values(table, raw))
    return later, fit, values, sigmas


def decile_coverage(later: EffectWorld, values: Floats, sigmas: Floats) -> float:
    """Share of the actions' predicted deciles whose mean true effect lies within 1.645 mean deviations."""
    held = []
    for number in range(1, values.shape[1]):
        for part in np.array_split(np.argsort(values[:, number], kind="stable"), 10):
            gap = abs(values[part, number].mean() - later.effects[part, number].mean())
            held.append(gap <= Z90 * sigmas[part, number].mean())
    return float(np.mean(held))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smooth", "spend", "dogs"])
def test_effects_are_calibrated_and_nearer_than_the_mean(name: str) -> None:
    """Over four seeds of 40,000 rows: the slope of true effects is about 1, the error less than the mean effect's."""
    found = [judged(name, 40_000, seed) for seed in range(4)]
    covariance = sum(float((later.effects[:, 1:] * _centred(values)).sum()) for later, _, values, _ in found)
    variance = sum(float((_centred(values) ** 2).sum()) for _, _, values, _ in found)
    assert covariance / variance == pytest.approx(1.0, abs=0.15)
    assert np.mean([effect_error(later, values) / mean_effect_error(later) for later, _, values, _ in found]) < 0.85


def _centred(values: Floats) -> Floats:
    centred: Floats = values[:, 1:] - values[:, 1:].mean(axis=0)
    return centred


@pytest.mark.slow
def test_intervals_hold_for_deciles() -> None:
    """90 % intervals, over three worlds and four seeds: errors of one draw go together, so the bounds are wide."""
    coverage = [
        decile_coverage(later, values, sigmas)
        for name in ("smooth", "spend", "dogs")
        for later, _, values, sigmas in [judged(name, 40_000, seed) for seed in range(4)]
    ]
    assert 0.8 < np.mean(coverage) < 0.98


@pytest.mark.slow
def test_more_rows_are_worth_more() -> None:
    """The share of the attainable gain grows, and few of those whom every action harms are contacted."""
    shares, contacted = [], []
    for n in (20_000, 160_000):
        later, _, values, _ = judged("dogs", n, 0)
        shares.append(policy_share(later, values))
        harmed = later.effects[:, 1:].max(axis=1) < 0
        contacted.append(float((values[harmed, 1:].max(axis=1) > 0).mean()))
    assert shares[1] > shares[0] + 0.3
    assert contacted[1] < min(contacted[0], 0.25)


def test_effects_that_do_not_differ_are_hardly_told_apart() -> None:
    """What noise could say of customers stays within a few standard errors of the mean effect."""
    _, fit, values, _ = judged("faint", 10_000, 0)
    for number, arm in enumerate(fit.arms, start=1):
        assert values[:, number].std() < 2 * arm.mean_se
