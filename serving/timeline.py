"""A customer's timeline over all channels: events with their key facts, decisions, exposures and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from features.errors import UnknownObject
from features.event_log import EventLog, LoggedEvent
from features.events import JourneyEvent, dump_timestamp, shown
from features.identity import Person
from features.moments import Moments
from features.taxonomy import ALIAS, EXPOSED, IDENTITY_KINDS, NPS, OUTCOME_OBSERVED, SENTIMENT, THEME, Taxonomy
from models.decision import DecisionRecord
from models.records import RecordStore, Stretch
from serving.auth import Principal
from serving.customer_views import (
    DEFAULT_TIMELINE,
    LARGEST_TIMELINE,
    CustomerJourney,
    OutcomeView,
    ProfileView,
    TimelineEntry,
)
from serving.decision_outcomes import DecisionOutcomes
from serving.decision_search import found_decision
from serving.masking import MASKED, Sight
from serving.queries import END_OF_TIME, Cursor, Query, Words, cursor_of, dump_cursor, query_digest
from serving.standing import StandingReader

PARAMETERS: Final = ("since", "limit", "cursor")
_READ_FROM_TEXT: Final = frozenset({NPS, SENTIMENT, THEME})
"""Facts that every kind may have, beside its declared ones: what was read from the words of feedback."""

_HOLDING: Final = "holding:"


@dataclass(frozen=True, slots=True)
class _Placed:
    """An entry to be, and its place: moment and id; an id is of a decision, or stands for the position of an event."""

    place: tuple[int, str]
    what: JourneyEvent | DecisionRecord


class TimelineDesk:
    """Tells customers' timelines.

    Args:
        log: where events are.
        records: where decisions are.
        moments: what gives questions their moments.
        taxonomy: what facts mean, and which are personal.
        standings: reads where customers stand.
        outcomes: tells what came of decisions.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        records: RecordStore,
        moments: Moments,
        taxonomy: Taxonomy,
        standings: StandingReader,
        outcomes: DecisionOutcomes,
    ) -> None:
        self._log = log
        self._records = records
        self._moments = moments
        self._taxonomy = taxonomy
        self._standings = standings
        self._outcomes = outcomes

    def journey(self, customer_id: str, words: Words, principal: Principal, *, now: int) -> CustomerJourney:
        """A page of a customer's timeline. It waits on stores: call it in a thread.

        Args:
            customer_id: any id of theirs.
            words: the query parameters, each with every value given.
            principal: who asks, and so what is masked.
            now: microseconds since the epoch.

        Raises:
            InvalidInput: with every bad parameter.
            UnknownObject: nothing is known of the customer.
            StoreUnavailable: a store does not answer.
        """
        query = Query.of_words(words, PARAMETERS)
        since, limit = query.moment("since"), query.whole("limit", 1, LARGEST_TIMELINE, DEFAULT_TIMELINE)
        digest = query_digest(customer_id, since)
        cursor = cursor_of(query, digest)
        query.refuse("the timeline cannot be told like this")
        at = self._moments.question(now)
        person = self._log.person(customer_id, at=at)
        logged = self._log.of_person(person)
        before = None if cursor is None else (cursor.at, cursor.id)
        decisions = self._decisions(person, since=since or 0, before=before, rows=limit + 1)
        if not logged and not decisions and before is None and not self._is_decided(person):
            raise UnknownObject(f"nothing is known of the customer {shown(customer_id)}; expected an id of one")
        page = _newest([*_placed_events(logged, since or 0), *decisions], before, limit + 1)
        has_more = len(page) > limit
        stood = self._standings.stood(customer_id, at=at)
        records = [one.what for one in page[:limit] if isinstance(one.what, DecisionRecord)]
        outcomes = self._outcomes.among(records, [one.event for one in logged], now=at)
        sight = Sight.of(principal)
        names = sight.names(person.linked_ids)
        named = {person.customer_id: person.customer_id, **names}
        personal = frozenset() if sight.personal else self._taxonomy.personal_attributes
        attributes, masked = _shown(stood.profile.attributes, personal)
        consents = self._records.customer(person.customer_id, since=at, now=at, spans=person.spans).consents
        return CustomerJourney(
            customer_id=person.customer_id,
            linked_ids=tuple(names.values()),
            profile=ProfileView(
                attributes=attributes,
                masked=masked,
                holdings=tuple(sorted(stood.profile.holdings)),
                consents=dict(consents),
            ),
            standings=stood.standings,
            timeline=tuple(self._entry(one.what, outcomes, sight, named) for one in page[:limit]),
            next_cursor=dump_cursor(Cursor(digest, 0, 0, *page[limit - 1].place)) if has_more else None,
            degraded=stood.degraded,
        )

    def _decisions(self, person: Person, *, since: int, before: tuple[int, str] | None, rows: int) -> list[_Placed]:
        stretch = Stretch(since=since, until=END_OF_TIME, rows=rows, before=before, spans=person.spans)
        return [_Placed((one.decided_at, one.decision_id), one) for one in self._records.newest(stretch)]

    def _is_decided(self, person: Person) -> bool:
        return bool(self._decisions(person, since=0, before=None, rows=1))

    def _entry(
        self,
        what: JourneyEvent | DecisionRecord,
        outcomes: Mapping[str, tuple[OutcomeView, ...]],
        sight: Sight,
        names: Mapping[str, str],
    ) -> TimelineEntry:
        customer_id = what.customer_id if sight.ids else names.get(what.customer_id, MASKED)
        if isinstance(what, DecisionRecord):
            return TimelineEntry(
                type="decision",
                at=dump_timestamp(what.decided_at),
                customer_id=customer_id,
                source=what.source,
                decision=msgspec.structs.replace(found_decision(what), customer_id=customer_id),
                outcomes=outcomes[what.decision_id],
            )
        kind = self._taxonomy.known_kinds.get(what.kind)
        hidden = frozenset() if sight.personal else self._personal_facts(what)
        if what.kind in IDENTITY_KINDS and not sight.ids:
            hidden |= {ALIAS}
        facts, masked = _shown(what.facts, hidden)
        return TimelineEntry(
            type="exposure" if what.kind == EXPOSED else "outcome" if what.kind == OUTCOME_OBSERVED else "event",
            at=dump_timestamp(what.occurred_at),
            customer_id=customer_id,
            source=what.source,
            event_id=what.event_id,
            kind=what.kind,
            title=None if kind is None else kind.title,
            channel=what.channel,
            facts=facts,
            masked=masked,
        )

    def _personal_facts(self, event: JourneyEvent) -> frozenset[str]:
        """The facts of an event that are personal, or that nobody declared not to be."""
        kind = self._taxonomy.known_kinds.get(event.kind)
        if kind is None:
            return frozenset(event.facts)
        declared = {name for name, fact in kind.facts.items() if not fact.pii} | _READ_FROM_TEXT
        if kind.role == "profile":
            declared |= set(self._taxonomy.attributes) - self._taxonomy.personal_attributes
            declared |= {name for name in event.facts if name.startswith(_HOLDING)}
        return frozenset(event.facts) - declared


def _placed_events(logged: Sequence[LoggedEvent], since: int) -> Iterator[_Placed]:
    for one in logged:
        if one.event.occurred_at >= since:
            # After every decision of the same moment, which saw only what came before it.
            yield _Placed((one.event.occurred_at, f"e-{one.position:019d}"), one.event)


def _newest(placed: list[_Placed], before: tuple[int, str] | None, most: int) -> list[_Placed]:
    known = placed if before is None else [one for one in placed if one.place < before]
    return sorted(known, key=lambda one: one.place, reverse=True)[:most]


def _shown(
    values: Mapping[str, str | float | bool], hidden: frozenset[str]
) -> tuple[dict[str, str | float | bool], tuple[str, ...]]:
    """What may be seen of some facts or attributes, and the names of what may not."""
    open_ones = {name: value for name, value in values.items() if name not in hidden}
    return open_ones, tuple(sorted(set(values) - set(open_ones)))
