"""Turn the reserved contacts of a decision into counted ones, while they are reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from features.event_log import EventLog
from features.events import dump_timestamp
from features.identity import Person, Span
from models.caps import held_contacts
from models.configuration import Configuration
from models.contact_policy import caps_of, failing_consent
from models.decision import DecisionRecord, Selected
from models.experiment import arm_of
from models.records import Contact, LeaseEnded, LostRace, RecordStore, Reservation
from serving.problems import LeaseOver, NotActivatable
from serving.requests import Fields
from serving.schemas import MAX_ACTIONS
from serving.views import ActivatedContact, Activation

HOLDOUT: Final = "no_contact_holdout"
KEYS: Final = ("action_id", "treatment_id", "slots")


class ActivationDesk:
    """Activates decisions.

    Args:
        records: keeps decisions and contacts.
        log: knows whose id an id is.
        configuration: the one that is served now.
    """

    def __init__(self, *, records: RecordStore, log: EventLog, configuration: Callable[[], Configuration]) -> None:
        self._records, self._log, self._configuration = records, log, configuration

    def activate(self, record: DecisionRecord, document: object, *, now: int) -> Activation:
        """The contacts of a decision, counted from now on; the same again changes nothing.

        Args:
            record: the decision.
            document: the decoded body; which of the decision's contacts, all of them where it says nothing.
            now: microseconds since the epoch.

        Raises:
            InvalidInput: with every bad field.
            NotActivatable: there is nothing that could be counted, or the customer may not be contacted any more.
            LeaseOver: a contact is not reserved any more.
            StoreUnavailable: a store does not answer; asking again tells.
        """
        chosen = _chosen(record, document)
        now = max(now, record.decided_at)  # the moments of decisions may run ahead of the clock, by microseconds
        person = self._log.person(record.customer_id, at=now)
        known = self._records.customer(
            person.customer_id, since=record.decided_at, now=now, spans=person.spans or (Span(record.customer_id),)
        )
        counted = {
            one.action_id
            for one in known.contacts
            if one.decision_id == record.decision_id and one.status == "confirmed"
        }
        reservation = self._reservation(record, chosen, person, now)
        if uncounted := [one for one in reservation.contacts if one.action_id not in counted]:
            self._refuse_held_out(record, person)
            self._refuse_closed(uncounted, known.consents)
        try:
            contacts = self._records.activate(reservation, at=now)
        except LeaseEnded as ended:
            raise LeaseOver(_why_ended(record, ended, now)) from ended
        except LostRace as race:
            raise NotActivatable(
                f"decision {record.decision_id}: {race.treatment_id} no longer fits under {race.rule_id}; expected "
                f"room for it: do not contact the customer on this decision"
            ) from race
        return Activation(
            decision_id=record.decision_id,
            contacts=tuple(
                _counted(one, contact, was_counted_before=one.action_id in counted or contact.at != now)
                for one, contact in zip(chosen, contacts, strict=True)
            ),
        )

    def _reservation(
        self, record: DecisionRecord, chosen: tuple[Selected, ...], person: Person, now: int
    ) -> Reservation:
        configuration = self._configuration()
        declared = caps_of(configuration.policy.contact_policy, configuration.catalogue)
        return held_contacts(record, chosen, declared, at=now, status="confirmed", spans=person.spans)

    def _refuse_held_out(self, record: DecisionRecord, person: Person) -> None:
        """Refuse where the customer is in the holdout by now: an id was linked, or people were dealt anew.

        Raises:
            NotActivatable: they are.
        """
        experiment = self._configuration().policy.experiment
        if arm_of(person.customer_id, experiment, linked_ids=person.linked_ids) == HOLDOUT:
            raise NotActivatable(
                f"decision {record.decision_id}: the customer is in the holdout by now, by an id that was linked or by "
                "an experiment that was changed since; expected one who may be contacted: do not contact them on it"
            )

    def _refuse_closed(self, contacts: Iterable[Contact], consents: Mapping[str, str]) -> None:
        """Refuse where an objection or a withdrawal since the decision stands against a contact.

        Raises:
            NotActivatable: naming it.
        """
        configuration = self._configuration()
        for contact in contacts:
            action = configuration.catalogue.by_id.get(contact.action_id)
            if action is not None and action.transactional:
                continue
            failing = failing_consent(contact.channel, configuration.policy.contact_policy.consent, consents)
            if failing:
                raise NotActivatable(
                    f"decision {contact.decision_id}: {contact.action_id} over {contact.channel} is closed by "
                    f"{', '.join(failing)}; expected the customer's consent: do not contact them on this decision"
                )


def _chosen(record: DecisionRecord, document: object) -> tuple[Selected, ...]:
    """The slots that a body means."""
    fields = Fields.of(document, KEYS)
    action_id, treatment_id = fields.text("action_id"), fields.text("treatment_id")
    slots = _slots(fields)
    if not fields.problems:
        if record.mode != "live":
            raise NotActivatable(
                f"decision {record.decision_id} is of mode {record.mode}, which counts no contacts; expected mode live"
            )
        if not record.selected:
            why = "was made in the holdout" if record.arm == HOLDOUT else "chose no action"
            raise NotActivatable(f"decision {record.decision_id} {why}; expected one that selected an action")
    known = {
        "action_id": [one.action_id for one in record.selected],
        "treatment_id": [one.treatment_id for one in record.selected],
    }
    for name, wanted in (("action_id", action_id), ("treatment_id", treatment_id)):
        if wanted is not None and wanted not in known[name]:
            fields.add(name, wanted, f"one that the decision selected: {', '.join(known[name])}")
    for position, slot in enumerate(slots or ()):
        if slot not in {one.slot for one in record.selected}:
            expected = f"a slot of the decision: {', '.join(str(one.slot) for one in record.selected)}"
            fields.add(f"slots[{position}]", slot, expected)
    fields.refuse("the decision cannot be activated like this")
    chosen = tuple(
        one
        for one in record.selected
        if action_id in (None, one.action_id)
        and treatment_id in (None, one.treatment_id)
        and (slots is None or one.slot in slots)
    )
    if not chosen:
        fields.add("", document, "action, treatment and slots of one and the same contact of the decision")
        fields.refuse("the decision cannot be activated like this")
    return chosen


def _slots(fields: Fields) -> list[int] | None:
    value = fields.value("slots")
    if value is None:
        return None
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_ACTIONS
    if not is_list or any(isinstance(slot, bool) or not isinstance(slot, int) for slot in value):
        fields.add("slots", value, f"a list of 1 to {MAX_ACTIONS} slot numbers")
        return None
    return [int(slot) for slot in value]


def _why_ended(record: DecisionRecord, ended: LeaseEnded, now: int) -> str:
    expires = dump_timestamp(record.expires_at)
    if ended.contact is None:
        what = f"holds no contact for {ended.action_id}"
    elif ended.contact.status == "released":
        what = f"was replaced by a later decision for the send {record.send_id}"
    else:
        what = f"reserved {ended.action_id} until {expires}, and it is {dump_timestamp(now)}"
    return f"decision {record.decision_id} {what}; expected a contact that is still reserved: ask for a new decision"


def _counted(one: Selected, contact: Contact, *, was_counted_before: bool) -> ActivatedContact:
    return ActivatedContact(
        slot=one.slot,
        placement=one.placement,
        action_id=one.action_id,
        treatment_id=one.treatment_id,
        channel=contact.channel,
        status="confirmed",
        at=dump_timestamp(contact.at),
        was_counted_before=was_counted_before,
    )
