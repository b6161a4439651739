"""What came in lately and what became of it, newest first: for whoever connects a sender and wants to see it arrive.

Accepted events are read from the end of the log, no further back than a bound; what was refused is remembered apart,
without the values that were refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, cast, get_args

import msgspec

from features.errors import InvalidInput, Problem, StoreError
from features.event_log import COLUMNS, EventLog
from features.events import dump_timestamp, dump_timestamp_or_none
from features.refused_events import KEPT_SECONDS, Door, RefusedEvent, RefusedEvents, last_of
from features.tracked_calls import Drop, inside
from serving.access import readable_source
from serving.auth import Principal
from serving.masking import MASKED, Sight
from serving.problems import MalformedBody, pointer
from serving.queries import Query, Words
from serving.schemas import Timestamp
from serving.telemetry import log_event

Status = Literal["accepted", "rejected", "dropped"]

PARAMETERS: Final = ("source", "kind", "status", "since", "limit")
DEFAULT_RECENT: Final = 50
LARGEST_RECENT: Final = 200
LOOKED_AT_MOST: Final = 5_000
"""Events at the end of the log, of all sources: reading them takes some ten milliseconds."""

NOT_KEPT: Final = "refused_events_unavailable"
_PAGE: Final = 1_000
_PLACES: Final = {name: place for place, name in enumerate(COLUMNS)}
_ID_OF: Final[Mapping[Door, str]] = {"events": "event_id", "tracking": "messageId"}
_KINDS_OF: Final[Mapping[Door, tuple[str, ...]]] = {"events": ("kind",), "tracking": ("event", "type")}


class RecentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was accepted, or one thing that was refused of one.

    Attributes:
        received_at: when it came; an event that was known already is told of as it came first.
        door: of what was refused, which way it came: `events`, or `tracking` for calls of tracking SDKs.
        event_id: as its sender named it: `event_id` or `messageId`.
        kind: of a call that was refused, its `event`, or its type.
        customer_id: of an accepted event, as it was sent; masked for whoever may not see under which ids people are
            known.
        pointer: of what was refused, a JSON pointer (RFC 6901) into the body that it was in.
        reason: why: `missing` or `invalid`, `malformed` for a body that is no JSON; of what was dropped as `drops` of
            the call itself says it.
        expected: what would have been accepted. The value that was refused is not kept.
    """

    status: Status
    source: str
    received_at: Timestamp
    door: Door | None = None
    event_id: str | None = None
    kind: str | None = None
    customer_id: str | None = None
    occurred_at: Timestamp | None = None
    pointer: str | None = None
    reason: str | None = None
    expected: str | None = None


class RecentEvents(msgspec.Struct, frozen=True, kw_only=True):
    """What came in lately, newest first.

    Attributes:
        looked_back_to: accepted events were looked for from here on; null where the whole log was looked at, or none
            was asked for.
        degraded: what is missing: `refused_events_unavailable`.
    """

    events: tuple[RecentEvent, ...]
    looked_back_to: Timestamp | None
    degraded: tuple[str, ...] = ()


