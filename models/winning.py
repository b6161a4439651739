"""What would have to change for an action to win: read off the candidate table of a decision, in closed form.

A statement about the model and the rules of that decision, not about the world: nothing here says how to change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from features.errors import UnknownObject
from features.yaml_files import one_of
from models.actions import NO_ACTION
from models.arbitration import Factors
from models.decision import Candidate, DropStage

Quantity = Literal["uplift", "incentive_cost", "contact_cost", "lever_pct"]
Sense = Literal["above", "below"]

_LARGEST_LEVER: Final = 1000.0
"""``actions.yaml`` allows no more percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One number of a candidate which, changed alone, makes it win.

    Attributes:
        present: what it was.
        bound: at exactly this value its priority equals the rival's.
        sense: the side of the bound on which it wins.
    """

    quantity: Quantity
    present: float
    bound: float
    sense: Sense


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatmentChanges:
    """What one treatment of the action lacked.

    Attributes:
        dropped: the stage of the funnel that dropped it; None for one that was scored.
        rule_ids: all of them would have had to pass, and then those of later stages, which were not asked.
        priority: NaN where it was not scored.
        changes: of a scored one that lost: by quantity; None where no value of that quantity alone can do it.
    """

    treatment_id: str
    dropped: DropStage | None
    rule_ids: tuple[str, ...]
    priority: float
    changes: Mapping[Quantity, Change | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToWin:
    """What would have had to be different for an action to stand first.

    Attributes:
        wins: it stands first as it is; slot 1 may still have been drawn, or left empty by the experiment.
        rival: the treatment that it would have to beat, the best of the other actions; ``no_action`` where none of them
            is worth more than nothing.
        rival_priority: money.
        treatments: of the action, in catalogue order.
    """

    action_id: str
    wins: bool
    rival: str
    rival_priority: float
    treatments: tuple[TreatmentChanges, ...]


def to_win(candidates: Sequence[Candidate], action_id: str, *, is_binary: Mapping[str, bool]) -> ToWin:
    """What would have had to be different for an action to stand first in a decision.

    Args:
        candidates: the full candidate set of the decision.
        action_id: one of them, and not ``no_action``, which wins where nothing else is worth more than 0.
        is_binary: by outcome, whether it is a yes or no.

    Raises:
        UnknownObject: the decision has no such candidate.
    """
    ours = [one for one in candidates if one.action_id == action_id and action_id != NO_ACTION]
    if not ours:
        known = list(dict.fromkeys(one.action_id for one in candidates if one.action_id != NO_ACTION))
        raise UnknownObject(f"the action {action_id!r:.80} was no candidate, expected {one_of(known, action_id)}")
    rival_id, rival_priority = strongest_rival(candidates, action_id)
    first = max((one for one in candidates if one.is_scored), key=lambda one: one.priority, default=None)
    wins = first is not None and first.action_id == action_id and first.priority > 0
    return ToWin(
        action_id=action_id,
        wins=wins,
        rival=rival_id,
        rival_priority=rival_priority,
        treatments=tuple(
            TreatmentChanges(
                treatment_id=one.treatment_id,
                dropped=one.dropped,
                rule_ids=one.rule_ids,
                priority=one.priority,
                changes={}
                if wins or not one.is_scored
                else changes_to_exceed(recorded_factors(one, is_binary), rival_priority),
            )
            for one in ours
        ),
    )


def strongest_rival(candidates: Sequence[Candidate], action_id: str) -> tuple[str, float]:
    """The best treatment of the other actions and its priority; ``no_action`` and 0 where none is worth more."""
    others = [one for one in candidates if one.is_scored and one.action_id not in (action_id, NO_ACTION)]
    best = max(others, key=lambda one: one.priority, default=None)
    return (NO_ACTION, 0.0) if best is None or not best.priority > 0 else (best.treatment_id, best.priority)


def recorded_factors(candidate: Candidate, is_binary: Mapping[str, bool]) -> Factors:
    """What a scored candidate's net value was made of.

    Args:
        candidate: a scored one, not ``no_action``.
        is_binary: by outcome.
    """
    return Factors(
        control_response=candidate.control_response,
        uplift=candidate.uplift,
        sigma=candidate.sigma,
        is_binary=is_binary[candidate.outcome or ""],
        value=candidate.value,
        contact_cost=candidate.contact_cost,
        incentive_cost=candidate.incentive_cost,
        fatigue_cost=candidate.fatigue_cost,
        channel_price=candidate.channel_price,
        budget_price=candidate.budget_price,
        context_weight_pct=candidate.context_weight_pct,
        lever_pct=candidate.lever_pct,
    )


def changes_to_exceed(factors: Factors, priority: float) -> dict[Quantity, Change | None]:
    """By quantity, where it alone takes a losing candidate's priority above another's.

    With boost ``b = (1 + context/100)(1 + lever/100)`` a positive net value V has the priority ``b V``, so V has to
    exceed ``priority / b``. V is linear in uplift, incentive and contact cost.

    Args:
        factors: of the candidate.
        priority: to be exceeded; not negative, as doing nothing is worth 0.
    """
    boost = (1 + factors.context_weight_pct / 100) * (1 + factors.lever_pct / 100)
    if boost <= 0:
        return {"uplift": None, "incentive_cost": None, "contact_cost": None, "lever_pct": _lever(factors, priority)}
    needed = priority / boost
    return {
        "uplift": _uplift(factors, needed),
        "incentive_cost": _incentive_cost(factors, needed),
        "contact_cost": _contact_cost(factors, needed),
        "lever_pct": _lever(factors, priority),
    }


def _uplift(factors: Factors, needed: float) -> Change | None:
    is_probability = factors.is_binary and not math.isnan(factors.control_response)
    paid_anyway = factors.control_response if is_probability else 1.0
    slope = factors.value - (factors.incentive_cost if is_probability else 0.0)
    fixed = paid_anyway * factors.incentive_cost + _other_costs(factors) + factors.contact_cost
    if slope == 0:
        return None
    bound = (needed + fixed) / slope
    # A response is a probability where the outcome is a yes or no, and an effect of one lies between -1 and 1.
    low, high = (-1.0, 1.0) if factors.is_binary else (-math.inf, math.inf)
    if is_probability:
        low, high = -factors.control_response, 1.0 - factors.control_response
    if slope > 0:
        return _change("uplift", factors.uplift, bound, "above") if bound < high else None
    return _change("uplift", factors.uplift, bound, "below") if bound > low else None


def _incentive_cost(factors: Factors, needed: float) -> Change | None:
    share = factors.incentive_share
    if share <= 0:
        return None
    left = factors.uplift * factors.value - factors.contact_cost - _other_costs(factors) - needed
    return _change("incentive_cost", factors.incentive_cost, left / share, "below") if left > 0 else None


def _contact_cost(factors: Factors, needed: float) -> Change | None:
    left = (
        factors.uplift * factors.value
        - factors.incentive_share * factors.incentive_cost
        - _other_costs(factors)
        - needed
    )
    return _change("contact_cost", factors.contact_cost, left, "below") if left > 0 else None


def _lever(factors: Factors, priority: float) -> Change | None:
    unlevered = (1 + factors.context_weight_pct / 100) * factors.net_value
    if not (unlevered > 0 and factors.net_value > 0):
        return None
    bound = (priority / unlevered - 1) * 100
    return _change("lever_pct", factors.lever_pct, bound, "above") if bound < _LARGEST_LEVER else None


def _other_costs(factors: Factors) -> float:
    return factors.fatigue_cost + factors.channel_price + factors.budget_price


def _change(quantity: Quantity, present: float, bound: float, sense: Sense) -> Change:
    return Change(quantity=quantity, present=present, bound=bound, sense=sense)
