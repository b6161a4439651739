"""The funnel up to scoring: which candidates may be considered at all, and for each that may not, where and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from features.journeys import Journey
from features.taxonomy import Taxonomy
from models.actions import Action, Catalogue, Rule, RuleStage, Treatment
from models.contact_policy import failing_contact_rules
from models.decision import DropStage
from models.policy import Policy
from models.records import CustomerRecords
from models.rules import failing_applicability, failing_rules, failing_suitability
from models.situation import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the caller allows, apart from who the customer is.

    Attributes:
        at: the moment, microseconds since the epoch.
        outbound: we reach out, rather than answer someone who is here.
        channels: the channels of the request and its placements; None for all.
        include: action ids; empty for all.
        exclude: action ids.
        issues: empty for all.
        placements: places to fill, ``channel/name``; without any there is one slot.
        lost: treatments that lost a race for a contact just now, with the cap that was reached.
        out_of_time: the caller's deadline has passed: whatever is left after the other rules is dropped at scoring.
    """

    at: int
    outbound: bool
    channels: frozenset[str] | None = None
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    issues: frozenset[str] = frozenset()
    placements: tuple[str, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)
    out_of_time: bool = False


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate after the funnel; ``dropped`` is None where it may be scored."""

    action: Action
    treatment: Treatment
    dropped: DropStage | None
    rule_ids: tuple[str, ...]


def considered_candidates(
    *,
    catalogue: Catalogue,
    journey: Journey,
    policy: Policy,
    taxonomy: Taxonomy,
    situation: Situation,
    records: CustomerRecords,
    question: Question,
    time_zone: str,
) -> list[Considered]:
    """Every candidate of a journey in catalogue order, with the first stage that drops it and all its failing rules."""
    # What does not depend on the candidate is found once: thirty candidates share ten rules and five channels.
    failing_policy = failing_rules(policy.rules, situation)

    @cache
    def failing_contact(channel: str, transactional: bool) -> tuple[str, ...]:
        return failing_contact_rules(
            channel=channel,
            transactional=transactional,
            outbound=question.outbound,
            channel_is_outbound=taxonomy.channels[channel].outbound,
            policy=policy.contact_policy,
            records=records,
            at=question.at,
            time_zone=time_zone,
        )

    found: list[Considered] = []
    for action in catalogue.actions:
        if action.journey != journey.id:
            continue
        dropped, rule_ids = _action_drop(action, failing_policy, situation, question)
        if dropped is not None:
            found.extend(Considered(action, treatment, dropped, rule_ids) for treatment in action.treatments)
            continue
        found.extend(
            [_considered_treatment(action, treatment, question, failing_contact) for treatment in action.treatments]
        )
    return found


def _action_drop(
    action: Action, failing_policy: Iterable[Rule], situation: Situation, question: Question
) -> tuple[DropStage | None, tuple[str, ...]]:
    catalogue = _failing_catalogue(action, question)
    if catalogue:
        return "catalogue", catalogue
    rules = [rule for rule in (*failing_policy, *failing_rules(action.rules, situation)) if _applies(rule, action)]
    eligibility = _ids("eligibility", rules)
    if eligibility:
        return "eligibility", eligibility
    applicability = (*failing_applicability(action, situation), *_ids("applicability", rules))
    if applicability:
        return "applicability", applicability
    suitability = (*failing_suitability(action), *_ids("suitability", rules))
    if suitability:
        return "suitability", suitability
    return None, ()


def _ids(stage: RuleStage, rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple([rule.id for rule in rules if rule.stage == stage])


def _applies(rule: Rule, action: Action) -> bool:
    return (not rule.issues or action.issue in rule.issues) and (not rule.groups or action.group in rule.groups)


def _failing_catalogue(action: Action, question: Question) -> tuple[str, ...]:
    valid_from, valid_to = action.validity
    failing = []
    if not valid_from <= question.at < valid_to:
        failing.append("catalogue.validity")
    if action.id in question.exclude or (question.include and action.id not in question.include):
        failing.append("request.candidates")
    if question.issues and action.issue not in question.issues:
        failing.append("request.issues")
    return tuple(failing)


def _considered_treatment(
    action: Action, treatment: Treatment, question: Question, failing_contact: Callable[[str, bool], tuple[str, ...]]
) -> Considered:
    if question.channels is not None and treatment.channel not in question.channels:
        return Considered(action, treatment, "catalogue", ("request.channel",))
    failing = failing_contact(treatment.channel, action.transactional)
    if failing:
        return Considered(action, treatment, "contact_policy", failing)
    if treatment.id in question.lost:
        return Considered(action, treatment, "capacity", ("capacity.lost_race", question.lost[treatment.id]))
    return Considered(action, treatment, None, ())
