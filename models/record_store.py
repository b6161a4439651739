"""The record store in SQL tables: decisions, contacts and consents, committed together or not at all.

A commit is one job: whether the request was answered before, whether the caps still have room, and the insert are one
transaction, in which nobody else decides for the same request, person or capacity, so caps are exact under any
concurrency. Records are kept as the canonical
bytes of ``models.decision``; the columns beside them only find them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
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
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from features.commit_figures import CommitFigures
from features.errors import Conflict
from features.events import day_of
from features.home import Home
from features.identity import Span
from features.sql_store import Layout, Place, open_store
from features.sql_text import BYTES, TEXT, WHOLE, ZERO, SqlConnection, Statement, statement
from features.sqlite_files import Durability
from models import capacity_tables, job_store
from models.actions import NO_ACTION
from models.caps import check_caps, check_send, conflict_message, kept_contacts, occasion
from models.decision import DecisionRecord, dump_record, load_record
from models.ids import first_id_at
from models.job_store import SqlJobs
from models.leases import activated
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

_RESPONSES: Final = (
    "ALTER TABLE contacts ADD COLUMN response TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE contacts ADD COLUMN response_at INTEGER NOT NULL DEFAULT 0",
)
_UPGRADES: Final = {
    1: (
        "INSERT INTO consent_changes (customer_id, consent, state, at) "
        "SELECT customer_id, consent, state, at FROM consents",
        "DROP TABLE consents",
        *_RESPONSES,
    ),
    2: _RESPONSES,
    3: (),
}
"""Version 1 kept only the newest state of each consent, version 2 nothing of what came back for a contact,
of capacities and of people, version 3 no jobs."""

metadata = MetaData()
for _table in (*capacity_tables.metadata.sorted_tables, *job_store.metadata.sorted_tables):
    _table.to_metadata(metadata)
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
    Column("response", TEXT, nullable=False, server_default=""),
    Column("response_at", WHOLE, nullable=False, server_default=text("0")),
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

LAYOUT: Final = Layout(metadata, version=4, facts=("decisions", "contacts", "consent_changes"), upgrades=_UPGRADES)

_d, _c = decisions_table.c, contacts_table.c
_CONFIRMED, _LEASE, _RELEASED = (literal_column(f"'{status}'", TEXT) for status in ("confirmed", "lease", "released"))
_CONTACT = (
    _c.decision_id,
    _c.customer_id,
    _c.action_id,
    _c.channel,
    _c.at,
    _c.status,
    _c.expires_at,
    _c.send_id,
    _c.response,
    _c.response_at,
)

_INSERT_DECISION = statement(insert(decisions_table))
_INSERT_IMPORTED = statement(insert(decisions_table).on_conflict_do_nothing())
_OF_REQUEST = and_(_d.source == bindparam("source"), _d.request_id == bindparam("request_id"))
_ANSWERED = statement(select(_d.request_hash, _d.answer).where(_OF_REQUEST))
_BY_REQUEST = statement(select(_d.record, _d.answer).where(_OF_REQUEST))
_BY_ID = statement(select(_d.record, _d.answer).where(_d.decision_id == bindparam("decision_id")))
_PAGE = statement(
    select(_d.decision_id, _d.record)
    .where(_d.decision_id > bindparam("after"))
    .order_by(_d.decision_id)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_PAGE_BACK = statement(
    select(_d.decision_id, _d.record)
    .where(_d.decision_id < bindparam("before"))
    .order_by(_d.decision_id.desc())
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_PAGE_OF_IDS = statement(
    select(_d.decision_id)
    .where(_d.decision_id > bindparam("after"))
    .order_by(_d.decision_id)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_RECORD = statement(select(_d.record).where(_d.decision_id == bindparam("decision_id")))
_NEWEST = statement(select(_d.record).order_by(_d.decision_id.desc()).limit(literal_column("1", WHOLE)).offset(ZERO))
_SINCE_ID = statement(select(_d.record).where(_d.decision_id >= bindparam("first")))
_COUNTED = statement(
    select(*_CONTACT)
    .where(
        _c.customer_id == bindparam("customer_id"),
        _c.at >= bindparam("since"),
        _c.at < bindparam("valid_until"),
        or_(_c.status == _CONFIRMED, and_(_c.status == _LEASE, _c.expires_at > bindparam("now"))),
    )
    .order_by(_c.at)
)
_IDENTITY = (_c.customer_id, _c.decision_id, _c.action_id, _c.occasion)
_ALL_COUNTED = statement(
    select(*_CONTACT, _c.occasion)
    .where(
        tuple_(*_IDENTITY)
        > tuple_(
            bindparam("after_customer", type_=TEXT),
            bindparam("after_decision", type_=TEXT),
            bindparam("after_action", type_=TEXT),
            bindparam("after_occasion", type_=WHOLE),
        ),
        _c.at >= bindparam("since"),
        or_(_c.status == _CONFIRMED, and_(_c.status == _LEASE, _c.expires_at > bindparam("now"))),
    )
    .order_by(*_IDENTITY)
    .limit(bindparam("page", type_=WHOLE))
    .offset(ZERO)
)
_INSERT_CONTACT = statement(insert(contacts_table))
_RELEASE_SEND = statement(
    update(contacts_table)
    .where(_c.customer_id == bindparam("customer"), _c.send_id == bindparam("send"), _c.status == _LEASE)
    .values(status=_RELEASED)
)
_OF_SEND = and_(_c.customer_id == bindparam("customer"), _c.send_id == bindparam("send"))
_IS_PLACE = _c.action_id == literal_column(f"'{NO_ACTION}'", TEXT)
_SENT = statement(
    select(_d.decision_id)
    .select_from(contacts_table.join(decisions_table, _d.decision_id == _c.decision_id))
    .where(_OF_SEND, _IS_PLACE)
)
_GIVE_UP_PLACE = statement(delete(contacts_table).where(_OF_SEND, _IS_PLACE))
_confirm = insert(contacts_table)
_CONFIRM = statement(
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
_ANSWERED_CONTACTS = statement(
    select(*_CONTACT, _c.occasion).where(
        _c.decision_id == bindparam("decision_id"),
        or_(
            _c.customer_id == bindparam("customer_id"),
            _c.customer_id
            == select(_d.customer_id).where(_d.decision_id == bindparam("decision_id")).scalar_subquery(),
        ),
    )
)
_NOTE_RESPONSE = statement(
    update(contacts_table)
    .where(
        _c.customer_id == bindparam("customer"),
        _c.decision_id == bindparam("decision"),
        _c.action_id == bindparam("action"),
        _c.occasion == bindparam("occurrence"),
    )
    .values(response=bindparam("kind"), response_at=bindparam("moment"))
)
_consent = insert(consents_table)
_SET_CONSENT = statement(
    _consent.on_conflict_do_update(
        index_elements=[consents_table.c.customer_id, consents_table.c.consent, consents_table.c.at],
        set_={"state": _consent.excluded.state},
    )
)
_CONSENTS = statement(
    select(consents_table.c.consent, consents_table.c.state, consents_table.c.at).where(
        consents_table.c.customer_id == bindparam("customer_id"),
        consents_table.c.at >= bindparam("valid_from"),
        consents_table.c.at < bindparam("valid_until"),
    )
)

_WITHIN = and_(_d.decided_at >= bindparam("since"), _d.decided_at < bindparam("until"))
_NEWEST_OF_ALL = statement(
    select(_d.record)
    .where(_d.decision_id >= bindparam("first"), _d.decision_id < bindparam("end"), _WITHIN)
    .order_by(_d.decision_id.desc())
    .limit(bindparam("rows", type_=WHOLE))
    .offset(ZERO)
)
_before_at, _before_id = bindparam("before_at", type_=WHOLE), bindparam("before_id", type_=TEXT)
_NEWEST_OF_CUSTOMER = statement(
    select(_d.record)
    .where(
        _d.customer_id == bindparam("customer_id"),
        _WITHIN,
        _d.decided_at <= _before_at,
        or_(_d.decided_at < _before_at, _d.decision_id < _before_id),
    )
    .order_by(_d.decided_at.desc(), _d.decision_id.desc())
    .limit(bindparam("rows", type_=WHOLE))
    .offset(ZERO)
)
_OF_DECISION = statement(
    select(*_CONTACT).where(_c.customer_id == bindparam("customer_id"), _c.decision_id == bindparam("decision_id"))
)
_OLDEST = statement(
    select(_d.decision_id, _d.customer_id)
    .where(_d.decision_id < bindparam("end"))
    .order_by(_d.decision_id)
    .limit(bindparam("most", type_=WHOLE))
    .offset(ZERO)
)
_DELETE_DECISION = statement(delete(decisions_table).where(_d.decision_id == bindparam("decision_id")))
_DELETE_CONTACTS = statement(
    delete(contacts_table).where(
        _c.customer_id == bindparam("customer_id"),
        _c.decision_id == bindparam("decision_id"),
        _c.at < bindparam("before"),
    )
)
_AFTER_ALL: Final = "\U0010ffff"
"""Sorts behind every id."""

_CAPACITY: Final = "capacity"
"""One key for all counters: which ones a confirmation touches is known only when it has looked."""

_FORGETTING: Final = ("decisions",)
"""Of two processes one forgets, and the other forgets what is left."""

_Row: TypeAlias = dict[str, Any]


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
        return self._store.run(_committing(record, answer, reservation), keys=_keys(record, reservation))

    def submit_commit(
        self, record: DecisionRecord, answer: bytes, reservation: Reservation | None
    ) -> Future[Committed]:
        """``commit`` for callers that must not block: the future resolves once the decision is on disk."""
        return self._store.submit(_committing(record, answer, reservation), keys=_keys(record, reservation))

    def leave_commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Future[Committed]:
        """``submit_commit`` that is begun at ``write_left``, with all others that were left until then."""
        return self._store.leave(_committing(record, answer, reservation), keys=_keys(record, reservation))

    def write_left(self) -> None:
        """Begin to write what was left."""
        self._store.write_left()

    def commits(self) -> CommitFigures:
        """How the writing goes."""
        return self._store.commits

    def decision(self, decision_id: str) -> Stored | None:
        """A decision by its id."""
        return self._stored(_BY_ID, {"decision_id": decision_id})

    def decision_of_request(self, source: str, request_id: str) -> Stored | None:
        """A decision by its idempotency key."""
        return self._stored(_BY_REQUEST, {"source": source, "request_id": request_id})

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
        keys = [_span_key(span, since=since, now=now) for span in spans or (Span(customer_id),)]
        with self._store.reading() as connection:
            contacts = _counted(connection, keys)
            told = [row for key in keys for row in connection.execute(_CONSENTS, key).fetchall()]
            ids = customer_ids(spans, customer_id)
            used = capacity_tables.used(connection, windows, now=now, customer_ids=ids, send_id=send_id)
            sent = "" if send_id is None else _sent(connection, ids, send_id)
        return CustomerRecords(tuple(contacts), newest_consents(told), used, sent=sent)

    def contacts(self, *, since: int, now: int, page: int = 10_000) -> Iterator[list[Contact]]:
        """Pages of the contacts of everybody, by customer; each page is a read of its own."""
        after: tuple[str, str, str, int] = ("", "", "", 0)
        while True:
            names = ("after_customer", "after_decision", "after_action", "after_occasion")
            key: _Row = {**dict(zip(names, after, strict=True)), "since": since, "now": now, "page": page}
            with self._store.reading() as connection:
                rows = connection.execute(_ALL_COUNTED, key).fetchall()
            if not rows:
                return
            found = [Contact(*row[:-1]) for row in rows]
            yield found
            after = (found[-1].customer_id, found[-1].decision_id, found[-1].action_id, rows[-1][-1])

    def capacity_used(self, windows: Sequence[CapacityWindow], *, now: int) -> dict[str, float]:
        """Units or money taken of each capacity and budget in a window, leases live at ``now`` included."""
        with self._store.reading() as connection:
            return capacity_tables.used(connection, windows, now=now)

    def put_persons(self, persons: Sequence[ToldPerson]) -> None:
        """Remember people, in one transaction."""
        self._store.submit(
            lambda connection: capacity_tables.put_persons(connection, persons), keys=[_CAPACITY]
        ).result()

    def workforce(
        self, *, now: int, customer_ids: Sequence[str] = (), send_id: str | None = None
    ) -> tuple[OpenPerson, ...]:
        """Everybody, by id, with the work that is open, without what leases of a send hold of it."""
        with self._store.reading() as connection:
            return capacity_tables.workforce(connection, now=now, customer_ids=customer_ids, send_id=send_id)

    def confirm_contacts(self, contacts: Sequence[Contact]) -> None:
        """Count contacts that really happened, in one transaction; the same again changes nothing."""
        rows = [{**_contact_row(contact), "status": "confirmed"} for contact in contacts]

        def confirm(connection: SqlConnection) -> None:
            connection.executemany(_CONFIRM, rows)
            capacity_tables.confirm(connection, decided_contacts(contacts))

        keys = [_CAPACITY, *(_of_person(contact.customer_id) for contact in contacts)]
        self._store.submit(confirm, keys=keys).result()

    def note_responses(self, responses: Sequence[ContactResponse]) -> None:
        """Remember what came back for contacts, in one transaction; the same again changes nothing."""
        if responses:
            keys = [f"decision/{response.decision_id}" for response in responses]
            self._store.submit(lambda connection: _note(connection, responses), keys=keys).result()

    def activate(self, reservation: Reservation, *, at: int) -> tuple[Contact, ...]:
        """Turn leases into contacts, all of them or none, in one transaction."""
        first = reservation.contacts[0]
        keys = [_CAPACITY, *map(_of_person, customer_ids(reservation.spans, first.customer_id))]
        return self._store.run(lambda connection: _activate(connection, reservation, at), keys=keys)

    def newest(self, stretch: Stretch) -> list[DecisionRecord]:
        """Decisions of a stretch, newest first."""
        bounds: _Row = {"since": stretch.since, "until": stretch.until, "rows": stretch.rows}
        with self._store.reading() as connection:
            if not stretch.spans:
                end = first_id_at(stretch.until + 999)
                before = end if stretch.before is None else min(end, stretch.before[1])
                key = {**bounds, "first": first_id_at(stretch.since), "end": before}
                return [load_record(row[0]) for row in connection.execute(_NEWEST_OF_ALL, key)]
            at, decision_id = stretch.before or (stretch.until, "")
            found = []
            for span in stretch.spans:
                within = {"since": max(stretch.since, span.valid_from), "until": min(stretch.until, span.valid_until)}
                key = {**bounds, **within, "customer_id": span.customer_id, "before_at": at, "before_id": decision_id}
                found += [load_record(row[0]) for row in connection.execute(_NEWEST_OF_CUSTOMER, key)]
        return sorted(found, key=lambda one: (one.decided_at, one.decision_id), reverse=True)[: stretch.rows]

    def forget_decisions(self, *, decided_before: int, most: int) -> int:
        """Delete the oldest decisions made before a moment, with their contacts from before it."""
        return self._store.submit(
            lambda connection: _forget(connection, decided_before, most), keys=_FORGETTING
        ).result()

    def set_consents(self, customer_id: str, consents: Mapping[str, str], *, at: int) -> None:
        """Remember consents and objections as of a moment."""
        self.apply_consents([ConsentChange(customer_id, consent, state, at) for consent, state in consents.items()])

    def apply_consents(self, changes: Sequence[ConsentChange]) -> None:
        """``set_consents`` for many customers, in one transaction."""
        rows = [
            {"customer_id": change.customer_id, "consent": change.consent, "state": change.state, "at": change.at}
            for change in changes
        ]

        def remember(connection: SqlConnection) -> None:
            connection.executemany(_SET_CONSENT, rows)

        # For their order alone: two processes that wrote the same consents in turn would wait for each other.
        self._store.submit(remember, keys=[f"consents/{change.customer_id}" for change in changes]).result()

    def append_imported(self, records: Sequence[DecisionRecord]) -> int:
        """Store past decisions of an import, idempotent by source and request id; how many were new."""
        rows = [_row(record, b"") for record in records]
        if not rows:
            return 0
        keys = [_of_request(record) for record in records]
        return self._store.submit(
            lambda connection: connection.executemany(_INSERT_IMPORTED, rows).rowcount, keys=keys
        ).result()

    def newest_as_of(self) -> int:
        """The newest moment that the decisions of the newest millisecond, by their ids, were made as of; 0 for none."""
        with self._store.reading() as connection:
            row = connection.execute(_NEWEST).fetchone()
            if row is None:
                return 0
            newest = load_record(row[0])
            together = connection.execute(_SINCE_ID, {"first": first_id_at(newest.decided_at)}).fetchall()
        return max([newest.as_of, *(load_record(record).as_of for (record,) in together)])

    def read(self, *, after: str = "", page: int = 5_000) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions in order of their ids, from after ``after`` on; each page is a read of its own."""
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(_PAGE, {"after": after, "page": page}).fetchall()
            if not rows:
                return
            yield [load_record(record) for _, record in rows]
            after = rows[-1][0]

    def read_back(self, *, page: int = 200) -> Iterator[list[DecisionRecord]]:
        """Pages of all decisions, the newest by its id first; each page is a read of its own."""
        before = _AFTER_ALL
        while True:
            with self._store.reading() as connection:
                rows = connection.execute(_PAGE_BACK, {"before": before, "page": page}).fetchall()
            if not rows:
                return
            yield [load_record(record) for _, record in rows]
            before = rows[-1][0]

    def ids(self, *, after: str = "", page: int = 50_000) -> Iterator[list[str]]:
        """Pages of the ids of all decisions, in order; each page is a read of its own, of the index alone."""
        while True:
            with self._store.reading() as connection:
                found = [row[0] for row in connection.execute(_PAGE_OF_IDS, {"after": after, "page": page})]
            if not found:
                return
            yield found
            after = found[-1]

    def decisions(self, decision_ids: Sequence[str], *, page: int = 500) -> Iterator[list[DecisionRecord]]:
        """Pages of the decisions with these ids, in the order asked; each page is a read of its own."""
        for start in range(0, len(decision_ids), page):
            with self._store.reading() as connection:
                rows = [
                    connection.execute(_RECORD, {"decision_id": one}).fetchone()
                    for one in decision_ids[start : start + page]
                ]
            yield [load_record(row[0]) for row in rows if row is not None]

    def check_writes(self) -> None:
        """Raise where the file cannot be written."""
        self._store.check_writes()

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._store.close()

    def _stored(self, statement: Statement, key: Mapping[str, str]) -> Stored | None:
        with self._store.reading() as connection:
            row = connection.execute(statement, key).fetchone()
        return None if row is None else Stored(load_record(row[0]), row[1])


