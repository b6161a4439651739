"""What can be known of a journey's candidates before anyone asks: which rules and caps bear on which of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from msgspec import structs

from features.journeys import Journey
from models.actions import Action, Catalogue, Rule, RuleStage, Treatment
from models.arbitration import Factors
from models.contact_policy import Cap, caps_of, longest_period
from models.decision import Candidate
from models.policy import Policy
from models.prices import unit_price
from models.rules import failing_suitability
from models.scoring import Pair


@dataclass(frozen=True, slots=True)
class StageRules:
    """The rules of one stage that bear on an action: of the policy, which all actions share, and its own."""

    shared: tuple[Rule, ...]
    own: tuple[Rule, ...]


Reach: TypeAlias = tuple[str, bool]
"""A channel, and whether a message over it is transactional: all that consent and quiet hours ask for."""


@dataclass(frozen=True, slots=True)
class PlannedTreatment:
    """A treatment, with what bears on contacts with it, and what is the same of its candidate in every decision.

    Attributes:
        caps: that contacts fall under.
        reach: of its contacts.
        pair: outcome and action, as a scorer wants them.
        is_mandatory: the action is.
        factors: of a customer of whom nothing is known; for one who is not tired of contacts, where nothing is scarce.
        scored: the candidate where it is scored, as far as it does not depend on the customer.
        dropped: the candidate where it is not scored.
    """

    treatment: Treatment
    caps: tuple[Cap, ...]
    reach: Reach
    pair: Pair
    is_mandatory: bool
    factors: Factors
    scored: Candidate
    dropped: Candidate


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action, with the rules that bear on it by stage.

    Attributes:
        is_picky: it asks for more than the policy's rules do, so that it can be dropped where all of those hold.
    """

    action: Action
    eligibility: StageRules
    applicability: StageRules
    suitability: StageRules
    is_picky: bool
    treatments: tuple[PlannedTreatment, ...]


@dataclass(frozen=True)
class Plan:
    """The candidates of one journey, in catalogue order.

    Attributes:
        caps: all of the policy.
        looks_back: ``contact_policy.longest_period`` of the policy.
    """

    actions: tuple[PlannedAction, ...]
    caps: tuple[Cap, ...]
    looks_back: int

    @cached_property
    def treatments(self) -> tuple[PlannedTreatment, ...]:
        """Of all actions."""
        return tuple(one for action in self.actions for one in action.treatments)

    @cached_property
    def reaches(self) -> tuple[Reach, ...]:
        """How the treatments reach a customer, each way once."""
        return tuple(dict.fromkeys(one.reach for one in self.treatments))


def plan_of(catalogue: Catalogue, policy: Policy, *, journey: Journey) -> Plan:
    """The plan for the candidates of a journey."""
    caps = caps_of(policy.contact_policy, catalogue)
    actions = (action for action in catalogue.actions if action.journey == journey.id)
    planned = tuple(_planned(action, policy, journey, caps) for action in actions)
    return Plan(planned, caps, longest_period(policy.contact_policy))


def bears_on(rule: Rule, action: Action) -> bool:
    """Whether a rule of the policy is for an action: of all its issues, and in them of all its groups, if any."""
    return (not rule.issues or action.issue in rule.issues) and (not rule.groups or action.group in rule.groups)


def _planned(action: Action, policy: Policy, journey: Journey, caps: tuple[Cap, ...]) -> PlannedAction:
    def of_stage(stage: RuleStage) -> StageRules:
        shared = tuple(rule for rule in policy.rules if rule.stage == stage and bears_on(rule, action))
        own = tuple(rule for rule in action.rules if rule.stage == stage and bears_on(rule, action))
        return StageRules(shared, own)

    return PlannedAction(
        action,
        of_stage("eligibility"),
        of_stage("applicability"),
        of_stage("suitability"),
        bool(action.rules or action.stages or action.stall_states or action.min_stall_propensity > 0)
        or bool(failing_suitability(action)),
        tuple(_planned_treatment(action, one, policy, journey, caps) for one in action.treatments),
    )


def _planned_treatment(
    action: Action, treatment: Treatment, policy: Policy, journey: Journey, caps: tuple[Cap, ...]
) -> PlannedTreatment:
    outcome = journey.outcome_by_id[action.outcome]
    factors = Factors(
        control_response=math.nan,
        uplift=math.nan,
        sigma=math.nan,
        is_binary=outcome.type == "binary",
        value=outcome.value,
        contact_cost=treatment.contact_cost,
        incentive_cost=action.incentive_cost,
        fatigue_cost=treatment.fatigue_cost,
        channel_price=unit_price(policy, {}, channel=treatment.channel, queue=action.assigned_to),
        context_weight_pct=action.context_weight_pct,
        lever_pct=action.lever_pct,
    )
    dropped = Candidate(action_id=action.id, treatment_id=treatment.id, channel=treatment.channel)
    return PlannedTreatment(
        treatment,
        tuple(cap for cap in caps if cap.at(0).covers(treatment.channel, action.id)),
        (treatment.channel, action.transactional),
        (action.outcome, action.id),
        action.mandatory,
        factors,
        structs.replace(
            dropped,
            outcome=action.outcome,
            value=factors.value,
            contact_cost=factors.contact_cost,
            incentive_cost=factors.incentive_cost,
            context_weight_pct=factors.context_weight_pct,
            lever_pct=factors.lever_pct,
        ),
        dropped,
    )
