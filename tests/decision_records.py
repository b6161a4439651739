"""Decision records, contacts and reservations that say only what matters."""

from __future__ import annotations

from typing import Any

from models.decision import Candidate, CountedContact, DecisionRecord, Selected
from models.records import CapLimit, Contact, ContactStatus, Reservation

DECIDED_AT = 1_750_000_000_000_000
DAY_US = 86_400_000_000

NO_ACTION = Candidate(action_id="no_action", treatment_id="no_action", channel=None, selection_probability=0.4)
SCORED = Candidate(
    action_id="nudge",
    treatment_id="nudge_sms",
    channel="sms",
    control_response=0.1,
    uplift=0.05,
    sigma=0.01,
    effect_source="model",
    outcome="paid",
    value=40.0,
    contact_cost=0.1,
    incentive_cost=0.0,
    fatigue_cost=0.2,
    channel_price=0.0,
    budget_price=0.0,
    net_value=1.7,
    priority=1.7,
    selection_probability=0.6,
    arm_selection_probability=0.95,
)
DROPPED = Candidate(
    action_id="offer",
    treatment_id="offer_mail",
    channel="email",
    dropped="eligibility",
    rule_ids=("too_young", "arrears"),
)


def record(number: int = 1, **changes: Any) -> DecisionRecord:
    """The ``number``-th decision: a text message to customer c1, drawn among three candidates."""
    fields: dict[str, Any] = {
        "decision_id": f"d-{number:06d}",
        "source": "crm",
        "request_id": f"r-{number}",
        "request_hash": "hash",
        "request": b'{"customer_id":"c1"}',
        "customer_id": "c1",
        "journey_id": "card",
        "mode": "live",
        "decided_at": DECIDED_AT + number,
        "as_of": DECIDED_AT + number,
        "expires_at": DECIDED_AT + DAY_US,
        "arm": "champion",
        "experiment_id": "main",
        "arm_probabilities": {"champion": 0.85, "holdout": 0.15},
        "versions": {"features": "f1", "policy": "p1"},
        "vector": (1.0, float("nan"), -0.0),
        "log_position": 12,
        "last_event_at": DECIDED_AT - 5,
        "attributes": {"tier": "gold", "age": 41.0, "is_member": True},
        "holdings": ("card",),
        "consents": {"sms": "granted"},
        "contacts": (CountedContact(action_id="nudge", channel="sms", at=DECIDED_AT - DAY_US, is_lease=False),),
        "time_zone": "Europe/Amsterdam",
        "stage": "applied",
        "state": "IDLE",
        "stall_propensity": 0.7,
        "abandon_probability": 0.2,
        "expected_days_to_progress": float("nan"),
        "candidates": (SCORED, DROPPED, NO_ACTION),
        "selected": (Selected(slot=1, placement=None, action_id="nudge", treatment_id="nudge_sms"),),
        "explored": False,
        "activated": True,
        "send_id": None,
        "degraded": (),
        "latency_us": 900,
    }
    return DecisionRecord(**{**fields, **changes})


def contact(
    decision: DecisionRecord,
    *,
    action_id: str = "nudge",
    channel: str = "sms",
    at: int | None = None,
    status: ContactStatus = "confirmed",
    expires_at: int | None = None,
    send_id: str | None = None,
) -> Contact:
    """A contact of a decision, at its moment unless told otherwise."""
    return Contact(
        decision_id=decision.decision_id,
        customer_id=decision.customer_id,
        action_id=action_id,
        channel=channel,
        at=decision.decided_at if at is None else at,
        status=status,
        expires_at=decision.expires_at if expires_at is None else expires_at,
        send_id=send_id,
    )


def cap(limit: int, *, since: int = DECIDED_AT - DAY_US, channel: str | None = None) -> CapLimit:
    """At most ``limit`` contacts."""
    return CapLimit(rule_id=f"at_most_{limit}", limit=limit, since=since, channel=channel)


def reservation(*contacts: Contact, caps: tuple[CapLimit, ...] = ()) -> Reservation:
    """These contacts of one send, if any, under these caps; the treatment is named after action and channel."""
    treatment_ids = tuple(f"{each.action_id}_{each.channel}" for each in contacts)
    return Reservation(contacts, treatment_ids, caps, contacts[0].send_id)
