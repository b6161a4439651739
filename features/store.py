"""The port of the feature store: folded state and profile of a customer. A cache of the event log, never a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from features.kernel import Floats


@dataclass(frozen=True, slots=True, eq=False)
class StateRow:
    """A customer's folded state in one journey.

    Attributes:
        version: version of the feature set that folded it.
        vector: the state vector.
        last_event_at: ``occurred_at`` of the newest event folded, microseconds.
        last_sequence: its ``sequence``.
        last_source: its source.
        last_event_id: its id. Together they are the order key an event must exceed to be folded on top.
        log_position: position in the log of the last arrival folded; behind the log's own means stale.
    """

    customer_id: str
    journey_id: str
    version: str
    vector: Floats
    last_event_at: int
    last_sequence: int
    last_source: str
    last_event_id: str
    log_position: int

    @property
    def order(self) -> tuple[int, int, str, str]:
        """Order key of the newest event folded."""
        return (self.last_event_at, self.last_sequence, self.last_source, self.last_event_id)


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """What is known of a customer apart from the journey.

    Attributes:
        attributes: declared attributes that are known.
        consents: state by consent: ``granted``, ``withdrawn`` or ``objected``.
        holdings: products held.
        updated_at: ``occurred_at`` of the newest event folded, microseconds; 0 where there is none.
    """

    customer_id: str
    attributes: Mapping[str, str | float | bool] = field(default_factory=dict)
    consents: Mapping[str, str] = field(default_factory=dict)
    holdings: frozenset[str] = frozenset()
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class CustomerRow:
    """One read: the state in a journey and the profile; None where the store has none.

    Attributes:
        is_reset: the store was emptied, or what it holds was folded from another log; nothing of it was used.
    """

    state: StateRow | None
    profile: ProfileRow | None
    is_reset: bool = False


class FeatureStore(Protocol):
    """Keeps states and profiles by customer.

    A later write of the same key replaces the earlier one; but where other processes write too, a state never goes back
    in the log, and what is written with it neither.

    Attributes:
        is_shared: other processes may write it at the same time, so that a profile has to be written with its state
            though it did not change.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write it at the same time."""

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer in one round trip.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """``read`` of each customer, in order, in a round trip for some hundred.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds of one of them what is no value; ``read`` tells of which.
        """

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove the states and profiles of customers: of ids whose events all turned out to be another person's.

        Args:
            customer_ids: the ids.
            gone_at: the position in the log as of which they are gone. Where the store is shared, a state that is
                further stays, and one that is not is no longer taken. None: remove them whatever there is.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    def close(self) -> None:
        """Release the store."""


class MemoryStore:
    """A feature store in memory, for tests and trials."""

    is_shared = False

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], StateRow] = {}
        self._profiles: dict[str, ProfileRow] = {}

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer."""
        return CustomerRow(self._states.get((customer_id, journey_id)), self._profiles.get(customer_id))

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """State and profile of each customer."""
        return [self.read(customer_id, journey_id) for customer_id in customer_ids]

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles."""
        for state in states:
            self._states[state.customer_id, state.journey_id] = state
        for profile in profiles:
            self._profiles[profile.customer_id] = profile

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove states and profiles."""
        for key in [key for key in self._states if key[0] in customer_ids]:
            del self._states[key]
        for customer_id in customer_ids:
            self._profiles.pop(customer_id, None)

    def close(self) -> None:
        """Nothing to release."""
