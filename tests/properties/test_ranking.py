"""A block of customers is ranked as one customer at a time is: equal to the last bit, with the same best."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec import structs

from models.actions import NO_ACTION
from models.arbitration import Factors, Scored, greedy_choice, ranked
from models.ranking import NOTHING, CandidateTerms, ranked_block
from models.scoring import EffectBlock, Scorer
from tests.boosters import small_bundle

PAIRS = (("visit", "email"), ("visit", "call"), ("visit", "large_offer"), ("spend", "case"), ("visit", "push"))
UPLIFT = st.one_of(st.floats(-1, 1), st.sampled_from([0.0, math.nan]))
PROBABILITY = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, math.nan]))
MONEY = st.one_of(st.floats(0, 500), st.sampled_from([0.0, 1.0]))
RATE = st.one_of(st.just(0.0), st.floats(0, 3))
PERCENT = st.floats(-100, 1000)


@st.composite
def terms(draw: st.DrawFn, n_pairs: int = len(PAIRS)) -> CandidateTerms:
    """Candidates of some pairs, with any money; some cost nothing and are equal."""
    n = draw(st.integers(0, 6))
    money = {
        name: draw(arrays(np.float64, n, elements=MONEY))
        for name in ("value", "contact_cost", "incentive_cost", "fatigue_cost", "channel_price")
    }
    return CandidateTerms(
        treatment_ids=tuple(f"t{number}" for number in range(n)),
        pairs=PAIRS[:n_pairs],
        pair=draw(arrays(np.int64, n, elements=st.integers(0, n_pairs - 1))),
        is_binary=draw(arrays(np.bool_, n)),
        money_price=draw(arrays(np.float64, n, elements=RATE)),
        context_weight_pct=draw(arrays(np.float64, n, elements=PERCENT)),
        lever_pct=draw(arrays(np.float64, n, elements=PERCENT)),
        **money,
    )


def factors(
    terms: CandidateTerms, place: int, control: float, uplift: float, sigma: float, fatigue: float = 1.0
) -> Factors:
    """One candidate of one customer, as a single decision holds it."""
    found = Factors(
        control_response=control,
        uplift=uplift,
        sigma=sigma,
        is_binary=bool(terms.is_binary[place]),
        value=float(terms.value[place]),
        contact_cost=float(terms.contact_cost[place]),
        incentive_cost=float(terms.incentive_cost[place]),
        fatigue_cost=float(terms.fatigue_cost[place]) * fatigue,
        channel_price=float(terms.channel_price[place]),
        context_weight_pct=float(terms.context_weight_pct[place]),
        lever_pct=float(terms.lever_pct[place]),
    )
    return structs.replace(found, budget_price=float(terms.money_price[place]) * found.spend)


def one_by_one(
    terms: CandidateTerms, row: list[Factors], allowed: np.ndarray
) -> tuple[list[tuple[float, float, float]], int, list[int]]:
    """Numbers of every candidate, the greedy choice and the ranking, as a single decision finds them."""
    scored = [
        Scored("a", terms.treatment_ids[place], one.priority, one.net_value, one.net_value_sigma)
        for place, one in enumerate(row)
        if allowed[place] and not math.isnan(one.uplift)
    ]
    best = greedy_choice(scored)
    places = {treatment_id: place for place, treatment_id in enumerate(terms.treatment_ids)} | {NO_ACTION: NOTHING}
    numbers = [(one.net_value, one.net_value_sigma, one.priority) for one in row]
    return numbers, places[best], [places[one.treatment_id] for one in ranked(scored)]


@given(st.data(), terms(), st.integers(1, 5))
@settings(deadline=None)
def test_a_block_is_its_customers_one_by_one(data: st.DataObject, terms: CandidateTerms, n: int) -> None:
    """Binary and continuous outcomes, unknown responses and effects, equal priorities, boosts, anything disallowed."""
    shape = (n, len(PAIRS))
    effects = EffectBlock(
        data.draw(arrays(np.float64, shape, elements=PROBABILITY)),
        data.draw(arrays(np.float64, shape, elements=UPLIFT)),
        data.draw(arrays(np.float64, shape, elements=st.floats(0, 1))),
        ("model",) * len(PAIRS),
    )
    allowed = data.draw(arrays(np.bool_, (n, len(terms.treatment_ids))))

    # ``contact_policy.fatigue_factor`` of each customer; where the policy has none there are none.
    fatigue = data.draw(st.none() | arrays(np.float64, n, elements=st.floats(1, 20)))

    block = ranked_block(effects, terms, allowed, fatigue=fatigue)

    order = block.order(len(terms.treatment_ids), allowed)
    for customer in range(n):
        row = [
            factors(
                terms,
                place,
                *(float(each[customer, pair]) for each in effects[:3]),
                fatigue=1.0 if fatigue is None else float(fatigue[customer]),
            )
            for place, pair in enumerate(terms.pair.tolist())
        ]
        numbers, best, ranking = one_by_one(terms, row, allowed[customer])
        found = [(block.net_value, block.net_value_sigma, block.priority)[number][customer] for number in range(3)]
        assert np.array_equal(np.array(found).T, np.array(numbers).reshape(-1, 3), equal_nan=True)
        assert block.best[customer] == best
        assert [place for place in order[customer].tolist() if place != NOTHING] == ranking


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A scorer of the small bundle; the catalogue believes something of a continuous outcome that is not modelled."""
    bundle = small_bundle(tmp_path_factory.mktemp("ranking") / "bundle")
    return Scorer(bundle, {("spend", "case"): (3.0, 1.0)})


@given(
    terms=terms(),
    x=arrays(np.float64, (4, 3), elements=st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, 0.0, 24.0, 1.5]))),
)
@settings(deadline=None)
def test_scored_in_a_block_or_alone_a_customer_is_worth_the_same(
    scorer: Scorer, terms: CandidateTerms, x: np.ndarray
) -> None:
    """From features to money: models, means, priors, effects clipped to probabilities, and what nothing is known of."""
    block = ranked_block(scorer.effect_block(x, PAIRS), terms)

    for customer in range(len(x)):
        alone = scorer.effects(x[customer], PAIRS)
        row = [
            factors(terms, place, alone[pair].control_response, alone[pair].uplift, alone[pair].sigma)
            for place, pair in enumerate(terms.pair.tolist())
        ]
        numbers, best, _ = one_by_one(terms, row, np.ones(len(row), dtype=np.bool_))
        found = [(block.net_value, block.net_value_sigma, block.priority)[number][customer] for number in range(3)]
        assert np.array_equal(np.array(found).T, np.array(numbers).reshape(-1, 3), equal_nan=True)
        assert block.best[customer] == best
