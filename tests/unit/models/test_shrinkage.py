"""Means drawn to their priors: noisy ones far, precise ones hardly, and never beyond either."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.shrinkage import effective_rows, shrunk, spread_of

_EFFECTS = st.floats(min_value=-1, max_value=1)
_ERRORS = st.floats(min_value=1e-4, max_value=1)
_ARMS = st.lists(
    st.tuples(_EFFECTS, _ERRORS, _EFFECTS, st.floats(min_value=1e-3, max_value=0.5)), min_size=1, max_size=9
)


def test_a_noisy_arm_moves_to_its_prior_and_a_precise_one_stays() -> None:
    """Both look four times as good as was believed; one of them on thirty rows."""
    found = shrunk(
        np.array([0.4, 0.4]), np.array([0.3, 0.005]), prior=np.array([0.1, 0.1]), least_spread=np.array([0.05, 0.05])
    )
    assert found.mean[0] < 0.3
    assert found.mean[1] == pytest.approx(0.4, abs=0.001)


def test_arms_that_agree_with_their_priors_leave_the_declared_doubt() -> None:
    """Without any spread beyond noise the weight is that of the catalogue's own standard deviation."""
    found = shrunk(
        np.array([0.12, 0.02]), np.array([0.1, 0.1]), prior=np.array([0.1, 0.05]), least_spread=np.array([0.05, 0.02])
    )
    assert found.weight == pytest.approx([0.05**2 / (0.05**2 + 0.01), 0.02**2 / (0.02**2 + 0.01)])


def test_priors_that_are_wrong_of_many_arms_count_less() -> None:
    """Six arms far from what was declared of them: hardly anything is left of the belief, however sure it was."""
    found = shrunk(np.full(6, 0.3), np.full(6, 0.02), prior=np.zeros(6), least_spread=np.full(6, 0.01))
    assert found.weight.min() > 0.99


@given(_ARMS)
def test_a_posterior_lies_between_and_is_surer_than_both(arms: list[tuple[float, float, float, float]]) -> None:
    """Between mean and prior, with a deviation below the error and below the spread."""
    mean, se, prior, least = np.array(arms).T
    found = shrunk(mean, se, prior=prior, least_spread=least)
    slack = 1e-12
    assert (np.minimum(mean, prior) - slack <= found.mean).all()
    assert (found.mean <= np.maximum(mean, prior) + slack).all()
    assert (found.sd <= np.minimum(se, found.spread) + slack).all()
    assert (found.spread >= least - slack).all()


@given(_ARMS)
def test_the_surer_of_two_arms_keeps_more_of_its_mean(arms: list[tuple[float, float, float, float]]) -> None:
    """With one spread for all, weights are in the order of the errors."""
    mean, se, prior, _ = np.array(arms).T
    weight = shrunk(mean, se, prior=prior, least_spread=np.full(len(mean), 0.01)).weight
    assert (np.diff(weight[np.argsort(se)]) <= 1e-12).all()


@given(_ARMS)
def test_the_spread_explains_the_distances(arms: list[tuple[float, float, float, float]]) -> None:
    """Where they are wider than noise, standardised distances have mean square 1 under it."""
    mean, se, prior, _ = np.array(arms).T
    distance, variance = mean - prior, se**2
    assume((distance**2 / variance).sum() > 1.01 * len(mean))
    assert (distance**2 / (spread_of(distance, variance) + variance)).mean() == pytest.approx(1.0, rel=1e-6)


def test_without_arms_there_is_nothing_to_draw() -> None:
    """Every arm had too few rows."""
    none = np.empty(0)
    assert shrunk(none, none, prior=none, least_spread=none).mean.shape == (0,)


@given(st.lists(st.floats(min_value=0.01, max_value=100), min_size=1, max_size=50))
def test_unequal_weights_count_as_fewer_rows(weights: list[float]) -> None:
    """At most as many as there are, at least one, and a common factor changes nothing."""
    found = effective_rows(np.array(weights))
    assert 1 <= found <= len(weights)
    assert effective_rows(7 * np.array(weights)) == pytest.approx(found, abs=1e-5)


def test_equal_weights_are_as_many_rows_as_there_are() -> None:
    """Exactly, so that a threshold means what it says."""
    assert effective_rows(np.full(300, 0.1)) == 300
    assert effective_rows(np.empty(0)) == 0
