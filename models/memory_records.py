"""A record store in memory, for tests and trials."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from features.commit_figures import CommitFigures
from features.errors import Conflict
from features.identity import Span
from models.caps import check_caps, conflict_message, counts, occasion
from models.decision import DecisionRecord
from models.records import Committed, ConsentChange, Contact, CustomerRecords, Reservation, Stored, newest_consents


class MemoryRecordStore:
    """Keeps what ``models.records.RecordStore`` says in dictionaries; safe to call from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_id: dict[str, Stored] = {}
        self._ids: list[str] = []
        self._by_request: dict[tuple[str, str], Stored] = {}
        self._contacts: dict[tuple[str, str, str, int], Contact] = {}
        self._consents: dict[str, dict[tuple[str, int], str]] = {}

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

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """Contacts, live leases and consents of a customer, or of the person that spans make up."""
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
        return CustomerRecords(tuple(sorted(contacts, key=lambda each: each.at)), newest_consents(told))

    def _of_span(self, span: Span) -> list[Contact]:
        return [
            each for each in self._contacts.values() if each.customer_id == span.customer_id and span.holds(each.at)
        ]

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened."""
        with self._guard:
            for contact in contacts:
                key = _key(contact)
                known = self._contacts.get(key, replace(contact, status="lease"))
                if known.status != "confirmed":
                    channel = contact.channel or known.channel
                    self._contacts[key] = replace(known, status="confirmed", at=contact.at, channel=channel)

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
        """The moment that the newest decision, by its id, was made as of; 0 for none."""
        with self._guard:
            return self._by_id[max(self._by_id)].record.as_of if self._by_id else 0

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids."""
        while chosen := self._ids[bisect.bisect_right(self._ids, after) :][:page]:
            yield [self._by_id[decision_id].record for decision_id in chosen]
            after = chosen[-1]

    def check_writes(self) -> None:
        """It can always be written."""

    def close(self) -> None:
        """Nothing to release."""

    def _reserve(self, record: DecisionRecord, reservation: Reservation) -> None:
        spans = reservation.spans or (Span(record.customer_id),)
        check_caps(reservation, [each for span in spans for each in self._of_span(span)], now=record.decided_at)
        if reservation.send_id is not None:
            for customer_id in {span.customer_id for span in spans}:
                self._release(customer_id, reservation.send_id)
        for contact in reservation.contacts:
            self._contacts[_key(contact)] = contact

    def _release(self, customer_id: str, send_id: str) -> None:
        for key, known in self._contacts.items():
            if (known.customer_id, known.send_id, known.status) == (customer_id, send_id, "lease"):
                self._contacts[key] = replace(known, status="released")

    def _keep(self, stored: Stored) -> None:
        record = stored.record
        self._by_id[record.decision_id] = stored
        self._by_request[record.source, record.request_id] = stored
        bisect.insort(self._ids, record.decision_id)


def _key(contact: Contact) -> tuple[str, str, str, int]:
    return (contact.customer_id, contact.decision_id, contact.action_id, occasion(contact))
