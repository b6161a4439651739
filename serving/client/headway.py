"""The client: a method for each call that other systems make all day, typed by the shapes that the service sends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack

import msgspec

from serving.client.batches import Tally, body_of, event_batches, one_batch, outcome_batches
from serving.client.failures import UnreadableAnswer
from serving.client.options import DecisionFilters, DecisionOptions
from serving.client.patience import Patience
from serving.client.sending import Query, Sender, Surroundings
from serving.customer_views import CustomerContext, CustomerJourney
from serving.decision_search import FoundDecision, FoundDecisions
from serving.schemas import (
    ActivationRequest,
    DecisionAnswer,
    DecisionRequest,
    Direction,
    EventDocument,
    ExposureDocument,
    LinkRequest,
    OutcomeDocument,
    UnlinkRequest,
    canonical_request,
)
from serving.views import Activation, BatchAnswer, EventsAnswer, OutcomesAnswer, PersonAnswer, StoredDecision

T = TypeVar("T")

DEFAULT_CONNECTIONS: Final = 10


class Headway:
    """Calls a Headway service; threads may share one, and should.

    A call that got no answer, or one that asks for patience (429, 503, a 409 of the type `in-flight`, other failures of
    the server), is made again with the very same bytes until it is answered or its time is over. That is safe: request
    ids and event ids make the service count it once. Every other refusal is raised at once.

    Args:
        url: of the service.
        key: an API key, or a token of the company's sign-on.
        patience: how long to wait, and when to ask again.
        connections: open at most.
        surroundings: time, chance and the network.

    Raises:
        InvalidInput: the URL or the key cannot be one.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        connections: int = DEFAULT_CONNECTIONS,
        surroundings: Surroundings = Surroundings(),  # noqa: B008  # frozen
    ) -> None:
        self._sender = Sender(url, key, patience=patience, connections=connections, surroundings=surroundings)
        self._new_id = surroundings.new_id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sender.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._sender.close()

    def send_events(self, events: Iterable[EventDocument]) -> BatchAnswer:
        """Send events, in batches; ``event_id`` makes it safe to send them again.

        Args:
            events: any number; they are not all held at once.

        Returns:
            What became of all of them; indices and pointers are positions in ``events``.

        Raises:
            CallFailed: a batch could not be sent; those before it were. Send all of them again.
        """
        tally = Tally()
        for batch in event_batches(events):
            tally.add(batch, self._said("POST", "/v1/events", EventsAnswer, body=batch.body), key="events")
        return tally.events()

    def send_events_and_decide(
        self, events: Iterable[EventDocument], *, journey_id: str | None = None, channel: str | None = None
    ) -> EventsAnswer:
        """Send the events of one customer who is here, in one batch, and ask what to do now.

        Args:
            events: of one customer.
            journey_id: the journey to decide in.
            channel: only treatments of this channel.

        Raises:
            CallFailed: no answer that could be used.
        """
        query = {"decide": True, "journey_id": journey_id, "channel": channel}
        return self._said("POST", "/v1/events", EventsAnswer, body=one_batch(events).body, query=query)

    def decide(
        self, customer_id: str, *, request_id: str | None = None, **options: Unpack[DecisionOptions]
    ) -> DecisionAnswer:
        """The ranked next best action for a customer.

        Args:
            customer_id: any id of theirs.
            request_id: the same id and question give the same answer, also after this process has died; one is made
                where none is given.
            options: further fields of the question.

        Raises:
            CallFailed: no answer that could be used.
        """
        request = DecisionRequest(request_id=request_id or self._new_id(), customer_id=customer_id, **options)
        return self._said("POST", "/v1/decisions", DecisionAnswer, body=canonical_request(request))

    def activate(
        self,
        decision_id: str,
        *,
        action_id: str | None = None,
        treatment_id: str | None = None,
        slots: tuple[int, ...] | None = None,
    ) -> Activation:
        """Count the contacts that a decision reserved, now that they happen; all of them unless some are named.

        Raises:
            Problem: among others `not-activatable` (409) and `lease-ended` (410): then do not contact.
            CallFailed: no answer that could be used.
        """
        body = body_of(ActivationRequest(action_id=action_id, treatment_id=treatment_id, slots=slots))
        names = {"decision_id": decision_id}
        return self._said("POST", "/v1/decisions/{decision_id}/activate", Activation, body=body, names=names)

    def send_outcomes(self, outcomes: Iterable[ExposureDocument | OutcomeDocument]) -> OutcomesAnswer:
        """Send what came of decisions, in batches; sending it again changes nothing.

        Returns:
            What became of all of them; indices and pointers are positions in ``outcomes``.

        Raises:
            CallFailed: a batch could not be sent; those before it were. Send all of them again.
        """
        tally = Tally()
        for batch in outcome_batches(outcomes):
            tally.add(batch, self._said("POST", "/v1/outcomes", OutcomesAnswer, body=batch.body), key="outcomes")
        return tally.outcomes()

    def link(self, link: LinkRequest) -> PersonAnswer:
        """Say that an alias belongs to a customer; without ``event_id`` a link that is known already changes nothing.

        Raises:
            CallFailed: no answer that could be used.
        """
        return self._said("POST", "/v1/identities/link", PersonAnswer, body=body_of(link))

    def unlink(self, unlink: UnlinkRequest) -> PersonAnswer:
        """Say that an alias does not belong to a customer; likewise."""
        return self._said("POST", "/v1/identities/unlink", PersonAnswer, body=body_of(unlink))

    def context(
        self,
        customer_id: str,
        *,
        journey_id: str | None = None,
        channel: str | None = None,
        direction: Direction | None = None,
    ) -> CustomerContext:
        """A customer in short.

        Raises:
            CallFailed: no answer that could be used.
        """
        query = {"journey_id": journey_id, "channel": channel, "direction": direction}
        path, names = "/v1/customers/{customer_id}/context", {"customer_id": customer_id}
        return self._said("GET", path, CustomerContext, names=names, query=query)

    def journey(
        self, customer_id: str, *, since: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> CustomerJourney:
        """A page of what happened to a customer, newest first, and where they stand.

        Args:
            customer_id: any id of theirs.
            since: only from here on, ISO 8601 with an offset.
            limit: how many entries at most.
            cursor: ``next_cursor`` of the page before.

        Raises:
            CallFailed: no answer that could be used.
        """
        query = {"since": since, "limit": limit, "cursor": cursor}
        path, names = "/v1/customers/{customer_id}/journey", {"customer_id": customer_id}
        return self._said("GET", path, CustomerJourney, names=names, query=query)

    def decision(self, decision_id: str) -> StoredDecision:
        """A stored decision: the answer as it was given, its record, and what has come of it.

        Raises:
            CallFailed: no answer that could be used.
        """
        return self._said("GET", "/v1/decisions/{decision_id}", StoredDecision, names={"decision_id": decision_id})

    def decisions(self, **filters: Unpack[DecisionFilters]) -> Iterator[FoundDecision]:
        """Recorded decisions, newest first; further pages are asked for as they are needed.

        Raises:
            CallFailed: no answer that could be used.
        """
        cursor: str | None = None
        while True:
            found = self._said("GET", "/v1/decisions", FoundDecisions, query={**filters, "cursor": cursor})
            yield from found.decisions
            cursor = found.next_cursor
            if cursor is None:
                return

    def _said(
        self,
        method: str,
        template: str,
        shape: type[T],
        *,
        body: bytes | None = None,
        names: Mapping[str, str] | None = None,
        query: Query | None = None,
    ) -> T:
        data = self._sender.answer(method, template, body=body, names=names, query=query)
        try:
            return msgspec.json.decode(data, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            call = f"{method} {template}"
            raise UnreadableAnswer(
                call, f"{call}: {error}; expected the answer of a service of this version"
            ) from error