def open_record_store(home: Home, *, readonly: bool = False, durability: Durability = "FULL") -> SqlRecordStore:
    """The record store of an installation; errors are those of ``SqlRecordStore``."""
    return SqlRecordStore(home.records_place, readonly=readonly, durability=durability)


def _of_person(customer_id: str) -> str:
    return f"person/{customer_id}"


def _of_request(record: DecisionRecord) -> str:
    return f"request/{record.source}/{record.request_id}"


def _keys(record: DecisionRecord, reservation: Reservation | None) -> list[str]:
    """Of what a commit reads and then writes: its request, a person's contacts, and what is taken of capacities."""
    keys = [_of_request(record)]
    if reservation is not None:
        keys += map(_of_person, customer_ids(reservation.spans, record.customer_id))
        if reservation.needs or any(reservation.assignees) or reservation.send_id is not None:
            keys.append(_CAPACITY)
    return keys


def _committing(
    record: DecisionRecord, answer: bytes, reservation: Reservation | None
) -> Callable[[SqlConnection], Committed]:
    row = _row(record, answer)
    return lambda connection: _commit(connection, record, row, reservation)


def _commit(connection: SqlConnection, record: DecisionRecord, row: _Row, reservation: Reservation | None) -> Committed:
    answered = connection.execute(_ANSWERED, row).fetchone()
    if answered is not None:
        if answered[0] != record.request_hash:
            raise Conflict(conflict_message(record))
        return Committed(answered[1], was_stored_before=True)
    if reservation is not None:
        _reserve(connection, record, reservation)
    connection.execute(_INSERT_DECISION, row)
    return Committed(row["answer"], was_stored_before=False)


