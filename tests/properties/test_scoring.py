"""What holds of any score: bounds, order, and independence of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.metrics import auc, qini_sklift
from models.scoring import Scorer
from tests.boosters import small_bundle

PAIRS = (("visit", "email"), ("visit", "call"), ("visit", "large_offer"))
ANY_NUMBER = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 24.0, 1.5]))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A scorer of the small bundle."""
    return Scorer(small_bundle(tmp_path_factory.mktemp("scoring") / "bundle"))


@given(x=arrays(np.float64, 3, elements=ANY_NUMBER))
@settings(deadline=None)
def test_probabilities_stay_probabilities(scorer: Scorer, x: np.ndarray) -> None:
    """Whatever is known of the customer, and if nothing is."""
    scores = scorer.customer(x)
    assert 0 <= scores.stall().stall_propensity <= 1
    for effect in scores.effects(PAIRS):
        assert 0 <= effect.control_response <= 1
        assert -1e-15 <= effect.control_response + effect.uplift <= 1 + 1e-15
        assert effect.sigma > 0


@given(x=arrays(np.float64, (5, 3), elements=ANY_NUMBER), order=st.permutations(range(5)))
@settings(deadline=None)
def test_a_customers_scores_do_not_depend_on_the_others(scorer: Scorer, x: np.ndarray, order: list[int]) -> None:
    """Rows in another order give the same rows in that order, bit for bit."""
    here, there = scorer.effect_block(x, PAIRS), scorer.effect_block(x[order], PAIRS)
    assert np.array_equal(here.uplift[order], there.uplift)
    assert np.array_equal(here.sigma[order], there.sigma)


@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=60),
    scale=st.floats(0.1, 10),
)
@settings(deadline=None)
def test_rankings_are_judged_by_order_alone(rows: list[tuple[int, int, int]], scale: float) -> None:
    """A rising map of the scores changes neither AUC nor Qini; the perfect ranking is not beaten."""
    y, treated, score = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    moved = np.exp(score * scale / 10)
    assert auc(y, score) == pytest.approx(auc(y, moved), nan_ok=True)
    assert qini_sklift(y, score, treated) == pytest.approx(qini_sklift(y, moved, treated), nan_ok=True)
