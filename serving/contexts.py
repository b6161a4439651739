"""A customer in short, for decision systems, personalisation engines, agents and bots: where they stand, what to do.

Small and quick, and without anything personal: it may travel with a conversation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from features.errors import UnknownObject
from features.event_log import EventLog, LoggedEvent
from features.events import dump_timestamp, shown
from features.identity import Person
from features.moments import Moments
from features.taxonomy import BOOKKEEPING, Taxonomy
from models.reasons import MANDATORY
from models.records import RecordStore
from serving.auth import Principal
from serving.customer_views import CustomerContext, LastEvent, NextBestAction, Standing
from serving.masking import Sight
from serving.queries import Query, Words
from serving.schemas import DecisionAnswer, DecisionRequest, Direction
from serving.standing import StandingReader, Stood

if TYPE_CHECKING:
    from serving.runtime import Decides

PARAMETERS: Final = ("journey_id", "channel", "direction")
EVENTS_TOLD: Final = 5
CONTACTS_DAYS: Final = 30
_DAY_US: Final = 86_400_000_000
_OPEN_COMPLAINT: Final = "open_complaint"


class ContextDesk:
    """Gives contexts.

    Args:
        log: where events are.
        records: where contacts and consents are.
        moments: what gives questions their moments.
        taxonomy: channels, and which attributes are personal.
        standings: reads where customers stand.
        decider: for what it would choose now; nothing is recorded.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        records: RecordStore,
        moments: Moments,
        taxonomy: Taxonomy,
        standings: StandingReader,
        decider: Decides,
    ) -> None:
        self._log = log
        self._records = records
        self._moments = moments
        self._taxonomy = taxonomy
        self._standings = standings
        self._decider = decider

    def context(self, customer_id: str, words: Words, principal: Principal, *, now: int) -> CustomerContext:
        """A customer in short. It waits on stores: call it in a thread.

        Args:
            customer_id: any id of theirs.
            words: the query parameters, each with every value given.
            principal: who asks, and so under which other ids the customer is shown.
            now: microseconds since the epoch.

        Raises:
            InvalidInput: with every bad parameter.
            UnknownObject: nothing is known of the customer.
            StoreUnavailable: a store does not answer.
        """
        query = Query.of_words(words, PARAMETERS)
        journey_id = query.choice("journey_id", self._standings.journey_ids, "") or None
        channel = query.choice("channel", tuple(self._taxonomy.channels), "") or None
        direction = query.choice("direction", get_args(Direction), "outbound")
        query.refuse("the context cannot be given like this")
        at = self._moments.question(now)
        person = self._log.person(customer_id, at=at)
        logged = self._log.of_person(person)
        if not logged:
            raise UnknownObject(f"nothing is known of the customer {shown(customer_id)}; expected an id of one")
        stood = self._standings.stood(customer_id, at=at)
        standings = _asked(stood.standings, journey_id)
        answers = self._answers(customer_id, standings, channel, direction, source=principal.source, now=now)
        context = self._told(person, stood, standings, logged, answers, at)
        return msgspec.structs.replace(context, linked_ids=Sight.of(principal).linked(context.linked_ids))

    def _answers(
        self,
        customer_id: str,
        standings: Sequence[Standing],
        channel: str | None,
        direction: str,
        *,
        source: str,
        now: int,
    ) -> list[DecisionAnswer]:
        """What decisions now would say, in each journey under way."""
        found = []
        for standing in standings:
            if standing.status == "open":
                request = DecisionRequest(
                    request_id="context",
                    customer_id=customer_id,
                    journey_id=standing.journey_id,
                    channel=channel,
                    direction="inbound" if direction == "inbound" else "outbound",
                    mode="dry_run",
                )
                answer = self._decider.decide(request, source=source, now=now)
                found.append(msgspec.json.decode(answer, type=DecisionAnswer))
        return found

    def _told(
        self,
        person: Person,
        stood: Stood,
        standings: tuple[Standing, ...],
        logged: Sequence[LoggedEvent],
        answers: Sequence[DecisionAnswer],
        at: int,
    ) -> CustomerContext:
        known = self._records.customer(
            person.customer_id, since=at - CONTACTS_DAYS * _DAY_US, now=at, spans=person.spans
        )
        told = [one.event for one in logged if self._is_step(one)]
        attributes = self._taxonomy.without_personal(stood.profile.attributes)
        complaint = attributes.get(_OPEN_COMPLAINT)
        degraded = dict.fromkeys([*stood.degraded, *(reason for answer in answers for reason in answer.degraded)])
        return CustomerContext(
            customer_id=person.customer_id,
            linked_ids=person.linked_ids,
            as_of=dump_timestamp(at),
            standings=standings,
            last_events=tuple(
                LastEvent(kind=event.kind, channel=event.channel, occurred_at=dump_timestamp(event.occurred_at))
                for event in told[: -EVENTS_TOLD - 1 : -1]
            ),
            events_total=len(told),
            contacts=dict(sorted(Counter(contact.channel for contact in known.contacts).items())),
            consents=dict(known.consents),
            open_complaint=complaint if isinstance(complaint, bool) else None,
            nps_last=_known(stood.features, "nps_last"),
            sentiment_last=_known(stood.features, "sentiment_last"),
            attributes=attributes,
            holdings=tuple(sorted(stood.profile.holdings)),
            next_best_action=_best(answers),
            held_out=any(answer.experiment.holdout for answer in answers),
            degraded=tuple(degraded),
        )

    def _is_step(self, logged: LoggedEvent) -> bool:
        kind = self._taxonomy.known_kinds.get(logged.event.kind)
        return kind is not None and kind.role not in BOOKKEEPING


def _asked(standings: tuple[Standing, ...], journey_id: str | None) -> tuple[Standing, ...]:
    if journey_id is not None:
        return tuple(one for one in standings if one.journey_id == journey_id)
    return tuple(one for one in standings if one.status != "never")


def _best(answers: Sequence[DecisionAnswer]) -> NextBestAction | None:
    """Of what each journey would choose first, what has to be said, else what is worth most."""
    found = [
        (answer.journey.journey_id, ranked)
        for answer in answers
        if answer.selected
        for ranked in answer.ranked_actions
        if ranked.rank == 1
    ]
    if not found:
        return None
    journey_id, best = max(found, key=lambda one: (MANDATORY in one[1].reasons, one[1].priority or 0.0))
    return NextBestAction(
        journey_id=journey_id,
        action_id=best.action_id,
        treatment_id=best.treatment_id,
        channel=best.channel,
        issue=best.issue,
        net_value=best.net_value,
        currency=best.currency,
        uplift=best.uplift,
        response_probability=best.response_probability,
        reasons=best.reasons,
        talking_points=best.talking_points,
        disclosures=best.disclosures,
    )


def _known(features: Mapping[str, float], name: str) -> float | None:
    number = features.get(name, math.nan)
    return None if math.isnan(number) else number