def _reserve(connection: SqlConnection, record: DecisionRecord, reservation: Reservation) -> None:
    since = min((cap.since for cap in reservation.caps), default=record.decided_at)
    spans = reservation.spans or (Span(record.customer_id),)
    ids = customer_ids(spans, record.customer_id)
    if reservation.sent is not None and reservation.send_id is not None:
        check_send(reservation, _sent(connection, ids, reservation.send_id))
    existing = _counted(connection, [_span_key(span, since=since, now=record.decided_at) for span in spans])
    check_caps(reservation, existing, now=record.decided_at)
    if reservation.send_id is not None:
        sends = [{"customer": one, "send": reservation.send_id} for one in ids]
        connection.executemany(_RELEASE_SEND, sends)
        connection.executemany(_GIVE_UP_PLACE, sends)
    capacity_tables.reserve(connection, reservation, now=record.decided_at, customer_ids=ids)
    connection.executemany(_INSERT_CONTACT, [_contact_row(contact) for contact in kept_contacts(record, reservation)])


def _sent(connection: SqlConnection, ids: Sequence[str], send_id: str) -> str:
    """The decision that holds the place of a send; empty where there is none."""
    rows = (row for one in ids for row in connection.execute(_SENT, {"customer": one, "send": send_id}))
    return str(next(rows, ("",))[0])


