"""Which contacts a decision makes, and how they are counted against caps inside a commit, for every store alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from features.identity import Span
from models.actions import NO_ACTION
from models.contact_policy import Cap, cap_limits, contacts_under
from models.decision import DecisionRecord, Selected
from models.records import Contact, ContactStatus, LostRace, Reservation, SendDecided


def counts(contact: Contact, *, now: int) -> bool:
    """Whether a contact counts: confirmed, or a lease that is still live at ``now``."""
    return contact.status == "confirmed" or (contact.status == "lease" and contact.expires_at > now)


def check_caps(reservation: Reservation, existing: Iterable[Contact], *, now: int) -> None:
    """Refuse a reservation that does not fit under its caps beside the customer's ``existing`` contacts.

    A live lease of the same send does not count: the reservation replaces it.

    Raises:
        LostRace: naming the first treatment that does not fit, and the cap.
    """
    taken = [
        contact for contact in existing if counts(contact, now=now) and not contact.is_lease_of(reservation.send_id)
    ]
    for contact, treatment_id in zip(reservation.contacts, reservation.treatment_ids, strict=True):
        for cap in reservation.caps:
            if cap.covers(contact.channel, contact.action_id) and contacts_under(cap, taken) >= cap.limit:
                raise LostRace(treatment_id, cap.rule_id)
        taken.append(contact)


def kept_contacts(record: DecisionRecord, reservation: Reservation) -> tuple[Contact, ...]:
    """The contacts that a store keeps of a decision.

    A decision of a send keeps one more, that never counts: it holds the place of the send, until the next one does.
    Moments cannot say which is the last: decisions of a clock that was set back have one.
    """
    if reservation.send_id is None:
        return reservation.contacts
    at, ends = record.decided_at, record.expires_at
    place = Contact(
        record.decision_id, record.customer_id, NO_ACTION, "", at, "released", ends, send_id=reservation.send_id
    )
    return (*reservation.contacts, place)


def check_send(reservation: Reservation, sent: str) -> None:
    """Refuse a reservation that was made before another decision, ``sent``, took the place of its send.

    Raises:
        SendDecided: it was.
    """
    if reservation.sent is not None and reservation.sent != sent:
        raise SendDecided(sent)


def occasion(contact: Contact) -> int:
    """What tells contacts of one customer and action apart: the decision alone, or the time where there was none."""
    return 0 if contact.decision_id else contact.at


def conflict_message(record: DecisionRecord) -> str:
    """What to say where a request id was used for another body."""
    return (
        f"request_id {record.request_id!r} of source {record.source!r} was used before for another request; "
        f"expected the same body again, or a new request_id"
    )


def held_contacts(
    record: DecisionRecord,
    selected: Sequence[Selected],
    caps: Sequence[Cap],
    *,
    at: int,
    status: ContactStatus,
    spans: tuple[Span, ...],
) -> Reservation:
    """The contacts of some slots of a decision as they are from a moment on, with every cap that they fall under.

    Args:
        record: the decision.
        selected: slots of it.
        caps: all that hold.
        at: the moment.
        status: of the contacts.
        spans: of the person.
    """
    channel_of = {candidate.treatment_id: candidate.channel or "" for candidate in record.candidates}
    contacts = tuple(
        Contact(
            decision_id=record.decision_id,
            customer_id=record.customer_id,
            action_id=one.action_id,
            channel=channel_of[one.treatment_id],
            at=at,
            status=status,
            expires_at=record.expires_at,
            send_id=record.send_id,
        )
        for one in selected
    )
    limits = {
        cap.rule_id: cap for contact in contacts for cap in cap_limits(caps, contact.channel, contact.action_id, at)
    }
    treatment_ids = tuple(one.treatment_id for one in selected)
    return Reservation(contacts, treatment_ids, tuple(limits.values()), record.send_id, spans)
