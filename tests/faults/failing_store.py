"""A feature store that fails on chosen calls, each time before or after it has done its part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from features.errors import StoreUnavailable
from features.store import CustomerRow, FeatureStore, ProfileRow, StateRow

T = TypeVar("T")


class FailingStore:
    """Passes calls on to another store, except those whose number ``fails`` names.

    Args:
        store: does the work.
        fails: told the number of a call, counted from 0: ``before`` or ``after`` its work, or an empty text.
    """

    def __init__(self, store: FeatureStore, fails: Callable[[int], str]) -> None:
        self._store = store
        self._fails = fails
        self.calls = 0

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer."""
        return self._called(lambda: self._store.read(customer_id, journey_id))

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """State and profile of each customer."""
        return self._called(lambda: self._store.read_many(customer_ids, journey_id))

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles."""
        self._called(lambda: self._store.write(states, profiles))

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write the other store."""
        return self._store.is_shared

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove states and profiles."""
        self._called(lambda: self._store.forget(customer_ids, gone_at=gone_at))

    def close(self) -> None:
        """Close the other store."""
        self._store.close()

    def _called(self, work: Callable[[], T]) -> T:
        number, self.calls = self.calls, self.calls + 1
        when = self._fails(number)
        if when == "before":
            raise StoreUnavailable(f"call {number} fails")
        done = work()
        if when == "after":
            raise StoreUnavailable(f"the answer of call {number} is lost")
        return done
