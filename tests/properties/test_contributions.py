"""What holds of contributions for any customer: they add up, and depend on nothing but what the trees split on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.boosting import lightgbm_raw_scores
from models.contributions import Contributions, head_contributions, stall_contributions
from models.forest import forest_from_text, splits_of
from models.hazard_contributions import stall_log_odds
from models.heads import ABANDON, PROGRESS, Head, hazard_head
from tests.explained import AGE, CALLS, PERIODS, fits, vectors
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


def stall(heads: dict[str, Head], texts: dict[str, str], x: np.ndarray) -> Contributions:
    """Contributions to the stall."""
    found = stall_contributions(list(heads.values()), texts, x, horizon=PERIODS.horizon)
    assert found is not None
    return found


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
    """Baseline and contributions give responses and effects before their links, unknown values included."""
    x = changed(base, values)
    for head in heads.values():
        if not head.name.startswith(("control:", "effect:")):
            continue
        raw = lightgbm_raw_scores([texts[name] for name in head.members], x)
        own = raw.mean(axis=1) if head.members else 0.0
        weight = head.weight if head.members else 0.0
        expected = weight * own + (1 - weight) * head.mean
        assert np.abs(head_contributions(head, texts, x).raw - expected).max() < ADDS_UP


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER))
@settings(deadline=None, max_examples=20)
def test_they_add_up_to_the_stall(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray
) -> None:
    """As the hazards of both causes and all periods up to the horizon make it."""
    x = changed(base, values)
    raw = lightgbm_raw_scores([texts[PROGRESS], texts[ABANDON]], x, n_timed=2, n_periods=len(PERIODS))
    margins = []
    for place, cause in enumerate((PROGRESS, ABANDON)):
        maps = [heads[hazard_head(cause, period)].calibration for period in range(PERIODS.horizon + 1)]
        own = raw[:, place * len(PERIODS) : place * len(PERIODS) + PERIODS.horizon + 1]
        margins.append(own * [one.slope for one in maps] + [one.intercept for one in maps])
    assert np.abs(stall(heads, texts, x).raw - stall_log_odds(*margins)).max() < ADDS_UP


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER), order=st.permutations(range(4)))
@settings(deadline=None, max_examples=20)
def test_they_do_not_depend_on_the_others(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray, order: list[int]
) -> None:
    """Customers in another order: the same numbers; customers again: the same to the last bit."""
    x = changed(base, values)
    together, again, apart = stall(heads, texts, x), stall(heads, texts, x), stall(heads, texts, x[order])
    assert (together.by_feature == again.by_feature).all()
    assert together.by_feature[order] == pytest.approx(apart.by_feature, abs=1e-12)
    assert together.baseline[order] == pytest.approx(apart.baseline, abs=1e-12)


@given(values=arrays(np.float64, (4, 4), elements=ANY_NUMBER))
@settings(deadline=None, max_examples=20)
def test_what_no_tree_splits_on_contributes_nothing(
    heads: dict[str, Head], texts: dict[str, str], base: np.ndarray, values: np.ndarray
) -> None:
    """A feature without a split is never a reason; a head of no member has none at all."""
    x = changed(base, values)
    used: set[int] = set()
    for cause in (PROGRESS, ABANDON):
        forest = forest_from_text([texts[cause]], x.shape[1], n_timed=1, n_periods=len(PERIODS))
        used |= set(splits_of(forest, [0]).feature.tolist())
    unused = [place for place in range(x.shape[1]) if place not in used]
    assert (stall(heads, texts, x).by_feature[:, unused] == 0).all()
    constant = head_contributions(Head(name="mean", mean=0.3), texts, x)
    assert (constant.baseline.tolist(), np.abs(constant.by_feature).max()) == ([0.3] * 4, 0.0)
