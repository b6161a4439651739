"""The record store in SQL tables: decisions, contacts and consents, committed together or not at all.

Its tables are in ``models.record_tables`` and what is written in one transaction in ``models.record_writes``. The
statements are in ``decision_rows``, ``contact_rows``, ``consent_rows`` and ``capacity_tables``; jobs: ``job_store``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from features.commit_figures import CommitFigures
from features.home import Home
from features.identity import Span
from features.sql_store import Place, open_store
from features.sql_text import SqlConnection
from features.sqlite_files import Durability
from models import capacity_tables, consent_rows, contact_rows, decision_rows, record_writes
from models.decision import DecisionRecord, load_record
from models.job_store import SqlJobs
from models.record_tables import LAYOUT
from models.record_writes import CAPACITY, commit_keys, committing
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
    newest_consents,
)
from models.workforce import OpenPerson, ToldPerson


class SqlRecordStore:
    """The record store in one SQLite file or PostgreSQL database; ``models.records.RecordStore`` says what it promises.

    Args:
        place: the file, made with its folder where it is missing, unless ``readonly``; or the database.
        readonly: read what another process writes; takes no lock and cannot write.
        durability: ``NORMAL`` gives up answered decisions at a power loss, for speed.

    Attributes:
        jobs: kept in the same place, by the same writer; closed with it.

    Raises:
        HomeLocked: if another process writes the file.
        UnknownObject: if there is no such file and it was opened read-only, or the database has no tables.
        StoreUnavailable: if file or database cannot be opened.
        StoreCorrupted: if it is no record store of this layout.
    """

    def __init__(self, place: Place, *, readonly: bool = False, durability: Durability = "FULL") -> None:
        self._store = open_store(place, LAYOUT, readonly=readonly, durability=durability)
        self.jobs = SqlJobs(self._store)

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts in one transaction, before the answer leaves."""
        return self._store.run(committing(record, answer, reservation), keys=commit_keys(record, reservation))

    def submit_commit(
        self, record: DecisionRecord, answer: bytes, reservation: Reservation | None
    ) -> Future[Committed]:
        """``commit`` for callers that must not block: the future resolves once the decision is on disk."""
        return self._store.submit(committing(record, answer, reservation), keys=commit_keys(record, reservation))

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        """``submit_commit`` that is begun at ``write_left``, with all others that were left until then."""
        return self._store.leave(committing(record, answer, reservation), keys=commit_keys(record, reservation))

    def write_left(self) -> None:
        """Begin to write what was left."""
        self._store.write_left()

    def commits(self) -> CommitFigures:
        """How the writing goes."""
        return self._store.commits

    def decision(self, decision_id: str) -> Stored | None:
        """A decision by its id."""
        with self._store.reading() as connection:
            row = decision_rows.by_id(connection, decision_id)
        return _stored(row)

    def decision_of_request(self, source: str, request_id: str) -> Stored | None:
        """A decision by its idempotency key."""
        with self._store.reading() as connection:
            row = decision_rows.by_request(connection, source, request_id)
        return _stored(row)

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
        within = spans or (Span(customer_id),)
        with self._store.reading() as connection:
            contacts = contact_rows.counted(connection, within, since=since, now=now)
            told = consent_rows.told(connection, within)
            ids = customer_ids(spans, customer_id)
            used = capacity_tables.used(connection, windows, now=now, customer_ids=ids, send_id=send_id)
            sent = "" if send_id is None else contact_rows.sent(connection, ids, send_id)
        return CustomerRecords(tuple(contacts), newest_consents(told), used, sent=sent)

    def contacts(self, *, since: int, now: int, page: int = 10_000) -> Iterator[list[Contact]]:
        """Pages of the contacts of everybody, by customer; each page is a read of its own."""
        after = ("", "", "", 0)
        while True:
            with self._store.reading() as connection:
                found, after = contact_rows.counted_page(connection, after, since=since, now=now, page=page)
            if not found:
                return
            yield found

    def capacity_used(self, windows: Sequence[CapacityWindow], *, now: int) -> dict[str, float]:
        """Units or money taken of each capacity and budget in a window, leases live at ``now`` included."""
        with self._store.reading() as connection:
            return capacity_tables.used(connection, windows, now=now)

    def put_persons(self, persons: Sequence[ToldPerson]) -> None:
        """Remember people, in one transaction."""
        self._store.submit(
            lambda connection: capacity_tables.put_persons(connection, persons), keys=[CAPACITY]
        ).result()

    def workforce(
        self, *, now: int, customer_ids: Sequence[str] = (), send_id: str | None = None
    ) -> tuple[OpenPerson, ...]:
        """Everybody, by id, with the work that is open, without what leases of a send hold of it."""
        with self._store.reading() as connection:
            return capacity_tables.workforce(connection, now=now, customer_ids=customer_ids, send_id=send_id)

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened, in one transaction; the same again changes nothing."""
        self._store.submit(record_writes.confirming(contacts), keys=record_writes.confirmation_keys(contacts)).result()

    def note_responses(self, responses: Sequence[ContactResponse]) -> None:
        """Remember what came back for contacts, in one transaction; the same again changes nothing."""
        if responses:
            keys = [f"decision/{response.decision_id}" for response in responses]
            self._store.submit(
                lambda connection: contact_rows.note_responses(connection, responses), keys=keys
            ).result()

    def activate(self, reservation: Reservation, *, at: int) -> tuple[Contact, ...]:
        """Turn leases into contacts, all of them or none, in one transaction."""
        return self._store.run(
            lambda connection: record_writes.activate(connection, reservation, at=at),
            keys=record_writes.activation_keys(reservation),
        )

    def newest(self, stretch: Stretch) -> list[DecisionRecord]:
        """Decisions of a stretch, newest first."""
        with self._store.reading() as connection:
            return decision_rows.newest(connection, stretch)

    def forget_decisions(self, *, decided_before: int, most: int) -> int:
        """Delete the oldest decisions made before a moment, with their contacts from before it."""
        return self._store.submit(
            lambda connection: record_writes.forget(connection, decided_before=decided_before, most=most),
            keys=record_writes.FORGETTING,
        ).result()

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections as of a moment."""
        self.apply_consents([ConsentChange(customer_id, consent, state, at) for consent, state in consents.items()])

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """``set_consents`` for many customers, in one transaction."""
        rows = [consent_rows.change_row(change) for change in changes]
        # For their order alone: two processes that wrote the same consents in turn would wait for each other.
        keys = [f"consents/{change.customer_id}" for change in changes]
        self._store.submit(lambda connection: consent_rows.put_changes(connection, rows), keys=keys).result()

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions of an import, idempotent by source and request id; how many were new."""
        rows = [decision_rows.decision_row(record, b"") for record in records]
        if not rows:
            return 0
        keys = [record_writes.request_key(record) for record in records]
        return self._store.submit(
            lambda connection: decision_rows.insert_imported(connection, rows), keys=keys
        ).result()

    def newest_as_of(self) -> int:
        """The newest moment that the decisions of the newest millisecond, by their ids, were made as of; 0 for none."""
        with self._store.reading() as connection:
            return decision_rows.newest_as_of(connection)

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids, from after ``after`` on; each page is a read of its own."""
        for rows in self._pages(decision_rows.page, after, page):
            yield [load_record(record) for _, record in rows]

    def read_back(self, *, page: int = 200) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions, the newest by its id first; each page is a read of its own."""
        for rows in self._pages(decision_rows.page_back, decision_rows.AFTER_ALL, page):
            yield [load_record(record) for _, record in rows]

    def ids(self, *, after: str = "", page: int = 50_000) -> Iterator[list[str]]:
        """Pages of the ids of all decisions, in order; each page is a read of its own, of the index alone."""
        for rows in self._pages(decision_rows.page_of_ids, after, page):
            yield [row[0] for row in rows]

    def _pages(
        self, page_from: Callable[[SqlConnection, str, int], list[Any]], start: str, page: int
    ) -> Iterator[list[Any]]:
        """Pages of rows that begin with an id, each from the last id of the page before on."""
        while True:
            with self._store.reading() as connection:
                rows = page_from(connection, start, page)
            if not rows:
                return
            yield rows
            start = rows[-1][0]

    def decisions(self, decision_ids: Sequence[str], *, page: int = 500) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids, in the order asked; each page is a read of its own."""
        for start in range(0, len(decision_ids), page):
            with self._store.reading() as connection:
                records = decision_rows.records(connection, decision_ids[start : start + page])
            yield [load_record(record) for record in records]

    def check_writes(self) -> None:
        """Raise where the file cannot be written."""
        self._store.check_writes()

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._store.close()


def open_record_store(home: Home, *, readonly: bool = False, durability: Durability = "FULL") -> SqlRecordStore:
    """The record store of an installation; errors are those of ``SqlRecordStore``."""
    return SqlRecordStore(home.records_place, readonly=readonly, durability=durability)


def _stored(row: tuple[bytes, bytes] | None) -> Stored | None:
    return None if row is None else Stored(load_record(row[0]), row[1])
