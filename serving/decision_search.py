"""Find recorded decisions: of one person, or of everybody within a time; newest first, a page at a time.

A page looks at no more than so many decisions, whatever the filters: what is rare is found over several pages, and no
search takes the store from those who decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, get_args

import msgspec

from features.event_log import EventLog
from features.events import dump_timestamp
from features.identity import Person, Span
from models.actions import NO_ACTION
from models.decision import DecisionRecord, Mode
from models.policy import Arm
from models.records import RecordStore, Stretch
from serving.access import readable_source
from serving.auth import Principal
from serving.queries import END_OF_TIME, Cursor, Query, Words, cursor_of, dump_cursor, query_digest
from serving.schemas import Timestamp

PARAMETERS: Final = (
    *("customer_id", "since", "until", "action_id", "arm", "mode", "journey_id", "degraded", "request_id", "source"),
    *("limit", "cursor"),
)
MODES: Final[tuple[str, ...]] = tuple(mode for mode in get_args(Mode) if mode != "dry_run")
ARMS: Final[tuple[str, ...]] = (*get_args(Arm), "imported")
DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 200
DEFAULT_TIME_US: Final = 86_400_000_000
"""A search of everybody that names no time looks back one day."""

LOOKED_AT_MOST: Final = 1_000
"""Decisions that one page looks at: some 50 ms of one core, in steps that others get between."""

_STEP: Final = 200


class FoundAction(msgspec.Struct, frozen=True, kw_only=True):
    """One filled slot of a found decision."""

    slot: int
    placement: str | None
    action_id: str
    treatment_id: str
    channel: str | None


class FoundDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision in short; ``GET /v1/decisions/{decision_id}`` gives all of it.

    Attributes:
        customer_id: the canonical id of whom was decided on.
        selected: the filled slots, in order of choice.
        no_action: nothing was to be done.
        net_value: of the first action, as estimated then; null where it was not estimated, 0 for no action.
    """

    decision_id: str
    decided_at: Timestamp
    customer_id: str
    source: str
    request_id: str
    journey_id: str
    stage: str | None
    state: str | None
    arm: str
    mode: str
    selected: tuple[FoundAction, ...]
    no_action: bool
    net_value: float | None
    explored: bool
    degraded: tuple[str, ...]


