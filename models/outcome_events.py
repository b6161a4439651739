"""What outcomes are made of, among the events of one customer. Of many decisions at once: ``training.responses``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.events import JourneyEvent
from features.journeys import PROGRESS, Journey, Outcome
from features.progress import progress_moments
from features.schema import FeatureSet
from features.taxonomy import OUTCOME_OBSERVED, Taxonomy
from models.decision import DecisionRecord
from models.outcome_status import Happening, OutcomeStatus, outcome_status


@dataclass(frozen=True, slots=True)
class OutcomeEvents:
    """What of one customer's events any outcome of a journey can be made of, read once for many decisions.

    Attributes:
        told: events that were reported or that an outcome is declared by, in order.
        progress: moments at which the customer moved on.
    """

    told: tuple[JourneyEvent, ...]
    progress: tuple[int, ...]


def outcome_events(journey: Journey, events: Sequence[JourneyEvent], feature_set: FeatureSet) -> OutcomeEvents:
    """What of a customer's events the outcomes of a journey can be made of.

    Args:
        journey: the journey.
        events: all of the customer's, in the order of ``JourneyEvent.order``.
        feature_set: of the journey.
    """
    kinds = {OUTCOME_OBSERVED, *(outcome.event for outcome in journey.outcomes)}
    is_asked = any(outcome.event == PROGRESS for outcome in journey.outcomes)
    return OutcomeEvents(
        told=tuple(event for event in events if event.kind in kinds),
        progress=tuple(progress_moments(feature_set, events)) if is_asked else (),
    )


def happenings_of(
    outcome: Outcome, record: DecisionRecord, events: OutcomeEvents, *, taxonomy: Taxonomy
) -> list[Happening]:
    """What an outcome of a decision is made of, among the events of its customer.

    Every report for the decision, every report that names no decision, and the journey's own events that the outcome
    is declared by.
    """
    found = []
    for event in events.told:
        if event.kind == OUTCOME_OBSERVED and event.facts.get("outcome_id") == outcome.id:
            told_for = event.facts.get("decision_id")
            if told_for in (None, record.decision_id):
                value = float(event.facts["value"])
                found.append(Happening(event.occurred_at, value, is_report=told_for is not None))
        elif event.kind == outcome.event and event.kind != OUTCOME_OBSERVED:
            found.append(Happening(event.occurred_at, _declared_value(outcome, event, taxonomy)))
    if outcome.event == PROGRESS:
        found += [Happening(at, 1.0) for at in events.progress]
    return found


def _declared_value(outcome: Outcome, event: JourneyEvent, taxonomy: Taxonomy) -> float:
    if outcome.type == "binary":
        return 1.0
    value = event.facts.get(taxonomy.known_kinds[event.kind].value_fact or "")
    return float(value) if isinstance(value, int | float) else 0.0


def outcome_statuses(
    record: DecisionRecord, journey: Journey, events: OutcomeEvents, *, taxonomy: Taxonomy, now: int
) -> tuple[OutcomeStatus, ...]:
    """What came of a decision, by every outcome that its journey declares."""
    return tuple(
        outcome_status(outcome, record, happenings_of(outcome, record, events, taxonomy=taxonomy), now=now)
        for outcome in journey.outcomes
    )
