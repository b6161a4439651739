"""Who is who, for callers: link and unlink ids, and find people by an identifier. Links are events, kept as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

from features.errors import InvalidInput, Problem, StoreUnavailable
from features.event_log import EventLog
from features.events import dump_timestamp, parse_event, shown
from features.identity import claim_of, is_said
from features.ingest import STORE_DOWN
from features.profile import fold_profile
from features.store import ProfileRow
from features.taxonomy import ALIAS, LINKED, UNLINKED, VALID_FROM, VALID_UNTIL, Taxonomy
from serving.outcomes import Ingest
from serving.requests import Fields
from serving.schemas import LinkRequest, UnlinkRequest
from serving.views import LookupAnswer, LookupMatch, PersonAnswer

_BOUNDARY: Final = {LINKED: VALID_FROM, UNLINKED: VALID_UNTIL}
_KEYS: Final = {LINKED: LinkRequest.__struct_fields__, UNLINKED: UnlinkRequest.__struct_fields__}


class IngestAndRefresh(Ingest, Protocol):
    """Takes event documents in, and brings states up to date."""

    def refresh(self, customer_ids: Iterable[str]) -> None:
        """Bring the feature store up to date with the log for some customers.

        Raises:
            StoreUnavailable: log or feature store do not answer.
        """
        ...


class IdentityDesk:
    """Links, unlinks and finds people.

    Args:
        log: tells who is who.
        ingest: takes the events of links in, and re-folds whom they move.
        taxonomy: declares the identifiers.
        randomness: so many random bytes.
    """

    def __init__(
        self, *, log: EventLog, ingest: IngestAndRefresh, taxonomy: Taxonomy, randomness: Callable[[int], bytes]
    ) -> None:
        self._log = log
        self._ingest = ingest
        self._taxonomy = taxonomy
        self._randomness = randomness

    def link(self, document: object, *, source: str, now: int) -> PersonAnswer:
        """Say that an alias belongs to a customer; on disk before it returns.

        Raises:
            InvalidInput: with every bad field.
            StoreUnavailable: the log does not answer; nothing was kept.
        """
        return self._claim(document, LINKED, source=source, now=now)

    def unlink(self, document: object, *, source: str, now: int) -> PersonAnswer:
        """Say that an alias no longer belongs to a customer, or never did; likewise."""
        return self._claim(document, UNLINKED, source=source, now=now)

    def lookup(self, name: str, value: str, *, now: int) -> LookupAnswer:
        """Everybody whose identifier has this value now.

        Raises:
            InvalidInput: no attribute of this name is an identifier.
            StoreUnavailable: the log does not answer.
        """
        if name not in self._taxonomy.identifiers:
            declared = ", ".join(sorted(self._taxonomy.identifiers)) or "none is declared"
            problem = Problem("?name", shown(name), f"an attribute that taxonomy.yaml calls an identifier: {declared}")
            raise InvalidInput("customers cannot be looked up by this", [problem])
        told = self._log.of_identifier(name, value)
        graph = self._log.identities(told)
        people = sorted({owner for one in told for _, owner in graph.owners(one)})
        return LookupAnswer(name=name, matches=tuple(self._matches(people, name, value, now)))

    def _matches(self, people: Sequence[str], name: str, value: str, now: int) -> Iterable[LookupMatch]:
        for customer_id in people:
            person = self._log.person(customer_id, at=now)
            events = (logged.event for logged in self._log.of_person(person))
            profile = fold_profile(ProfileRow(person.customer_id), events, self._taxonomy)
            if profile.attributes.get(name) == value:
                yield LookupMatch(customer_id=person.customer_id, linked_ids=person.linked_ids)

    def _claim(self, document: object, kind: str, *, source: str, now: int) -> PersonAnswer:
        new_id = f"{kind}-{self._randomness(12).hex()}"
        event = _event_document(document, kind, new_id=new_id)
        latest = max(now, self._moment_after(event["facts"][ALIAS]))
        event.setdefault("occurred_at", dump_timestamp(latest))
        try:
            return self._taken(event, new_id, source=source, now=now, latest=latest)
        except InvalidInput as error:
            raise InvalidInput("the request has invalid fields", _renamed(error.problems)) from error

    def _moment_after(self, alias: str) -> int:
        """After all that was said of an alias, so that what is said now counts last, whatever the clock does."""
        claims = self._log.identities([alias]).claims
        return 1 + max((claim.order[0] for claim in claims if claim.alias == alias), default=-1)

    def _taken(self, document: dict[str, Any], new_id: str, *, source: str, now: int, latest: int) -> PersonAnswer:
        event = parse_event(document, taxonomy=self._taxonomy, source=source, arrived_at=latest, position=0)
        claim = claim_of(event, 0)
        if claim is None:
            raise AssertionError(f"an event of the kind {event.kind} makes a claim")
        graph = self._log.identities([claim.customer_id, claim.alias])
        if event.event_id == new_id and is_said(claim, graph):
            # But the process may have died before all that follows from it was done.
            return self._person(event.customer_id, "duplicate", self._refreshed(graph.above(claim.alias)), now)
        report = self._ingest.ingest([document], source=source, arrived_at=now)
        for _, problems in report.rejected:
            raise InvalidInput("the request has invalid fields", problems)
        return self._person(event.customer_id, "duplicate" if report.duplicates else "accepted", report.degraded, now)

    def _refreshed(self, customer_ids: Iterable[str]) -> tuple[str, ...]:
        try:
            self._ingest.refresh(customer_ids)
        except StoreUnavailable:
            return (STORE_DOWN,)
        return ()

    def _person(
        self, customer_id: str, status: Literal["accepted", "duplicate"], degraded: tuple[str, ...], now: int
    ) -> PersonAnswer:
        person = self._log.person(customer_id, at=now)
        return PersonAnswer(
            customer_id=person.customer_id, linked_ids=person.linked_ids, status=status, degraded=degraded
        )


def _event_document(document: object, kind: str, *, new_id: str) -> dict[str, Any]:
    """The event that says what a request says; it checks the values, here only the fields are.

    Where the request does not say when it turned out, neither does the event.
    """
    fields = Fields.of(document, _KEYS[kind])
    alias, customer_id = fields.required_text("alias"), fields.required_text("customer_id")
    boundary, occurred_at = fields.timestamp(_BOUNDARY[kind]), fields.timestamp("occurred_at")
    event = {
        "event_id": fields.text("event_id") or new_id,
        "customer_id": customer_id,
        "kind": kind,
        "facts": {ALIAS: alias} | ({} if boundary is None else {_BOUNDARY[kind]: boundary}),
    } | ({} if occurred_at is None else {"occurred_at": occurred_at})
    fields.refuse("the request has invalid fields")
    return event


def _renamed(problems: Iterable[Problem]) -> list[Problem]:
    """Problems of the event as problems of the request that it was made of."""
    return [replace(problem, path=problem.path.rpartition(".")[2]) for problem in problems]
