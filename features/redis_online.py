"""The online store on Redis: the hashes that Feast keeps there, byte for byte, without importing Feast.

One script reads a customer's state and profile together with the epoch, and one writes them: either sees or makes one
moment of the database, in one round trip.

References:
    Feast 0.67: ``feast.infra.online_stores.redis``, docs/specs/online_store_format.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from features.errors import HeadwayError, Refused, StoreUnavailable
from features.feast_layout import CUSTOMER_KEY, JOURNEY_KEY, PROFILE_VIEW, PROJECT, STATE_VIEW
from features.feast_rows import FeastRows, Message, profile_key, state_key
from features.feast_values import encode_timestamp, entity_key_length, entity_key_prefix, murmur3
from features.home import FileLock, lock_file
from features.online_location import RedisLocation
from features.redis_client import EPOCH_KEY, RedisEpochCell, client_of, driver_failure
from features.redis_epoch import Epoch
from features.schema import FeatureSet
from features.store import CustomerRow, ProfileRow, StateRow
from features.taxonomy import Taxonomy

PAUSE_SECONDS: Final = 0.5
"""After a failure nobody asks for so long: waiting out the timeout at every decision would be worse than no cache."""
_ROWS_PER_SCRIPT: Final = 100
_KEYS_PER_SCAN: Final = 1_000

_PROJECT_BYTES: Final = PROJECT.encode()
_READ: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local n = tonumber(ARGV[2])
return {redis.call('HMGET', KEYS[2], unpack(ARGV, 3, 2 + n)), redis.call('HMGET', KEYS[3], unpack(ARGV, 3 + n))}
"""
_READ_MANY: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local n = tonumber(ARGV[2])
local found = {}
for i = 2, #KEYS, 2 do
  found[i - 1] = redis.call('HMGET', KEYS[i], unpack(ARGV, 3, 2 + n))
  found[i] = redis.call('HMGET', KEYS[i + 1], unpack(ARGV, 3 + n))
