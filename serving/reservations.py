"""What a decision takes of contacts, capacities and people: read before it is made, reserved with its record."""

from __future__ import annotations

from dataclasses import dataclass, replace

from features.identity import Person
from models.capacity import capacity_windows, reserved_needs
from models.caps import held_contacts
from models.decision import DecisionRecord
from models.deliberation import Deliberation, Rulebook
from models.policy import Capacity
from models.records import CapacityNeed, CustomerRecords, RecordStore, Reservation, customer_ids
from models.workforce import OpenPerson, assignees
from serving.schemas import DecisionRequest


@dataclass(frozen=True, slots=True)
class Staffing:
    """Who may handle what, as read for one decision.

    Attributes:
        workforce: everybody; nobody where no action needs anybody.
        taken: action and person whose room was taken meanwhile.
    """

    rulebook: Rulebook
    workforce: tuple[OpenPerson, ...] = ()
    taken: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def read(
        cls, records: RecordStore, request: DecisionRequest, rulebook: Rulebook, person: Person, at: int
    ) -> Staffing:
        """Everybody as of now; of the past nobody is known."""
        if request.as_of is not None or not rulebook.catalogue.queues:
            return cls(rulebook)
        ids = customer_ids(person.spans, person.customer_id)
        return cls(rulebook, records.workforce(now=at, customer_ids=ids, send_id=request.send_id))

    def assigned(self, records: CustomerRecords, decision_id: str) -> CustomerRecords:
        """The same records with who would handle each action."""
        if not self.workforce:
            return records
        chosen = assignees(self.rulebook.catalogue.actions, self.workforce, decision_id=decision_id, taken=self.taken)
        return replace(records, assignees=chosen)

    def without(self, treatment_id: str, person_id: str) -> Staffing:
        """The same, without somebody for the action of a treatment."""
        action = self.rulebook.catalogue.action_by_treatment[treatment_id]
        return replace(self, taken=self.taken | {(action.id, person_id)})


def used_shares(records: RecordStore, capacity: Capacity, at: int, time_zone: str) -> dict[str, float]:
    """Share of each capacity and budget that is taken in the period of a moment; one of size 0 is full."""
    declared = {one.id: float(one.units) for one in capacity.limits} | {one.id: one.amount for one in capacity.budgets}
    used = records.capacity_used(capacity_windows(capacity, at, time_zone), now=at) if declared else {}
    return {limit_id: used.get(limit_id, 0.0) / size if size else 1.0 for limit_id, size in declared.items()}


def needs_of_decision(deliberation: Deliberation, rulebook: Rulebook, at: int) -> tuple[CapacityNeed, ...]:
    """What the selected slots take of capacities and budgets."""
    chosen = []
    for one in deliberation.selected:
        action = rulebook.catalogue.by_id[one.action_id]
        treatment = next(each for each in action.treatments if each.id == one.treatment_id)
        chosen.append((action, treatment, deliberation.factors[one.treatment_id].incentive_share))
    return reserved_needs(chosen, rulebook.policy.capacity, at, rulebook.taxonomy.time_zone)


def reservation_of(
    request: DecisionRequest,
    record: DecisionRecord,
    person: Person,
    rulebook: Rulebook,
    needs: tuple[CapacityNeed, ...],
    sent: str = "",
) -> Reservation | None:
    """The contacts of a live decision: counted at once where we reach out and activate, leased otherwise.

    They take the place of the leases of their send, also where there are none, unless it was decided again after
    ``sent``.
    """
    if record.mode != "live" or not (record.selected or record.send_id):
        return None
    counted = record.activated and request.direction == "outbound"
    held = held_contacts(
        record,
        record.selected,
        rulebook.plan.caps,
        at=record.decided_at,
        status="confirmed" if counted else "lease",
        spans=person.spans,
    )
    return replace(held, needs=needs, assignees=record.assignees, sent=None if record.send_id is None else sent)
