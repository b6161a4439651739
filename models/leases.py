"""How leases become contacts, for every record store alike: all that are asked for, or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from msgspec import structs

from models.caps import check_caps
from models.records import Contact, LeaseEnded, Reservation


def activated(
    reservation: Reservation,
    own: Iterable[Contact],
    others: Iterable[Contact],
    *,
    at: int,
    given_back: Collection[str] = (),
) -> list[Contact]:
    """The leases of a decision as the contacts that they become at a moment, without those that are contacts already.

    A cap was checked when the lease was taken, and looks from another moment now: other contacts may have come in.

    Args:
        reservation: what is to become a contact, with the caps as they look back from ``at``.
        own: the contacts of that decision, in whatever state.
        others: the person's contacts that the caps may count; those of the decision may be among them.
        at: microseconds since the epoch.
        given_back: ids of the actions whose leases hold nothing of a capacity any more: to a decision of a later moment
            they had ended.

    Raises:
        LeaseEnded: one of them is no live lease and no contact.
        LostRace: they no longer fit under a cap.
    """
    held = {contact.action_id: contact for contact in own}
    found = []
    for asked, treatment_id in zip(reservation.contacts, reservation.treatment_ids, strict=True):
        contact = held.get(asked.action_id)
        if contact is not None and contact.status == "confirmed":
            continue
        is_given_away = asked.action_id in given_back
        if contact is None or contact.status == "released" or contact.expires_at <= at or is_given_away:
            raise LeaseEnded(asked.action_id, contact)
        found.append((structs.replace(contact, status="confirmed", at=at), treatment_id))
    becoming = {(contact.decision_id, contact.action_id) for contact, _ in found}
    contacts = tuple(contact for contact, _ in found)
    checked = replace(reservation, contacts=contacts, treatment_ids=tuple(treatment_id for _, treatment_id in found))
    check_caps(checked, [one for one in others if (one.decision_id, one.action_id) not in becoming], now=at)
    return list(contacts)
