"""What holds of contributions for any customer: they add up, and depend on nothing but what the trees split on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.boosting import lightgbm_raw_scores
from models.contributions import head_contributions, stall_contributions
from models.heads import Head
from tests.explained import AGE, CALLS, fits, vectors
from tests.histories import FEATURES

ADDS_UP = 1e-6
ANY_NUMBER = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, 0.0, 1.0, 50.0]))
CHANGED = (CALLS, AGE, FEATURES.names.index("count_called"), FEATURES.names.index("hours_since_event"))


@pytest.fixture(scope="module")
def heads() -> dict[str, Head]:
    """All heads of the small world."""
    return {head.name: head for part in fits() for head in part.heads}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """All its boosters."""
    return {name: text for part in fits() for name, text in part.boosters.items()}


@pytest.fixture(scope="module")
def base() -> np.ndarray:
    """Customers to change."""
    return vectors(4, 21)


def changed(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Customers with other values of the features that matter."""
    x = base.copy()
    x[:, CHANGED] = values
    return x


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER))
@settings(deadline=None, max_examples=40)
def test_they_add_up_whatever_is_known(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray
) -> None:
    """Baseline and contributions give the head before its link, for every head, unknown values included."""
    x = changed(base, values)
    for head in heads.values():
        raw = lightgbm_raw_scores([texts[name] for name in head.members], x)
        own = raw.mean(axis=1) if head.members else 0.0
        weight = head.weight if head.members else 0.0
        expected = weight * own + (1 - weight) * head.mean
        assert np.abs(head_contributions(head, texts, x).raw - expected).max() < ADDS_UP


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER), order=st.permutations(range(4)))
@settings(deadline=None, max_examples=20)
def test_they_do_not_depend_on_the_others(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray, order: list[int]
) -> None:
    """Customers in another order, and again: the same numbers, bit for bit."""
    x = changed(base, values)
    together = stall_contributions(list(heads.values()), texts, x)
    apart = stall_contributions(list(heads.values()), texts, x[order])
    assert together is not None
    assert apart is not None
    assert (together.by_feature[order] == apart.by_feature).all()
    assert (together.baseline == together.baseline[0]).all()


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER))
@settings(deadline=None, max_examples=20)
def test_what_no_tree_splits_on_contributes_nothing(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray
) -> None:
    """A feature without a split is never a reason; a head of no member has none at all."""
    x = changed(base, values)
    stall = stall_contributions(list(heads.values()), texts, x)
    assert stall is not None
    unused = set(range(len(FEATURES.names)))
    for line in texts["stall"].splitlines():
        if line.startswith("split_feature="):
            unused -= {int(word) for word in line.removeprefix("split_feature=").split()}
    assert (stall.by_feature[:, sorted(unused)] == 0).all()
    constant = head_contributions(Head(name="mean", mean=0.3), texts, x)
    assert (constant.baseline.tolist(), np.abs(constant.by_feature).max()) == ([0.3] * 4, 0.0)
