"""The index of identifiers: which customers ever told a value of a declared attribute.

Every function runs on its caller's connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from features.event_log_tables import identifiers_table, indexed_table
from features.event_rows import head, page_of_facts
from features.events import FactValue, load_facts
from features.sql_text import Row, SqlConnection, statement

_INSERT_IDENTIFIER = statement(insert(identifiers_table).on_conflict_do_nothing())
_OF_IDENTIFIER = statement(
    select(identifiers_table.c.customer_id)
    .where(identifiers_table.c.name == bindparam("name"), identifiers_table.c.value == bindparam("value"))
    .order_by(identifiers_table.c.customer_id)
)
_INDEXED = statement(select(indexed_table.c.name, indexed_table.c.position))
_indexed = insert(indexed_table)
_SET_INDEXED = statement(
    _indexed.on_conflict_do_update(index_elements=[indexed_table.c.name], set_={"position": _indexed.excluded.position})
)
_MOVE_INDEXED = statement(
    update(indexed_table)
    .where(indexed_table.c.name == bindparam("identifier"), indexed_table.c.position == bindparam("before"))
    .values(position=bindparam("head"))
)
_FORGET_INDEXED = statement(delete(indexed_table).where(indexed_table.c.name == bindparam("name")))
_FORGET_IDENTIFIER = statement(delete(identifiers_table).where(identifiers_table.c.name == bindparam("name")))
_ROWS_PER_COMMIT: Final = 10_000


def customers_of(connection: SqlConnection, name: str, value: str) -> list[str]:
    """The customer ids, as sent, of events that ever told this value of an identifier."""
    return [str(row[0]) for row in connection.execute(_OF_IDENTIFIER, {"name": name, "value": value})]


def insert_told(connection: SqlConnection, rows: Sequence[Row]) -> None:
    """Put rows there that may be there already."""
    connection.executemany(_INSERT_IDENTIFIER, rows)


def move_indexed(connection: SqlConnection, identifiers: Collection[str], *, before: int, last: int) -> None:
    """Have those identifiers indexed up to the last position that were so up to the one before it was written."""
    # Not past what a process appended that does not declare the identifier: it is indexed on the next opening.
    for name in sorted(identifiers):
        connection.execute(_MOVE_INDEXED, {"identifier": name, "before": before, "head": last})


def told(customer_id: str, facts: Mapping[str, FactValue], identifiers: frozenset[str]) -> Iterator[Row]:
    """A row for each of some identifiers of which the facts of a customer's event tell the value."""
    for name in identifiers & facts.keys():
        if isinstance(value := facts[name], str):
            yield {"name": name, "value": value, "customer_id": customer_id}


def index_page(connection: SqlConnection, identifiers: frozenset[str]) -> bool:
    """Bring the index of identifiers a page nearer to the head, and drop those that are no longer declared.

    Returns:
        Whether it is not there yet.
    """
    indexed = dict(connection.execute(_INDEXED).fetchall())
    for name in indexed.keys() - identifiers:
        connection.execute(_FORGET_IDENTIFIER, {"name": name})
        connection.execute(_FORGET_INDEXED, {"name": name})
    last = head(connection)
    reached = {name: int(indexed.get(name, 0)) for name in sorted(identifiers)}
    page = page_of_facts(connection, after=min(reached.values()), rows=_ROWS_PER_COMMIT)
    found = [
        one
        for position, who, facts in page
        for one in _told_raw(who, facts, {name for name, until in reached.items() if until < position})
    ]
    connection.executemany(_INSERT_IDENTIFIER, found)
    until = page[-1][0] if page else last
    rows = [{"name": name, "position": max(until, position)} for name, position in reached.items()]
    connection.executemany(_SET_INDEXED, rows)
    return bool(until < last)


def _told_raw(customer_id: str, facts: bytes, names: Collection[str]) -> Iterator[Row]:
    """``told`` of facts as they are kept, which are read only where a name is in them."""
    if any(f'"{name}"'.encode() in facts for name in names):
        yield from told(customer_id, load_facts(facts), frozenset(names))
