"""Contacts and leases as rows of the record store: counted, held, confirmed and answered.

Every function runs on its caller's connection. What the caps allow is not looked at here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, delete, func, literal_column, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from features.identity import Span
from features.sql_text import TEXT, WHOLE, ZERO, Row, SqlConnection, statement
from models.actions import NO_ACTION
from models.caps import occasion
from models.record_tables import contacts_table, decisions_table
from models.records import Contact, ContactResponse

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
_OF_DECISION = statement(
    select(*_CONTACT).where(_c.customer_id == bindparam("customer_id"), _c.decision_id == bindparam("decision_id"))
)
_DELETE_CONTACTS = statement(
    delete(contacts_table).where(
        _c.customer_id == bindparam("customer_id"),
        _c.decision_id == bindparam("decision_id"),
        _c.at < bindparam("before"),
    )
)


def contact_row(contact: Contact) -> Row:
    """A contact as a row."""
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


def insert_contacts(connection: SqlConnection, contacts: Sequence[Contact]) -> None:
    """Put contacts there that are not there yet."""
    connection.executemany(_INSERT_CONTACT, [contact_row(contact) for contact in contacts])


def confirm(connection: SqlConnection, rows: Sequence[Row]) -> None:
    """Put rows of contacts that happened there, or in the place of their leases; the same again changes nothing."""
    connection.executemany(_CONFIRM, rows)


def counted(connection: SqlConnection, spans: Sequence[Span], *, since: int, now: int) -> list[Contact]:
    """Contacts and live leases within spans and since a moment, of all spans together, oldest first."""
    keys = [_counted_key(span, since=since, now=now) for span in spans]
    contacts = [Contact(*row) for key in keys for row in connection.execute(_COUNTED, key).fetchall()]
    return contacts if len(keys) == 1 else sorted(contacts, key=lambda contact: contact.at)


def counted_page(
    connection: SqlConnection, after: tuple[str, str, str, int], *, since: int, now: int, page: int
) -> tuple[list[Contact], tuple[str, str, str, int]]:
    """Contacts and live leases of everybody behind a place, by customer, and the place behind them.

    Args:
        connection: of the caller.
        after: customer, decision, action and occasion.
        since: from this moment on.
        now: leases are live that end after it.
        page: so many at most.
    """
    names = ("after_customer", "after_decision", "after_action", "after_occasion")
    key: Row = {**dict(zip(names, after, strict=True)), "since": since, "now": now, "page": page}
    rows = connection.execute(_ALL_COUNTED, key).fetchall()
    found = [Contact(*row[:-1]) for row in rows]
    if found:
        after = (found[-1].customer_id, found[-1].decision_id, found[-1].action_id, rows[-1][-1])
    return found, after


def _counted_key(span: Span, *, since: int, now: int) -> Row:
    return {
        "customer_id": span.customer_id,
        "since": max(since, span.valid_from),
        "now": now,
        "valid_until": span.valid_until,
    }


def of_decision(connection: SqlConnection, customer_id: str, decision_id: str) -> list[Contact]:
    """Contacts and leases of a decision, of whatever status, in no order."""
    key = {"customer_id": customer_id, "decision_id": decision_id}
    return [Contact(*row) for row in connection.execute(_OF_DECISION, key)]


def sent(connection: SqlConnection, customer_ids: Sequence[str], send_id: str) -> str:
    """The decision that holds the place of a send; empty where there is none."""
    rows = (row for one in customer_ids for row in connection.execute(_SENT, {"customer": one, "send": send_id}))
    return str(next(rows, ("",))[0])


def release_send(connection: SqlConnection, customer_ids: Sequence[str], send_id: str) -> None:
    """Give back the leases of a send, and its place."""
    sends = [{"customer": one, "send": send_id} for one in customer_ids]
    connection.executemany(_RELEASE_SEND, sends)
    connection.executemany(_GIVE_UP_PLACE, sends)


def note_responses(connection: SqlConnection, responses: Sequence[ContactResponse]) -> None:
    """Remember what came back for contacts, where it outweighs what is remembered; the same again changes nothing."""
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


def forget(connection: SqlConnection, decisions: Sequence[tuple[str, str]], *, before: int) -> None:
    """Delete the contacts from before a moment of decisions, which are told by their ids and their customers'."""
    rows = [
        {"decision_id": decision_id, "customer_id": customer_id, "before": before}
        for decision_id, customer_id in decisions
    ]
    connection.executemany(_DELETE_CONTACTS, rows)
