"""Pseudo-outcomes: by hand, and what they are on average."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.effects import LEARNERS, Comparison, Learner, pseudo_outcome


def compared(treated: np.ndarray, y: np.ndarray, *, mu_0: float, mu_1: float, share: float) -> Comparison:
    """Rows of an arm and of no action in one fold, with the same responses and share for all."""
    n = len(y)
    return Comparison(
        rows=np.arange(n),
        treated=treated,
        control=~treated,
        y=y,
        mu_0=np.full((1, n), mu_0),
        mu_1=np.full((1, n), mu_1),
        share=np.full(n, share),
        given=np.where(treated, share, 1 - share),
        weight=np.full(n, 4 * share * (1 - share)),
        fold=np.zeros(n, dtype=np.int64),
        groups=np.arange(n),
    )


@pytest.mark.parametrize(
    ("learner", "labels", "weights"),
    [
        # mu_0 .2, mu_1 .5, e .25: a treated row with y = 1 and a control row with y = 0.
        ("dr", [0.3 + 0.5 / 0.25, 0.3 + 0.2 / 0.75], [0.75, 0.75]),
        ("r", [(1 - 0.275) / 0.75, (0 - 0.275) / -0.25], [4 * 0.75**2, 4 * 0.25**2]),
        ("x", [0.8, 0.5], [4 * 0.75**2, 4 * 0.25**2]),
    ],
)
def test_pseudo_outcomes_are_as_published(learner: Learner, labels: list[float], weights: list[float]) -> None:
    """Worked out by hand."""
    pair = compared(np.array([True, False]), np.array([1.0, 0.0]), mu_0=0.2, mu_1=0.5, share=0.25)

    found = pseudo_outcome(pair, learner, 0)

    assert found[0].tolist() == pytest.approx(labels)
    assert found[1].tolist() == pytest.approx(weights)


@given(
    share=st.floats(0.05, 0.95),
    mu_0=st.floats(-3, 3),
    mu_1=st.floats(-3, 3),
    wrong=st.floats(-1, 1),
    learner=st.sampled_from(LEARNERS),
)
def test_every_learner_is_right_with_the_right_responses_and_dr_with_wrong_ones(
    share: float, mu_0: float, mu_1: float, wrong: float, learner: Learner
) -> None:
    """Over the randomisation and the outcomes' means, the weighted mean of the pseudo-outcome is the effect."""
    treated = np.array([True, False])
    off = wrong if learner == "dr" else 0.0
    pair = compared(treated, np.array([mu_1, mu_0]), mu_0=mu_0 + off, mu_1=mu_1 - off, share=share)

    label, weight = pseudo_outcome(pair, learner, 0)

    chance = np.where(treated, share, 1 - share)
    assert np.average(label, weights=weight * chance) == pytest.approx(mu_1 - mu_0, abs=1e-9)


def test_the_mean_counts_a_customers_rows_as_one() -> None:
    """Each row twice under one customer: the same mean, and no smaller error."""
    rng = np.random.default_rng(0)
    treated, y = rng.random(400) < 0.5, rng.random(400)
    once = compared(treated, y, mu_0=0.5, mu_1=0.5, share=0.5)
    twice = compared(np.tile(treated, 2), np.tile(y, 2), mu_0=0.5, mu_1=0.5, share=0.5)
    object.__setattr__(twice, "groups", np.tile(np.arange(400), 2))
    assert twice.mean() == pytest.approx(once.mean())


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_a_row_counts_multiplies_its_weight(learner: Learner) -> None:
    """And leaves the label as it is."""
    treated, y = np.array([True, False, True]), np.array([1.0, 0.0, 0.0])
    plain = compared(treated, y, mu_0=0.2, mu_1=0.5, share=0.25)
    counted = np.array([1.0, 2.0, 0.5])
    weighed = replace(plain, weight=plain.weight * counted, counted=counted)

    label, weight = pseudo_outcome(weighed, learner, 0)

    expected = pseudo_outcome(plain, learner, 0)
    assert label.tolist() == expected[0].tolist()
    assert weight.tolist() == (expected[1] * counted).tolist()
