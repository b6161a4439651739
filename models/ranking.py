"""Many customers at once: net values and priorities of every candidate, and the best, from arrays to arrays.

The arithmetic is ``arbitration.Factors``'s, operation for operation, so that a batch and a single decision agree to the
last bit. The funnel is not here: who may get what comes in as a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.journeys import Outcome
from models.actions import Catalogue
from models.policy import Policy
from models.prices import money_price, unit_price
from models.scoring import EffectBlock, Pair

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NOTHING: Final = -1
"""The best candidate where no action is better."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateTerms:
    """What the candidates of one journey are worth and cost, in catalogue order; each array is ``(n_candidates,)``.

    Attributes:
        treatment_ids: the candidates.
        pairs: the different pairs of outcome and action, as ``Scorer.effect_block`` wants them.
        pair: index of each candidate's pair; treatments of one action share it.
        is_binary: the outcome is a yes or no.
        value: money of one more unit of the outcome.
        contact_cost: and the following: as in ``arbitration.Factors``.
        money_price: price of each unit of money that is spent on the candidate.
    """

    treatment_ids: tuple[str, ...]
    pairs: tuple[Pair, ...]
    pair: IntArray
    is_binary: BoolArray
    value: FloatArray
    contact_cost: FloatArray
    incentive_cost: FloatArray
    fatigue_cost: FloatArray
    channel_price: FloatArray
    money_price: FloatArray
    context_weight_pct: FloatArray
    lever_pct: FloatArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: an array is not as long as there are candidates, or a candidate's pair is not among the pairs.
        """
        n = len(self.treatment_ids)
        for one in fields(self)[2:]:
            if (length := len(getattr(self, one.name))) != n:
                raise ValueError(f"{length} numbers of {one.name} for {n} candidates, expected as many")
        if n and not 0 <= self.pair.min() <= self.pair.max() < len(self.pairs):
            raise ValueError(f"a candidate of pair {self.pair.max()}, expected one of {len(self.pairs)}")


def candidate_terms(
    catalogue: Catalogue,
    outcomes: Mapping[str, Outcome],
    policy: Policy,
    *,
    journey_id: str,
    prices: Mapping[str, float] = MappingProxyType({}),
) -> CandidateTerms:
    """The terms of every treatment of one journey, priced as a single decision prices them.

    Args:
        catalogue: all actions.
        outcomes: of the journey, by id.
        policy: prices of the channels, and what is scarce.
        journey_id: actions of other journeys are left out.
        prices: dual prices of capacities and budgets, by id.
    """
    actions = [action for action in catalogue.actions if action.journey == journey_id]
    pairs = tuple(dict.fromkeys((action.outcome, action.id) for action in actions))
    place = {pair: number for number, pair in enumerate(pairs)}
    candidates = [(action, treatment) for action in actions for treatment in action.treatments]
    aims = [outcomes[action.outcome] for action, _ in candidates]

    def numbers(values: list[float]) -> FloatArray:
        return np.array(values, dtype=np.float64)

    return CandidateTerms(
        treatment_ids=tuple(treatment.id for _, treatment in candidates),
        pairs=pairs,
        pair=np.array([place[action.outcome, action.id] for action, _ in candidates], dtype=np.int64),
        is_binary=np.array([outcome.type == "binary" for outcome in aims], dtype=np.bool_),
        value=numbers([outcome.value for outcome in aims]),
        contact_cost=numbers([treatment.contact_cost for _, treatment in candidates]),
        incentive_cost=numbers([action.incentive_cost for action, _ in candidates]),
        fatigue_cost=numbers([treatment.fatigue_cost for _, treatment in candidates]),
        channel_price=numbers(
            [
                unit_price(policy, prices, channel=treatment.channel, queue=action.assigned_to)
                for action, treatment in candidates
            ]
        ),
        money_price=numbers([money_price(policy, prices, issue=action.issue) for action, _ in candidates]),
        context_weight_pct=numbers([action.context_weight_pct for action, _ in candidates]),
        lever_pct=numbers([action.lever_pct for action, _ in candidates]),
    )


class RankedBlock(NamedTuple):
    """A block of customers, ranked; the tables are ``(n_customers, n_candidates)``.

    Attributes:
        net_value: ``Factors.net_value``; NaN where nothing is known of the effect.
        net_value_sigma: ``Factors.net_value_sigma``.
        priority: ``Factors.priority``.
        spend: ``Factors.spend``.
        best: ``(n_customers,)`` the allowed candidate of highest priority where that is above 0, the first of equal
            ones, else ``NOTHING``: what ``arbitration.greedy_choice`` chooses.
    """

    net_value: FloatArray
    net_value_sigma: FloatArray
    priority: FloatArray
    spend: FloatArray
    best: IntArray

    def order(self, n_best: int, allowed: BoolArray | None = None) -> IntArray:
        """``(n_customers, n_best)`` allowed candidates by falling priority, ``NOTHING`` where there are no more.

        As ``arbitration.ranked``: equal ones in catalogue order, and those worth less than nothing too.
        """
        known = _known(self.priority, allowed)
        first = np.argsort(-known, axis=1, kind="stable")[:, :n_best]
        held = np.take_along_axis(known, first, axis=1) > -np.inf
        return np.where(held, first, NOTHING).astype(np.int64)


def ranked_block(
    effects: EffectBlock,
    terms: CandidateTerms,
    allowed: BoolArray | None = None,
    *,
    fatigue: FloatArray | None = None,
) -> RankedBlock:
    """Net value and priority of every candidate for every customer, and each customer's best.

    ``V = uplift value - contact - p incentive - fatigue - channel price - budget price``, where p is the response under
    the action, or 1 where it is unknown or no probability; ``R = (1 + context/100)(1 + lever/100) V`` if V > 0, else V.

    Args:
        effects: of the customers, on ``terms.pairs`` in that order.
        terms: of the candidates.
        allowed: ``(n_customers, n_candidates)`` what the funnel left; everything if None.
        fatigue: ``(n_customers,)`` ``contact_policy.fatigue_factor`` of each; 1 if None.

    Raises:
        ValueError: the effects are not of as many pairs as the terms.
    """
    if effects.uplift.shape[1] != len(terms.pairs):
        raise ValueError(f"effects of {effects.uplift.shape[1]} pairs, expected the {len(terms.pairs)} of the terms")
    control, uplift = effects.control_response[:, terms.pair], effects.uplift[:, terms.pair]
    is_probability = terms.is_binary & ~np.isnan(control)
    share = np.where(is_probability, control + uplift, 1.0)
    # One operation after the other, in the order in which a single decision does them.
    net_value = uplift * terms.value
    net_value -= terms.contact_cost
    incentive = share * terms.incentive_cost
    net_value -= incentive
    net_value -= terms.fatigue_cost if fatigue is None else fatigue[:, None] * terms.fatigue_cost
    net_value -= terms.channel_price
    spend = np.add(incentive, terms.contact_cost, out=incentive)
    if terms.money_price.any():
        net_value -= terms.money_price * spend
    moving = np.where(is_probability, np.abs(terms.value - terms.incentive_cost), np.abs(terms.value))
    boost = (1 + terms.context_weight_pct / 100) * (1 + terms.lever_pct / 100)
    priority = np.where(net_value > 0, boost * net_value, net_value)
    return RankedBlock(net_value, effects.sigma[:, terms.pair] * moving, priority, spend, _best(priority, allowed))


def _best(priority: FloatArray, allowed: BoolArray | None) -> IntArray:
    if not priority.shape[1]:
        return np.full(len(priority), NOTHING, dtype=np.int64)
    known = _known(priority, allowed)
    first = known.argmax(axis=1)
    return np.where(known[np.arange(len(known)), first] > 0, first, NOTHING).astype(np.int64)


def _known(priority: FloatArray, allowed: BoolArray | None) -> FloatArray:
    """Priorities that may win; minus infinity elsewhere, and where one is no finite number."""
    may_win = np.isfinite(priority) if allowed is None else allowed & np.isfinite(priority)
    return np.where(may_win, priority, -np.inf)
