"""What came back for contacts, read from events: it is what later contacts are held back by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from features.events import JourneyEvent
from features.taxonomy import OUTCOME_OBSERVED, Role, Taxonomy
from models.actions import Catalogue
from models.records import ContactResponse, ResponseKind

_BY_ROLE: Final[Mapping[Role, ResponseKind]] = {
    "response": "neutral",
    "offer_accepted": "positive",
    "offer_rejected": "negative",
}


def contact_responses(
    events: Iterable[JourneyEvent], taxonomy: Taxonomy, catalogue: Catalogue
) -> Iterator[ContactResponse]:
    """What came back for contacts among some events: those that carry the ``decision_id`` of what they answer.

    An outcome of a value above 0 is positive, any other negative; it answers the actions that aim at it. An accepted
    offer is positive and a rejected one negative. Any other response, such as an opened message, is neutral: the
    contact was not ignored, and nothing is known of whether it was welcome.
    """
    for event in events:
        decision_id = event.facts.get("decision_id")
        kind = _kind(event, taxonomy)
        if kind is None or not isinstance(decision_id, str) or not decision_id:
            continue
        aimed = None
        if event.kind == OUTCOME_OBSERVED:
            outcome_id = event.facts["outcome_id"]
            aimed = frozenset(action.id for action in catalogue.actions if action.outcome == outcome_id)
        yield ContactResponse(decision_id, event.customer_id, kind, event.occurred_at, aimed)


def _kind(event: JourneyEvent, taxonomy: Taxonomy) -> ResponseKind | None:
    if event.kind == OUTCOME_OBSERVED:
        value = event.facts["value"]
        return "positive" if not isinstance(value, str) and value > 0 else "negative"
    known = taxonomy.known_kinds.get(event.kind)
    return None if known is None else _BY_ROLE.get(known.role)
