"""Terms of candidates, and blocks ranked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from features.kernel import new_state
from models.deliberation import Inputs, deliberate
from models.ranking import NOTHING, CandidateTerms, candidate_terms, ranked_block
from models.records import CustomerRecords
from models.scoring import EffectBlock
from tests.decisions import action, question, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event

MONEY = (
    "is_binary",
    "value",
    "contact_cost",
    "incentive_cost",
    "fatigue_cost",
    "channel_price",
    "context_weight_pct",
    "lever_pct",
)


def terms(*values: float, **changes: object) -> CandidateTerms:
    """Candidates with these values of one more yes, each of its own pair, that cost 1 to contact."""
    n = len(values)
    free = np.zeros(n)
    made = CandidateTerms(
        treatment_ids=tuple(f"t{place}" for place in range(n)),
        pairs=tuple(("paid", f"a{place}") for place in range(n)),
        pair=np.arange(n),
        is_binary=np.ones(n, dtype=np.bool_),
        value=np.array(values, dtype=np.float64),
        contact_cost=np.ones(n),
        incentive_cost=free,
        fatigue_cost=free,
        channel_price=free,
        money_price=free,
        context_weight_pct=free,
        lever_pct=free,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # of the fields' own types


def effects(*uplifts: float) -> EffectBlock:
    """One customer, whose control response is .5."""
    shape = (1, len(uplifts))
    return EffectBlock(np.full(shape, 0.5), np.array([uplifts]), np.full(shape, 0.1), ("model",) * len(uplifts))


def test_the_best_is_worth_most_and_more_than_nothing() -> None:
    """.1 of 50 less 1 is 4; .3 of 10 less 1 is 2; less 1 alone is a loss."""
    block = ranked_block(effects(0.3, 0.1, 0.0), terms(10, 50, 10))

    assert block.net_value.tolist() == [[2.0, 4.0, -1.0]]
    assert block.net_value_sigma.tolist() == [[1.0, 5.0, 1.0]]
    assert block.best.tolist() == [1]
    assert block.order(5).tolist() == [[1, 0, 2]]


def test_what_the_funnel_dropped_is_not_chosen() -> None:
    """The next best is, or nothing."""
    block = ranked_block(effects(0.3, 0.1), terms(10, 50), np.array([[True, False]]))
    nothing = np.array([[False, False]])

    assert block.best.tolist() == [0]
    assert block.order(2, np.array([[True, False]])).tolist() == [[0, NOTHING]]
    assert ranked_block(effects(0.3, 0.1), terms(10, 50), nothing).best.tolist() == [NOTHING]


def test_an_unknown_effect_is_never_chosen() -> None:
    """It is worth NaN, which is not 0 and not more than anything."""
    block = ranked_block(effects(math.nan, 0.01), terms(10, 10))

    assert np.isnan(block.net_value[0, 0])
    assert block.best.tolist() == [NOTHING]
    assert block.order(2).tolist() == [[1, NOTHING]]


def test_of_equal_ones_the_first_of_the_catalogue_is_best() -> None:
    """As in a single decision."""
    assert ranked_block(effects(0.3, 0.3), terms(10, 10)).best.tolist() == [0]


def test_no_candidates_and_no_customers_are_no_error() -> None:
    """There is nothing to choose, or nobody to choose for."""
    nobody = EffectBlock(np.empty((0, 2)), np.empty((0, 2)), np.empty((0, 2)), ("model", "model"))

    assert ranked_block(effects(), terms()).best.tolist() == [NOTHING]
    assert ranked_block(nobody, terms(1, 2)).best.tolist() == []


def test_terms_and_effects_that_do_not_fit_are_refused() -> None:
    """They say which."""
    with pytest.raises(ValueError, match="effects of 1 pairs, expected the 2"):
        ranked_block(effects(0.1), terms(1, 2))
    with pytest.raises(ValueError, match="1 numbers of lever_pct for 2 candidates"):
        terms(1, 2, lever_pct=np.zeros(1))
    with pytest.raises(ValueError, match="a candidate of pair 2, expected one of 2"):
        terms(1, 2, pair=np.array([0, 2]))


def test_candidates_are_priced_as_a_decision_prices_them() -> None:
    """Every treatment of the journey's actions, with its own and its channel's costs; other journeys are left out."""
    treatments = [
        {"id": "call", "channel": "phone", "contact_cost": 2.0, "fatigue_cost": 0.5},
        {"id": "line", "channel": "phone", "contact_cost": 0.1},
    ]
    rules = rulebook(
        action("offer", treatments=treatments, incentive_cost=20.0, lever_pct=10.0, context_weight_pct=5.0),
        action("nudge"),
        action("elsewhere", journey="other"),
        policy_changes={"channel_price": {"phone": 0.7}},
    )
    decided = deliberate(customer(), rules, None).factors

    found = candidate_terms(rules.catalogue, rules.journey.outcome_by_id, rules.policy, journey_id=rules.journey.id)

    assert found.treatment_ids == tuple(decided) == ("call", "line", "nudge_phone")
    assert found.pairs == (("paid", "offer"), ("paid", "nudge"))
    assert found.pair.tolist() == [0, 0, 1]
    for place, one in enumerate(decided.values()):
        for name in MONEY:
            assert getattr(found, name)[place] == getattr(one, name)


def customer() -> Inputs:
    """Stalled in the first stage; nothing else is known."""
    state = new_state(FEATURES.plan)
    FEATURES.fold(state, event("e1", kind="visited", at=START_AT))
    at = START_AT + 61 * MINUTE_US
    return Inputs(
        decision_id="d-1",
        vector=FEATURES.vector(state, {}, at),
        attributes={},
        holdings=frozenset(),
        context={},
        channel=None,
        records=CustomerRecords(),
        question=question(at=at),
        time_zone="Europe/Amsterdam",
        arm="champion",
    )
