"""The search over splits, on hand-made trees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.schema import FeatureSpec
from models.decision import Candidate
from models.flips import Flip, feature_flips, tried_values
from models.forest import forest_from_text, splits_of
from models.scoring import Scorer
from tests.boosters import booster, small_bundle, stump, tree

SPECS = (
    FeatureSpec("dwell_hours", "hours", "", "never NaN"),
    FeatureSpec("n_contacts", "count", "", "never NaN"),
    FeatureSpec("channel_code", "index", "", "never NaN"),
)
IS_BINARY = {"visit": True}
NOTHING = Candidate(action_id="no_action", treatment_id="no_action", channel=None, net_value=0.0, priority=0.0)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Of the small bundle: e-mail changes more above 24 hours of dwell, a call the same for everybody."""
    return Scorer(small_bundle(tmp_path_factory.mktemp("flips") / "bundle"))


def candidates(scorer: Scorer, x: np.ndarray, *actions: str, **costs: float) -> tuple[Candidate, ...]:
    """The scored candidates of a customer, worth 100 a visit, with contact costs by action."""
    found = []
    for action_id, effect in zip(actions, scorer.effects(x, [("visit", one) for one in actions]), strict=True):
        cost = costs.get(action_id, 0.0)
        fields: dict[str, Any] = dict.fromkeys(("incentive_cost", "fatigue_cost", "channel_price", "budget_price"), 0.0)
        net_value = effect.uplift * 100.0 - cost
        found.append(
            Candidate(
                action_id=action_id,
                treatment_id=action_id,
                channel="email",
                control_response=effect.control_response,
                uplift=effect.uplift,
                sigma=effect.sigma,
                outcome="visit",
                value=100.0,
                contact_cost=cost,
                net_value=net_value,
                priority=net_value,
                **fields,
            )
        )
    return (*found, NOTHING)


def flips(scorer: Scorer, x: np.ndarray, action_id: str, *actions: str, **costs: float) -> tuple[Flip, ...]:
    """What flips the decision for an action."""
    return feature_flips(
        scorer,
        x,
        candidates(scorer, x, *actions, **costs),
        action_id,
        is_binary=IS_BINARY,
        strength=np.array([1.0, 0.0, 0.0]),
        specs=SPECS,
    )


def test_the_split_that_matters_is_found(scorer: Scorer) -> None:
    """Just above 24 hours the e-mail changes more than the call; what it then is worth is said."""
    (flip,) = flips(scorer, np.array([1.0, 0.0, 2.0]), "email", "email", "call", email=0.5)

    assert (flip.feature, flip.present, flip.steps) == ("dwell_hours", 1.0, 1)
    assert flip.changed == math.nextafter(24.0, math.inf)
    # (0.10 + 0.06) / 2 by the members, half of it and half of the mean 0.02.
    assert flip.priority == pytest.approx((0.5 * 0.08 + 0.5 * 0.02) * 100 - 0.5)


def test_an_unknown_feature_may_flip_it(scorer: Scorer) -> None:
    """Unknown counts as zero here; the value that flips is the first above the split."""
    (flip,) = flips(scorer, np.array([math.nan, 0.0, 2.0]), "email", "email", "call", email=0.5)

    assert math.isnan(flip.present)
    assert flip.changed > 24.0


def test_nothing_flips_what_no_feature_moves(scorer: Scorer) -> None:
    """The call has one effect for everybody, and costs more than it brings."""
    assert flips(scorer, np.array([1.0, 0.0, 2.0]), "call", "call", call=5.0) == ()


def test_a_rival_may_fall(scorer: Scorer) -> None:
    """Where the e-mail stands first, a shorter dwell puts the call first."""
    (flip,) = flips(scorer, np.array([48.0, 0.0, 2.0]), "call", "email", "call")

    assert (flip.feature, flip.changed) == ("dwell_hours", 24.0)


def test_counts_are_changed_in_whole_steps(scorer: Scorer) -> None:
    """Of a feature that counts, no half is tried."""
    splits = splits_of(scorer.bundle.forest, range(scorer.bundle.forest.n_members))

    assert [value for _, value in tried_values(splits, 1, 1.0, SPECS[1])] == [0.0, 2.0]
    assert [value for _, value in tried_values(splits, 1, math.nan, SPECS[1])] == [0.0, 1.0, 2.0]


def test_categories_are_tried_as_codes() -> None:
    """Those that go left in some split; they have no order, so each is one step away."""
    categorical = tree(
        feature=[2], threshold=[0], decision=[1], left=[-1], right=[-2], leaves=[0.0, 1.0], sets=[[0b1010]]
    )
    splits = splits_of(forest_from_text([booster(categorical, stump(2, 4.5, 0.0, 1.0))]), [0])

    assert splits.categories == {2: frozenset({1, 3})}
    assert tried_values(splits, 2, 3.0, SPECS[2]) == [(1, 1.0), (1, 5.0)]


def test_splits_are_those_of_the_members_asked_for(scorer: Scorer) -> None:
    """Each member's own, in the order of its trees."""
    found = splits_of(scorer.bundle.forest, [0])

    assert found.feature.tolist() == [0, 1]
    assert found.threshold.tolist() == [24.0, 0.5]
    assert splits_of(scorer.bundle.forest, []).feature.tolist() == []
