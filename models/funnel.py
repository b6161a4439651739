"""The funnel up to scoring: which candidates may be considered at all, and for each that may not, where and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from features.taxonomy import Taxonomy
from models.actions import ALWAYS, Action, Catalogue, Direction, Treatment
from models.capacity import Room
from models.catalogue_plan import Plan, PlannedAction, PlannedTreatment, Reach, StageRules
from models.contact_policy import ContactStanding, contact_standing, failing_history, failing_moment
from models.decision import DropStage
from models.policy import Policy
from models.records import NOBODY_AVAILABLE, CustomerRecords
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
        lost: treatments that lost a race for a contact just now, with the cap or capacity that was reached.
        out_of_time: the caller's deadline has passed: whatever is left after the other rules is dropped at scoring.
        contact_at: when the customer is to be contacted, which quiet hours and the validity of actions are about; None
            for at once.
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
    contact_at: int | None = None

    @property
    def reached_at(self) -> int:
        """When the customer is to be contacted."""
        return self.at if self.contact_at is None else self.contact_at

    @property
    def is_narrow(self) -> bool:
        """It leaves out some candidates by what they are."""
        return self.channels is not None or bool(self.include or self.exclude or self.issues or self.placements)

    @property
    def direction(self) -> Direction:
        """We reach out, or the customer is here."""
        return "outbound" if self.outbound else "inbound"


class Considered(msgspec.Struct, frozen=True, gc=False):
    """One candidate after the funnel; ``dropped`` is None where it may be scored."""

    action: Action
    treatment: Treatment
    dropped: DropStage | None
    rule_ids: tuple[str, ...]


def considered_candidates(
    *,
    plan: Plan,
    catalogue: Catalogue,
    policy: Policy,
    taxonomy: Taxonomy,
    situation: Situation,
    records: CustomerRecords,
    question: Question,
    time_zone: str,
) -> list[Considered]:
    """Every candidate of a journey in catalogue order, with the first stage that drops it and all its failing rules."""
    shared = _shared(plan, catalogue, policy, taxonomy, situation, records, question, time_zone)
    is_narrow, direction, is_free = question.is_narrow, question.direction, shared.standing.is_free
    moments = {reach: shared.failing_moment(reach) for reach in plan.reaches}
    has_room = shared.room.is_free and not question.lost
    found: list[Considered] = []
    for planned in plan.actions:
        action = planned.action
        catalogue_ids = _failing_catalogue(action, question) if is_narrow or action.validity != ALWAYS else ()
        drop: tuple[DropStage | None, tuple[str, ...]] | None = None
        for one in planned.treatments:
            treatment = one.treatment
            request_ids = catalogue_ids
            if is_narrow or direction not in treatment.directions:
                request_ids += _failing_request(treatment, question)
            if request_ids:
                found.append(Considered(action, treatment, "catalogue", request_ids))
                continue
            if drop is None:
                drop = _action_drop(planned, situation, shared.failing_rules)
            if drop[0] is not None:
                found.append(Considered(action, treatment, *drop))
                continue
            contact_ids = moments[one.reach]
            if not is_free:
                contact_ids += shared.failing_history(action, one)
            if contact_ids:
                found.append(Considered(action, treatment, "contact_policy", contact_ids))
                continue
            full = () if has_room else _failing_capacity(action, treatment, question, shared)
            found.append(Considered(action, treatment, "capacity" if full else None, full))
    return found


def every_failing_rule(
    *,
    plan: Plan,
    catalogue: Catalogue,
    policy: Policy,
    taxonomy: Taxonomy,
    situation: Situation,
    records: CustomerRecords,
    question: Question,
    time_zone: str,
) -> dict[str, tuple[tuple[DropStage, str], ...]]:
    """Stage and id of every rule that stands against each candidate, by treatment, not only of the first stage.

    For people who want to know what would have to change; a decision stops at the first stage. Who is at work is told
    only of what got that far: of the rest no record keeps it, and the answer could not be made again.
    """
    shared = _shared(plan, catalogue, policy, taxonomy, situation, records, question, time_zone)
    found = {}
    for planned in plan.actions:
        catalogue_ids = _failing_catalogue(planned.action, question)
        of_action = [(stage, ids) for stage, ids in _stages(planned, situation, shared.failing_rules)]
        for one in planned.treatments:
            stages: list[tuple[DropStage, tuple[str, ...]]] = [
                ("catalogue", catalogue_ids + _failing_request(one.treatment, question)),
                *of_action,
                ("contact_policy", shared.failing_moment(one.reach) + shared.failing_history(planned.action, one)),
                ("capacity", _failing_capacity(planned.action, one.treatment, question, shared)),
            ]
            failing = [(stage, rule_id) for stage, ids in stages for rule_id in ids]
            is_early = bool(failing) and failing[0][0] != "capacity"
            found[one.treatment.id] = tuple(
                (stage, rule_id) for stage, rule_id in failing if not (is_early and rule_id == NOBODY_AVAILABLE)
            )
    return found


@dataclass(frozen=True, slots=True)
class _Shared:
    """What does not depend on the candidate, found once: thirty candidates share ten rules and five channels.

    Attributes:
        failing_rules: ids of the policy's rules that do not hold.
        standing: what the customer's contacts leave.
        room: what all customers together leave.
    """

    policy: Policy
    taxonomy: Taxonomy
    records: CustomerRecords
    question: Question
    time_zone: str
    failing_rules: frozenset[str]
    standing: ContactStanding
    room: Room

    def failing_moment(self, reach: Reach) -> tuple[str, ...]:
        """Ids of what stands against reaching the customer, whatever was done before."""
        channel, is_transactional = reach
        return failing_moment(
            channel,
            transactional=is_transactional,
            outbound=self.question.outbound,
            channel_is_outbound=self.taxonomy.channels[channel].outbound,
            policy=self.policy.contact_policy,
            records=self.records,
            at=self.question.reached_at,
            time_zone=self.time_zone,
        )

    def failing_history(self, action: Action, one: PlannedTreatment) -> tuple[str, ...]:
        """Ids of what stands against a candidate after what was done before."""
        suppressions = self.policy.contact_policy.suppressions
        return failing_history(action, one.treatment.channel, suppressions, one.caps, self.standing)


def _shared(
    plan: Plan,
    catalogue: Catalogue,
    policy: Policy,
    taxonomy: Taxonomy,
    situation: Situation,
    records: CustomerRecords,
    question: Question,
    time_zone: str,
) -> _Shared:
    return _Shared(
        policy,
        taxonomy,
        records,
        question,
        time_zone,
        frozenset(rule.id for rule in failing_rules(policy.rules, situation)),
        contact_standing(policy.contact_policy, plan.caps, catalogue, records.contacts, at=question.at),
        Room(policy.capacity, records),
    )


def _action_drop(
    planned: PlannedAction, situation: Situation, failing: frozenset[str]
) -> tuple[DropStage | None, tuple[str, ...]]:
    if not (failing or planned.is_picky):
        return None, ()
    for stage, rule_ids in _stages(planned, situation, failing):
        if rule_ids:
            return stage, rule_ids
    return None, ()


def _stages(
    planned: PlannedAction, situation: Situation, failing: frozenset[str]
) -> Iterator[tuple[DropStage, tuple[str, ...]]]:
    """The stages that are about the action, in their order, each with ids of all its failing rules."""
    action = planned.action
    yield "eligibility", _ids(planned.eligibility, situation, failing)
    yield "applicability", failing_applicability(action, situation) + _ids(planned.applicability, situation, failing)
    yield "suitability", failing_suitability(action) + _ids(planned.suitability, situation, failing)


def _ids(rules: StageRules, situation: Situation, failing: frozenset[str]) -> tuple[str, ...]:
    shared = tuple([rule.id for rule in rules.shared if rule.id in failing]) if failing else ()
    return shared + tuple([rule.id for rule in failing_rules(rules.own, situation)]) if rules.own else shared


def _failing_catalogue(action: Action, question: Question) -> tuple[str, ...]:
    valid_from, valid_to = action.validity
    failing = []
    if not valid_from <= question.reached_at < valid_to:
        failing.append("catalogue.validity")
    if action.id in question.exclude or (question.include and action.id not in question.include):
        failing.append("request.candidates")
    if question.issues and action.issue not in question.issues:
        failing.append("request.issues")
    return tuple(failing)


def _failing_request(treatment: Treatment, question: Question) -> tuple[str, ...]:
    failing: tuple[str, ...] = ()
    if question.channels is not None and treatment.channel not in question.channels:
        failing = ("request.channel",)
    elif question.placements and not any(map(treatment.fits, question.placements)):
        failing = ("request.placements",)
    if question.direction not in treatment.directions:
        failing += ("request.direction",)
    return failing


def _failing_capacity(action: Action, treatment: Treatment, question: Question, shared: _Shared) -> tuple[str, ...]:
    if treatment.id in question.lost:
        return ("capacity.lost_race", question.lost[treatment.id])
    return shared.room.failing(action, treatment)
