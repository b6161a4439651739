"""What comes back for a decision: that an action was really shown, and what followed. Both become events.

The id of each event follows from the decision, so that sending the same exposure or outcome again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from features.errors import InvalidInput, Problem
from features.events import FUTURE_SKEW_US, dump_timestamp, parse_timestamp, shown
from features.journeys import Journey
from features.taxonomy import EXPOSED, OUTCOME_OBSERVED
from models.actions import NO_ACTION
from models.decision import Candidate, DecisionRecord
from models.outcome_status import is_late
from models.records import RecordStore
from serving.requests import Fields

EXPOSURE: Final = "exposure"
OUTCOME: Final = "outcome"
TYPES: Final = (EXPOSURE, OUTCOME)
_COMMON = ("decision_id", "type", "occurred_at", "outcome_event_id")
_KEYS: Final = {
    EXPOSURE: (*_COMMON, "action_id", "treatment_id"),
    OUTCOME: (*_COMMON, "outcome_id", "value"),
}


class Report(Protocol):
    """What became of a batch of event documents."""

    @property
    def accepted(self) -> int:
        """Events that were new."""
        ...

    @property
    def duplicates(self) -> int:
        """Events that were there already."""
        ...

    @property
    def rejected(self) -> Sequence[tuple[int, Sequence[Problem]]]:
        """Index and problems of every event that was refused."""
        ...

    @property
    def degraded(self) -> tuple[str, ...]:
        """What could not be brought up to date; the events themselves are safe."""
        ...

    @property
    def known(self) -> Sequence[int]:
        """Index of every event that was there already."""
        ...


class Ingest(Protocol):
    """Takes event documents in, durably before it answers."""

    def ingest(self, documents: Sequence[object], *, source: str, arrived_at: int) -> Report:
        """What became of each document.

        Raises:
            StoreUnavailable: nothing of the batch was kept.
        """
        ...


class IngestPermitted(Ingest, Protocol):
    """Takes event documents in, of the kinds that their sender may send."""

    def ingest(
        self, documents: Sequence[object], *, source: str, arrived_at: int, forbidden: frozenset[str] = ...
    ) -> Report:
        """What became of each document; those of a forbidden kind are rejected.

        Raises:
            StoreUnavailable: nothing of the batch was kept.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomesReport:
    """What became of a batch of exposures and outcomes.

    Attributes:
        accepted: how many were new.
        duplicates: how many were known already.
        rejected: index in the batch, and what was wrong with it.
        degraded: what could not be brought up to date.
        late: indices of the outcomes, of those that were not rejected, that happened after their reward window.
        known: indices of those that were known already.
    """

    accepted: int
    duplicates: int
    rejected: tuple[tuple[int, tuple[Problem, ...]], ...]
    degraded: tuple[str, ...]
    late: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Returned:
    """One valid item: where it stood, its event, and whether it happened after the reward window."""

    index: int
    event: dict[str, Any]
    is_late: bool = False


class OutcomeRecorder:
    """Takes exposures and outcomes by decision id.

    Args:
        records: where decisions are found.
        ingest: takes the events in, and counts the exposures among them as contacts.
        journeys: the declared journeys by id.
    """

    def __init__(self, *, records: RecordStore, ingest: Ingest, journeys: Mapping[str, Journey]) -> None:
        self._records = records
        self._ingest = ingest
        self._journeys = journeys

    def record(self, items: Sequence[object], *, source: str, arrived_at: int) -> OutcomesReport:
        """What became of each item. Everything accepted is durable.

        Args:
            items: decoded documents.
            source: who sent them, from the caller's key.
            arrived_at: now, microseconds since the epoch.

        Raises:
            StoreUnavailable: a store does not answer; sending the same batch again completes what was begun.
        """
        returned: list[_Returned] = []
        rejected: dict[int, tuple[Problem, ...]] = {}
        for index, item in enumerate(items):
            try:
                returned.append(self._parse(item, index, source))
            except InvalidInput as error:
                rejected[index] = error.problems
        report = self._ingest.ingest([one.event for one in returned], source=source, arrived_at=arrived_at)
        for position, problems in report.rejected:
            rejected[returned[position].index] = _renamed(problems, returned[position].index)
        return OutcomesReport(
            accepted=report.accepted,
            duplicates=report.duplicates,
            rejected=tuple(sorted(rejected.items())),
            degraded=report.degraded,
            late=tuple(one.index for one in returned if one.is_late and one.index not in rejected),
            known=tuple(returned[position].index for position in report.known),
        )

    def _parse(self, item: object, index: int, source: str) -> _Returned:
        path = f"outcomes[{index}]"
        kind = item.get("type") if isinstance(item, dict) else None
        if isinstance(item, dict) and kind not in TYPES:
            problem = Problem(f"{path}.type", "" if kind is None else shown(kind), f"one of {', '.join(TYPES)}")
            raise InvalidInput(f"{path} is not valid", [problem])
        fields = Fields.of(item, _KEYS[str(kind)] if kind in TYPES else (), path=path)
        record = self._decision(fields)
        given = fields.timestamp("occurred_at") if fields.required_text("occurred_at") else None
        if record is None:
            fields.refuse(f"{path} is not valid")
            raise AssertionError("a decision that is not found is a problem")
        if kind == EXPOSURE:
            returned = _exposure(fields, record, index, tells=record.source == source)
        else:
            returned = self._outcome(fields, record, index)
        if given is not None:
            returned.event["occurred_at"] = _happened(fields, record, given)
        fields.refuse(f"{path} is not valid")
        return returned

    def _decision(self, fields: Fields) -> DecisionRecord | None:
        decision_id = fields.required_text("decision_id")
        stored = self._records.decision(decision_id) if decision_id else None
        if decision_id and stored is None:
            fields.add("decision_id", decision_id, "the id of a decision of this service")
        return None if stored is None else stored.record

    def _outcome(self, fields: Fields, record: DecisionRecord, index: int) -> _Returned:
        outcome_id = fields.required_text("outcome_id")
        journey = self._journeys.get(record.journey_id)
        declared = () if journey is None else tuple(journey.outcome_by_id)
        if outcome_id and outcome_id not in declared:
            expected = f"an outcome of the journey {record.journey_id}: {', '.join(declared) or 'none'}"
            fields.add("outcome_id", outcome_id, expected)
        facts = {"decision_id": record.decision_id, "outcome_id": outcome_id, "value": fields.number("value")}
        came_late = False
        if not fields.problems and journey is not None:
            came_late = is_late(journey.outcome_by_id[outcome_id], record, parse_timestamp(fields.value("occurred_at")))
        return _Returned(index, _event(fields, record, OUTCOME_OBSERVED, outcome_id, None, facts), came_late)


