"""One send, one decision: when what was decided of a send is the answer to whoever asks for it again.

A tool that renders a message asks several times for one send, under ids of its own and from several machines at once,
and has to show the same thing each time.
"""

from __future__ import annotations

from msgspec import structs

from models.decision import DEADLINE, DecisionRecord
from models.experiment import arm_of
from models.records import CustomerRecords
from serving.activations import HOLDOUT
from serving.recording import Asked
from serving.schemas import DecisionRequest, canonical_request, decode_canonical_request


def still_holds(record: DecisionRecord, asked: Asked, records: CustomerRecords) -> bool:
    """Whether the decision that holds the place of a request's send is the answer to it.

    It is where the same source asks the same question while the decision may be acted on; and where nothing has come
    between that forbids what it chose: a consent, the holdout, a catalogue that no longer has it. What was decided
    because time was up does not hold either.

    Args:
        record: the decision.
        asked: the request with what was found for it.
        records: the person's, as of now.
    """
    return (
        record.source == asked.asking.source
        and record.expires_at > asked.now
        and DEADLINE not in record.degraded
        and same_question(decode_canonical_request(record.request), asked.request)
        and record.consents == records.consents
        and not _is_forbidden(record, asked)
    )


def same_question(one: DecisionRequest, other: DecisionRequest) -> bool:
    """Whether two requests of a send differ in nothing but their ids and in how long their callers wait."""
    return _question(one) == _question(other)


def _question(request: DecisionRequest) -> bytes:
    return canonical_request(structs.replace(request, request_id="", deadline_ms=None))


def _is_forbidden(record: DecisionRecord, asked: Asked) -> bool:
    """Whether nobody may do any more what was chosen."""
    if not record.selected:
        return False
    person, rulebook = asked.observed.person, asked.rulebook
    if arm_of(person.customer_id, rulebook.policy.experiment, linked_ids=person.linked_ids) == HOLDOUT:
        return True
    return any(one.treatment_id not in rulebook.catalogue.treatment_by_id for one in record.selected)
