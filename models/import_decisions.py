"""Past decisions of other systems as decision records, and the sink that an import writes to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Final

from features.event_log import EventLog
from features.events import JourneyEvent
from features.feedback_text import FeedbackTexts
from features.past_decisions import PastDecision
from features.taxonomy import Taxonomy
from features.telling import consent_of
from models.actions import NO_ACTION, Catalogue
from models.contact_responses import contact_responses
from models.decision import Candidate, DecisionRecord, Selected
from models.exposures import exposed_contacts
from models.ids import decision_id
from models.records import ConsentChange, RecordStore

IMPORTED_ARM: Final = "imported"
"""The arm of a decision that our own experiment had no part in."""


def past_decision_id(source: str, request_id: str, customer_id: str, at: int) -> str:
    """The decision id of a past decision: the same each time that it is imported."""
    digest = hashlib.blake2b(digest_size=9)
    for part in (source, request_id):
        encoded = part.encode("utf-8")
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return decision_id(at=at, customer_id=customer_id, randomness=digest.digest())


def record_of(decision: PastDecision, catalogue: Catalogue, versions: Mapping[str, str]) -> DecisionRecord:
    """The record of a past decision: candidates in catalogue order, ``no_action`` last; NaN for all that is unknown.

    ``no_action`` is in every candidate set. Where the mapping does not list it, it could not have been chosen, so its
    probability is 0 if all the others are known.
    """
    chances = {candidate.treatment_id: candidate.selection_probability for candidate in decision.candidates}
    complete = not any(math.isnan(chance) for chance in chances.values()) and len(chances) > 1
    candidates = [
        Candidate(
            action_id=action.id,
            treatment_id=treatment.id,
            channel=treatment.channel,
            selection_probability=chances[treatment.id],
            arm_selection_probability=chances[treatment.id],
        )
        for action in catalogue.actions
        for treatment in action.treatments
        if treatment.id in chances
    ]
    no_action = chances.get(NO_ACTION, 0.0 if complete else math.nan)
    candidates.append(
        Candidate(
            action_id=NO_ACTION,
            treatment_id=NO_ACTION,
            channel=None,
            selection_probability=no_action,
            arm_selection_probability=no_action,
        )
    )
    chosen = next(candidate for candidate in candidates if candidate.treatment_id == decision.chosen)
    acted = chosen.treatment_id != NO_ACTION
    return DecisionRecord(
        decision_id=decision.decision_id,
        source=decision.source,
        request_id=decision.request_id,
        request_hash=_content_hash(decision),
        request=b"",
        customer_id=decision.customer_id,
        journey_id=decision.journey_id,
        mode="imported",
        decided_at=decision.decided_at,
        as_of=decision.decided_at,
        expires_at=decision.decided_at,
        arm=IMPORTED_ARM,
        experiment_id="",
        arm_probabilities={IMPORTED_ARM: 1.0},
        versions=dict(versions),
        vector=(),
        log_position=0,
        last_event_at=0,
        stage=None,
        state=None,
        stall_propensity=math.nan,
        abandon_probability=math.nan,
        expected_days_to_progress=math.nan,
        candidates=tuple(candidates),
        selected=(
            (
                Selected(
                    slot=1,
                    placement=None,
                    action_id=chosen.action_id,
                    treatment_id=chosen.treatment_id,
                    conditional_probability=chosen.arm_selection_probability,
                ),
            )
            if acted
            else ()
        ),
        explored=False,
        activated=acted,
        send_id=None,
        degraded=(),
        latency_us=0,
    )


class StoreSink:
    """An import's sink over the event log and the record store."""

    def __init__(
        self,
        log: EventLog,
        records: RecordStore,
        taxonomy: Taxonomy,
        catalogue: Catalogue,
        versions: Mapping[str, str],
    ) -> None:
        self._log = log
        self._records = records
        self._taxonomy = taxonomy
        self._texts = FeedbackTexts(taxonomy)
        self._catalogue = catalogue
        self._versions = versions

    def append_events(self, events: Sequence[JourneyEvent]) -> Sequence[bool]:
        """Append to the log; consents and exposures also to the record store, so that the next decision obeys.

        Texts of feedback are read on the way, as those that come through the API are.
        """
        told = [self._texts.told(event) for event in events]
        news = [not appended.duplicate for appended in self._log.append(told)]
        # Also of duplicates: an import that was cut between the two stores is completed by its repetition.
        changes = [
            ConsentChange(event.customer_id, *changed, event.occurred_at)
            for event in events
            if (changed := consent_of(event, self._taxonomy)) is not None
        ]
        if changes:
            self._records.apply_consents(changes)
        contacts = exposed_contacts(events, self._catalogue)
        if contacts:
            self._records.confirm_contacts(contacts)
        responses = tuple(contact_responses(events, self._taxonomy, self._catalogue))
        if responses:
            self._records.note_responses(responses)
        return news

    def append_decisions(self, decisions: Sequence[PastDecision]) -> int:
        """Append to the record store."""
        return self._records.append_imported(
            [record_of(decision, self._catalogue, self._versions) for decision in decisions]
        )


def _content_hash(decision: PastDecision) -> str:
    probabilities = [(item.treatment_id, repr(item.selection_probability)) for item in decision.candidates]
    content = repr((decision.customer_id, decision.journey_id, decision.decided_at, decision.chosen, probabilities))
    return hashlib.blake2b(content.encode("utf-8"), digest_size=16).hexdigest()
