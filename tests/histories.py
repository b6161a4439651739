"""A small taxonomy with two journeys, and random histories over it: late, tied, duplicated in time, and plain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from features.event_export import event_table
from features.event_log import LoggedEvent
from features.events import JourneyEvent, day_of
from features.journeys import Journey
from features.schema import FeatureSet, feature_set
from features.taxonomy import Taxonomy

START_AT = 1_700_000_000_000_000
MINUTE_US = 60_000_000

TAXONOMY = Taxonomy.model_validate(
    {
        "version": 1,
        "currency": "EUR",
        "time_zone": "Europe/Amsterdam",
        "channels": {
            "web": {"title": "Web", "digital": True},
            "phone": {"title": "Phone", "digital": False, "outbound": True},
        },
        "kinds": {
            "visited": {"title": "Visited a page"},
            "applied": {"title": "Applied"},
            "uploaded": {"title": "Uploaded a document", "waiting": "starts"},
            "checked": {"title": "Document checked", "role": "operation", "waiting": "ends"},
            "paid": {
                "title": "Paid",
                "value_fact": "amount",
                "facts": {"amount": {"dtype": "number", "unit": "EUR"}},
            },
            "called": {"title": "Called", "role": "call", "channels": ["phone"]},
            "surveyed": {
                "title": "Answered a survey",
                "role": "feedback",
                "facts": {"nps": {"dtype": "number"}, "sentiment": {"dtype": "number"}},
            },
            "declined": {"title": "Declined", "role": "operation"},
        },
        "attributes": {
            "age": {"dtype": "number", "unit": "years", "feature": True},
            "member": {"dtype": "boolean", "feature": True},
            "tier": {"dtype": "category", "values": ["basic", "gold"], "feature": True},
            "state": {"dtype": "text", "meaning": "region", "pii": True},
        },
    }
)
"""The attribute ``state`` is named like a fact of ``consent_changed``, and must not be taken for it."""


def journey(journey_id: str = "application", *, stages: Sequence[str] = ("applied", "uploaded")) -> Journey:
    """A journey through the given kinds to ``paid``."""
    return Journey.model_validate(
        {
            "id": journey_id,
            "title": "From a visit to a payment",
            "entry": ["visited"],
            "stages": [
                {"id": "looking", "title": "Looking", "enter": ["visited"], "stall_after": "1h", "stall_state": "IDLE"},
                *(
                    {"id": kind, "title": kind, "enter": [kind], "stall_after": "2h", "stall_state": kind.upper()}
                    for kind in stages
                ),
            ],
            "goal": {"id": "customer", "title": "Customer", "enter": ["paid"]},
            "exits": {"declined": ["declined"]},
            "abandon_after": "2d",
            "horizon": "1d",
            "outcomes": [{"id": "paid", "title": "Paid", "event": "paid", "window": "1d", "value": 10.0}],
        }
    )


FEATURES = feature_set(TAXONOMY, journey())
SHORT_FEATURES = feature_set(TAXONOMY, journey("short", stages=()))
FEATURE_SETS: dict[str, FeatureSet] = {each.journey_id: each for each in (FEATURES, SHORT_FEATURES)}


def event(
    event_id: str,
    *,
    customer_id: str = "c1",
    kind: str = "visited",
    at: int = START_AT,
    arrived_at: int | None = None,
    sequence: int = 0,
    channel: str | None = None,
    facts: dict[str, str | float | bool] | None = None,
    source: str = "test",
) -> JourneyEvent:
    """One event; it arrived when it occurred unless told otherwise."""
    return JourneyEvent(
        source=source,
        event_id=event_id,
        customer_id=customer_id,
        kind=kind,
        channel=channel,
        occurred_at=at,
        arrived_at=at if arrived_at is None else arrived_at,
        sequence=sequence,
        day=day_of(at),
        facts=facts or {},
    )


def random_history(
    seed: int, *, n_customers: int = 5, n_events: int = 60, late: float = 0.2, minutes: int = 6_000
) -> list[JourneyEvent]:
    """Events in the order of their arrival: a ``late`` share arrives later, and a few ahead of their own time."""
    rng = np.random.default_rng(seed)
    kinds = tuple(TAXONOMY.all_kinds)
    events = []
    for i in range(n_events):
        # Coarse times make ties; the odd microseconds show whether any is lost.
        at = START_AT + int(rng.integers(0, minutes // 10)) * 10 * MINUTE_US + int(rng.integers(0, 2)) * 7
        kind = kinds[int(rng.integers(len(kinds)))]
        delay = 0 if rng.random() >= late else int(rng.integers(-1_000, 3_000)) * MINUTE_US
        if delay < 0:  # ahead of its time, by no more than a sender's clock may run ahead
            delay %= -5 * MINUTE_US
        events.append(
            event(
                f"e{int(rng.integers(10**9))}-{i}",
                customer_id=f"c{int(rng.integers(n_customers))}é",
                kind=kind,
                at=at,
                arrived_at=at + delay,
                sequence=int(rng.integers(0, 2)),
                channel=[None, "web", "phone"][int(rng.integers(3))],
                facts=_facts(kind, rng),
                source=("crm", "web")[int(rng.integers(2))],
            )
        )
    return sorted(events, key=lambda one: one.arrived_at)


def _facts(kind: str, rng: np.random.Generator) -> dict[str, str | float | bool]:
    chosen: dict[str, dict[str, str | float | bool]] = {
        "paid": {"amount": float(rng.lognormal(3.0, 5.0))},
        "surveyed": {"nps": float(rng.integers(0, 11)), "sentiment": float(rng.uniform(-1, 1))},
        "outcome_observed": {"outcome_id": "paid", "value": float(rng.normal())},
        "consent_changed": {"consent": "marketing", "state": ("granted", "withdrawn")[int(rng.integers(2))]},
        "profile_updated": {
            "age": float(rng.integers(18, 90)),
            "member": bool(rng.integers(2)),
            "tier": ("basic", "gold", "unheard_of")[int(rng.integers(3))],
            "state": ("", "Île-de-France")[int(rng.integers(2))],
            "holding:card": bool(rng.integers(2)),
        },
    }
    facts = chosen.get(kind, {})
    return {name: value for name, value in facts.items() if rng.random() < 0.8}


def arrow_events(events: Iterable[JourneyEvent]) -> pa.Table:
    """Events as the columns of the events Parquet, at positions in the order given."""
    return event_table([LoggedEvent(position, one) for position, one in enumerate(events, start=1)])
