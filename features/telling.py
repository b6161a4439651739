"""What of the log is told on to the record store: which events, and consents as the log has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from features.event_log import EventLog
from features.events import JourneyEvent
from features.taxonomy import EXPOSED, Taxonomy


def consent_of(event: JourneyEvent, taxonomy: Taxonomy) -> tuple[str, str] | None:
    """The consent that an event changes and its new state; None where it changes none.

    A declared kind of the role ``consent`` may carry both facts or not; the built-in one always does.
    """
    kind = taxonomy.all_kinds.get(event.kind)
    if kind is None or kind.role != "consent" or "consent" not in event.facts or "state" not in event.facts:
        return None
    return str(event.facts["consent"]), str(event.facts["state"])


class SetConsents(Protocol):
    """Remembers consents where the next decision looks, durably before it returns."""

    def __call__(self, customer_id: str, consents: Mapping[str, str], /, *, at: int) -> None:
        """Remember states by consent as of ``at``; what is known from later stays."""


def remember_consents(events: Iterable[JourneyEvent], log: EventLog, taxonomy: Taxonomy, consents: SetConsents) -> None:
    """Remember, of all consents that some events of the log speak of, every state that the log has.

    Raises:
        StoreUnavailable: a store does not answer.
    """
    touched: dict[str, set[str]] = {}
    for event in events:
        if (changed := consent_of(event, taxonomy)) is not None:
            touched.setdefault(event.customer_id, set()).add(changed[0])
    for customer_id, named in touched.items():
        # From the log, not from the batch: of two states of the same time, the one that arrives last may not be
        # the one that comes last. All of them, since what is newest of a shared alias may be another person's.
        for logged in log.of_customer(customer_id):
            changed = consent_of(logged.event, taxonomy)
            if changed is not None and changed[0] in named:
                consents(customer_id, {changed[0]: changed[1]}, at=logged.event.occurred_at)


def is_exposure(event: JourneyEvent) -> bool:
    """Whether an event says that an action was really shown."""
    return event.kind == EXPOSED


def is_answer(event: JourneyEvent) -> bool:
    """Whether an event may be what came back for a decision."""
    return event.kind != EXPOSED and bool(event.facts.get("decision_id"))