end
return found
"""
_WRITE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local at = 2
for i = 2, #KEYS do
  local n = tonumber(ARGV[at])
  redis.call('HSET', KEYS[i], unpack(ARGV, at + 1, at + n))
  at = at + 1 + n
end
return 1
"""
_FORGET: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', unpack(KEYS, 2)) end
"""
_HashRow = tuple[bytes, list[bytes]]


class RedisOnlineStore:
    """A feature store over the hashes that Feast keeps in a Redis; the only writer for its home while it is open.

    Nothing is asked of the Redis before it is needed: it is a cache of the event log, and may be down.

    Args:
        location: the Redis.
        epoch_file: keeps the home's epoch.
        lock_path: what to lock; the same for every kind of online store of one home.
        feature_sets: the feature sets whose states it keeps, by journey.
        taxonomy: the taxonomy whose profiles it keeps.
        timer: a monotonic clock, seconds.

    Raises:
        HomeLocked: another process of this home has the online store open.
        Refused: the package ``redis`` is not installed.
        StoreUnavailable: a file of the home cannot be written.
    """

    def __init__(
        self,
        location: RedisLocation,
        *,
        epoch_file: Path,
        lock_path: Path,
        feature_sets: Mapping[str, FeatureSet],
        taxonomy: Taxonomy,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = location.masked
        self._rows = FeastRows(feature_sets, taxonomy)
        self._state_fields = {name: murmur3(f"{STATE_VIEW}:{name}") for name in self._rows.state_names}
        self._profile_fields = {name: murmur3(f"{PROFILE_VIEW}:{name}") for name in self._rows.profile_names}
        self._read_arguments: tuple[bytes | int, ...] = (
            len(self._state_fields),
            *self._state_fields.values(),
            *self._profile_fields.values(),
        )
        self._timer = timer
        self._asks_again_at = float("-inf")
        self._is_closed = False
        self._client = client_of(location)
        self._read_script: Callable[..., Any] = self._client.register_script(_READ)
        self._read_many_script: Callable[..., Any] = self._client.register_script(_READ_MANY)
        self._write_script: Callable[..., Any] = self._client.register_script(_WRITE)
        self._forget_script: Callable[..., Any] = self._client.register_script(_FORGET)
        self._journey_ids = tuple(feature_sets)
        self._lock: FileLock = lock_file(lock_path)
        try:
            self._epoch = Epoch(epoch_file, RedisEpochCell(self._client), self._forget_rows, self._where)
        except BaseException:
            self._lock.close()
            raise

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer, as of one moment of the store.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds bytes that are no values.
        """
        keys = (EPOCH_KEY, _stored(state_key(customer_id, journey_id)), _stored(profile_key(customer_id)))
        with self._asking():
            found = self._read_script(keys=keys, args=(self._epoch.text, *self._read_arguments))
        if found is None:
            return CustomerRow(None, None, is_reset=True)
        return self._row(customer_id, journey_id, *found)

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """State and profile of each customer; of a hundred at a time as of one moment of the store.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds bytes that are no values.
        """
        return [
            row
            for start in range(0, len(customer_ids), _ROWS_PER_SCRIPT)
            for row in self._read_part(customer_ids[start : start + _ROWS_PER_SCRIPT], journey_id)
        ]

    def _read_part(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        pairs = ((state_key(one, journey_id), profile_key(one)) for one in customer_ids)
        keys = (EPOCH_KEY, *(_stored(key) for pair in pairs for key in pair))
        with self._asking():
            found = self._read_many_script(keys=keys, args=(self._epoch.text, *self._read_arguments))
        if found is None:
            return [CustomerRow(None, None, is_reset=True)] * len(customer_ids)
        return [
            self._row(one, journey_id, state, profile)
            for one, state, profile in zip(customer_ids, found[::2], found[1::2], strict=True)
        ]

    def _row(
        self, customer_id: str, journey_id: str, state: Sequence[bytes | None], profile: Sequence[bytes | None]
    ) -> CustomerRow:
        return CustomerRow(
            self._rows.state(customer_id, journey_id, _messages(self._state_fields, state)),
            self._rows.profile(customer_id, _messages(self._profile_fields, profile)),
        )

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles: up to a hundred rows at once, more in several steps, profiles first.

        A state vouches for its profile by its position in the log, so it must never be there before it.

        Raises:
            StoreUnavailable: the store does not answer, or another home keeps it.
            Refused: a state of a journey that this store was not opened for.
        """
        rows = [*map(self._profile_hash, profiles), *map(self._state_hash, states)]
        for start in range(0, len(rows), _ROWS_PER_SCRIPT):
            self._write_rows(rows[start : start + _ROWS_PER_SCRIPT])

    def forget(self, customer_ids: Sequence[str]) -> None:
        """Remove the states and profiles of customers, states first; of a Redis that is another home's nothing.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        states = [_stored(state_key(one, journey_id)) for one in customer_ids for journey_id in self._journey_ids]
        keys = [*states, *(_stored(profile_key(one)) for one in customer_ids)]
        for start in range(0, len(keys), _ROWS_PER_SCRIPT):
            with self._asking():
                self._forget_script(keys=[EPOCH_KEY, *keys[start : start + _ROWS_PER_SCRIPT]], args=[self._epoch.text])

    def holds(self) -> bool:
        """Whether the rows in the Redis are this home's.

        Raises:
            StoreUnavailable: it does not answer.
        """
        with self._asking():
            return self._epoch.holds()

    def claim(self) -> None:
        """Make a Redis that is nobody's this home's, by clearing it; nothing where it is this home's already.

        Raises:
            Refused: another home keeps it.
            StoreUnavailable: it does not answer.
        """
        with self._asking():
            self._epoch.claim()

    def clear(self) -> None:
        """Forget everything, whosever it is, before all of it is written anew.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with self._asking():
            self._epoch.renew()

    def close(self) -> None:
        """Give the connections and the home's lock back; closing twice is harmless."""
        self._is_closed = True
        self._client.close()
        self._lock.close()

    def _write_rows(self, rows: Sequence[_HashRow]) -> None:
        keys = [EPOCH_KEY, *(key for key, _ in rows)]
        values = [value for _, pairs in rows for value in (len(pairs), *pairs)]
        with self._asking():
            if self._write_script(keys=keys, args=[self._epoch.text, *values]):
                return
            try:
                self._epoch.claim()
            except Refused as error:
                raise StoreUnavailable(str(error)) from error
            if not self._write_script(keys=keys, args=[self._epoch.text, *values]):
                raise StoreUnavailable(f"{self._where} was emptied again while it was written; expected it to stay")

    def _state_hash(self, row: StateRow) -> _HashRow:
        pairs = _pairs(STATE_VIEW, self._state_fields, self._rows.state_messages(row), row.last_event_at)
        return _stored(state_key(row.customer_id, row.journey_id)), pairs

    def _profile_hash(self, row: ProfileRow) -> _HashRow:
        pairs = _pairs(PROFILE_VIEW, self._profile_fields, self._rows.profile_messages(row), row.updated_at)
        return _stored(profile_key(row.customer_id)), pairs

    def _forget_rows(self) -> None:
        for names in ((CUSTOMER_KEY,), (CUSTOMER_KEY, JOURNEY_KEY)):
            pattern = _escaped(entity_key_prefix(names)) + b"*" + _PROJECT_BYTES
            found = self._client.scan_iter(match=pattern, count=_KEYS_PER_SCAN)
            rows = [key for key in found if entity_key_length(key) == len(key) - len(_PROJECT_BYTES)]
            for start in range(0, len(rows), _KEYS_PER_SCAN):
                self._client.unlink(*rows[start : start + _KEYS_PER_SCAN])

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Errors of the driver leave as errors of the store, and nobody asks again for a moment."""
        if self._is_closed:
            raise StoreUnavailable(f"{self._where} was closed; expected to be open: open the store again")
        if self._timer() < self._asks_again_at:
            raise StoreUnavailable(f"{self._where} failed a moment ago; expected it to answer: asked again shortly")
        try:
            yield
        except HeadwayError:
            raise
        except Exception as error:
            self._asks_again_at = self._timer() + PAUSE_SECONDS
            raise driver_failure(self._where, error) from error


def _stored(key: bytes) -> bytes:
    return key + _PROJECT_BYTES


def _messages(fields: Mapping[str, bytes], values: Sequence[bytes | None]) -> dict[str, bytes]:
    return {name: value for name, value in zip(fields, values, strict=True) if value is not None}


def _pairs(view: str, fields: Mapping[str, bytes], messages: Iterator[Message], at: int) -> list[bytes]:
    pairs = [f"_ts:{view}".encode(), encode_timestamp(at)]
    for name, data, _ in messages:
        pairs += (fields[name], data)
    return pairs


def _escaped(prefix: bytes) -> bytes:
    return b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]\\^" else bytes((byte,)) for byte in prefix)
