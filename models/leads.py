"""How good a lead a customer is, against the sales criteria that the policy declares: pure, and the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from models.actions import Condition
from models.policy import NOT_QUALIFIED, Criterion, LeadQualification
from models.rules import condition_holds
from models.situation import Situation


@dataclass(frozen=True, slots=True)
class LeadStanding:
    """How a customer stands against the sales criteria.

    Attributes:
        lead_class: a declared one, or ``NOT_QUALIFIED``.
        points: of the criteria that are met.
        met: ids of the criteria that are met, in declared order.
        unmet: likewise, of those that are known not to be.
        unknown: likewise, of those that nobody can tell yet: what to ask for.
    """

    lead_class: str
    points: float
    met: tuple[str, ...]
    unmet: tuple[str, ...]
    unknown: tuple[str, ...]


def lead_standing(qualification: LeadQualification, situation: Situation) -> LeadStanding:
    """How a customer stands. Whoever may still miss a required criterion is not qualified: unknown is never met.

    Args:
        qualification: criteria and classes.
        situation: the customer's, with what the models expect of it.
    """
    found = [(_is_met(criterion, situation), criterion) for criterion in qualification.criteria]
    met = [criterion for is_met, criterion in found if is_met]
    unmet = [criterion for is_met, criterion in found if is_met is False]
    unknown = [criterion for is_met, criterion in found if is_met is None]
    points = sum(criterion.points for criterion in met)
    misses_required = any(criterion.required for criterion in (*unmet, *unknown))
    reached = [one for one in qualification.classes if points >= one.at_least]
    lead_class = NOT_QUALIFIED
    if reached and not misses_required:
        lead_class = max(reached, key=lambda one: one.at_least).id
    return LeadStanding(lead_class, points, _ids(met), _ids(unmet), _ids(unknown))


def _is_met(criterion: Criterion, situation: Situation) -> bool | None:
    """Whether all conditions hold; None where that hangs on values that are not known."""
    failing = [condition for condition in criterion.all_of if not condition_holds(condition, situation)]
    if not failing:
        return True
    return None if all(_is_unknown(condition, situation) for condition in failing) else False


def _is_unknown(condition: Condition, situation: Situation) -> bool:
    return condition.known is None and situation.value(condition.field) is None


def _ids(criteria: list[Criterion]) -> tuple[str, ...]:
    return tuple(criterion.id for criterion in criteria)
