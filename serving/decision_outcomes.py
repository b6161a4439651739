"""What came of recorded decisions, read from the event log: for people, reports and cases; training reads it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.event_log import EventLog
from features.events import JourneyEvent, dump_timestamp
from features.journeys import Journey
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from models.decision import DecisionRecord
from models.outcome_events import outcome_statuses
from models.outcome_status import OutcomeStatus
from serving.customer_views import OutcomeView


class DecisionOutcomes:
    """Tells what came of decisions.

    Args:
        log: where events are.
        taxonomy: what kinds of event mean.
        journeys: the declared journeys by id.
        feature_sets: of each.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        taxonomy: Taxonomy,
        journeys: Mapping[str, Journey],
        feature_sets: Mapping[str, FeatureSet],
    ) -> None:
        self._log = log
        self._taxonomy = taxonomy
        self._journeys = journeys
        self._feature_sets = feature_sets

    def of(self, record: DecisionRecord, *, now: int) -> tuple[OutcomeView, ...]:
        """What came of a decision, by every outcome that its journey declares; empty where it is declared no more.

        Raises:
            StoreUnavailable: the event log does not answer.
        """
        person = self._log.person(record.customer_id, at=now)
        return self.among(record, [logged.event for logged in self._log.of_person(person)], now=now)

    def among(self, record: DecisionRecord, events: Sequence[JourneyEvent], *, now: int) -> tuple[OutcomeView, ...]:
        """``of``, where all events of the customer, in their order, were read before."""
        journey = self._journeys.get(record.journey_id)
        if journey is None or record.mode == "shadow":
            return ()
        statuses = outcome_statuses(
            record,
            journey,
            events,
            taxonomy=self._taxonomy,
            feature_set=self._feature_sets[journey.id],
            now=now,
        )
        return tuple(map(_view, statuses))


def _view(status: OutcomeStatus) -> OutcomeView:
    return OutcomeView(
        outcome_id=status.outcome_id,
        status=status.status,
        by_default=status.by_default,
        value=status.value,
        window_ends_at=dump_timestamp(status.until),
        settled_at=None if status.settled_at is None else dump_timestamp(status.settled_at),
        late=status.late,
    )
