"""What is written into the event log in one transaction, and the keys that keep others from it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from features import identifier_index
from features.claim_rows import insert_claims
from features.event_log import Appended, Stamp
from features.event_rows import event_row, head, insert_events, known_positions, newest_arrival
from features.events import JourneyEvent
from features.identity import Claim, claim_of
from features.sql_text import Row, SqlConnection

APPENDING: Final = ("events",)
"""Whoever appends keeps others from it until the commit: so positions have no gaps, and come to be seen in order."""

FORGETTING: Final = ("texts",)
"""Of two processes one forgets, and the other finds nothing left."""


def appending(
    events: Sequence[JourneyEvent], stamp: Stamp | None, identifiers: frozenset[str]
) -> Callable[[SqlConnection], list[Appended]]:
    """The job that appends events, with all that needs no connection done."""
    rows = [event_row(event) for event in events]
    if stamp is None:
        return lambda connection: append(connection, rows, events, identifiers)

    def job(connection: SqlConnection) -> list[Appended]:
        at = stamp(newest_arrival(connection))
        late = [replace(event, arrived_at=max(at, event.arrived_at)) for event in events]
        stamped = [{**row, "arrived_at": event.arrived_at} for row, event in zip(rows, late, strict=True)]
        return append(connection, stamped, late, identifiers)

    return job


def append(
    connection: SqlConnection, rows: Sequence[Row], events: Sequence[JourneyEvent], identifiers: frozenset[str]
) -> list[Appended]:
    """Put those events there that are not yet, with their claims and identifiers; one answer per event, in order."""
    before = position = head(connection)
    appended: list[Appended] = []
    new: list[Row] = []
    claims: list[Claim] = []
    told: list[Row] = []
    positions = known_positions(connection, events)
    for row, event in zip(rows, events, strict=True):
        identity = (event.source, event.event_id)
        if (known := positions.get(identity)) is not None:
            appended.append(Appended(known, duplicate=True))
            continue
        position += 1
        positions[identity] = position
        new.append({**row, "position": position})
        appended.append(Appended(position, duplicate=False))
        if (claim := claim_of(event, position)) is not None:
            claims.append(claim)
        told.extend(identifier_index.told(event.customer_id, event.facts, identifiers))
    insert_events(connection, new)
    if claims:
        insert_claims(connection, claims)
    if told:
        identifier_index.insert_told(connection, told)
    if new:
        identifier_index.move_indexed(connection, identifiers, before=before, last=position)
    return appended
