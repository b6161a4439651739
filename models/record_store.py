"""The record store on SQLite: decisions, contacts and consents, committed together or not at all.

A commit is one job of the one writing thread: whether the request was answered before, whether the caps still have
room, and the insert are one transaction, so caps are exact under any concurrency. Records are kept as the canonical
bytes of ``models.decision``; the columns beside them only find them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from features.commit_figures import CommitFigures
from features.errors import Conflict
from features.events import day_of
from features.identity import Span
from features.sql_text import BYTES, TEXT, WHOLE, ZERO, sqlite_text
from features.sqlite_files import Durability
from features.sqlite_store import SqliteStore
from models.caps import check_caps, conflict_message, occasion
from models.decision import DecisionRecord, dump_record, load_record
from models.records import (
    Committed,
    ConsentChange,
    Contact,
    CustomerRecords,
    Reservation,
    Stored,
    newest_consents,
)

LAYOUT_VERSION: Final = 2
_UPGRADES: Final = {
    1: (
        "INSERT INTO consent_changes (customer_id, consent, state, at) "
        "SELECT customer_id, consent, state, at FROM consents",
        "DROP TABLE consents",
    )
}
"""Version 1 kept only the newest state of each consent."""

metadata = MetaData()
decisions_table = Table(
    "decisions",
    metadata,
    Column("decision_id", TEXT, primary_key=True),
    Column("source", TEXT, nullable=False),
    Column("request_id", TEXT, nullable=False),
    Column("request_hash", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("decided_at", WHOLE, nullable=False),
    Column("day", WHOLE, nullable=False),
    Column("record", BYTES, nullable=False),
    Column("answer", BYTES, nullable=False),
    UniqueConstraint("source", "request_id", name="decisions_request"),
)
Index("decisions_of_customer", decisions_table.c.customer_id, decisions_table.c.decided_at)
Index("decisions_of_day", decisions_table.c.day)
contacts_table = Table(
    "contacts",
    metadata,
    Column("decision_id", TEXT, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("action_id", TEXT, nullable=False),
    Column("channel", TEXT, nullable=False),
    Column("at", WHOLE, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("expires_at", WHOLE, nullable=False),
    Column("send_id", TEXT),
    Column("occasion", WHOLE, nullable=False),
    PrimaryKeyConstraint("customer_id", "decision_id", "action_id", "occasion", name="contacts_identity"),
)
Index("contacts_of_customer", contacts_table.c.customer_id, contacts_table.c.at)
consents_table = Table(
    "consent_changes",
    metadata,
    Column("customer_id", TEXT, nullable=False),
    Column("consent", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("at", WHOLE, nullable=False),
    PrimaryKeyConstraint("customer_id", "consent", "at", name="consent_changes_identity"),
)

_d, _c = decisions_table.c, contacts_table.c
_CONFIRMED, _LEASE, _RELEASED = (literal_column(f"'{status}'", TEXT) for status in ("confirmed", "lease", "released"))
_CONTACT = (_c.decision_id, _c.customer_id, _c.action_id, _c.channel, _c.at, _c.status, _c.expires_at, _c.send_id)

_INSERT_DECISION = sqlite_text(insert(decisions_table))
_INSERT_IMPORTED = sqlite_text(insert(decisions_table).on_conflict_do_nothing())
_OF_REQUEST = and_(_d.source == bindparam("source"), _d.request_id == bindparam("request_id"))
_ANSWERED = sqlite_text(select(_d.request_hash, _d.answer).where(_OF_REQUEST))
_BY_REQUEST = sqlite_text(select(_d.record, _d.answer).where(_OF_REQUEST))
_BY_ID = sqlite_text(select(_d.record, _d.answer).where(_d.decision_id == bindparam("decision_id")))
_PAGE = sqlite_text(
    select(_d.decision_id, _d.record)
    .where(_d.decision_id > bindparam("after"))
    .order_by(_d.decision_id)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_NEWEST = sqlite_text(select(_d.record).order_by(_d.decision_id.desc()).limit(literal_column("1", WHOLE)).offset(ZERO))
_COUNTED = sqlite_text(
    select(*_CONTACT)
    .where(
        _c.customer_id == bindparam("customer_id"),
        _c.at >= bindparam("since"),
        _c.at < bindparam("valid_until"),
        or_(_c.status == _CONFIRMED, and_(_c.status == _LEASE, _c.expires_at > bindparam("now"))),
    )
    .order_by(_c.at)
)
_INSERT_CONTACT = sqlite_text(insert(contacts_table))
_RELEASE_SEND = sqlite_text(
    update(contacts_table)
    .where(_c.customer_id == bindparam("customer"), _c.send_id == bindparam("send"), _c.status == _LEASE)
    .values(status=_RELEASED)
)
_confirm = insert(contacts_table)
_CONFIRM = sqlite_text(
    _confirm.on_conflict_do_update(
        index_elements=[_c.customer_id, _c.decision_id, _c.action_id, _c.occasion],
        set_={
            "status": _CONFIRMED,
            "at": _confirm.excluded.at,
            "channel": func.coalesce(func.nullif(_confirm.excluded.channel, literal_column("''", TEXT)), _c.channel),
        },
        where=_c.status != _CONFIRMED,
    )
)
_consent = insert(consents_table)
_SET_CONSENT = sqlite_text(
    _consent.on_conflict_do_update(
        index_elements=[consents_table.c.customer_id, consents_table.c.consent, consents_table.c.at],
        set_={"state": _consent.excluded.state},
    )
)
_CONSENTS = sqlite_text(
    select(consents_table.c.consent, consents_table.c.state, consents_table.c.at).where(
        consents_table.c.customer_id == bindparam("customer_id"),
        consents_table.c.at >= bindparam("valid_from"),
        consents_table.c.at < bindparam("valid_until"),
    )
)

_Row: TypeAlias = dict[str, Any]


class SqlRecordStore:
    """The record store in one SQLite file; ``models.records.RecordStore`` says what it promises.

    Args:
        path: the file; made with its folder where it is missing, unless ``readonly``.
        readonly: read what another process writes; takes no lock and cannot write.
        durability: ``NORMAL`` gives up answered decisions at a power loss, for speed.

    Raises:
        HomeLocked: if another process writes the file.
        UnknownObject: if there is no such file and it was opened read-only.
        StoreUnavailable: if the file cannot be opened.
        StoreCorrupted: if it is no record store of this layout.
    """

    def __init__(self, path: Path, *, readonly: bool = False, durability: Durability = "FULL") -> None:
        self._file = SqliteStore(
            path, metadata, LAYOUT_VERSION, readonly=readonly, durability=durability, upgrades=_UPGRADES
        )

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts in one transaction, before the answer leaves."""
        return self._file.run(_committing(record, answer, reservation))

    def submit_commit(
        self, record: DecisionRecord, answer: bytes, reservation: Reservation | None
    ) -> Future[Committed]:
        """``commit`` for callers that must not block: the future resolves once the decision is on disk."""
        return self._file.submit(_committing(record, answer, reservation))

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        """``submit_commit`` that is begun at ``write_left``, with all others that were left until then."""
        return self._file.leave(_committing(record, answer, reservation))

    def write_left(self) -> None:
        """Begin to write what was left."""
        self._file.write_left()

    def commits(self) -> CommitFigures:
        """How the writing goes."""
        return self._file.commits

    def decision(self, decision_id: str) -> Stored | None:
        """A decision by its id."""
        return self._stored(_BY_ID, {"decision_id": decision_id})

    def decision_of_request(self, source: str, request_id: str) -> Stored | None:
        """A decision by its idempotency key."""
        return self._stored(_BY_REQUEST, {"source": source, "request_id": request_id})

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """Contacts since ``since``, leases still live at ``now``, and consents of a customer or of spans."""
        keys = [_span_key(span, since=since, now=now) for span in spans or (Span(customer_id),)]
        with self._file.reading() as connection:
            contacts = _counted(connection, keys)
            told = [row for key in keys for row in connection.execute(_CONSENTS, key).fetchall()]
        return CustomerRecords(tuple(contacts), newest_consents(told))

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened, in one transaction; the same again changes nothing."""
        rows = [{**_contact_row(contact), "status": "confirmed"} for contact in contacts]
        self._file.submit(lambda connection: connection.executemany(_CONFIRM, rows).close()).result()

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections as of a moment."""
        self.apply_consents([ConsentChange(customer_id, consent, state, at) for consent, state in consents.items()])

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """``set_consents`` for many customers, in one transaction."""
        rows = [
            {"customer_id": change.customer_id, "consent": change.consent, "state": change.state, "at": change.at}
            for change in changes
        ]
        self._file.submit(lambda connection: connection.executemany(_SET_CONSENT, rows).close()).result()

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions of an import, idempotent by source and request id; how many were new."""
        rows = [_row(record, b"") for record in records]

        def insert_new(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.executemany(_INSERT_IMPORTED, rows)
            return connection.total_changes - before

        return self._file.submit(insert_new).result()

    def newest_as_of(self) -> int:
        """The moment that the newest decision, by its id, was made as of, microseconds since the epoch; 0 for none."""
        with self._file.reading() as connection:
            row = connection.execute(_NEWEST).fetchone()
        return 0 if row is None else load_record(row[0]).as_of

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids, from after ``after`` on; each page is a read of its own."""
        while True:
            with self._file.reading() as connection:
                rows = connection.execute(_PAGE, {"after": after, "page": page}).fetchall()
            if not rows:
                return
            yield [load_record(record) for _, record in rows]
            after = rows[-1][0]

    def check_writes(self) -> None:
        """Raise where the file cannot be written."""
        self._file.check_writes()

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._file.close()

    def _stored(self, statement: str, key: Mapping[str, str]) -> Stored | None:
        with self._file.reading() as connection:
            row = connection.execute(statement, key).fetchone()
        return None if row is None else Stored(load_record(row[0]), row[1])