def _note(connection: SqlConnection, responses: Sequence[ContactResponse]) -> None:
    for response in responses:
        key = {"decision_id": response.decision_id, "customer_id": response.customer_id}
        for *fields, occasion_of in connection.execute(_ANSWERED_CONTACTS, key).fetchall():
            contact = Contact(*fields)
            if response.outweighs(contact):
                connection.execute(
                    _NOTE_RESPONSE,
                    {
                        "customer": contact.customer_id,
                        "decision": contact.decision_id,
                        "action": contact.action_id,
                        "occurrence": occasion_of,
                        "kind": response.kind,
                        "moment": response.at,
                    },
                )


def _activate(connection: SqlConnection, reservation: Reservation, at: int) -> tuple[Contact, ...]:
    first = reservation.contacts[0]
    key = {"customer_id": first.customer_id, "decision_id": first.decision_id}
    own = [Contact(*row) for row in connection.execute(_OF_DECISION, key)]
    since = min((cap.since for cap in reservation.caps), default=at)
    spans = reservation.spans or (Span(first.customer_id),)
    others = _counted(connection, [_span_key(span, since=since, now=at) for span in spans])
    given_back = capacity_tables.given_back(connection, first.decision_id)
    rows = [_contact_row(contact) for contact in activated(reservation, own, others, at=at, given_back=given_back)]
    connection.executemany(_CONFIRM, rows)
    capacity_tables.confirm(connection, decided_contacts(reservation.contacts))
    by_action = {
        contact.action_id: contact for contact in (Contact(*row) for row in connection.execute(_OF_DECISION, key))
    }
    return tuple(by_action[contact.action_id] for contact in reservation.contacts)


def _forget(connection: SqlConnection, decided_before: int, most: int) -> int:
    key = {"end": first_id_at(decided_before), "most": most}
    gone = [
        {"decision_id": decision_id, "customer_id": customer_id, "before": decided_before}
        for decision_id, customer_id in connection.execute(_OLDEST, key)
    ]
    connection.executemany(_DELETE_CONTACTS, gone)
    connection.executemany(_DELETE_DECISION, gone)
    return len(gone)


def _counted(connection: SqlConnection, keys: Sequence[_Row]) -> list[Contact]:
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
        "response": contact.response,
        "response_at": contact.response_at,
    }
