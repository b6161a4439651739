"""What came of recorded decisions, read from the event log: for people, reports and cases; training reads it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from features.event_log import EventLog
from features.events import JourneyEvent, dump_timestamp
from features.journeys import Journey
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from models.decision import DecisionRecord
from models.outcome_status import OutcomeStatus, outcome_statuses
from serving.schemas import Timestamp


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome of one decision, as it is known now.

    Attributes:
        status: `pending` while the reward window lasts and nothing has settled it.
        by_default: a `no` that nobody told: the window ended without anything.
        value: 0 or 1 of a binary outcome, the sum so far of a continuous one.
        window_ends_at: what happens later counts for nothing.
        settled_at: when it could no longer change; null while it can.
        late: how many outcomes were sent for this decision that happened after the window.
    """

    outcome_id: str
    status: Literal["pending", "yes", "no"]
    by_default: bool
    value: float
    window_ends_at: Timestamp
    settled_at: Timestamp | None
    late: int


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
