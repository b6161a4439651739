"""What is known of a customer at the moment of a decision: one feature store read, or the event log behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from features.errors import StoreCorrupted, StoreUnavailable
from features.event_log import EventLog
from features.identity import Person
from features.kernel import Floats, new_state
from features.moments import Moments
from features.schema import FeatureSet
from features.store import FeatureStore, ProfileRow, StateRow

Rebuild: TypeAlias = Callable[..., tuple[StateRow | None, ProfileRow]]
"""``rebuild(customer_id, journey_id, before=at, arrived_before=at)``: state and profile from the event log."""

STORE_DOWN: Final = "feature_store_unavailable"
STORE_RESET: Final = "feature_store_reset"
STORE_DAMAGED: Final = "feature_store_damaged"
REBUILT: Final = "features_rebuilt"
_NO_CONTEXT: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A customer as of a moment.

    Attributes:
        person: who it is, and which ids are theirs.
        vector: ``(n_features,)``.
        profile: attributes, holdings and consents.
        is_known: any event of the customer is known.
        log_position: position in the log of the last arrival in the state; 0 where there is none.
        last_event_at: ``occurred_at`` of the newest event in the state; 0 where there is none.
        degraded: what was missing, or had to be done the slow way, while observing.
    """

    person: Person
    vector: Floats
    profile: ProfileRow
    is_known: bool
    log_position: int
    last_event_at: int
    degraded: tuple[str, ...]


class NotAtHand(Exception):
    """A customer cannot be observed without waiting for an arrival or rebuilding from the log."""


class _Unusable(NamedTuple):
    """Why a stored state is not used, as answers say it, and whether the customer should be written anew."""

    degraded: tuple[str, ...]
    heals: bool


