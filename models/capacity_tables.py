"""What is taken of capacities, budgets and people in SQL tables: one counter a window, and what leases hold of it.

Every function runs inside the caller's transaction. A counter is raised by a conditional update, so that no count over
contacts is ever made, and by keys in one order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from features.sql_text import BYTES, TEXT, WHOLE, ZERO, SqlConnection, statement
from models.capacity_ledger import (
    OF_PERSON,
    ONE,
    WORK,
    Hold,
    Taking,
    forgotten_before,
    holds,
    refusal,
    takings,
    work_window,
)
from models.records import CapacityWindow, Reservation
from models.workforce import OpenPerson, Person, ToldPerson

metadata = MetaData()
counters_table = Table(
    "capacity_counters",
    metadata,
    Column("limit_id", TEXT, nullable=False),
    Column("window_start", WHOLE, nullable=False),
    Column("used", WHOLE, nullable=False),
    PrimaryKeyConstraint("limit_id", "window_start", name="capacity_counters_identity"),
)
holds_table = Table(
    "capacity_holds",
    metadata,
    Column("decision_id", TEXT, nullable=False),
    Column("action_id", TEXT, nullable=False),
    Column("limit_id", TEXT, nullable=False),
    Column("window_start", WHOLE, nullable=False),
    Column("customer_id", TEXT, nullable=False),
    Column("send_id", TEXT),
    Column("need", WHOLE, nullable=False),
    Column("expires_at", WHOLE, nullable=False),
    Column("is_released", WHOLE, nullable=False),
    PrimaryKeyConstraint("decision_id", "action_id", "limit_id", "window_start", name="capacity_holds_identity"),
)
Index(
    "capacity_holds_ending",
    holds_table.c.limit_id,
    holds_table.c.window_start,
    holds_table.c.is_released,
    holds_table.c.expires_at,
)
Index("capacity_holds_of_send", holds_table.c.customer_id, holds_table.c.send_id)
persons_table = Table(
    "persons",
    metadata,
    Column("person_id", TEXT, primary_key=True),
    Column("person", BYTES, nullable=False),
    Column("open_work", WHOLE, nullable=False),
)

_k, _h, _p = counters_table.c, holds_table.c, persons_table.c
_YES: Final = literal_column("1", WHOLE)
_COUNTER = and_(_k.limit_id == bindparam("limit_id"), _k.window_start == bindparam("start"))
_HELD_HERE = and_(_h.limit_id == bindparam("limit_id"), _h.window_start == bindparam("start"), _h.is_released == ZERO)
_ENDED_HERE = and_(_HELD_HERE, _h.expires_at <= bindparam("now"))
_OF_SEND = and_(_h.customer_id == bindparam("customer_id"), _h.send_id == bindparam("send_id"), _h.is_released == ZERO)
_TOTAL = cast(func.coalesce(func.sum(_h.need), ZERO), WHOLE)

_NEW_COUNTER = statement(insert(counters_table).on_conflict_do_nothing())
_USED = statement(select(_k.used - select(_TOTAL).where(_ENDED_HERE).scalar_subquery()).where(_COUNTER))
_TAKE = statement(
    update(counters_table)
    .where(_COUNTER, _k.used + bindparam("need", type_=WHOLE) <= bindparam("limit", type_=WHOLE))
    .values(used=_k.used + bindparam("need", type_=WHOLE))
)
_ADD = statement(update(counters_table).where(_COUNTER).values(used=_k.used + bindparam("need", type_=WHOLE)))
_CLEAR = statement(update(counters_table).where(_COUNTER).values(used=ZERO))
_PREVIOUS = statement(
    select(func.max(_k.window_start)).where(_k.limit_id == bindparam("limit_id"), _k.window_start < bindparam("start"))
)
_FORGET_COUNTERS = statement(
    delete(counters_table).where(
        _k.limit_id == bindparam("limit_id"), _k.window_start > ZERO, _k.window_start < bindparam("before")
    )
)
_FORGET_HOLDS = statement(
    delete(holds_table).where(
        _h.limit_id == bindparam("limit_id"), _h.window_start > ZERO, _h.window_start < bindparam("before")
    )
)
_ENDED = statement(select(_TOTAL).where(_ENDED_HERE))
_RELEASE_ENDED = statement(update(holds_table).where(_ENDED_HERE).values(is_released=_YES))
_DROP_ENDED = statement(delete(holds_table).where(_ENDED_HERE))
_DROP_HELD = statement(
    delete(holds_table).where(_h.limit_id == bindparam("limit_id"), _h.window_start == bindparam("start"))
)
_SENT = statement(select(_h.limit_id, _h.window_start, _h.need, _h.expires_at).where(_OF_SEND))
_RELEASE_SENT = statement(update(holds_table).where(_OF_SEND, _h.window_start > ZERO).values(is_released=_YES))
_DROP_SENT = statement(delete(holds_table).where(_OF_SEND, _h.window_start == ZERO))
_INSERT_HOLD = statement(insert(holds_table))
_OF_CONTACT = and_(
    _h.decision_id == bindparam("decision_id"), _h.action_id == bindparam("action_id"), _h.window_start > ZERO
)
_CONFIRMED = statement(select(_h.limit_id, _h.window_start, _h.need).where(_OF_CONTACT, _h.is_released == _YES))
_GIVEN_BACK = statement(select(_h.action_id).where(_h.decision_id == bindparam("decision_id"), _h.is_released == _YES))
_DROP_CONFIRMED = statement(delete(holds_table).where(_OF_CONTACT))
_KEEP_WORK = statement(
    update(holds_table)
    .where(_h.decision_id == bindparam("decision_id"), _h.action_id == bindparam("action_id"), _h.window_start == ZERO)
    .values(send_id=null())
)
_put = insert(persons_table)
_PUT_PERSON = statement(
    _put.on_conflict_do_update(
        index_elements=[_p.person_id],
        set_={
            "person": _put.excluded.person,
            "open_work": case((bindparam("is_told", type_=WHOLE) == _YES, _put.excluded.open_work), else_=_p.open_work),
        },
    )
)
_PERSON = statement(select(_p.person, _p.open_work).where(_p.person_id == bindparam("person_id")))
_WORK_KEY = literal_column(f"'{OF_PERSON}'", TEXT).concat(_p.person_id)
_PERSONS = statement(
    select(
        _p.person_id,
        _p.person,
        _p.open_work,
        func.coalesce(_k.used, ZERO),
        select(_TOTAL)
        .where(
            _h.limit_id == _WORK_KEY,
            _h.window_start == ZERO,
            _h.is_released == ZERO,
            _h.expires_at <= bindparam("now"),
        )
        .correlate(persons_table)
        .scalar_subquery(),
    )
    .select_from(persons_table.outerjoin(counters_table, and_(_k.limit_id == _WORK_KEY, _k.window_start == ZERO)))
    .order_by(_p.person_id)
)

_ENCODER = msgspec.json.Encoder(order="sorted")


def used(
    connection: SqlConnection,
    windows: Iterable[CapacityWindow],
    *,
    now: int,
    customer_ids: Sequence[str] = (),
    send_id: str | None = None,
) -> dict[str, float]:
    """What is taken of some windows at a moment, where it is anything, without what leases of a send hold."""
    sent = _sent(connection, customer_ids, send_id, now=now)
    found: dict[str, float] = {}
    for window in windows:
        row = connection.execute(_USED, _key(window, now=now)).fetchone()
        taken = 0 if row is None else row[0] - sent.get(window, 0)
        if taken:
            found[window.limit_id] = taken / ONE
    return found


def reserve(connection: SqlConnection, reservation: Reservation, *, now: int, customer_ids: Sequence[str]) -> None:
    """Take what a reservation needs, in place of what the leases of its send hold.

    Raises:
        LostRace: there is too little left; the caller undoes what was taken already.
    """
    if reservation.send_id is not None:
        for customer_id in customer_ids:
            _release_send(connection, customer_id, reservation.send_id)
    wanted = takings(reservation)
    for window in dict.fromkeys(one.window for one in wanted):
        _open(connection, window, now=now)
    for one in wanted:
        limit = _room_of_person(connection, one) if one.limit is None else one.limit
        if connection.execute(_TAKE, {**_key(one.window), "need": one.need, "limit": limit}).rowcount == 0:
            raise refusal(one, reservation)
    connection.executemany(_INSERT_HOLD, [_hold_row(hold) for hold in holds(reservation, wanted)])


def given_back(connection: SqlConnection, decision_id: str) -> frozenset[str]:
    """The actions of a decision whose leases hold nothing of a capacity any more."""
    return frozenset(row[0] for row in connection.execute(_GIVEN_BACK, {"decision_id": decision_id}).fetchall())


def confirm(connection: SqlConnection, contacts: Iterable[tuple[str, str]]) -> None:
    """Let what leases hold stay taken, by decision and action; what was given back already is taken again.

    Their send no longer replaces the work of a person, which ends as before.
    """
    for decision_id, action_id in contacts:
        key = {"decision_id": decision_id, "action_id": action_id}
        for limit_id, start, need in connection.execute(_CONFIRMED, key).fetchall():
            connection.execute(_ADD, {"limit_id": limit_id, "start": start, "need": need})
        connection.execute(_DROP_CONFIRMED, key)
        connection.execute(_KEEP_WORK, key)


def put_persons(connection: SqlConnection, persons: Iterable[ToldPerson]) -> None:
    """Remember people; told open work takes the place of what decisions hold."""
    for told in persons:
        row = {
            "person_id": told.person.person_id,
            "person": _ENCODER.encode(told.person),
            "open_work": told.open_work or 0,
            "is_told": int(told.open_work is not None),
        }
        connection.execute(_PUT_PERSON, row)
        if told.open_work is not None:
            key = _key(work_window(told.person.person_id))
            connection.execute(_DROP_HELD, key)
            connection.execute(_CLEAR, key)


def workforce(
    connection: SqlConnection, *, now: int, customer_ids: Sequence[str] = (), send_id: str | None = None
) -> tuple[OpenPerson, ...]:
    """Everybody, by id, with told and held work."""
    sent = _sent(connection, customer_ids, send_id, now=now)
    found = []
    for person_id, person, open_work, held, ended in connection.execute(_PERSONS, {"now": now}).fetchall():
        of_others = held - ended - (sent.get(work_window(person_id), 0) if sent else 0)
        found.append(OpenPerson(_decoded(person), open_work + of_others // ONE))
    return tuple(found)


@lru_cache(maxsize=10_000)
def _decoded(person: bytes) -> Person:
    return msgspec.json.decode(person, type=Person)


def _sent(
    connection: SqlConnection, customer_ids: Sequence[str], send_id: str | None, *, now: int
) -> dict[CapacityWindow, int]:
    """What live leases of a send hold, by window."""
    found: dict[CapacityWindow, int] = {}
    if send_id is not None:
        for customer_id in customer_ids:
            rows = connection.execute(_SENT, {"customer_id": customer_id, "send_id": send_id}).fetchall()
            for limit_id, start, need, expires_at in rows:
                if expires_at > now:  # else it is given back already
                    window = CapacityWindow(limit_id, start)
                    found[window] = found.get(window, 0) + need
    return found


def _release_send(connection: SqlConnection, customer_id: str, send_id: str) -> None:
    key = {"customer_id": customer_id, "send_id": send_id}
    for limit_id, start, need, _ in connection.execute(_SENT, key).fetchall():
        connection.execute(_ADD, {"limit_id": limit_id, "start": start, "need": -need})
    connection.execute(_RELEASE_SENT, key)
    connection.execute(_DROP_SENT, key)


def _open(connection: SqlConnection, window: CapacityWindow, *, now: int) -> None:
    """Make a window's counter where there is none, and give back what leases held that have ended."""
    key = _key(window, now=now)
    row = {"limit_id": window.limit_id, "window_start": window.start, "used": 0}
    if connection.execute(_NEW_COUNTER, row).rowcount:
        previous = connection.execute(_PREVIOUS, _key(window)).fetchone()[0]
        before = {"limit_id": window.limit_id, "before": forgotten_before(window, previous)}
        connection.execute(_FORGET_HOLDS, before)
        connection.execute(_FORGET_COUNTERS, before)
    ended = connection.execute(_ENDED, key).fetchone()[0]
    if ended:
        connection.execute(_ADD, {**_key(window), "need": -ended})
        connection.execute(_DROP_ENDED if window.start == WORK else _RELEASE_ENDED, key)


def _room_of_person(connection: SqlConnection, taking: Taking) -> int:
    """How much a person may hold beside the told open work, in millionths; nobody who is gone or away may hold any."""
    person_id = taking.window.limit_id.partition("/")[2]
    row = connection.execute(_PERSON, {"person_id": person_id}).fetchone()
    if row is None:
        return 0
    person = _decoded(row[0])
    return (person.most_open - int(row[1])) * ONE if person.available else 0


def _key(window: CapacityWindow, **more: int) -> dict[str, Any]:
    return {"limit_id": window.limit_id, "start": window.start, **more}


def _hold_row(hold: Hold) -> dict[str, Any]:
    return {
        "decision_id": hold.decision_id,
        "action_id": hold.action_id,
        "limit_id": hold.window.limit_id,
        "window_start": hold.window.start,
        "customer_id": hold.customer_id,
        "send_id": hold.send_id,
        "need": hold.need,
        "expires_at": hold.expires_at,
        "is_released": int(hold.is_released),
    }
