"""What the commands about audiences print, for tests that run no command."""

from __future__ import annotations

from typing import Any

from tests.doors import JOURNEY

NUMBER = {"estimate": 3.0, "low": 2.0, "high": 4.0}
ESTIMATE: dict[str, Any] = {
    "journey_id": JOURNEY,
    "as_of": "2026-03-01T12:00:00.000000Z",
    "contact_at": "2026-03-02T09:00:00.000000Z",
    "population": 9,
    "sampled": 5,
    "is_exact": False,
    "customers": NUMBER,
    "selected": NUMBER,
    "reasons": {"no_consent": NUMBER},
    "actions": {"remind_next_step": NUMBER},
    "channels": {"email": NUMBER},
    "net_value": {**NUMBER, "sampling_error": 0.5, "model_error": 1.0},
    "currency": "EUR",
    "capacities": {"limit.call": {"used": 1.0, "left": 6.0}},
    "versions": {"policy": "p", "bundle": None},
}
SCREENED: dict[str, Any] = {
    "journey_id": JOURNEY,
    "as_of": "2026-03-01T12:00:00.000000Z",
    "contact_at": "2026-03-02T09:00:00.000000Z",
    "rows": 1,
    "kept": 0,
    "removed": 1,
    "reasons": {"no_consent": 1},
    "versions": {"policy": "p", "bundle": None},
    "results": [
        {
            "row": 0,
            "customer_id": "c-1",
            "action_id": None,
            "channel": None,
            "kept": False,
            "reason": "no_consent",
            "rule_ids": ["contact.consent.email"],
            "treatment_ids": [],
        }
    ],
}

PRINTED: dict[tuple[str, ...], dict[str, Any]] = {("audience", "estimate"): ESTIMATE, ("audience", "screen"): SCREENED}
"""By the words of the command."""