class Observer:
    """Reads customers as of a moment.

    A state that is missing, of another feature set, newer than the moment, or behind the log is not used: the customer
    is rebuilt from the event log, which is slower and always right. So features are never stale, only slower; and
    ``heal`` is told, so that it is found the next time. Without the log nothing says whether a state is whole: then
    there is no answer.

    Either way a decision sees exactly what had arrived strictly before its moment, as training will: what is on its way
    into the log is waited for, and what slipped in since the question was asked is left out.
    """

    def __init__(
        self,
        *,
        feature_sets: Mapping[str, FeatureSet],
        store: FeatureStore,
        log: EventLog,
        rebuild: Rebuild,
        moments: Moments,
        heal: Callable[[str], None] = lambda customer_id: None,
    ) -> None:
        self._feature_sets = feature_sets
        self._store = store
        self._log = log
        self._rebuild = rebuild
        self._moments = moments
        self._heal = heal

    def observe(
        self, customer_id: str, journey_id: str, *, at: int, context: Mapping[str, object] = _NO_CONTEXT
    ) -> Observed:
        """A customer in a journey, from what happened strictly before ``at``.

        Args:
            customer_id: any id of theirs.
            journey_id: the journey.
            at: the moment, from ``Moments.question``.
            context: the request's own facts.

        Raises:
            StoreUnavailable: the event log does not answer.
        """
        feature_set = self._feature_sets[journey_id]
        person = self._settled_person(customer_id, at)
        if self._has_arrived_since(person, at):
            return self.observe_past(customer_id, journey_id, at=at, context=context)
        found = self._stored(person, feature_set, at, context)
        if isinstance(found, Observed):
            return found
        if found.heals:
            self._heal(person.customer_id)
        return self._from_log(person, feature_set, at, context, degraded=found.degraded)

    def observe_at_hand(
        self, customer_id: str, journey_id: str, *, at: int, context: Mapping[str, object] = _NO_CONTEXT
    ) -> Observed:
        """``observe`` where nothing has to be waited for and nothing rebuilt: a few short reads.

        Raises:
            NotAtHand: it takes longer: ``observe`` does it, in a thread that may wait.
            StoreUnavailable: the event log does not answer.
        """
        if self._moments.is_under_way([customer_id]):
            raise NotAtHand
        person = self._log.person(customer_id, at=at)
        if self._moments.is_under_way([person.customer_id, *person.linked_ids]) or self._has_arrived_since(person, at):
            raise NotAtHand
        found = self._stored(person, self._feature_sets[journey_id], at, context)
        if isinstance(found, Observed):
            return found
        raise NotAtHand

    def _stored(
        self, person: Person, feature_set: FeatureSet, at: int, context: Mapping[str, object]
    ) -> Observed | _Unusable:
        """What the feature store tells, or why it cannot be used."""
        newest = person.last_position
        if newest == 0:
            return _observed(feature_set, person, None, ProfileRow(person.customer_id), at, context)
        try:
            row = self._store.read(person.customer_id, feature_set.journey_id)
        except StoreUnavailable:
            return _Unusable((STORE_DOWN,), heals=False)
        except StoreCorrupted:
            return _Unusable((STORE_DAMAGED,), heals=True)
        state, profile = row.state, row.profile
        if state is None or profile is None or state.version != feature_set.version or state.log_position < newest:
            return _Unusable((STORE_RESET if row.is_reset else REBUILT,), heals=True)
        if state.log_position > newest or state.last_event_at >= at or profile.updated_at >= at:
            return _Unusable((), heals=False)
        return _observed(feature_set, person, state, profile, at, context)

    def _has_arrived_since(self, person: Person, at: int) -> bool:
        last = person.last_position
        ids = [person.customer_id, *person.linked_ids]
        return last > 0 and self._moments.has_arrived(ids, since=at, position=last)

    def _settled_person(self, customer_id: str, at: int) -> Person:
        """Who it is, once all that arrived for them before a moment is in the log."""
        ids = {customer_id}
        while True:
            self._moments.settle(ids, before=at)
            person = self._log.person(customer_id, at=at)
            # A link that was waited for may tell of ids that nobody waited for yet.
            if ids >= (theirs := {person.customer_id, *person.linked_ids}):
                return person
            ids |= theirs

    def observe_past(
        self, customer_id: str, journey_id: str, *, at: int, context: Mapping[str, object] = _NO_CONTEXT
    ) -> Observed:
        """A customer at an earlier moment, from what had happened and was known strictly before it.

        The stored state is not asked: it may have folded what happened before ``at`` and arrived later.

        Args:
            customer_id: any id of theirs.
            journey_id: the journey.
            at: the moment, microseconds since the epoch.
            context: the request's own facts.

        Raises:
            StoreUnavailable: the event log does not answer.
        """
        feature_set = self._feature_sets[journey_id]
        person = self._log.person(customer_id, at=at, known_before=at)
        state, profile = self._rebuild(customer_id, journey_id, before=at, arrived_before=at)
        return _observed(feature_set, person, state, profile, at, context)

    def _from_log(
        self,
        person: Person,
        feature_set: FeatureSet,
        at: int,
        context: Mapping[str, object],
        *,
        degraded: tuple[str, ...],
    ) -> Observed:
        state, profile = self._rebuild(person.customer_id, feature_set.journey_id, before=at, arrived_before=at)
        return _observed(feature_set, person, state, profile, at, context, degraded)


def _observed(
    feature_set: FeatureSet,
    person: Person,
    state: StateRow | None,
    profile: ProfileRow,
    at: int,
    context: Mapping[str, object],
    degraded: tuple[str, ...] = (),
) -> Observed:
    vector = new_state(feature_set.plan) if state is None else state.vector
    return Observed(
        person=person,
        vector=feature_set.vector(vector, profile.attributes, at, context),
        profile=profile,
        is_known=state is not None or profile.updated_at > 0,
        log_position=0 if state is None else state.log_position,
        last_event_at=0 if state is None else state.last_event_at,
        degraded=degraded,
    )
