"""Take event documents in: validate each, append to the log, then bring consents and the feature store up to date.

The log is the truth. What comes after the append can be repeated at any time and ends the same, so a batch that was
cut short is completed by sending it again, and a feature store that was down is healed by the customer's next event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from features.errors import InvalidInput, Problem, Refused, StoreCorrupted, StoreUnavailable
from features.event_log import Appended, EventLog, LoggedEvent
from features.events import LARGEST_INTEGER, JourneyEvent, parse_event, shown
from features.feedback_text import FeedbackTexts
from features.identity import Claim, Person, circular, claim_of
from features.kernel import Floats, new_state
from features.moments import Moments
from features.profile import fold_profile
from features.schema import FeatureSet
from features.stable_hash import stable_hash
from features.store import CustomerRow, FeatureStore, ProfileRow, StateRow
from features.taxonomy import Taxonomy
from features.telling import SetConsents, is_answer, is_exposure, remember_consents

STORE_DOWN: Final = "feature_store_unavailable"
_STRIPES: Final = 64
_PEOPLE_AT_ONCE: Final = 200
"""Read together; all of their events may be in memory at once."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of a batch; accepted + duplicates + rejected is its length.

    Attributes:
        accepted: events that were new.
        duplicates: events that were there already.
        rejected: index of each refused document and everything wrong with it.
        degraded: what could not be brought up to date; the events themselves are safe.
        known: index of each document whose event was there already.
    """

    accepted: int
    duplicates: int
    rejected: tuple[tuple[int, tuple[Problem, ...]], ...]
    degraded: tuple[str, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Arrears:
    """What a person's stored states lack of the log.

    Attributes:
        states: to fold on, of all journeys; empty where all is folded anew.
        profile: likewise.
        missing: the events to fold, in order.
        is_moved: a claim that the states do not know bears on the person.
    """

    person: Person
    states: Sequence[StateRow]
    profile: ProfileRow
    missing: Sequence[LoggedEvent]
    is_moved: bool


class _Known(NamedTuple):
    """What the feature store has of a customer: what can be folded on, and how far in the log any of it is."""

    states: Sequence[StateRow]
    profile: ProfileRow | None
    furthest: int


_NOTHING: Final = _Known((), None, 0)


class Ingestor:
    """Takes events in and keeps the feature store equal to a fold of the log.

    Args:
        log: the event log.
        store: the feature store. Of a process only one ingestor may write it, and more than one process only where it
            is shared.
        feature_sets: by journey; every event folds into each.
        taxonomy: the vocabulary that documents must keep to.
        consents: where consents go before the answer.
        exposures: where exposures go before the answer; it is told of some again, and counts them once.
        responses: where everything goes that carries the ``decision_id`` of what it answers, likewise.
        moments: what stamps the arrivals; decisions that see them must take theirs from the same.
    """

    def __init__(
        self,
        log: EventLog,
        store: FeatureStore,
        feature_sets: Mapping[str, FeatureSet],
        taxonomy: Taxonomy,
        consents: SetConsents,
        exposures: Callable[[Sequence[JourneyEvent]], None],
        moments: Moments | None = None,
        responses: Callable[[Sequence[JourneyEvent]], None] | None = None,
    ) -> None:
        self._log = log
        self._store = store
        self._feature_sets = feature_sets
        self._taxonomy = taxonomy
        self._texts = FeedbackTexts(taxonomy)
        self._consents = consents
        self._exposures = exposures
        self._responses = responses
        self._moments = moments or Moments()
        self._stripes = tuple(threading.Lock() for _ in range(_STRIPES))

    def ingest(
        self,
        documents: Sequence[object],
        *,
        source: str,
        arrived_at: int,
        corrections: Sequence[int] | None = None,
        forbidden: frozenset[str] = frozenset(),
    ) -> IngestReport:
        """Take a batch in; when it returns what it accepted is on disk, its consents hold and its exposures count.

        Args:
            documents: decoded documents of the wire format.
            source: who sent them, from the caller's key.
            arrived_at: now, microseconds since the epoch; they are stamped later where what came before them was.
            corrections: of each document, microseconds that its sender's clock is behind ours; None where nobody knows.
            forbidden: kinds that the sender may not send; such documents are rejected.

        Raises:
            StoreUnavailable: the log does not answer, and nothing was kept; or consents and exposures were not told on.
                Sending the same batch again completes it.
        """
        # A clock that stepped back does not make the present a future that is refused.
        arrived_at = max(arrived_at, self._moments.newest_arrival)
        parsed, rejected = self._parse(documents, source, arrived_at, corrections or [0] * len(documents), forbidden)
        if not parsed:
            return IngestReport(0, 0, rejected)
        events = list(parsed.values())
        with self._moments.arriving(_ids_in(events), now=arrived_at) as moment:
            appended = self._log.append([_arrived(event, moment) for event in events], stamp=self._moments.stamp)
        known = tuple(index for index, one in zip(parsed, appended, strict=True) if one.duplicate)
        # Duplicates too: the process may have died between their append and what follows it.
        customers = self._touched(events)
        with self._held(customers):
            remember_consents(events, self._log, self._taxonomy, self._consents)
            if exposed := self._as_logged(events, appended, is_exposure):
                self._exposures(exposed)
            if self._responses is not None and (answers := self._as_logged(events, appended, is_answer)):
                self._responses(answers)
            degraded = self._refreshed(customers)
        return IngestReport(len(events) - len(known), len(known), rejected, degraded, known)

    def refresh(self, customer_ids: Iterable[str]) -> None:
        """Bring the feature store up to date with the log for some customers.

        Raises:
            StoreUnavailable: log or feature store do not answer.
        """
        customers = sorted(set(customer_ids))
        with self._held(customers):
            self._refresh(customers)

    def rebuild(
        self,
        customer_id: str,
        journey_id: str,
        *,
        before: int = LARGEST_INTEGER,
        arrived_before: int = LARGEST_INTEGER,
    ) -> tuple[StateRow | None, ProfileRow]:
        """State and profile of a person folded anew from the log.

        Args:
            customer_id: any id of theirs: theirs at ``before``, as known before ``arrived_before``.
            journey_id: the journey.
            before: only from events that occurred strictly before this moment.
            arrived_before: only from events that we knew of strictly before this moment.

        Returns:
            The state, None where there is no event, and the profile.

        Raises:
            StoreUnavailable: the log does not answer.
            Refused: the log holds events that the taxonomy does not know.
        """
        graph = self._log.identities([customer_id]).known_before(arrived_before)
        person = graph.person(graph.owner(customer_id, at=before))
        logged = [
            each
            for each in self._log.of_person(person)
            if each.event.occurred_at < before and each.event.arrived_at < arrived_before
        ]
        profile = ProfileRow(person.customer_id)
        if not logged:
            return None, profile
        feature_set = self._feature_sets[journey_id]
        state = _state(feature_set, person.customer_id, new_state(feature_set.plan), person.linked_at, logged)
        return state, fold_profile(profile, (each.event for each in logged), self._taxonomy)

    def _touched(self, events: Sequence[JourneyEvent]) -> list[str]:
        """The canonical ids whose state some events move: for a claim, everybody whom it may give to or take from."""
        claims = [claim for event in events if (claim := claim_of(event, 0)) is not None]
        graph = self._log.identities({event.customer_id for event in events} | {claim.alias for claim in claims})
        touched = {graph.owner(event.customer_id, at=event.occurred_at) for event in events}
        for claim in claims:
            touched |= graph.above(claim.alias)
        return sorted(touched)

    def _parse(
        self,
        documents: Sequence[object],
        source: str,
        arrived_at: int,
        corrections: Sequence[int],
        forbidden: frozenset[str],
    ) -> tuple[dict[int, JourneyEvent], tuple[tuple[int, tuple[Problem, ...]], ...]]:
        parsed: dict[int, JourneyEvent] = {}
        rejected: dict[int, tuple[Problem, ...]] = {}
        for index, (document, correction) in enumerate(zip(documents, corrections, strict=True)):
            path = f"events[{index}]"
            try:
                event = parse_event(
                    document,
                    taxonomy=self._taxonomy,
                    source=source,
                    arrived_at=arrived_at,
                    position=index,
                    path=path,
                    correction=correction,
                )
            except InvalidInput as error:
                rejected[index] = error.problems
                continue
            if event.kind in forbidden:
                rejected[index] = (Problem(f"{path}.kind", shown(event.kind), "a kind that this sender may send"),)
            else:
                parsed[index] = event
        for index, problem in self._circles(parsed):
            rejected[index] = (problem,)
            del parsed[index]
        told = {index: self._texts.told(event) for index, event in parsed.items()}
        return told, tuple(sorted(rejected.items()))

    def _circles(self, events: Mapping[int, JourneyEvent]) -> list[tuple[int, Problem]]:
        """The links that would make somebody an alias of themselves, by index; what is known already is let pass."""
        claims = {index: claim for index, event in events.items() if (claim := claim_of(event, 0)) is not None}
        if not claims:
            return []
        ids = {one for claim in claims.values() for one in (claim.alias, claim.customer_id)}
        found = circular(self._log.identities(ids).claims, list(claims.values()))
        indices = list(claims)
        return [(indices[place], _circle(claims[indices[place]], indices[place])) for place in found]

    @contextmanager
    def _held(self, customers: Sequence[str]) -> Iterator[None]:
        """No other thread folds these customers meanwhile; stripes are taken in order, so that none waits forever."""
        stripes = {stable_hash("fold", customer_id) % _STRIPES for customer_id in customers}
        with ExitStack() as held:
            for stripe in sorted(stripes):
                held.enter_context(self._stripes[stripe])
            yield

    def _as_logged(
        self, events: Sequence[JourneyEvent], appended: Sequence[Appended], is_meant: Callable[[JourneyEvent], bool]
    ) -> list[JourneyEvent]:
        """The events of a batch that are meant, as the log has them."""
        meant = [pair for pair in zip(events, appended, strict=True) if is_meant(pair[0])]
        kept = [event for event, one in meant if not one.duplicate]
        # From the log, not from the batch: what is sent again under a known id may say something else.
        known = {(event.source, event.event_id): event.customer_id for event, one in meant if one.duplicate}
        kept += [
            logged.event
            for customer_id in sorted(set(known.values()))
            for logged in self._log.of_customer(customer_id)
            if is_meant(logged.event) and (logged.event.source, logged.event.event_id) in known
        ]
        return kept

    def _refreshed(self, customers: Sequence[str]) -> tuple[str, ...]:
        try:
            self._refresh(customers)
        except StoreUnavailable:
            return (STORE_DOWN,)
        return ()

    def _write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        try:
            self._store.write(states, profiles)
        except StoreCorrupted as error:  # of a cache; the log is another matter
            raise StoreUnavailable(f"the feature store is damaged: {error}") from error

    def _refresh(self, customers: Sequence[str]) -> None:
        states: list[StateRow] = []
        profiles: list[ProfileRow] = []
        gone: dict[int, list[str]] = {}
        for start in range(0, len(customers), _PEOPLE_AT_ONCE):
            ids = customers[start : start + _PEOPLE_AT_ONCE]
            # Before the head: what is past it then, was not written since by another process.
            known = self._known(ids)
            # All as of one position: a claim that slipped in between the reads would count as folded without being so.
            head = self._log.head()
            self._forget_what_is_past(head, ids, known)
            graph = self._log.identities(ids).up_to(head)
            for arrears in self._arrears([graph.person(one) for one in ids], known, head=head):
                if arrears.missing:
                    states.extend(self._folded(arrears))
                    folded = fold_profile(arrears.profile, (each.event for each in arrears.missing), self._taxonomy)
                    if self._store.is_shared or not arrears.states or folded != arrears.profile:
                        profiles.append(folded)
                elif arrears.is_moved:
                    gone.setdefault(head, []).append(arrears.person.customer_id)
        if states:
            self._write(states, profiles)
        for position, ids in gone.items():
            self._store.forget(ids, gone_at=position)

    def _forget_what_is_past(self, head: int, ids: Sequence[str], known: Sequence[_Known]) -> None:
        """A state past the head was folded from a log that was set back since: it must not keep its place."""
        past = [one for one, found in zip(ids, known, strict=True) if found.furthest > head]
        if past:
            self._store.forget(past)

    def _arrears(self, people: Sequence[Person], known: Sequence[_Known], *, head: int) -> Iterator[_Arrears]:
        usable = [found if found.furthest <= head else _NOTHING for found in known]
        folded = [found.furthest if found.states else 0 for found in usable]
        # Of those who were moved, events may have come or gone that are older than the state.
        moved = [until < person.linked_at for person, until in zip(people, folded, strict=True)]
        asked = [
            (person, 0 if is_moved else until) for person, until, is_moved in zip(people, folded, moved, strict=True)
        ]
        for person, found, is_moved, events in zip(people, usable, moved, self._log.of_people(asked), strict=True):
            states, profile = found.states, found.profile or ProfileRow(person.customer_id)
            missing = [each for each in events if each.position <= head]
            is_late = bool(states and missing) and missing[0].event.order < states[0].order
            if is_late and not is_moved:
                missing = [each for each in self._log.of_person(person) if each.position <= head]
            if is_late or is_moved:
                states, profile = [], ProfileRow(person.customer_id)
            yield _Arrears(person, states, profile, missing, is_moved)

    def _known(self, customer_ids: Sequence[str]) -> list[_Known]:
        """What the feature store has of each customer."""
        try:
            journeys = [self._store.read_many(customer_ids, journey_id) for journey_id in self._feature_sets]
        except StoreCorrupted:
            if len(customer_ids) > 1:  # of one of them: the others are folded on
                return [known for one in customer_ids for known in self._known([one])]
            return [_NOTHING] * len(customer_ids)  # written over from the log, as if there were none
        return [self._whole([rows[place] for rows in journeys]) for place in range(len(customer_ids))]

    def _whole(self, rows: Sequence[CustomerRow]) -> _Known:
        """The stored states of all journeys with the profile; none where they are not all whole and of one position."""
        found = [row.state for row in rows if row.state is not None]
        furthest = max((state.log_position for state in found), default=0)
        is_whole = len(found) == len(rows) and all(
            state.version == self._feature_sets[state.journey_id].version and state.log_position == furthest
            for state in found
        )
        if not is_whole or any(row.profile is None for row in rows):
            return _Known([], None, furthest)
        return _Known(found, rows[0].profile, furthest)

    def _folded(self, arrears: _Arrears) -> Iterator[StateRow]:
        person, known = arrears.person, arrears.states
        vectors = {state.journey_id: np.array(state.vector) for state in known}
        position = max(known[0].log_position if known else 0, person.linked_at)
        for journey_id, feature_set in self._feature_sets.items():
            vector = vectors.get(journey_id)
            vector = new_state(feature_set.plan) if vector is None else vector
            yield _state(feature_set, person.customer_id, vector, position, arrears.missing)


def _ids_in(events: Iterable[JourneyEvent]) -> set[str]:
    """Every id that some events name, as the customer's or as an alias."""
    ids = {event.customer_id for event in events}
    return ids | {claim.alias for event in events if (claim := claim_of(event, 0)) is not None}


def _circle(claim: Claim, index: int) -> Problem:
    expected = f"a customer who is not linked to {shown(claim.alias)} already: link them the other way round"
    return Problem(f"events[{index}].customer_id", shown(claim.customer_id), expected)


def _arrived(event: JourneyEvent, at: int) -> JourneyEvent:
    return event if event.arrived_at == at else replace(event, arrived_at=at)


def _state(
    feature_set: FeatureSet, customer_id: str, vector: Floats, position: int, events: Sequence[LoggedEvent]
) -> StateRow:
    """The state after folding ``events``, in their order, into ``vector``, in place."""
    try:
        for logged in events:
            feature_set.fold(vector, logged.event)
    except KeyError as error:
        raise Refused(
            f"the event log holds the kind or channel {error}, which the taxonomy does not know; "
            f"expected every kind and channel that was ever sent: put it back into taxonomy.yaml"
        ) from error
    last = events[-1].event
    return StateRow(
        customer_id=customer_id,
        journey_id=feature_set.journey_id,
        version=feature_set.version,
        vector=vector,
        last_event_at=last.occurred_at,
        last_sequence=last.sequence,
        last_source=last.source,
        last_event_id=last.event_id,
        log_position=max(position, max(logged.position for logged in events)),
    )
