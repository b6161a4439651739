"""Draws by counter: the same name gives the same number, whoever else is drawn for."""

from __future__ import annotations

import numpy as np

from training.simulated_draws import Draws

NUMBERS = np.arange(2_000, dtype=np.int64)
ROWS = np.arange(2_000, dtype=np.int64)


def test_a_draw_does_not_depend_on_the_block() -> None:
    """A customer draws the same alone as among others."""
    together = Draws(7, NUMBERS).uniform("purpose", ROWS, 3)
    alone = Draws(7, NUMBERS[1_234:1_235]).uniform("purpose", ROWS[:1], 3)

    assert alone[0] == together[1_234]


def test_seeds_purposes_and_steps_differ() -> None:
    """Each part of the name changes the number."""
    draws = Draws(7, NUMBERS)
    base = draws.words("purpose", ROWS, 3)
    others = [
        Draws(8, NUMBERS).words("purpose", ROWS, 3),
        draws.words("purposf", ROWS, 3),
        draws.words("purpose", ROWS, 4),
    ]

    assert [int((base == other).sum()) for other in others] == [0, 0, 0]


def test_uniform_numbers_are_uniform() -> None:
    """Mean and variance of 2,000 numbers within four standard errors."""
    unit = Draws(7, NUMBERS).uniform("purpose", ROWS)

    assert abs(unit.mean() - 1 / 2) < 4 / np.sqrt(12 * 2_000)
    assert abs(unit.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 2_000)
    assert unit.min() > 0
    assert unit.max() < 1


def test_draws_of_two_purposes_are_not_correlated() -> None:
    """Within four standard errors of zero."""
    draws = Draws(7, NUMBERS)

    correlation = np.corrcoef(draws.uniform("policy", ROWS, 5), draws.uniform("progress", ROWS, 5))[0, 1]

    assert abs(correlation) < 4 / np.sqrt(2_000)


def test_a_share_of_zero_is_never_drawn() -> None:
    """Also not where rounding leaves a rest of the sum."""
    drawn = Draws(7, NUMBERS).choice("purpose", ROWS, 0, np.array([0.0, 0.5, 0.5 - 1e-9, 0.0]))

    assert set(drawn.tolist()) == {1, 2}


def test_counts_have_the_mean_that_was_asked_for() -> None:
    """A Poisson mean of 1.5 within four standard errors; never more than the most."""
    counts = Draws(7, NUMBERS).count("purpose", ROWS, 0, 1.5, 12)

    assert abs(counts.mean() - 1.5) < 4 * np.sqrt(1.5 / 2_000)
    assert Draws(7, NUMBERS).count("purpose", ROWS, 0, 1.5, 2).max() == 2
