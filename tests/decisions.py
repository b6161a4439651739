"""Builders for decisions: a small rulebook over the taxonomy of ``tests.histories``, situations and questions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from features.journeys import Journey
from models.actions import Action, Catalogue, Condition, Rule
from models.arbitration import Scored
from models.deliberation import Rulebook
from models.funnel import Question
from models.policy import Exploration, Policy
from models.records import Contact
from models.situation import Situation, Value
from tests.histories import FEATURES, START_AT, TAXONOMY, journey

DAY_US = 86_400_000_000


def action(action_id: str = "nudge", **changes: Any) -> Action:
    """An action on the phone with one treatment ``<id>_phone`` and a prior, unless told otherwise."""
    fields: dict[str, Any] = {
        "id": action_id,
        "title": action_id,
        "kind": "nudge",
        "issue": "onboard",
        "group": "cards",
        "journey": "application",
        "outcome": "paid",
        "treatments": [{"id": f"{action_id}_phone", "channel": "phone", "contact_cost": 0.1}],
        "prior_uplift": 0.2,
    }
    return Action.model_validate(fields | changes)


def policy(**changes: Any) -> Policy:
    """A policy in which everyone is the champion's and nothing is explored, unless told otherwise."""
    fields: dict[str, Any] = {
        "version": 1,
        "experiment": {"id": "exp", "salt": "salt", "no_contact_holdout": 0.0, "random_eligible": 0.0},
        "exploration": {"epsilon": 0.0, "temperature": 1.0},
        "decision_ttl": "1d",
    }
    return Policy.model_validate(fields | changes)


def rulebook(
    *actions: Action, policy_changes: Mapping[str, Any] | None = None, in_journey: Journey | None = None
) -> Rulebook:
    """A rulebook over some actions."""
    return Rulebook(
        taxonomy=TAXONOMY,
        journey=in_journey or journey(),
        catalogue=Catalogue(version=1, actions=actions or (action(),)),
        policy=policy(**(policy_changes or {})),
        policy_version="p1",
        feature_set=FEATURES,
    )


def situation(**changes: Any) -> Situation:
    """A customer in the first stage, not stalled, of whom nothing else is known unless told otherwise."""
    fields: dict[str, Any] = {
        "features": dict.fromkeys(FEATURES.names, math.nan),
        "status": "open",
        "stage": "looking",
        "stall_state": None,
        "state": "ACTIVE",
        "holdings": frozenset(),
    }
    return Situation(**(fields | changes))


def condition(field: str, **operator: Any) -> Condition:
    """One condition."""
    return Condition(field=field, **operator)


def rule(rule_id: str, *conditions: Condition, stage: Any = "eligibility", **changes: Any) -> Rule:
    """One rule."""
    return Rule(id=rule_id, stage=stage, all_of=conditions, **changes)


def question(**changes: Any) -> Question:
    """An outbound question at the start of all histories, without any filter unless told otherwise."""
    fields: dict[str, Any] = {"at": START_AT, "outbound": True}
    return Question(**(fields | changes))


def contact(
    *,
    at: int = START_AT,
    channel: str = "phone",
    status: Any = "confirmed",
    decision_id: str = "d-0",
    action_id: str = "nudge",
    response: Any = "",
) -> Contact:
    """One contact."""
    return Contact(
        decision_id=decision_id,
        customer_id="c1",
        action_id=action_id,
        channel=channel,
        at=at,
        status=status,
        expires_at=at + DAY_US,
        response=response,
    )


def scored(treatment_id: str, net_value: float, *, sigma: float = 0.1, priority: float | None = None) -> Scored:
    """A scored candidate whose action has the treatment's name."""
    return Scored(treatment_id, treatment_id, net_value if priority is None else priority, net_value, sigma)


def exploration(*, epsilon: float = 0.2, temperature: float = 2.0) -> Exploration:
    """Epsilon and temperature."""
    return Exploration(epsilon=epsilon, temperature=temperature)


def known(**values: Value) -> dict[str, Value]:
    """Attributes or context by name."""
    return dict(values)
