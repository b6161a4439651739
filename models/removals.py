"""Why somebody gets nothing, in a marketer's words: one closed set for audiences and for screened lists.

What stands in the way of a decision is told by stages of the funnel and ids of rules; here each of them has one word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:  # the words are said by doors too, which load nothing jitted
    from models.actions import Rule
    from models.funnel import Considered
    from models.policy import Policy

Removal = Literal[
    "duplicate_row",
    "unknown_customer",
    "holdout",
    "not_offered",
    "not_in_journey",
    "existing_customer",
    "product_mismatch",
    "not_now",
    "no_consent",
    "suppressed",
    "over_contacted",
    "not_reachable",
    "quiet_hours",
    "no_capacity",
    "no_estimate",
    "not_worth_it",
    "max_customers",
]
REMOVALS: Final[tuple[Removal, ...]] = get_args(Removal)
"""In their order: of several reasons the first holds."""

MEANINGS: Final[Mapping[Removal, str]] = {
    "duplicate_row": "the person stands in an earlier row, under the same id or another one of theirs",
    "unknown_customer": "nothing was ever told of this id, so nothing says that the person may be contacted",
    "holdout": "the person is in the control group that is never contacted",
    "not_offered": "the catalogue has nothing now for what is asked for",
    "not_in_journey": "a rule of eligibility asks for a journey that is open, and the person's is not",
    "existing_customer": "a rule on products held does not hold: the person has the product, or lacks what it needs",
    "product_mismatch": "another rule of eligibility or of suitability does not hold",
    "not_now": "it does not fit where the person stands: another stage, not stalled, or a rule of applicability",
    "no_consent": "the person has not consented to the channel, has withdrawn it, or objects to marketing",
    "suppressed": "what came back for earlier contacts holds this one back",
    "over_contacted": "a contact cap has no room for one more contact",
    "not_reachable": "nobody is reached out to over the channel",
    "quiet_hours": "it is quiet on the channel at the moment of contact, on the person's own clock",
    "no_capacity": "a capacity or a budget is used up, or others are worth more of it",
    "no_estimate": "nobody knows what it would change: no model, and no prior in the catalogue",
    "not_worth_it": "nothing is worth doing: no action is the best action",
    "max_customers": "it would be worth doing, and others are worth more of the number that was asked for",
}

_JOURNEY_FIELDS: Final = ("journey_status", "feature:journey_status")
_CONSENT: Final = ("contact.objection", "contact.consent.")
_NOT_OUTBOUND: Final = "contact.channel_not_outbound"
_QUIET: Final = "contact.quiet_hours"


def removal_of(dropped: Considered, policy: Policy) -> Removal:
    """The word for what dropped a candidate: of several failing rules the first in the order of ``REMOVALS``.

    Raises:
        ValueError: the funnel let it through.
    """
    stage = dropped.dropped
    if stage is None or stage == "scoring":
        raise ValueError(f"{dropped.treatment.id} was not dropped by the funnel")
    if stage == "catalogue":
        return "not_offered"
    if stage == "capacity":
        return "no_capacity"
    if stage == "contact_policy":
        found = {_of_contact_rule(rule_id, policy) for rule_id in dropped.rule_ids}
    else:
        rules = {rule.id: rule for rule in (*policy.rules, *dropped.action.rules)}
        found = {_of_rule(stage, rules.get(rule_id)) for rule_id in dropped.rule_ids}
    return min(found, key=REMOVALS.index)


def _of_rule(stage: str, rule: Rule | None) -> Removal:
    """Of a rule by what it is about; None stands for what an action itself asks for."""
    fields = [] if rule is None else [condition.field for condition in rule.all_of]
    if stage == "eligibility" and any(one in _JOURNEY_FIELDS for one in fields):
        return "not_in_journey"
    if any(one.startswith("holding:") for one in fields):
        return "existing_customer"
    return "not_now" if stage == "applicability" else "product_mismatch"


def _of_contact_rule(rule_id: str, policy: Policy) -> Removal:
    if rule_id.startswith(_CONSENT):
        return "no_consent"
    if rule_id == _QUIET:
        return "quiet_hours"
    if rule_id == _NOT_OUTBOUND:
        return "not_reachable"
    return "suppressed" if any(one.id == rule_id for one in policy.contact_policy.suppressions) else "over_contacted"
