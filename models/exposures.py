"""Exposures as contacts: what was really shown to a customer counts under the caps, whoever tells of it."""

from __future__ import annotations

from collections.abc import Iterable

from features.events import JourneyEvent
from features.taxonomy import EXPOSED
from models.actions import NO_ACTION, Catalogue
from models.records import Contact


def exposed_contacts(events: Iterable[JourneyEvent], catalogue: Catalogue) -> list[Contact]:
    """The contact that each exposure among some events is, at the moment that it happened.

    Where an exposure does not say its channel it was that of its treatment; of a treatment that the catalogue does not
    know it stays empty, and counts under the caps over all channels alone.
    """
    return [
        Contact(
            decision_id=str(event.facts.get("decision_id", "")),
            customer_id=event.customer_id,
            action_id=str(event.facts["action_id"]),
            channel=event.channel or catalogue.channel_by_treatment.get(str(event.facts.get("treatment_id")), ""),
            at=event.occurred_at,
            status="confirmed",
            expires_at=event.occurred_at,
        )
        for event in events
        if event.kind == EXPOSED and event.facts["action_id"] != NO_ACTION
    ]
