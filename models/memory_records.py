"""A record store in memory, for tests and trials."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

from msgspec import structs

from features.commit_figures import CommitFigures
from features.errors import Conflict
from features.identity import Span
from models.actions import NO_ACTION
from models.caps import check_caps, check_send, conflict_message, counts, kept_contacts, occasion
from models.decision import DecisionRecord
from models.ids import first_id_at
from models.leases import activated
from models.memory_capacity import MemoryLedger
from models.records import (
    CapacityWindow,
    Committed,
    ConsentChange,
    Contact,
    ContactResponse,
    CustomerRecords,
    Reservation,
    Stored,
    Stretch,
    customer_ids,
    decided_contacts,
    newest_consents,
)
from models.workforce import OpenPerson, ToldPerson


class MemoryRecordStore:
    """Keeps what ``models.records.RecordStore`` says in dictionaries; safe to call from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_id: dict[str, Stored] = {}
        self._ids: list[str] = []
        self._by_request: dict[tuple[str, str], Stored] = {}
        self._contacts: dict[tuple[str, str, str, int], Contact] = {}
        self._consents: dict[str, dict[tuple[str, int], str]] = {}
        self._ledger = MemoryLedger()

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts."""
        with self._guard:
            known = self._by_request.get((record.source, record.request_id))
            if known is not None:
                if known.record.request_hash != record.request_hash:
                    raise Conflict(conflict_message(record))
                return Committed(known.answer, was_stored_before=True)
            if reservation is not None:
                self._reserve(record, reservation)
            self._keep(Stored(record, answer))
            return Committed(answer, was_stored_before=False)

    def submit_commit(
        self, record: DecisionRecord, answer: bytes, reservation: Reservation | None
    ) -> Future[Committed]:
        """``commit`` as a future that is already done."""
        future: Future[Committed] = Future()
        try:
            future.set_result(self.commit(record, answer, reservation))
        except Exception as error:
            future.set_exception(error)
        return future

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        """``submit_commit``: nothing is gained by leaving it."""
        return self.submit_commit(record, answer, reservation)

    def write_left(self) -> None:
        """Nothing is ever left."""

    def commits(self) -> CommitFigures:
        """Nothing is ever under way."""
        return CommitFigures()

    def decision(self, decision_id: str) -> Stored | None:
        """A decision by its id."""
        return self._by_id.get(decision_id)

    def decision_of_request(self, source: str, request_id: str) -> Stored | None:
        """A decision by its idempotency key."""
        return self._by_request.get((source, request_id))

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
        """Contacts, live leases and consents of a customer or of spans, and what is taken of some windows."""
        with self._guard:
            contacts = [
                each
                for span in spans or (Span(customer_id),)
                for each in self._of_span(span)
                if each.at >= since and counts(each, now=now)
            ]
            told = [
                (consent, state, at)
                for span in spans or (Span(customer_id),)
                for (consent, at), state in self._consents.get(span.customer_id, {}).items()
                if span.holds(at)
            ]
            ids = customer_ids(spans, customer_id)
            used = self._ledger.used(windows, now=now, customer_ids=ids, send_id=send_id)
            sent = self._sent(ids, send_id)
        ordered = tuple(sorted(contacts, key=lambda each: each.at))
        return CustomerRecords(ordered, newest_consents(told), used, sent=sent)

    def contacts(self, *, since: int, now: int, page: int = 10_000) -> Iterator[list[Contact]]:
        """Pages of the contacts of everybody, by customer."""
        with self._guard:
            found = [
                each
                for _, each in sorted(self._contacts.items(), key=lambda item: item[0])
                if each.at >= since and counts(each, now=now)
            ]
        for start in range(0, len(found), page):
            yield found[start : start + page]

    def capacity_used(self, windows: Sequence[CapacityWindow], *, now: int) -> dict[str, float]:
        """Units or money taken of each capacity and budget in a window."""
        with self._guard:
            return self._ledger.used(windows, now=now)

    def put_persons(self, persons: Sequence[ToldPerson]) -> None:
        """Remember people."""
        with self._guard:
            self._ledger.put_persons(persons)

    def workforce(
        self, *, now: int, customer_ids: Sequence[str] = (), send_id: str | None = None
    ) -> tuple[OpenPerson, ...]:
        """Everybody, by id, with the work that is open, without what leases of a send hold of it."""
        with self._guard:
            return self._ledger.workforce(now=now, customer_ids=customer_ids, send_id=send_id)

    def _of_span(self, span: Span) -> list[Contact]:
        return [
            each for each in self._contacts.values() if each.customer_id == span.customer_id and span.holds(each.at)
        ]

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened."""
        with self._guard:
            for contact in contacts:
                key = _key(contact)
                known = self._contacts.get(key, structs.replace(contact, status="lease"))
                if known.status != "confirmed":
                    channel = contact.channel or known.channel
                    self._contacts[key] = structs.replace(known, status="confirmed", at=contact.at, channel=channel)
            self._ledger.confirm(decided_contacts(contacts))

    def note_responses(self, responses: Sequence[ContactResponse]) -> None:
        """Remember what came back for contacts."""
        with self._guard:
            for response in responses:
                decided = self._by_id.get(response.decision_id)
                ids = {response.customer_id} | ({decided.record.customer_id} if decided else set())
                for key, contact in self._contacts.items():
                    is_answered = contact.decision_id == response.decision_id and contact.customer_id in ids
                    if is_answered and response.outweighs(contact):
                        self._contacts[key] = structs.replace(contact, response=response.kind, response_at=response.at)

    def activate(self, reservation: Reservation, *, at: int) -> tuple[Contact, ...]:
        """Turn leases into contacts, all of them or none."""
        first = reservation.contacts[0]
        with self._guard:
            own = [one for one in self._contacts.values() if one.decision_id == first.decision_id]
            spans = reservation.spans or (Span(first.customer_id),)
            others = [each for span in spans for each in self._of_span(span)]
            given_back = self._ledger.given_back(first.decision_id)
            for contact in activated(reservation, own, others, at=at, given_back=given_back):
                self._contacts[_key(contact)] = contact
            self._ledger.confirm(decided_contacts(reservation.contacts))
            return tuple(self._contacts[_key(contact)] for contact in reservation.contacts)

    def newest(self, stretch: Stretch) -> list[DecisionRecord]:
        """Decisions of a stretch, newest first."""
        with self._guard:
            records = [stored.record for stored in self._by_id.values()]
        spans = stretch.spans
        chosen = [
            one
            for one in records
            if stretch.since <= one.decided_at < stretch.until
            and (not spans or any(one.customer_id == span.customer_id and span.holds(one.decided_at) for span in spans))
        ]

        def place(one: DecisionRecord) -> tuple[int, str]:
            return (one.decided_at if spans else 0, one.decision_id)

        if stretch.before is not None:
            at, decision_id = stretch.before
            chosen = [one for one in chosen if place(one) < (at if spans else 0, decision_id)]
        return sorted(chosen, key=place, reverse=True)[: stretch.rows]

    def forget_decisions(self, *, decided_before: int, most: int) -> int:
        """Delete the oldest decisions made before a moment, with their contacts from before it."""
        with self._guard:
            gone = self._ids[: bisect.bisect_left(self._ids, first_id_at(decided_before))][:most]
            for decision_id in gone:
                record = self._by_id.pop(decision_id).record
                del self._by_request[record.source, record.request_id]
            del self._ids[: len(gone)]
            old = set(gone)
            self._contacts = {
                key: one
                for key, one in self._contacts.items()
                if one.decision_id not in old or one.at >= decided_before
            }
        return len(gone)

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections."""
        self.apply_consents([ConsentChange(customer_id, consent, state, at) for consent, state in consents.items()])

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """Remember consents of many customers."""
        with self._guard:
            for change in changes:
                self._consents.setdefault(change.customer_id, {})[change.consent, change.at] = change.state

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions; how many were new."""
        with self._guard:
            new = 0
            for record in records:
                if (record.source, record.request_id) not in self._by_request and record.decision_id not in self._by_id:
                    self._keep(Stored(record, b""))
                    new += 1
            return new

    def newest_as_of(self) -> int:
        """The newest moment that the decisions of the newest millisecond, by their ids, were made as of; 0 for none."""
        with self._guard:
            if not self._ids:
                return 0
            newest = self._by_id[self._ids[-1]].record
            together = self._ids[bisect.bisect_left(self._ids, first_id_at(newest.decided_at)) :]
            return max([newest.as_of, *(self._by_id[one].record.as_of for one in together)])

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids."""
        while chosen := self._ids[bisect.bisect_right(self._ids, after) :][:page]:
            yield [self._by_id[decision_id].record for decision_id in chosen]
            after = chosen[-1]

    def read_back(self, *, page: int = 200) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions, the newest by its id first."""
        with self._guard:
            ids = self._ids[::-1]
        for start in range(0, len(ids), page):
            yield [self._by_id[one].record for one in ids[start : start + page]]

    def ids(self, *, after: str = "", page: int = 50_000) -> Iterator[list[str]]:
        """Pages of the ids of all decisions, in order."""
        while chosen := self._ids[bisect.bisect_right(self._ids, after) :][:page]:
            yield list(chosen)
            after = chosen[-1]

    def decisions(self, decision_ids: Sequence[str], *, page: int = 500) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids, in the order asked."""
        for start in range(0, len(decision_ids), page):
            asked = decision_ids[start : start + page]
            yield [self._by_id[one].record for one in asked if one in self._by_id]

    def check_writes(self) -> None:
        """It can always be written."""

    def close(self) -> None:
        """Nothing to release."""

    def _reserve(self, record: DecisionRecord, reservation: Reservation) -> None:
        spans = reservation.spans or (Span(record.customer_id),)
        ids = customer_ids(spans, record.customer_id)
        check_send(reservation, self._sent(ids, reservation.send_id))
        check_caps(reservation, [each for span in spans for each in self._of_span(span)], now=record.decided_at)
        self._ledger.reserve(reservation, now=record.decided_at, customer_ids=ids)
        if reservation.send_id is not None:
            for customer_id in ids:
                self._release(customer_id, reservation.send_id)
        for contact in kept_contacts(record, reservation):
            self._contacts[_key(contact)] = contact

    def _sent(self, ids: Sequence[str], send_id: str | None) -> str:
        """The decision that holds the place of a send; empty where there is none."""
        places = (one for one in self._contacts.values() if one.send_id == send_id and one.action_id == NO_ACTION)
        held = {one.customer_id: one.decision_id for one in places if one.decision_id in self._by_id}
        return "" if send_id is None else next((held[one] for one in ids if one in held), "")

    def _release(self, customer_id: str, send_id: str) -> None:
        for key, known in list(self._contacts.items()):
            if (known.customer_id, known.send_id) != (customer_id, send_id):
                continue
            if known.action_id == NO_ACTION:
                del self._contacts[key]
            elif known.status == "lease":
                self._contacts[key] = structs.replace(known, status="released")

    def _keep(self, stored: Stored) -> None:
        record = stored.record
        self._by_id[record.decision_id] = stored
        self._by_request[record.source, record.request_id] = stored
        bisect.insort(self._ids, record.decision_id)


def _key(contact: Contact) -> tuple[str, str, str, int]:
    return (contact.customer_id, contact.decision_id, contact.action_id, occasion(contact))
