"""What can be known of a journey's candidates before anyone asks: which rules and caps bear on which of them."""

from __future__ import annotations

from dataclasses import dataclass

from models.actions import Action, Catalogue, Rule, RuleStage, Treatment
from models.contact_policy import Cap, caps_of
from models.policy import Policy
from models.rules import failing_suitability


@dataclass(frozen=True, slots=True)
class StageRules:
    """The rules of one stage that bear on an action: of the policy, which all actions share, and its own."""

    shared: tuple[Rule, ...]
    own: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class PlannedTreatment:
    """A treatment, with what bears on contacts with it.

    Attributes:
        caps: that they fall under.
        reach: the channel, and whether the action is transactional: all that consent and quiet hours ask for.
    """

    treatment: Treatment
    caps: tuple[Cap, ...]
    reach: tuple[str, bool]


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


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates of one journey, in catalogue order.

    Attributes:
        caps: all of the policy.
    """

    actions: tuple[PlannedAction, ...]
    caps: tuple[Cap, ...]


def plan_of(catalogue: Catalogue, policy: Policy, *, journey_id: str) -> Plan:
    """The plan for the candidates of a journey."""
    caps = caps_of(policy.contact_policy, catalogue)
    actions = (action for action in catalogue.actions if action.journey == journey_id)
    return Plan(tuple(_planned(action, policy, caps) for action in actions), caps)


def bears_on(rule: Rule, action: Action) -> bool:
    """Whether a rule of the policy is for an action: of all its issues, and in them of all its groups, if any."""
    return (not rule.issues or action.issue in rule.issues) and (not rule.groups or action.group in rule.groups)


def _planned(action: Action, policy: Policy, caps: tuple[Cap, ...]) -> PlannedAction:
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
        tuple(
            PlannedTreatment(
                one,
                tuple(cap for cap in caps if cap.at(0).covers(one.channel, action.id)),
                (one.channel, action.transactional),
            )
            for one in action.treatments
        ),
    )
