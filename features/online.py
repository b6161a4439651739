"""The online store that serving reads and writes: Feast's own SQLite tables, byte for byte, without importing Feast.

Feast takes seconds to import, shares one connection between threads (which gives torn reads) and spends most of a read
on building its answer. Here one thread writes, every reading thread has its own read-only connection, and state and
profile come in one statement, which sees one moment of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from features.errors import Refused
from features.feast_layout import (
    CUSTOMER_KEY,
    JOURNEY_KEY,
    PROFILE_VIEW,
    PROJECT,
    STATE_COLUMNS,
    STATE_VIEW,
    ColumnType,
    ColumnValue,
    layout,
    profile_columns,
    profile_row,
    state_of_vector,
    state_only,
    state_row,
)
from features.feast_values import FloatRuns, decode_value, encode_value, entity_key
from features.group_commit import GroupCommit
from features.home import FileLock, lock_file
from features.schema import FeatureSet
from features.sqlite_files import Readers, connect_writer
from features.store import CustomerRow, ProfileRow, StateRow
from features.taxonomy import Taxonomy

STATE_TABLE: Final = f"{PROJECT}_{STATE_VIEW}"
PROFILE_TABLE: Final = f"{PROJECT}_{PROFILE_VIEW}"

_MICROSECONDS: Final = 1_000_000
_StoredValue = tuple[bytes, str, bytes, str | None, int]

# As Feast creates, fills and indexes its tables.
_CREATE = (
    'CREATE TABLE IF NOT EXISTS "{table}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,  '
    "vector_value BLOB, event_ts timestamp, created_ts timestamp,  PRIMARY KEY(entity_key, feature_name))",
    'CREATE INDEX IF NOT EXISTS "{table}_ek" ON "{table}" (entity_key);',
)
_WRITE = (
    'INSERT INTO "{table}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
    "VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
    "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
_WRITE_STATE: Final = _WRITE.format(table=STATE_TABLE)
_WRITE_PROFILE: Final = _WRITE.format(table=PROFILE_TABLE)
_READ: Final = (
    f'SELECT 0, feature_name, value FROM "{STATE_TABLE}" WHERE entity_key = ? '  # noqa: S608  # our own names
    f'UNION ALL SELECT 1, feature_name, value FROM "{PROFILE_TABLE}" WHERE entity_key = ?'
)


class SqliteOnlineStore:
    """A feature store over the SQLite file that Feast keeps; the only writer of that file while it is open.

    Args:
        path: the file; it and its tables are made where they are missing.
        feature_sets: the feature sets whose states it keeps, by journey.
        taxonomy: the taxonomy whose profiles it keeps.

    Raises:
        HomeLocked: another process, such as a running server, writes the file.
        StoreUnavailable: the file cannot be opened or locked.
    """

    def __init__(self, path: Path, feature_sets: Mapping[str, FeatureSet], taxonomy: Taxonomy) -> None:
        self._layout = layout(feature_sets.values(), taxonomy)
        self._runs = {
            journey_id: FloatRuns({each.name: len(each.slots) for each in feature_set.fields})
            for journey_id, feature_set in feature_sets.items()
        }
        self._profile_types = self._layout.profile
        self._lock: FileLock = lock_file(path)
        try:
            # The log can rebuild what a power cut takes from here, and `log_position` tells that it must.
            self._writer = GroupCommit(path, lambda: _prepared(connect_writer(path, durability="NORMAL")))
        except BaseException:
            self._lock.close()
            raise
        self._readers = Readers(path)

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer, as of one moment of the store.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds bytes that are no values.
        """
        keys = (
            entity_key({CUSTOMER_KEY: customer_id, JOURNEY_KEY: journey_id}),
            entity_key({CUSTOMER_KEY: customer_id}),
        )
        messages: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
        with self._readers.reading() as connection:
            for view, name, value in connection.execute(_READ, keys).fetchall():
                messages[view][name] = value
        state, profile = messages
        return CustomerRow(
            self._state(customer_id, journey_id, state) if state else None,
            profile_row(customer_id, _columns(profile), self._layout.attributes) if profile else None,
        )

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles in one transaction; they are there for every read that starts later.

        Raises:
            StoreUnavailable: the store does not answer; nothing was written.
            Refused: a state of a journey that this store was not opened for.
        """
        state_values = [value for row in states for value in self._state_values(row)]
        profile_values = [value for row in profiles for value in self._profile_values(row)]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(_WRITE_STATE, state_values)
            connection.executemany(_WRITE_PROFILE, profile_values)

        self._writer.submit(job).result()

    def clear(self) -> None:
        """Forget everything, before all of it is written anew.

        Raises:
            StoreUnavailable: the store does not answer; nothing was forgotten.
        """

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(f'DELETE FROM "{STATE_TABLE}"')  # noqa: S608  # our own names
            connection.execute(f'DELETE FROM "{PROFILE_TABLE}"')  # noqa: S608  # our own names

        self._writer.submit(job).result()

    def close(self) -> None:
        """Finish what was accepted and give the file back; closing twice is harmless."""
        self._readers.close()
        self._writer.close()
        self._lock.close()

    def _state(self, customer_id: str, journey_id: str, messages: Mapping[str, bytes]) -> StateRow | None:
        runs = self._runs.get(journey_id)
        vector = None if runs is None else runs.decoded(messages)
        if vector is None:  # another layout wrote it
            return state_row(customer_id, journey_id, _columns(messages), self._layout.fields)
        others = {name: decode_value(messages[name]) for name in STATE_COLUMNS if name in messages}
        return state_of_vector(customer_id, journey_id, others, vector)

    def _state_values(self, row: StateRow) -> Iterator[_StoredValue]:
        if row.journey_id not in self._runs:
            raise Refused(
                f"a state of the journey {row.journey_id!r}, expected one of {', '.join(self._runs)}: "
                f"open the store with the configuration that declares it"
            )
        key = entity_key({CUSTOMER_KEY: row.customer_id, JOURNEY_KEY: row.journey_id})
        seconds = row.last_event_at // _MICROSECONDS
        for name, data in self._runs[row.journey_id].encoded(row.vector):
            yield key, name, data, None, seconds
        yield from _values(key, state_only(row), STATE_COLUMNS, row.last_event_at)

    def _profile_values(self, row: ProfileRow) -> Iterator[_StoredValue]:
        key = entity_key({CUSTOMER_KEY: row.customer_id})
        columns = profile_columns(row, self._layout.attributes)
        return _values(key, columns, self._profile_types, row.updated_at)


def _columns(messages: Mapping[str, bytes]) -> dict[str, ColumnValue]:
    return {name: decode_value(data) for name, data in messages.items()}


def _values(
    key: bytes, columns: Mapping[str, ColumnValue], types: Mapping[str, ColumnType], at: int
) -> Iterator[_StoredValue]:
    # Whole seconds, as Feast keeps them; nobody orders by them, exact times are columns.
    seconds = at // _MICROSECONDS
    for name, value in columns.items():
        data, text = encode_value(value, types[name])
        yield key, name, data, text, seconds


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    for table in (STATE_TABLE, PROFILE_TABLE):
        for statement in _CREATE:
            connection.execute(statement.format(table=table))
    return connection
