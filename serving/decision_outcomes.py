"""What came of recorded decisions, read from the event log: for people, reports and cases; training reads it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.event_log import EventLog
from features.events import JourneyEvent, dump_timestamp, dump_timestamp_or_none
from features.journeys import Journey
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from models.decision import DecisionRecord
from models.outcome_events import OutcomeEvents, outcome_events, outcome_statuses
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
        events = [logged.event for logged in self._log.of_person(person)]
        return self.among([record], events, now=now)[record.decision_id]

    def among(
        self, records: Sequence[DecisionRecord], events: Sequence[JourneyEvent], *, now: int
    ) -> dict[str, tuple[OutcomeView, ...]]:
        """``of`` by decision id for several decisions on one customer, all of whose events were read before, in order.

        A shadow decision has no outcomes: nothing was done.
        """
        known: dict[str, OutcomeEvents] = {}
        found: dict[str, tuple[OutcomeView, ...]] = {}
        for record in records:
            journey = self._journeys.get(record.journey_id)
            if journey is None or record.mode == "shadow":
                found[record.decision_id] = ()
                continue
            if journey.id not in known:
                known[journey.id] = outcome_events(journey, events, self._feature_sets[journey.id])
            statuses = outcome_statuses(record, journey, known[journey.id], taxonomy=self._taxonomy, now=now)
            found[record.decision_id] = tuple(map(_view, statuses))
        return found


def _view(status: OutcomeStatus) -> OutcomeView:
    return OutcomeView(
        outcome_id=status.outcome_id,
        status=status.status,
        by_default=status.by_default,
        value=status.value,
        window_ends_at=dump_timestamp(status.until),
        settled_at=dump_timestamp_or_none(status.settled_at),
        late=status.late,
    )
