"""Who of those that are looked at is asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from models.actions import Condition
from models.rules import condition_holds
from models.situation import Situation


def selection_of(conditions: Collection[Mapping[str, object]]) -> tuple[Condition, ...]:
    """The conditions of a filter that was found to be valid."""
    return tuple(Condition.model_validate(one) for one in conditions)


def is_selected(conditions: Collection[Condition], situation: Situation) -> bool:
    """Whether a customer who stands like this is asked for: all conditions hold, as those of a rule do."""
    return all(condition_holds(condition, situation) for condition in conditions)
