"""Named rules over a situation: eligibility, applicability and suitability, from a closed set of typed predicates."""

from __future__ import annotations

from collections.abc import Iterable

from models.actions import Action, Condition, Rule
from models.situation import Situation, Value


def condition_holds(condition: Condition, situation: Situation) -> bool:
    """Whether one condition holds; an unknown value fails it unless it asks for that, or says that missing passes."""
    value = situation.value(condition.field)
    if condition.known is not None:
        return (value is not None) == condition.known
    if value is None:
        return condition.missing == "pass"
    if condition.equals is not None:
        return value == condition.equals and _are_alike(value, condition)
    if condition.one_of:
        return _text(value) in condition.one_of
    if condition.none_of:
        return _text(value) not in condition.none_of
    return _within(value, condition)


def _are_alike(value: Value, condition: Condition) -> bool:
    """Whether equal values are of one type: to Python true is 1. Features are numbers, those of yes and no too."""
    return isinstance(value, bool) == isinstance(condition.equals, bool) or condition.field.startswith("feature:")


def _within(value: Value, condition: Condition) -> bool:
    if isinstance(value, str | bool):
        return False
    above = condition.at_least is None or value >= condition.at_least
    below = condition.at_most is None or value <= condition.at_most
    return above and below


def _text(value: Value) -> str:
    """A value as a list of texts names it: numbers as people write them, 1 and not 1.0."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def failing_rules(rules: Iterable[Rule], situation: Situation) -> tuple[Rule, ...]:
    """The rules of all stages that do not hold, in their order."""
    return tuple([rule for rule in rules if not _holds(rule, situation)])


def _holds(rule: Rule, situation: Situation) -> bool:
    return all(condition_holds(condition, situation) for condition in rule.all_of)


def failing_applicability(action: Action, situation: Situation) -> tuple[str, ...]:
    """Ids of what makes an action inapplicable by its own stages, stall states and least stall propensity."""
    failing = []
    if action.stages and situation.stage not in action.stages:
        failing.append("applicability.stage")
    if action.stall_states and situation.stall_state not in action.stall_states:
        failing.append("applicability.stall_state")
    if action.min_stall_propensity > 0 and not situation.stall_propensity >= action.min_stall_propensity:
        failing.append("applicability.min_stall_propensity")
    return tuple(failing)


def failing_suitability(action: Action) -> tuple[str, ...]:
    """Ids of what makes an action unsuitable for anyone: a regulated one that does not carry its disclosures."""
    return ("suitability.disclosures",) if action.regulated and not action.disclosures else ()
