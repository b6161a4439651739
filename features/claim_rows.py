"""Claims of who is who as rows of the event log, and the person whom they make of an id.

Every function runs on its caller's connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from sqlalchemy import bindparam, select, union_all
from sqlalchemy.dialects.postgresql import insert

from features.event_log_tables import claims_table
from features.event_rows import IDS_PER_STATEMENT, LAST, last_of_person
from features.identity import Claim, Identities, Person, unlinked
from features.sql_text import TEXT_MARK, Row, SqlConnection, Statement, statement, written

_CLAIMS = (
    *("alias", "customer_id", "is_link", "boundary", "occurred_at", "sequence", "source", "event_id", "arrived_at"),
    "position",
)
_INSERT_CLAIM = statement(insert(claims_table))
_IS_ALIAS, _HAS_ALIAS = (
    select(claims_table.c.position).where(claims_table.c[name] == bindparam("id")) for name in ("alias", "customer_id")
)
_FIRST_LOOK = Statement(
    lambda compiled: f"SELECT ({compiled(LAST)}), EXISTS ({compiled(union_all(_IS_ALIAS, _HAS_ALIAS))})"
)
# Up: all that the id was ever said to belong to. Near: all that were ever said to belong to one of those.
_CLAIMS_NEAR = f"""
    WITH RECURSIVE
    up(id) AS (VALUES {{ids}} UNION SELECT claims.customer_id FROM claims JOIN up ON claims.alias = up.id),
    near(id) AS (SELECT id FROM up UNION SELECT claims.alias FROM claims JOIN near ON claims.customer_id = near.id)
    SELECT {", ".join(f"claims.{name}" for name in _CLAIMS)} FROM claims JOIN near ON claims.alias = near.id
"""  # noqa: S608  # our own names
_NAMED = """
    SELECT alias FROM claims WHERE alias IN ({ids}) UNION SELECT customer_id FROM claims WHERE customer_id IN ({ids})
"""


def insert_claims(connection: SqlConnection, claims: Iterable[Claim]) -> None:
    """Put claims there, which are not there yet."""
    connection.executemany(_INSERT_CLAIM, [_claim_row(claim) for claim in claims])


def identities(connection: SqlConnection, customer_ids: Iterable[str]) -> Identities:
    """The part of the identity graph that bears on some ids; empty where none was ever linked."""
    ids = list(customer_ids)
    parts = (ids[start : start + IDS_PER_STATEMENT] for start in range(0, len(ids), IDS_PER_STATEMENT))
    named = [row[0] for part in parts for row in connection.execute(_named(len(part)), (*part, *part))]
    near = (named[start : start + IDS_PER_STATEMENT] for start in range(0, len(named), IDS_PER_STATEMENT))
    return Identities(frozenset(claim for part in near for claim in _claims_near(connection, part)))


def person(connection: SqlConnection, customer_id: str, *, at: int, known_before: int | None) -> Person:
    """The person whom an event of ``customer_id`` at ``at`` belongs to, with what arrived last."""
    # Of almost everybody there is no claim, and looking for one takes a fifth of the walk.
    key = {"id": customer_id, "customer_id": customer_id}
    last, is_linked = connection.execute(_FIRST_LOOK, key).fetchone()
    claims = _claims_near(connection, [customer_id]) if is_linked else []
    if not claims:
        return unlinked(customer_id, last_position=int(last))
    graph = Identities(frozenset(claims))
    graph = graph if known_before is None else graph.known_before(known_before)
    found = graph.person(graph.owner(customer_id, at=at))
    return replace(found, last_position=last_of_person(connection, found))


@lru_cache(maxsize=IDS_PER_STATEMENT)
def _named(count: int) -> Statement:
    return written(_NAMED.format(ids=", ".join((TEXT_MARK,) * count)))


def _claims_near(connection: SqlConnection, customer_ids: Sequence[str]) -> list[Claim]:
    """The claims that bear on some ids, each once: many of them may share what bears on them."""
    return [_claim(*row) for row in connection.execute(_claims_near_ids(len(customer_ids)), customer_ids).fetchall()]


@lru_cache(maxsize=IDS_PER_STATEMENT)
def _claims_near_ids(count: int) -> Statement:
    return written(_CLAIMS_NEAR.format(ids=", ".join((f"({TEXT_MARK})",) * count)))


def _claim(
    alias: str,
    customer_id: str,
    is_link: int,
    boundary: int | None,
    occurred_at: int,
    sequence: int,
    source: str,
    event_id: str,
    arrived_at: int,
    position: int,
) -> Claim:
    return Claim(
        alias=alias,
        customer_id=customer_id,
        is_link=bool(is_link),
        boundary=boundary,
        order=(occurred_at, sequence, source, event_id),
        arrived_at=arrived_at,
        position=position,
    )


def _claim_row(claim: Claim) -> Row:
    occurred_at, sequence, source, event_id = claim.order
    return {
        "position": claim.position,
        "alias": claim.alias,
        "customer_id": claim.customer_id,
        "is_link": int(claim.is_link),
        "boundary": claim.boundary,
        "occurred_at": occurred_at,
        "sequence": sequence,
        "source": source,
        "event_id": event_id,
        "arrived_at": claim.arrived_at,
    }