def _committing(
    record: DecisionRecord, answer: bytes, reservation: Reservation | None
) -> Callable[[sqlite3.Connection], Committed]:
    row = _row(record, answer)
    return lambda connection: _commit(connection, record, row, reservation)


def _commit(
    connection: sqlite3.Connection, record: DecisionRecord, row: _Row, reservation: Reservation | None
) -> Committed:
    answered = connection.execute(_ANSWERED, row).fetchone()
    if answered is not None:
        if answered[0] != record.request_hash:
            raise Conflict(conflict_message(record))
        return Committed(answered[1], was_stored_before=True)
    if reservation is not None:
        _reserve(connection, record, reservation)
    connection.execute(_INSERT_DECISION, row)
    return Committed(row["answer"], was_stored_before=False)


def _reserve(connection: sqlite3.Connection, record: DecisionRecord, reservation: Reservation) -> None:
    since = min((cap.since for cap in reservation.caps), default=record.decided_at)
    spans = reservation.spans or (Span(record.customer_id),)
    existing = _counted(connection, [_span_key(span, since=since, now=record.decided_at) for span in spans])
    check_caps(reservation, existing, now=record.decided_at)
    if reservation.send_id is not None:
        sends = [{"customer": one, "send": reservation.send_id} for one in sorted({span.customer_id for span in spans})]
        connection.executemany(_RELEASE_SEND, sends)
    connection.executemany(_INSERT_CONTACT, [_contact_row(contact) for contact in reservation.contacts])


