"""The online store on Redis: the hashes that Feast keeps there, byte for byte, without importing Feast.

One script reads a customer's state and profile together with the epoch, and one writes them. Several processes of a
home may write: what is further in the log stays, whoever comes last.

References:
    Feast 0.67: ``feast.infra.online_stores.redis``, docs/specs/online_store_format.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from features.errors import HeadwayError, Refused, StoreUnavailable
from features.feast_layout import CUSTOMER_KEY, JOURNEY_KEY, PROFILE_VIEW, PROJECT, STATE_VIEW, ColumnType
from features.feast_rows import FeastRows, Message, profile_key, state_key
from features.feast_values import encode_timestamp, encode_value, entity_key_length, entity_key_prefix, murmur3
from features.home import FileLock
from features.online_location import RedisLocation
from features.redis_client import EPOCH_KEY, RedisEpochCell, client_of, driver_failure
from features.redis_epoch import Epoch
from features.redis_scripts import FORGET, READ, READ_MANY, WRITE
from features.schema import FeatureSet
from features.store import CustomerRow, ProfileRow, StateRow
from features.taxonomy import Taxonomy

PAUSE_SECONDS: Final = 0.5
"""After a failure nobody asks for so long: waiting out the timeout at every decision would be worse than no cache."""
_ROWS_PER_SCRIPT: Final = 100
_KEYS_PER_SCAN: Final = 1_000

_GONE_SECONDS: Final = 3_600
"""So long a state that was forgotten is remembered: much longer than a batch takes from its reads to its write."""
_PROJECT_BYTES: Final = PROJECT.encode()
_VERSION: Final = murmur3(f"{STATE_VIEW}:version")
_POSITION: Final = murmur3(f"{STATE_VIEW}:log_position")


class _HashRow(NamedTuple):
    """A row as the script takes it: its key; position and version of a state, nothing of a profile; fields, values."""

    key: bytes
    position: int | bytes
    version: bytes
    pairs: Sequence[bytes]


class RedisOnlineStore:
    """A feature store over the hashes that Feast keeps in a Redis.

    Nothing is asked of the Redis before it is needed: it is a cache of the event log, and may be down.

    Args:
        location: the Redis.
        epoch_file: keeps the home's epoch.
        lock: takes the right to write the online store of the home.
        feature_sets: the feature sets whose states it keeps, by journey.
        taxonomy: the taxonomy whose profiles it keeps.
        timer: a monotonic clock, seconds.

    Raises:
        HomeLocked: another process of this home has the online store open.
        Refused: the package ``redis`` is not installed.
        StoreUnavailable: a file of the home cannot be written.
    """

    is_shared = True

    def __init__(
        self,
        location: RedisLocation,
        *,
        epoch_file: Path,
        lock: Callable[[], FileLock],
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
        self._read_script: Callable[..., Any] = self._client.register_script(READ)
        self._read_many_script: Callable[..., Any] = self._client.register_script(READ_MANY)
        self._write_script: Callable[..., Any] = self._client.register_script(WRITE)
        self._forget_script: Callable[..., Any] = self._client.register_script(FORGET)
        self._versions = {name: _kept(each.version, "text") for name, each in feature_sets.items()}
        self._lock = lock()
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
            found = self._ran(self._read_script, keys, self._read_arguments)
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
            found = self._ran(self._read_many_script, keys, self._read_arguments)
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
        """Write states and profiles, all of one customer at once, and of some hundred rows together.

        Of a customer of whom a state is there that is further in the log, by the same feature set, nothing is written.

        Raises:
            StoreUnavailable: the store does not answer, or another home keeps it.
            Refused: a state of a journey that this store was not opened for.
        """
        customers: dict[str, list[_HashRow]] = {}
        for profile in profiles:
            customers.setdefault(profile.customer_id, []).append(self._profile_hash(profile))
        for state in states:
            customers.setdefault(state.customer_id, []).append(self._state_hash(state))
        part: list[Sequence[_HashRow]] = []
        for rows in customers.values():
            part.append(rows)
            if sum(map(len, part)) >= _ROWS_PER_SCRIPT:
                self._write_rows(part)
                part = []
        if part:
            self._write_rows(part)

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove the states and profiles of customers; of a Redis that is another home's nothing.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        keys = [
            [_stored(profile_key(one)), *(_stored(state_key(one, journey_id)) for journey_id in self._versions)]
            for one in customer_ids
        ]
        position = (b"", b"") if gone_at is None else (gone_at, _kept(gone_at, "integer"))
        arguments = (_VERSION, _POSITION, 1 + len(self._versions), *position, *self._versions.values(), _GONE_SECONDS)
        step = max(_ROWS_PER_SCRIPT // (1 + len(self._versions)), 1)
        for start in range(0, len(keys), step):
            with self._asking():
                self._ran(self._forget_script, (EPOCH_KEY, *chain.from_iterable(keys[start : start + step])), arguments)

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

    def _write_rows(self, customers: Sequence[Sequence[_HashRow]]) -> None:
        keys = [EPOCH_KEY, *(row.key for rows in customers for row in rows)]
        values: list[bytes | int] = [_VERSION, _POSITION]
        for rows in customers:
            values.append(len(rows))
            for row in rows:
                values += (row.position, row.version, len(row.pairs), *row.pairs)
        with self._asking():
            if self._ran(self._write_script, keys, values):
                return
            try:
                self._epoch.claim()
            except Refused as error:
                raise StoreUnavailable(str(error)) from error
            if not self._ran(self._write_script, keys, values):
                raise StoreUnavailable(f"{self._where} was emptied again while it was written; expected it to stay")

    def _state_hash(self, row: StateRow) -> _HashRow:
        pairs = _pairs(STATE_VIEW, self._state_fields, self._rows.state_messages(row), row.last_event_at)
        key = _stored(state_key(row.customer_id, row.journey_id))
        return _HashRow(key, row.log_position, _kept(row.version, "text"), pairs)

    def _profile_hash(self, row: ProfileRow) -> _HashRow:
        pairs = _pairs(PROFILE_VIEW, self._profile_fields, self._rows.profile_messages(row), row.updated_at)
        return _HashRow(_stored(profile_key(row.customer_id)), b"", b"", pairs)

    def _forget_rows(self) -> None:
        for names in ((CUSTOMER_KEY,), (CUSTOMER_KEY, JOURNEY_KEY)):
            pattern = _escaped(entity_key_prefix(names)) + b"*" + _PROJECT_BYTES
            found = self._client.scan_iter(match=pattern, count=_KEYS_PER_SCAN)
            rows = [key for key in found if entity_key_length(key) == len(key) - len(_PROJECT_BYTES)]
            for start in range(0, len(rows), _KEYS_PER_SCAN):
                self._client.unlink(*rows[start : start + _KEYS_PER_SCAN])

    def _ran(self, script: Callable[..., Any], keys: Sequence[bytes], arguments: Sequence[bytes | int]) -> Any:
        """What a script gives; None where the Redis holds another epoch than this home's."""
        found = script(keys=keys, args=(self._epoch.text, *arguments))
        if found is None and self._epoch.is_renewed():
            found = script(keys=keys, args=(self._epoch.text, *arguments))
        return found

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


def _kept(value: str | int, column: ColumnType) -> bytes:
    return encode_value(value, column)[0]


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
