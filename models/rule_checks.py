"""Whether the conditions of rules say something: fields that exist, compared with values that they can have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

from features.errors import Problem
from features.journeys import ACTIVE, Journey, Journeys
from features.taxonomy import Attribute, Taxonomy
from features.yaml_files import YamlDocument, one_of
from models.actions import OPERATORS, Condition, Rule
from models.policy import NOT_QUALIFIED, LeadQualification, Policy

Place = tuple[str | int, ...]

_PLAIN_FIELDS: Final = (
    "stage",
    "state",
    "stall_state",
    "journey_status",
    "channel",
    "direction",
    "stall_propensity",
    "abandon_probability",
    "lead_class",
)
_SCOPES: Final = ("feature", "attribute", "context", "holding", "consent")
_CONSENT_STATES: Final = ("granted", "withdrawn", "objected")
_STATUSES: Final = ("never", "open", "reached", "exited", "abandoned")
_DIRECTIONS: Final = ("outbound", "inbound")
_BOOLEANS: Final = ("true", "false")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What values a field can have.

    Attributes:
        values: the only ones of a category; empty for any text, or where the file that declares them is not valid.
    """

    dtype: Literal["number", "boolean", "category", "text", "feature"]
    values: tuple[str, ...] = ()


_OF_SCOPE: Final = {
    "feature": _Kind("feature"),
    "holding": _Kind("boolean"),
    "consent": _Kind("category", _CONSENT_STATES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that actions and policy may refer to; None where the file that declares them is not valid.

    Attributes:
        channels: all of the taxonomy.
        outbound: those that reach out.
        attributes: those that rules may name: a record holds what rules saw, and no record holds personal attributes.
        context: the declared facts of a request; others can be of any type.
        journeys: by id.
        features: names by journey.
        lead_classes: None too where the policy declares none.
    """

    channels: tuple[str, ...] | None
    outbound: tuple[str, ...] | None
    attributes: Mapping[str, Attribute] | None
    context: Mapping[str, Attribute] | None
    journeys: Mapping[str, Journey] | None
    features: Mapping[str, Sequence[str]] | None
    lead_classes: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        taxonomy: Taxonomy | None,
        journeys: Journeys | None,
        features: Mapping[str, Sequence[str]] | None,
        policy: Policy | None,
    ) -> Self:
        """The names that the files declare, as far as they could be read."""
        leads = None if policy is None else policy.lead_qualification
        return cls(
            channels=None if taxonomy is None else tuple(taxonomy.channels),
            outbound=None
            if taxonomy is None
            else tuple(name for name, channel in taxonomy.channels.items() if channel.outbound),
            attributes=None
            if taxonomy is None
            else {n: one for n, one in taxonomy.attributes.items() if n not in taxonomy.personal_attributes},
            context=None if taxonomy is None else taxonomy.context,
            journeys=None if journeys is None else journeys.by_id,
            features=features,
            lead_classes=None if leads is None else (*(one.id for one in leads.classes), NOT_QUALIFIED),
        )


def rules_problems(
    rules: Sequence[Rule], document: YamlDocument, here: Place, names: Names, journeys: Sequence[str]
) -> Iterator[Problem]:
    """What is wrong with rules that are read in each of ``journeys``."""
    yield from repeated_ids(document, (*here, "rules"), [rule.id for rule in rules])
    for index, rule in enumerate(rules):
        yield from conditions_problems(rule.all_of, document, (*here, "rules", index), names, journeys)


def lead_problems(
    leads: LeadQualification, document: YamlDocument, here: Place, names: Names, journeys: Sequence[str]
) -> Iterator[Problem]:
    """What is wrong with sales criteria: they are read before there is a lead class."""
    yield from repeated_ids(document, (*here, "criteria"), [one.id for one in leads.criteria])
    yield from repeated_ids(document, (*here, "classes"), [one.id for one in leads.classes])
    for index, criterion in enumerate(leads.criteria):
        place = (*here, "criteria", index)
        for position, condition in enumerate(criterion.all_of):
            if condition.field == "lead_class":
                expected = "another field: the lead class follows from the criteria"
                yield document.problem((*place, "all_of", position, "field"), condition.field, expected)
        yield from conditions_problems(criterion.all_of, document, place, names, journeys)
    for index, one in enumerate(leads.classes):
        if one.id == NOT_QUALIFIED:
            yield document.problem((*here, "classes", index, "id"), one.id, "another name: this class is built in")


def conditions_problems(
    conditions: Sequence[Condition], document: YamlDocument, here: Place, names: Names, journeys: Sequence[str]
) -> Iterator[Problem]:
    """What is wrong with the conditions that stand under ``all_of``, read in each of ``journeys``."""
    for position, condition in enumerate(conditions):
        place = (*here, "all_of", position)
        expected = _field_expectation(condition.field, names, journeys)
        if expected is not None:
            yield document.problem((*place, "field"), condition.field, expected)
        elif (kind := _kind_of(condition.field, names, journeys)) is not None:
            for operator, value, expected in _misfits(condition, kind):
                yield document.problem((*place, *operator), value, expected)


def _field_expectation(reference: str, names: Names, journeys: Sequence[str]) -> str | None:
    """What a condition's field should have been, None where it is right or cannot be judged."""
    scope, colon, name = reference.partition(":")
    if not colon:
        if reference == "lead_class" and names.lead_classes is None:
            return "another field, or a lead_qualification in policy.yaml"
        return None if reference in _PLAIN_FIELDS else _any_field(reference)
    if scope == "attribute" and names.attributes is not None and name not in names.attributes:
        return f"attribute: and {one_of(list(names.attributes), name)}"
    if scope == "feature" and names.features is not None:
        for journey_id in journeys:
            known = names.features.get(journey_id, (name,))
            if name not in known:
                return f"feature: and a feature of {journey_id}: {one_of(known, name)}"
    return None if scope in _SCOPES and name else _any_field(reference)


def _any_field(reference: str) -> str:
    return f"{', '.join(f'{scope}:<name>' for scope in _SCOPES)}, or {one_of(_PLAIN_FIELDS, reference)}"


def _kind_of(reference: str, names: Names, journeys: Sequence[str]) -> _Kind | None:
    """What values a valid field can have; None where nobody says."""
    scope, colon, name = reference.partition(":")
    if colon:
        declared = {"attribute": names.attributes, "context": names.context}.get(scope) or {}
        if name in declared:
            return _Kind(declared[name].dtype, declared[name].values)
        return _OF_SCOPE.get(scope)
    if reference in ("stall_propensity", "abandon_probability"):
        return _Kind("number")
    known = [names.journeys[one] for one in journeys if names.journeys is not None and one in names.journeys]
    values: dict[str, Iterable[str]] = {
        "stage": [step for one in known for step in (*one.stage_ids, one.goal.id)],
        "state": [state for one in known for state in (*(rule.state for rule in one.states), ACTIVE)],
        "stall_state": [stage.stall_state for one in known for stage in one.stages],
        "journey_status": _STATUSES,
        "channel": names.channels or (),
        "direction": _DIRECTIONS,
        "lead_class": names.lead_classes or (),
    }
    return _Kind("category", tuple(dict.fromkeys(values[reference])))


def _misfits(condition: Condition, kind: _Kind) -> Iterator[tuple[Place, object, str]]:
    """Operators that can never mean anything for such values, with what was compared and what could be."""
    equals = condition.equals
    is_number = isinstance(equals, float) and not isinstance(equals, bool)
    if kind.dtype in ("number", "feature"):
        if equals is not None and not is_number and not (kind.dtype == "feature" and isinstance(equals, bool)):
            yield ("equals",), equals, "a number"
        for operator in ("one_of", "none_of"):
            if listed := getattr(condition, operator):
                yield (operator,), list(listed), "equals, at_least or at_most: this field is a number"
        return
    for operator in ("at_least", "at_most"):
        if (bound := getattr(condition, operator)) is not None:
            yield (operator,), bound, f"{_fitting(kind)}: this field is {_said(kind)}, no number"
    if kind.dtype == "boolean":
        if equals is not None and not isinstance(equals, bool):
            yield ("equals",), equals, "true or false, without quotes"
        yield from _not_among(condition, _BOOLEANS)
        return
    if equals is not None and not isinstance(equals, str):
        yield ("equals",), equals, one_of(kind.values, str(equals)) if kind.values else "text"
    elif kind.values:
        if isinstance(equals, str) and equals not in kind.values:
            yield ("equals",), equals, one_of(kind.values, equals)
        yield from _not_among(condition, kind.values)


def _not_among(condition: Condition, known: Sequence[str]) -> Iterator[tuple[Place, object, str]]:
    for operator in ("one_of", "none_of"):
        for index, value in enumerate(getattr(condition, operator)):
            if value not in known:
                yield (operator, index), value, one_of(known, value)


def _fitting(kind: _Kind) -> str:
    fits = ("equals", "known") if kind.dtype == "boolean" else ("equals", "one_of", "none_of", "known")
    return one_of([operator for operator in OPERATORS if operator in fits], "")


def _said(kind: _Kind) -> str:
    return {"boolean": "true or false", "category": "a category"}.get(kind.dtype, "text")


def unknown_names(
    document: YamlDocument, place: Place, names: Iterable[str], known: Sequence[str]
) -> Iterator[Problem]:
    """The names that are none of those known."""
    for index, name in enumerate(names):
        if name not in known:
            yield document.problem((*place, index), name, one_of(known, name))


def repeated_ids(document: YamlDocument, place: Place, ids: Sequence[str]) -> Iterator[Problem]:
    """The ids that stand there more than once."""
    for name, count in Counter(ids).items():
        if count > 1:
            last = len(ids) - 1 - list(reversed(ids)).index(name)
            yield document.problem((*place, last), name, f"ids that are unique here; this one stands {count} times")
