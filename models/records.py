"""The port of the record store: decisions, contacts and consents, committed together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec
from msgspec import structs

from features.commit_figures import CommitFigures
from features.identity import Span
from models.decision import DecisionRecord
from models.workforce import OpenPerson, ToldPerson

ContactStatus = Literal["lease", "confirmed", "released"]
ResponseKind = Literal["positive", "negative", "neutral"]
"""What came back for a contact; ``neutral`` is an answer that says neither yes nor no, such as an opened message."""

NO_RESPONSE: Final = ""

NOBODY_AVAILABLE: Final = "capacity.nobody_available"
"""The rule that drops an action whose queue has people, none of whom can take it."""


class Contact(msgspec.Struct, frozen=True):
    """A contact that was counted, or a lease on one.

    Attributes:
        response: what came back for it; empty where nothing did yet.
        response_at: when it did, microseconds since the epoch; 0 where nothing did.
    """

    decision_id: str
    customer_id: str
    action_id: str
    channel: str
    at: int
    status: ContactStatus
    expires_at: int
    send_id: str | None = None
    response: ResponseKind | Literal[""] = NO_RESPONSE
    response_at: int = 0

    def is_lease_of(self, send_id: str | None) -> bool:
        """Whether it is the lease of a send, whose place the next decision for that send takes."""
        return self.status == "lease" and send_id is not None and self.send_id == send_id


def as_known(contact: Contact, at: int) -> Contact:
    """A contact as it was known at a moment in the past: without what came back for it later."""
    return contact if contact.response_at < at else structs.replace(contact, response=NO_RESPONSE, response_at=0)


@dataclass(frozen=True, slots=True)
class ConsentChange:
    """A consent that was granted or withdrawn, or an objection, at a moment."""

    customer_id: str
    consent: str
    state: str
    at: int


@dataclass(frozen=True, slots=True)
class ContactResponse:
    """Something came back for the contacts of a decision.

    Attributes:
        customer_id: who answered, by any of their ids.
        action_ids: the actions of the decision that it is an answer to; None for all of them.
    """

    decision_id: str
    customer_id: str
    kind: ResponseKind
    at: int
    action_ids: frozenset[str] | None = None

    def outweighs(self, contact: Contact) -> bool:
        """Whether it is an answer to a contact of its decision, and holds over what came back for that before.

        Yes and no hold over neutral, then the newest over older ones, then no over yes: so it does not matter in which
        order answers come in, or how often.
        """
        if self.action_ids is not None and contact.action_id not in self.action_ids:
            return False
        return contact.response == NO_RESPONSE or _weight(self.kind, self.at) > _weight(
            contact.response, contact.response_at
        )


def _weight(kind: str, at: int) -> tuple[bool, int, bool]:
    return (kind != "neutral", at, kind == "negative")


@dataclass(frozen=True, slots=True)
class CustomerRecords:
    """What the rules need from the record store, in one read.

    Attributes:
        contacts: contacts and live leases not older than asked for, oldest first.
        consents: newest state by consent: ``granted``, ``withdrawn`` or ``objected``.
        capacity_used: units or money taken of each capacity and budget, live leases included; without those of which
            nothing is.
        assignees: who would handle each action; None where nobody can. Actions that need nobody are not among them.
        sent: the decision that holds the place of the send that was asked about; empty where there is none, or no send.
    """

    contacts: tuple[Contact, ...] = ()
    consents: Mapping[str, str] = field(default_factory=dict)
    capacity_used: Mapping[str, float] = field(default_factory=dict)
    assignees: Mapping[str, str | None] = field(default_factory=dict)
    sent: str = ""


@dataclass(frozen=True, slots=True)
class CapLimit:
    """A contact cap as it applies to one decision: at most ``limit`` contacts since ``since``, this one included.

    Attributes:
        channel: contacts over this one only; over all if None.
        action_ids: contacts with these actions only; with all if None.
    """

    rule_id: str
    limit: int
    since: int
    channel: str | None = None
    action_ids: frozenset[str] | None = None

    def covers(self, channel: str | None, action_id: str) -> bool:
        """Whether contacts with an action over a channel fall under it."""
        return self.channel in (None, channel) and (self.action_ids is None or action_id in self.action_ids)


@dataclass(frozen=True, slots=True)
class CapacityWindow:
    """One capacity or budget in one of its periods.

    Attributes:
        limit_id: of the policy.
        start: of the period, microseconds since the epoch.
    """

    limit_id: str
    start: int


@dataclass(frozen=True, slots=True)
class CapacityNeed:
    """What one contact takes of a capacity or budget, in millionths of a unit or of money.

    Attributes:
        position: of the contact in its reservation.
        need: what it takes.
        limit: how much all contacts of the period may take together.
    """

    position: int
    window: CapacityWindow
    need: int
    limit: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A decision as it was stored: the record and the very bytes of the answer."""

    record: DecisionRecord
    answer: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer that holds: this one, or the one stored before under the same request."""

    answer: bytes
    was_stored_before: bool


class LostRace(Exception):
    """A contact that was free when the decision was made is taken: the candidate must be dropped and decided again.

    Attributes:
        treatment_id: whose contact it was.
        rule_id: the cap that was reached.
    """

    def __init__(self, treatment_id: str, rule_id: str) -> None:
        self.treatment_id = treatment_id
        self.rule_id = rule_id
        super().__init__(f"{treatment_id}: {rule_id} was reached by another decision")


class AssigneeTaken(LostRace):
    """Somebody who had room when the decision was made has none left: somebody else must be found.

    Attributes:
        person_id: who that is.
    """

    def __init__(self, treatment_id: str, person_id: str) -> None:
        self.person_id = person_id
        super().__init__(treatment_id, NOBODY_AVAILABLE)


class SendDecided(LostRace):
    """Another call decided the same send meanwhile: what it decided must be looked at before the send is decided anew.

    Attributes:
        sent: its decision.
    """

    def __init__(self, sent: str) -> None:
        self.sent = sent
        super().__init__(sent, "the send")


class LeaseEnded(Exception):
    """A lease that should become a contact is none any more: it expired, or a later decision took its place.

    Attributes:
        action_id: whose lease it was.
        contact: what is left of it; None where the decision never had one.
    """

    def __init__(self, action_id: str, contact: Contact | None) -> None:
        self.action_id = action_id
        self.contact = contact
        super().__init__(f"{action_id}: {'no lease' if contact is None else contact.status}")


@dataclass(frozen=True, slots=True)
class Reservation:
    """The contacts that a decision makes or leases, with the caps they must still fit under, checked in the commit.

    Attributes:
        contacts: none where a send is decided again and now gets no action.
        treatment_ids: of each contact.
        caps: every cap that any of them falls under.
        send_id: the send whose leases these contacts replace.
        spans: of a person with linked ids: whose contacts count, and are replaced, beside the customer's own.
        needs: what the contacts take of capacities and budgets, which must have that much left.
        assignees: who handles each contact, None where it is nobody in particular; empty where it is nobody at all.
        sent: the decision that held the place of the send when this one was made, empty where there was none; None
            where it does not matter.
    """

    contacts: tuple[Contact, ...]
    treatment_ids: tuple[str, ...]
    caps: tuple[CapLimit, ...]
    send_id: str | None = None
    spans: tuple[Span, ...] = ()
    needs: tuple[CapacityNeed, ...] = ()
    assignees: tuple[str | None, ...] = ()
    sent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Decisions to look at: of everybody or of one person, within a time, from a place on.

    Attributes:
        since: decided at this moment or later.
        until: decided before this moment.
        before: moment and id of the decision after which to go on.
        spans: of the person; empty for everybody.
        rows: how many at most.
    """

    since: int
    until: int
    rows: int
    before: tuple[int, str] | None = None
    spans: tuple[Span, ...] = ()