class RecentEventsDesk:
    """Remembers what is refused, and tells what came in.

    Args:
        log: has the accepted events.
        refused: remembers the others.
        count_lost: told how many could not be remembered.
    """

    def __init__(self, *, log: EventLog, refused: RefusedEvents, count_lost: Callable[[int], object]) -> None:
        self._log, self._refused, self._count_lost = log, refused, count_lost

    def note(
        self,
        documents: Sequence[object],
        rejected: Sequence[tuple[int, Sequence[Problem]]],
        *,
        door: Door,
        source: str,
        received_at: int,
        drops: Sequence[tuple[int, Drop]] = (),
        paths: Sequence[str] = (),
    ) -> None:
        """Remember what was refused of a batch, as much of it as is kept of a source. It never fails.

        Args:
            documents: what was sent.
            rejected: index and problems of each document that was refused.
            door: which way they came.
            source: who sent them.
            received_at: microseconds since the epoch.
            drops: what is not kept of documents, by index.
            paths: where each document stands in the body, for the drops.
        """

        def told(index: int, **what: Any) -> RefusedEvent:
            document = documents[index]
            named: Mapping[str, Any] = document if isinstance(document, dict) else {}
            kind = next((named[name] for name in _KINDS_OF[door] if isinstance(named.get(name), str)), None)
            event_id = named.get(_ID_OF[door])
            return RefusedEvent(
                source=source,
                received_at=received_at,
                door=door,
                event_id=event_id if isinstance(event_id, str) else None,
                kind=kind,
                **what,
            )

        def newest() -> Iterator[RefusedEvent]:
            for index, drop in reversed(drops):
                place = pointer(inside(paths[index], drop.path))
                yield told(index, status="dropped", pointer=place, reason=drop.reason)
            for index, problems in reversed(rejected):
                for one in reversed(problems):
                    reason = "invalid" if one.value else "missing"
                    yield told(
                        index, status="rejected", pointer=pointer(one.path), reason=reason, expected=one.expected
                    )

        self._keep(source, last_of(newest()))

    @contextmanager
    def noting_body(self, *, door: Door, source: str, received_at: int) -> Iterator[None]:
        """Remember a body of which nothing can be read, as what is done inside says."""
        try:
            yield
        except InvalidInput as error:
            problems = [(one.path, "invalid" if one.value else "missing", one.expected) for one in error.problems]
            self._keep(source, _of_body(problems, door, source, received_at))
            raise
        except MalformedBody:
            self._keep(source, _of_body([("", "malformed", "one JSON document in UTF-8")], door, source, received_at))
            raise

    def found(self, words: Words, principal: Principal, *, now: int) -> RecentEvents:
        """What came in lately. It waits on stores: call it in a thread.

        Args:
            words: the query parameters, each with every value given.
            principal: who asks.
            now: microseconds since the epoch.

        Raises:
            InvalidInput: with every bad parameter.
            Forbidden: events of another source are asked for.
            StoreUnavailable: the log does not answer.
        """
        query = Query.of_words(words, PARAMETERS)
        source, kind, since = query.text("source"), query.text("kind"), query.moment("since") or 0
        status = query.choice("status", get_args(Status), "")
        limit = query.whole("limit", 1, LARGEST_RECENT, DEFAULT_RECENT)
        query.refuse("the query is not one that this call takes")
        source = readable_source(principal, source, reads="sees events")
        found: list[tuple[int, RecentEvent]] = []
        looked_back_to: int | None = None
        degraded: tuple[str, ...] = ()
        if status in ("", "accepted"):
            accepted, looked_back_to = self._accepted(source, kind, since, limit, sees_ids=Sight.of(principal).ids)
            found += accepted
        if status != "accepted":
            try:
                refused = self._refused.newest(source, since=max(since, now - KEPT_SECONDS * 1_000_000))
            except StoreError:
                degraded = (NOT_KEPT,)
            else:
                chosen = [one for one in refused if kind in (None, one.kind) and status in ("", one.status)]
                found += [(one.received_at, _refused_view(one)) for one in chosen[:limit]]
        newest = sorted(found, key=lambda pair: -pair[0])[:limit]
        return RecentEvents(
            events=tuple(event for _, event in newest),
            looked_back_to=dump_timestamp_or_none(looked_back_to),
            degraded=degraded,
        )

    def _accepted(
        self, source: str | None, kind: str | None, since: int, limit: int, *, sees_ids: bool
    ) -> tuple[list[tuple[int, RecentEvent]], int | None]:
        """Accepted events, newest first, and back to when they were looked for."""
        found: list[tuple[int, RecentEvent]] = []
        end = head = self._log.head()
        arrived = since
        while end > 0 and len(found) < limit:
            if head - end >= LOOKED_AT_MOST:
                return found, arrived
            start = max(0, end - _PAGE)
            for columns in self._log.read_columns(after=start, until=end, page=_PAGE):
                for row in reversed(list(zip(*columns, strict=True))):
                    arrived = int(row[_PLACES["arrived_at"]])
                    if arrived < since or len(found) == limit:
                        return found, max(arrived, since)
                    if source in (None, row[_PLACES["source"]]) and kind in (None, row[_PLACES["kind"]]):
                        found.append((arrived, _accepted_view(row, sees_ids=sees_ids)))
            end = start
        return found, None

    def _keep(self, source: str, refused: Sequence[RefusedEvent]) -> None:
        if not refused:
            return
        try:
            self._refused.keep(source, refused)
        except StoreError as error:
            self._count_lost(len(refused))
            log_event("refused_events_not_kept", level=logging.WARNING, error=error, count=len(refused))


def _of_body(problems: Iterable[tuple[str, str, str]], door: Door, source: str, received_at: int) -> list[RefusedEvent]:
    """What was wrong with a body: where, why, and what was expected."""
    return [
        RefusedEvent(
            source=source,
            received_at=received_at,
            status="rejected",
            door=door,
            event_id=None,
            kind=None,
            pointer=pointer(path),
            reason=reason,
            expected=expected,
        )
        for path, reason, expected in problems
    ]


def _accepted_view(row: Sequence[Any], *, sees_ids: bool) -> RecentEvent:
    return RecentEvent(
        status="accepted",
        source=row[_PLACES["source"]],
        received_at=dump_timestamp(row[_PLACES["arrived_at"]]),
        event_id=row[_PLACES["event_id"]],
        kind=row[_PLACES["kind"]],
        customer_id=row[_PLACES["customer_id"]] if sees_ids else MASKED,
        occurred_at=dump_timestamp(row[_PLACES["occurred_at"]]),
    )


def _refused_view(one: RefusedEvent) -> RecentEvent:
    return RecentEvent(
        status=cast(Status, one.status),
        source=one.source,
        received_at=dump_timestamp(one.received_at),
        door=one.door,
        event_id=one.event_id,
        kind=one.kind,
        pointer=one.pointer,
        reason=one.reason,
        expected=one.expected or None,
    )