class FoundDecisions(msgspec.Struct, frozen=True, kw_only=True):
    """A page of decisions, newest first.

    Attributes:
        since: no older ones were looked for; null where there was no such bound.
        until: nor ones as new as this; likewise.
        looked_at: how many decisions were looked at for this page.
        next_cursor: where to go on; null at the end. A page may be short, or empty, and still not be the last.
    """

    decisions: tuple[FoundDecision, ...]
    since: Timestamp | None
    until: Timestamp | None
    looked_at: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a decision must be to be found; None for whatever it is."""

    source: str | None = None
    request_id: str | None = None
    action_id: str | None = None
    arm: str | None = None
    mode: str | None = None
    journey_id: str | None = None
    degraded: bool | None = None

    def holds(self, record: DecisionRecord) -> bool:
        """Whether a decision is among those wanted."""
        return (
            self.source in (None, record.source)
            and self.request_id in (None, record.request_id)
            and self.arm in (None, record.arm)
            and self.mode in (None, record.mode)
            and self.journey_id in (None, record.journey_id)
            and self.degraded in (None, bool(record.degraded))
            and (self.action_id is None or self.action_id in chosen_actions(record))
        )


def chosen_actions(record: DecisionRecord) -> tuple[str, ...]:
    """The actions that a decision chose, ``no_action`` where it chose none."""
    return tuple(one.action_id for one in record.selected) or (NO_ACTION,)


class DecisionSearch:
    """Finds decisions.

    Args:
        records: where they are.
        log: knows whose id an id is.
    """

    def __init__(self, *, records: RecordStore, log: EventLog) -> None:
        self._records, self._log = records, log

    def found(self, words: Words, principal: Principal, *, now: int) -> FoundDecisions:
        """A page of what a query asks for. It waits on stores: call it in a thread.

        Args:
            words: the query parameters, each with every value given.
            principal: who asks.
            now: microseconds since the epoch.

        Raises:
            InvalidInput: with every bad parameter.
            Forbidden: the decisions of another source are asked for.
            StoreUnavailable: a store does not answer.
        """
        query = Query.of_words(words, PARAMETERS)
        customer_id, since, until = query.text("customer_id"), query.moment("since"), query.moment("until")
        wanted = Wanted(
            source=query.text("source"),
            request_id=query.text("request_id"),
            action_id=query.text("action_id"),
            arm=query.choice("arm", ARMS, "") or None,
            mode=query.choice("mode", MODES, "") or None,
            journey_id=query.text("journey_id"),
            degraded=query.yes_or_no("degraded"),
        )
        limit = query.whole("limit", 1, LARGEST_LIMIT, DEFAULT_LIMIT)
        digest = query_digest(customer_id, since, until, wanted)
        cursor = cursor_of(query, digest)
        if since is not None and until is not None and since >= until:
            query.add("since", words["since"][0], "a moment before until")
        query.refuse("the decisions cannot be searched")
        wanted = replace(wanted, source=readable_source(principal, wanted.source, reads="reads decisions"))
        person = None if customer_id is None else self._log.person(customer_id, at=now)
        if since is None:
            is_bounded = person is not None or (wanted.request_id is not None and wanted.source is not None)
            since = 0 if is_bounded else max(0, (now if until is None else until) - DEFAULT_TIME_US)
        if until is None:
            until = END_OF_TIME
        if cursor is not None:
            since, until = cursor.since, cursor.until
        if wanted.request_id is not None and wanted.source is not None:
            return self._of_request(wanted, person, since, until)
        place = None if cursor is None else (cursor.at, cursor.id)
        stretch = Stretch(since=since, until=until, rows=0, before=place, spans=() if person is None else person.spans)
        return self._page(stretch, wanted, limit, digest)

    def _of_request(self, wanted: Wanted, person: Person | None, since: int, until: int) -> FoundDecisions:
        """The one decision under an idempotency key, if it is wanted."""
        stored = self._records.decision_of_request(wanted.source or "", wanted.request_id or "")
        looked = [] if stored is None else [stored.record]
        found = [
            one
            for one in looked
            if wanted.holds(one) and since <= one.decided_at < until and (person is None or _is_of(one, person.spans))
        ]
        return _answer(found, since, until, len(looked), None)

    def _page(self, stretch: Stretch, wanted: Wanted, limit: int, digest: str) -> FoundDecisions:
        found: list[DecisionRecord] = []
        looked_at, is_end = 0, stretch.since >= stretch.until
        place = stretch.before
        while not is_end and len(found) < limit and looked_at < LOOKED_AT_MOST:
            records = self._records.newest(replace(stretch, before=place, rows=_STEP))
            is_end = len(records) < _STEP
            for record in records:
                place = (record.decided_at, record.decision_id)
                looked_at += 1
                if wanted.holds(record):
                    found.append(record)
                    if len(found) == limit:
                        is_end = is_end and record is records[-1]
                        break
        cursor = None
        if not is_end and place is not None:
            cursor = dump_cursor(Cursor(digest, stretch.since, stretch.until, *place))
        return _answer(found, stretch.since, stretch.until, looked_at, cursor)


def _is_of(record: DecisionRecord, spans: tuple[Span, ...]) -> bool:
    return any(span.customer_id == record.customer_id and span.holds(record.decided_at) for span in spans)


def _answer(
    found: list[DecisionRecord], since: int, until: int, looked_at: int, next_cursor: str | None
) -> FoundDecisions:
    return FoundDecisions(
        decisions=tuple(map(found_decision, found)),
        since=dump_timestamp(since) if since > 0 else None,
        until=dump_timestamp(until) if until < END_OF_TIME else None,
        looked_at=looked_at,
        next_cursor=next_cursor,
    )


def found_decision(record: DecisionRecord) -> FoundDecision:
    """A decision in short."""
    first = record.first
    return FoundDecision(
        decision_id=record.decision_id,
        decided_at=dump_timestamp(record.decided_at),
        customer_id=record.customer_id,
        source=record.source,
        request_id=record.request_id,
        journey_id=record.journey_id,
        stage=record.stage,
        state=record.state,
        arm=record.arm,
        mode=record.mode,
        selected=found_actions(record),
        no_action=not record.selected,
        net_value=first.net_value if math.isfinite(first.net_value) else None,
        explored=record.explored,
        degraded=record.degraded,
    )


def found_actions(record: DecisionRecord) -> tuple[FoundAction, ...]:
    """The filled slots of a decision."""
    channel_of = {candidate.treatment_id: candidate.channel for candidate in record.candidates}
    return tuple(
        FoundAction(
            slot=one.slot,
            placement=one.placement,
            action_id=one.action_id,
            treatment_id=one.treatment_id,
            channel=channel_of[one.treatment_id],
        )
        for one in record.selected
    )