_SEVERITY = {"granted": 0, "withdrawn": 1, "objected": 2}


def newest_consents(told: Iterable[tuple[str, str, int]]) -> dict[str, str]:
    """The newest state by consent; of different ids at the same time the more restrictive.

    Args:
        told: consent, state and moment, from any of a person's ids.
    """
    newest: dict[str, tuple[int, int, str]] = {}
    for consent, state, at in told:
        # A state that this release does not know is taken for an objection.
        candidate = (at, _SEVERITY.get(state, len(_SEVERITY)), state)
        newest[consent] = max(newest.get(consent, candidate), candidate)
    return {consent: state for consent, (_, _, state) in newest.items()}


def customer_ids(spans: Iterable[Span], customer_id: str) -> tuple[str, ...]:
    """The ids of a person, each once, in order; the customer's own where there are no spans."""
    return tuple(sorted({span.customer_id for span in spans} or {customer_id}))


def decided_contacts(contacts: Iterable[Contact]) -> list[tuple[str, str]]:
    """Decision and action of the contacts that a decision made."""
    return [(contact.decision_id, contact.action_id) for contact in contacts if contact.decision_id]


class RecordStore(Protocol):
    """Append-only decisions with their counters. Everything it answered is durable."""

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts in one transaction, before the answer leaves.

        The same source, request id and request hash gives the answer stored before, and stores nothing.

        Raises:
            Conflict: the request id was used for another body.
            LostRace: a cap was reached, or the send decided, meanwhile; nothing was stored.
            StoreUnavailable: nothing was stored, or it is unknown whether it was: a retry tells.
        """

    def submit_commit(
        self, record: DecisionRecord, answer: bytes, reservation: Reservation | None
    ) -> Future[Committed]:
        """``commit`` for callers that must not block: the future resolves once the decision is on disk."""

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        """``submit_commit`` that may be begun only at ``write_left``, so that several share a transaction."""

    def write_left(self) -> None:
        """Begin to write what was left."""

    def commits(self) -> CommitFigures:
        """How the writing goes."""

    def decision(self, decision_id: str) -> Stored | None:
        """A decision by its id."""

    def decision_of_request(self, source: str, request_id: str) -> Stored | None:
        """A decision by its idempotency key."""

    def customer(
        self,
        customer_id: str,
        *,
        since: int,
        now: int,
        spans: Sequence[Span] = (),
        windows: Sequence[CapacityWindow] = (),
        send_id: str | None = None,
    ) -> CustomerRecords:
        """Contacts since ``since``, leases still live at ``now``, and consents of a customer.

        Where ``spans`` are given, of the person that they make up: what each id was told in its time. Of ``windows`` it
        also tells what is taken, without the leases of the customer's ``send_id``, whose place a new decision takes;
        and which decision holds the place of that send, whether it chose something or not.
        """

    def contacts(self, *, since: int, now: int, page: int = 10_000) -> Iterator[list[Contact]]:
        """Pages of the contacts of everybody since ``since``, and leases still live at ``now``, by customer.

        Each page is a read of its own, so that a long look keeps no writer waiting.
        """

    def capacity_used(self, windows: Sequence[CapacityWindow], *, now: int) -> dict[str, float]:
        """Units or money taken of each capacity and budget in a window, leases live at ``now`` included."""

    def put_persons(self, persons: Sequence[ToldPerson]) -> None:
        """Remember people, in one transaction; each takes the place of what was known under the same id.

        Where their open work is told, it takes the place of what decisions have added to it since.
        """

    def workforce(
        self, *, now: int, customer_ids: Sequence[str] = (), send_id: str | None = None
    ) -> tuple[OpenPerson, ...]:
        """Everybody, by id, with the work that is open at ``now``, without what leases of a send hold of it."""

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened, in one transaction; the same again changes nothing.

        A lease of the same decision and action becomes confirmed, at its new moment and over the new channel, if any.
        What it had reserved of capacities stays taken in the period that it was reserved in; where the lease had ended
        meanwhile it is taken again, also beyond the limit, since it happened. A contact that nothing was reserved for
        takes nothing.
        """

    def note_responses(self, responses: Sequence[ContactResponse]) -> None:
        """Remember what came back for contacts, in one transaction; the same again, or in another order, ends the same.

        Of several, one holds as ``ContactResponse.outweighs`` says. A contact is found under the id that answered and
        under the one that was decided on; an answer to a contact that the store does not hold is forgotten.
        """

    def activate(self, reservation: Reservation, *, at: int) -> tuple[Contact, ...]:
        """Turn leases into contacts counted at ``at``, all of them or none, in one transaction; again changes nothing.

        Args:
            reservation: the contacts that the leases of one decision are to become, and the caps they must fit under.
            at: now, microseconds since the epoch.

        Returns:
            The contacts as they stand, in the order of the reservation; those counted before as they were.

        Raises:
            LeaseEnded: a lease is not live at ``at``.
            LostRace: a cap was reached meanwhile.
            StoreUnavailable: nothing was changed, or it is unknown whether it was: a retry tells.
        """

    def newest(self, stretch: Stretch) -> list[DecisionRecord]:
        """Decisions of a stretch, newest first: of everybody by id, of a person by moment and then by id."""

    def forget_decisions(self, *, decided_before: int, most: int) -> int:
        """Delete the oldest decisions made before a moment, with contacts of theirs from before it, for good.

        Args:
            decided_before: microseconds since the epoch; what was decided in its very millisecond stays.
            most: how many at most, so that nobody waits long for the transaction.

        Returns:
            How many were deleted.
        """

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections as of a moment; the newest counts, and of one moment the last told."""

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """``set_consents`` for many customers, in one transaction."""

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions of an import, idempotent by source and request id; how many were new."""

    def newest_as_of(self) -> int:
        """The newest moment that a decision was made as of, microseconds since the epoch; 0 for none.

        Ids tell milliseconds: it is looked for among all decisions of the newest one.
        """

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids, from after ``after`` on."""

    def read_back(self, *, page: int = 200) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions, the newest by its id first."""

    def ids(self, *, after: str = "", page: int = 50_000) -> Iterator[list[str]]:
        """Pages of the ids of all decisions, in order, from after ``after`` on; no record is read for them."""

    def decisions(self, decision_ids: Sequence[str], *, page: int = 500) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids, in the order of the ids asked; those that are not there are left out.

        Each page is a read of its own, so that a long look keeps no writer waiting.
        """

    def check_writes(self) -> None:
        """Write something that changes nothing.

        Raises:
            StoreUnavailable: the store does not take writes.
        """

    def close(self) -> None:
        """Finish what is under way and release the store."""
