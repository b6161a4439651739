"""What the event log holds and the record store may not have been told: consents, exposures and what came back.

Telling it again changes nothing that is there already. ``features.ingest`` tells it as events arrive.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.event_log import EventLog
from features.events import JourneyEvent
from features.telling import is_answer, is_exposure, remember_consents
from models.configuration import Configuration
from models.contact_responses import contact_responses
from models.exposures import exposed_contacts
from models.records import ConsentChange, RecordStore


def tell_again(
    log: EventLog, records: RecordStore, configuration: Configuration, *, after: int, arrived_since: int
) -> int:
    """Tell the record store of everything in the log past a position; how many events were told.

    Args:
        log: the event log.
        records: the record store.
        configuration: whose taxonomy and catalogue the events are read by.
        after: the position.
        arrived_since: what arrived before, of a decision that is not there, is left out: the decision was deleted as
            its time had passed, and so were its contacts.

    Raises:
        StoreUnavailable: a store does not answer.
    """
    changes: list[ConsentChange] = []

    def is_due(event: JourneyEvent) -> bool:
        return (
            event.arrived_at >= arrived_since or records.decision(str(event.facts.get("decision_id", ""))) is not None
        )

    def remember(customer_id: str, consents: Mapping[str, str], /, *, at: int) -> None:
        changes.extend(ConsentChange(customer_id, consent, state, at) for consent, state in consents.items())

    told = 0
    for page in log.read(after=after):
        events = [logged.event for logged in page]
        changes.clear()
        remember_consents(events, log, configuration.taxonomy, remember)
        records.apply_consents(changes)
        exposed = [event for event in events if is_exposure(event) and is_due(event)]
        records.confirm_contacts(exposed_contacts(exposed, configuration.catalogue))
        answers = [event for event in events if is_answer(event) and is_due(event)]
        records.note_responses(tuple(contact_responses(answers, configuration.taxonomy, configuration.catalogue)))
        told += len(events)
    return told
