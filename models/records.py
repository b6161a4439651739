"""The port of the record store: decisions, contacts and consents, committed together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from features.commit_figures import CommitFigures
from features.identity import Span
from models.decision import DecisionRecord

ContactStatus = Literal["lease", "confirmed", "released"]


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact that was counted, or a lease on one."""

    decision_id: str
    customer_id: str
    action_id: str
    channel: str
    at: int
    status: ContactStatus
    expires_at: int
    send_id: str | None = None

    def is_lease_of(self, send_id: str | None) -> bool:
        """Whether it is the lease of a send, whose place the next decision for that send takes."""
        return self.status == "lease" and send_id is not None and self.send_id == send_id


@dataclass(frozen=True, slots=True)
class ConsentChange:
    """A consent that was granted or withdrawn, or an objection, at a moment."""

    customer_id: str
    consent: str
    state: str
    at: int


@dataclass(frozen=True, slots=True)
class CustomerRecords:
    """What the rules need from the record store, in one read.

    Attributes:
        contacts: contacts and live leases not older than asked for, oldest first.
        consents: newest state by consent: ``granted``, ``withdrawn`` or ``objected``.
    """

    contacts: tuple[Contact, ...] = ()
    consents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapLimit:
    """A contact cap as it applies to one decision: at most ``limit`` contacts since ``since``, this one included."""

    rule_id: str
    limit: int
    since: int
    channel: str | None = None


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


@dataclass(frozen=True, slots=True)
class Reservation:
    """The contacts that a decision makes or leases, with the caps they must still fit under, checked in the commit.

    Attributes:
        contacts: none where a send is decided again and now gets no action.
        treatment_ids: of each contact.
        caps: every cap that any of them falls under.
        send_id: the send whose leases these contacts replace.
        spans: of a person with linked ids: whose contacts count, and are replaced, beside the customer's own.
    """

    contacts: tuple[Contact, ...]
    treatment_ids: tuple[str, ...]
    caps: tuple[CapLimit, ...]
    send_id: str | None = None
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


class RecordStore(Protocol):
    """Append-only decisions with their counters. Everything it answered is durable."""

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts in one transaction, before the answer leaves.

        The same source, request id and request hash gives the answer stored before, and stores nothing.

        Raises:
            Conflict: the request id was used for another body.
            LostRace: a cap was reached meanwhile; nothing was stored.
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

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """Contacts since ``since``, leases still live at ``now``, and consents of a customer.

        Where ``spans`` are given, of the person that they make up: what each id was told in its time.
        """

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened, in one transaction; the same again changes nothing.

        A lease of the same decision and action becomes confirmed, at its new moment and over the new channel, if any.
        """

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections as of a moment; the newest counts, and of one moment the last told."""

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """``set_consents`` for many customers, in one transaction."""

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions of an import, idempotent by source and request id; how many were new."""

    def newest_as_of(self) -> int:
        """The moment that the newest decision, by its id, was made as of, microseconds since the epoch; 0 for none."""

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids, from after ``after`` on."""

    def check_writes(self) -> None:
        """Write something that changes nothing.

        Raises:
            StoreUnavailable: the store does not take writes.
        """

    def close(self) -> None:
        """Finish what is under way and release the store."""
