"""The online store that serving reads and writes: Feast's own SQLite tables, byte for byte, without importing Feast.

Feast takes seconds to import, shares one connection between threads (which gives torn reads) and spends most of a read
on building its answer. Here one thread writes, every reading thread has its own read-only connection, and state and
profile come in one statement, which sees one moment of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Final

from features.feast_layout import PROFILE_VIEW, PROJECT, STATE_VIEW
from features.feast_rows import FeastRows, Message, profile_key, state_key
from features.group_commit import GroupCommit
from features.home import FileLock, lock_file
from features.schema import FeatureSet
from features.sqlite_files import Readers, SqliteTransactions, connect_writer
from features.store import CustomerRow, ProfileRow, StateRow
from features.taxonomy import Taxonomy

STATE_TABLE: Final = f"{PROJECT}_{STATE_VIEW}"
PROFILE_TABLE: Final = f"{PROJECT}_{PROFILE_VIEW}"

_MICROSECONDS: Final = 1_000_000

# As Feast creates, fills and indexes its tables.
_CREATE = (
    'CREATE TABLE IF NOT EXISTS "{table}" (entity_key BLOB, feature_name TEXT, value BLOB, value_text TEXT,  '
    "vector_value BLOB, event_ts timestamp, created_ts timestamp,  PRIMARY KEY(entity_key, feature_name))",
    'CREATE INDEX IF NOT EXISTS "{table}_ek" ON "{table}" (entity_key);',
)
_WRITE = (
    'INSERT INTO "{table}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
    "VALUES {rows} ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
    "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
_COLUMNS: Final = "entity_key, feature_name, value, value_text, event_ts, created_ts"
_ROWS: Final = f'SELECT {_COLUMNS} FROM "{{table}}" WHERE entity_key = ?'  # noqa: S608  # our own names
_COPY: Final = f'INSERT OR REPLACE INTO "{{table}}" ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)'  # noqa: S608  # likewise
_FORGET = 'DELETE FROM "{table}" WHERE entity_key = ?'
_FORGET_STATE: Final = _FORGET.format(table=STATE_TABLE)
_FORGET_PROFILE: Final = _FORGET.format(table=PROFILE_TABLE)
_READ: Final = (
    f'SELECT 0, feature_name, value FROM "{STATE_TABLE}" WHERE entity_key = ? '  # noqa: S608  # our own names
    f'UNION ALL SELECT 1, feature_name, value FROM "{PROFILE_TABLE}" WHERE entity_key = ?'
)
_READ_MANY: Final = (
    'SELECT entity_key, feature_name, value FROM "{state}" WHERE entity_key IN ({keys}) '
    "UNION ALL SELECT entity_key, feature_name, value FROM \"{profile}\" WHERE entity_key IN ({keys}) AND value <> x''"
)
# Of most customers most attributes are unknown: rows without a byte, which say the same as none.
_CUSTOMERS_PER_READ: Final = 200
"""Two parameters each, of which some databases take 500 a statement."""


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

    is_shared = False

    def __init__(self, path: Path, feature_sets: Mapping[str, FeatureSet], taxonomy: Taxonomy) -> None:
        self._rows = FeastRows(feature_sets, taxonomy)
        self._journey_ids = tuple(feature_sets)
        self._write_state = _write(STATE_TABLE, len(self._rows.state_names))
        self._write_profile = _write(PROFILE_TABLE, len(self._rows.profile_names))
        self._lock: FileLock = lock_file(path)
        try:
            # The log can rebuild what a power cut takes from here, and `log_position` tells that it must.
            self._writer = GroupCommit(str(path), lambda: _transactions(path))
        except BaseException:
            self._lock.close()
            raise
        self._readers = Readers(path, lambda driver: driver)

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer, as of one moment of the store.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds bytes that are no values.
        """
        keys = (state_key(customer_id, journey_id), profile_key(customer_id))
        messages: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
        with self._readers.reading() as connection:
            for view, name, value in connection.execute(_READ, keys).fetchall():
                messages[view][name] = value
        state, profile = messages
        return CustomerRow(self._rows.state(customer_id, journey_id, state), self._rows.profile(customer_id, profile))

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """State and profile of each customer; of two hundred at a time as of one moment of the store.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreCorrupted: it holds bytes that are no values.
        """
        return [
            row
            for start in range(0, len(customer_ids), _CUSTOMERS_PER_READ)
            for row in self._read_part(customer_ids[start : start + _CUSTOMERS_PER_READ], journey_id)
        ]

    def _read_part(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        state_keys = [state_key(one, journey_id) for one in customer_ids]
        profile_keys = [profile_key(one) for one in customer_ids]
        # The keys of the two tables are never the same: they begin with how many parts they have.
        messages: dict[bytes, dict[str, bytes]] = {key: {} for key in (*state_keys, *profile_keys)}
        with self._readers.reading() as connection:
            rows = connection.execute(_read_many(len(customer_ids)), (*state_keys, *profile_keys)).fetchall()
        for key, name, value in rows:
            messages[key][name] = value
        return [
            CustomerRow(self._rows.state(one, journey_id, messages[state]), self._rows.profile(one, messages[profile]))
            for one, state, profile in zip(customer_ids, state_keys, profile_keys, strict=True)
        ]

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles in one transaction; they are there for every read that starts later.

        Raises:
            StoreUnavailable: the store does not answer; nothing was written.
            Refused: a state of a journey that this store was not opened for.
        """
        state_values = [
            _values(state_key(row.customer_id, row.journey_id), self._rows.state_messages(row), row.last_event_at)
            for row in states
        ]
        profile_values = [
            _values(profile_key(row.customer_id), self._rows.profile_messages(row), row.updated_at) for row in profiles
        ]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(self._write_state, state_values)
            connection.executemany(self._write_profile, profile_values)

        self._writer.run(job)

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove the states and profiles of customers, in one transaction.

        Raises:
            StoreUnavailable: the store does not answer; nothing was removed.
        """
        states = [(state_key(one, journey_id),) for one in customer_ids for journey_id in self._journey_ids]
        profiles = [(profile_key(one),) for one in customer_ids]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(_FORGET_STATE, states)
            connection.executemany(_FORGET_PROFILE, profiles)

        self._writer.run(job)

    def clear(self) -> None:
        """Forget everything, before all of it is written anew.

        Raises:
            StoreUnavailable: the store does not answer; nothing was forgotten.
        """

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(f'DELETE FROM "{STATE_TABLE}"')  # noqa: S608  # our own names
            connection.execute(f'DELETE FROM "{PROFILE_TABLE}"')  # noqa: S608  # our own names

        self._writer.run(job)

    def close(self) -> None:
        """Finish what was accepted and give the file back; closing twice is harmless."""
        self._readers.close()
        self._writer.close()
        self._lock.close()


def copy_rows(source: sqlite3.Connection, target: Path, keys: Iterable[tuple[str, str]]) -> None:
    """Copy what an online store keeps of customers in journeys into another file, byte for byte.

    Args:
        source: a connection to the store's file.
        target: the other file; it and its tables are made where they are missing.
        keys: customers and journeys.

    Raises:
        sqlite3.Error: the file is no online store, or is damaged.
    """
    with closing(_prepared(connect_writer(target))) as copy:
        for customer_id, journey_id in keys:
            state = (STATE_TABLE, state_key(customer_id, journey_id))
            for table, key in (state, (PROFILE_TABLE, profile_key(customer_id))):
                copy.executemany(_COPY.format(table=table), source.execute(_ROWS.format(table=table), (key,)))


@lru_cache(maxsize=_CUSTOMERS_PER_READ)
def _read_many(count: int) -> str:
    return _READ_MANY.format(state=STATE_TABLE, profile=PROFILE_TABLE, keys=", ".join("?" * count))


def _write(table: str, columns: int) -> str:
    """Writes all columns of an entity at once, a quarter faster than one by one: its key, its time, their messages."""
    rows = (f"(?1, ?{place}, ?{place + 1}, ?{place + 2}, ?2, ?2)" for place in range(3, 3 + 3 * columns, 3))
    return _WRITE.format(table=table, rows=", ".join(rows))


def _values(key: bytes, messages: Iterable[Message], at: int) -> list[bytes | str | int | None]:
    # Whole seconds, as Feast keeps them; nobody orders by them, exact times are columns.
    return [key, at // _MICROSECONDS, *(value for message in messages for value in message)]


def _transactions(path: Path) -> SqliteTransactions[sqlite3.Connection]:
    connection = _prepared(connect_writer(path, durability="NORMAL"))
    return SqliteTransactions(path, connection, connection)


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    for table in (STATE_TABLE, PROFILE_TABLE):
        for statement in _CREATE:
            connection.execute(statement.format(table=table))
    return connection
