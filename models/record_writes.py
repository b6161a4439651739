"""What is written into the record store in one transaction, and the keys that keep others from it meanwhile.

A commit is one job: whether the request was answered before, whether the caps still have room, and the insert are one
transaction, in which nobody else decides for the same request, person or capacity, so caps are exact under any
concurrency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from features.errors import Conflict
from features.identity import Span
from features.sql_text import Row, SqlConnection
from models import capacity_tables, contact_rows, decision_rows
from models.caps import check_caps, check_send, conflict_message, kept_contacts
from models.contact_rows import contact_row
from models.decision import DecisionRecord
from models.decision_rows import decision_row
from models.leases import activated
from models.records import Committed, Contact, Reservation, customer_ids, decided_contacts

CAPACITY: Final = "capacity"
"""One key for all counters: which ones a confirmation touches is known only when it has looked."""

FORGETTING: Final = ("decisions",)
"""Of two processes one forgets, and the other forgets what is left."""


def person_key(customer_id: str) -> str:
    """The key of a person's contacts."""
    return f"person/{customer_id}"


def request_key(record: DecisionRecord) -> str:
    """The key of the request that led to a decision."""
    return f"request/{record.source}/{record.request_id}"


def commit_keys(record: DecisionRecord, reservation: Reservation | None) -> list[str]:
    """Of what a commit reads and then writes: its request, a person's contacts, and what is taken of capacities."""
    keys = [request_key(record)]
    if reservation is not None:
        keys += map(person_key, customer_ids(reservation.spans, record.customer_id))
        if reservation.needs or any(reservation.assignees) or reservation.send_id is not None:
            keys.append(CAPACITY)
    return keys


def activation_keys(reservation: Reservation) -> list[str]:
    """Likewise, of an activation."""
    first = reservation.contacts[0]
    return [CAPACITY, *map(person_key, customer_ids(reservation.spans, first.customer_id))]


def confirmation_keys(contacts: Sequence[Contact]) -> list[str]:
    """Likewise, of a confirmation."""
    return [CAPACITY, *(person_key(contact.customer_id) for contact in contacts)]


def committing(
    record: DecisionRecord, answer: bytes, reservation: Reservation | None
) -> Callable[[SqlConnection], Committed]:
    """The job that commits a decision, with all that needs no connection done."""
    row = decision_row(record, answer)
    return lambda connection: _commit(connection, record, row, reservation)


def _commit(connection: SqlConnection, record: DecisionRecord, row: Row, reservation: Reservation | None) -> Committed:
    answered = decision_rows.answered(connection, record.source, record.request_id)
    if answered is not None:
        if answered[0] != record.request_hash:
            raise Conflict(conflict_message(record))
        return Committed(answered[1], was_stored_before=True)
    if reservation is not None:
        _reserve(connection, record, reservation)
    decision_rows.insert_decision(connection, row)
    return Committed(row["answer"], was_stored_before=False)


def _reserve(connection: SqlConnection, record: DecisionRecord, reservation: Reservation) -> None:
    since = min((cap.since for cap in reservation.caps), default=record.decided_at)
    spans = reservation.spans or (Span(record.customer_id),)
    ids = customer_ids(spans, record.customer_id)
    if reservation.sent is not None and reservation.send_id is not None:
        check_send(reservation, contact_rows.sent(connection, ids, reservation.send_id))
    existing = contact_rows.counted(connection, spans, since=since, now=record.decided_at)
    check_caps(reservation, existing, now=record.decided_at)
    if reservation.send_id is not None:
        contact_rows.release_send(connection, ids, reservation.send_id)
    capacity_tables.reserve(connection, reservation, now=record.decided_at, customer_ids=ids)
    contact_rows.insert_contacts(connection, kept_contacts(record, reservation))


def confirming(contacts: Sequence[Contact]) -> Callable[[SqlConnection], None]:
    """The job that counts contacts that really happened; the same again changes nothing."""
    rows: list[Row] = [{**contact_row(contact), "status": "confirmed"} for contact in contacts]

    def confirm(connection: SqlConnection) -> None:
        contact_rows.confirm(connection, rows)
        capacity_tables.confirm(connection, decided_contacts(contacts))

    return confirm


def activate(connection: SqlConnection, reservation: Reservation, *, at: int) -> tuple[Contact, ...]:
    """Turn leases into contacts, all of them or none; what is there of them now, in the order of the reservation."""
    first = reservation.contacts[0]
    own = contact_rows.of_decision(connection, first.customer_id, first.decision_id)
    since = min((cap.since for cap in reservation.caps), default=at)
    spans = reservation.spans or (Span(first.customer_id),)
    others = contact_rows.counted(connection, spans, since=since, now=at)
    given_back = capacity_tables.given_back(connection, first.decision_id)
    rows = [contact_row(contact) for contact in activated(reservation, own, others, at=at, given_back=given_back)]
    contact_rows.confirm(connection, rows)
    capacity_tables.confirm(connection, decided_contacts(reservation.contacts))
    kept = contact_rows.of_decision(connection, first.customer_id, first.decision_id)
    by_action = {contact.action_id: contact for contact in kept}
    return tuple(by_action[contact.action_id] for contact in reservation.contacts)


def forget(connection: SqlConnection, *, decided_before: int, most: int) -> int:
    """Delete the oldest decisions made before a moment, with their contacts from before it; how many there were."""
    gone = decision_rows.oldest(connection, decided_before=decided_before, most=most)
    contact_rows.forget(connection, gone, before=decided_before)
    decision_rows.forget(connection, [decision_id for decision_id, _ in gone])
    return len(gone)