def _happened(fields: Fields, record: DecisionRecord, given: str) -> str:
    """When something came of a decision: after it, also by a clock that is a little behind or tells whole seconds."""
    at, first = parse_timestamp(given), record.decided_at + 1
    if at < first - FUTURE_SKEW_US - 1:
        fields.add("occurred_at", given, f"a time after the decision of {dump_timestamp(record.decided_at)}")
    return given if at >= first else dump_timestamp(first)


def _exposure(fields: Fields, record: DecisionRecord, index: int, *, tells: bool) -> _Returned:
    """An exposure. What another source's decision selected is told to nobody by way of a refusal (``tells``)."""
    candidate = _exposed(fields, record, tells=tells)
    if record.mode != "live":
        fields.add(
            "decision_id", record.decision_id, f"a decision of mode live{f', not {record.mode}' if tells else ''}"
        )
    facts = {
        "decision_id": record.decision_id,
        "action_id": candidate.action_id,
        "treatment_id": candidate.treatment_id,
    }
    return _Returned(index, _event(fields, record, EXPOSED, candidate.treatment_id, candidate.channel, facts))


def _exposed(fields: Fields, record: DecisionRecord, *, tells: bool) -> Candidate:
    """The candidate that was shown: the one named, else the decision's first.

    What the decision dropped it never advised, and in the holdout nothing: such an exposure is none of its own.
    """
    action_id, treatment_id = fields.text("action_id"), fields.text("treatment_id")
    selected = [one.treatment_id for one in record.selected]
    named = [
        candidate
        for candidate in record.candidates
        if (treatment_id is None or candidate.treatment_id == treatment_id)
        and (action_id is None or candidate.action_id == action_id)
        and candidate.action_id != NO_ACTION
        and candidate.dropped is None
        and record.arm != "no_contact_holdout"
    ]
    # Of an action with several treatments, the selected one was meant.
    meant = [candidate for candidate in named if candidate.treatment_id in selected]
    if meant:
        return min(meant, key=lambda candidate: selected.index(candidate.treatment_id))
    if len(named) == 1 and (action_id is not None or treatment_id is not None):
        return named[0]
    advised = f"; selected were: {', '.join(selected) or 'none'}" if tells else ""
    expected = f"a treatment of the decision{advised}"
    fields.add("treatment_id", treatment_id, expected)
    return record.first


def _event(
    fields: Fields,
    record: DecisionRecord,
    kind: str,
    about: str,
    channel: str | None,
    facts: Mapping[str, object],
) -> dict[str, Any]:
    given = fields.text("outcome_event_id")
    return {
        "event_id": given or f"{record.decision_id}/{kind}/{about}",
        "customer_id": record.customer_id,
        "kind": kind,
        "channel": channel,
        "occurred_at": fields.value("occurred_at"),
        "facts": facts,
    }


def _renamed(problems: Sequence[Problem], index: int) -> tuple[Problem, ...]:
    """Problems of an event as problems of the item that it was made of."""
    names = {"event_id": "outcome_event_id"}
    renamed = []
    for problem in problems:
        field = problem.path.rpartition(".")[2]
        renamed.append(replace(problem, path=f"outcomes[{index}].{names.get(field, field)}"))
    return tuple(renamed)