def _counted(connection: sqlite3.Connection, keys: Sequence[_Row]) -> list[Contact]:
    """Contacts that count, of all keys together, oldest first."""
    contacts = [Contact(*row) for key in keys for row in connection.execute(_COUNTED, key).fetchall()]
    return contacts if len(keys) == 1 else sorted(contacts, key=lambda contact: contact.at)


def _span_key(span: Span, *, since: int, now: int) -> _Row:
    return {
        "customer_id": span.customer_id,
        "since": max(since, span.valid_from),
        "now": now,
        "valid_from": span.valid_from,
        "valid_until": span.valid_until,
    }


def _row(record: DecisionRecord, answer: bytes) -> _Row:
    return {
        "decision_id": record.decision_id,
        "source": record.source,
        "request_id": record.request_id,
        "request_hash": record.request_hash,
        "customer_id": record.customer_id,
        "decided_at": record.decided_at,
        "day": day_of(record.decided_at),
        "record": dump_record(record),
        "answer": answer,
    }


def _contact_row(contact: Contact) -> _Row:
    return {
        "decision_id": contact.decision_id,
        "customer_id": contact.customer_id,
        "action_id": contact.action_id,
        "channel": contact.channel,
        "at": contact.at,
        "status": contact.status,
        "expires_at": contact.expires_at,
        "send_id": contact.send_id,
        "occasion": occasion(contact),
    }
