"""The SQLite online store: durable, one writer, no torn reads, and no Feast in the process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from features import kernel
from features.errors import HomeLocked, Refused, StoreCorrupted, StoreUnavailable
from features.online import STATE_TABLE, SqliteOnlineStore
from features.schema import FeatureSet
from features.store import ProfileRow, StateRow
from tests.histories import FEATURE_SETS, FEATURES, START_AT, TAXONOMY


def _open(folder: Path, feature_sets: dict[str, FeatureSet] = FEATURE_SETS) -> SqliteOnlineStore:
    return SqliteOnlineStore(folder / "online.db", feature_sets, TAXONOMY)


def _state(number: int, journey_id: str = "application") -> StateRow:
    """A state in which every slot is ``number``."""
    n_slots = kernel.new_state(FEATURE_SETS[journey_id].plan).size
    return StateRow("c1", journey_id, FEATURES.version, np.full(n_slots, float(number)), START_AT, 0, "", "", number)


def _execute(folder: Path, statement: str, *values: str | bytes) -> None:
    with closing(sqlite3.connect(folder / "online.db")) as connection, connection:
        connection.execute(statement, values)


def test_a_closed_store_keeps_what_was_written(tmp_path: Path) -> None:
    """What one process wrote, the next one reads."""
    first = _open(tmp_path)
    first.write([_state(7)], [ProfileRow("c1", updated_at=START_AT)])
    first.close()

    second = _open(tmp_path)
    row = second.read("c1", "application")
    second.close()

    assert row.state is not None
    assert row.state.log_position == 7
    assert row.profile == ProfileRow("c1", updated_at=START_AT)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """While a store is open nobody else opens it to write."""
    first = _open(tmp_path)

    with pytest.raises(HomeLocked, match=r"online\.db is being written by process"):
        _open(tmp_path)

    first.close()
    _open(tmp_path).close()


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    """Reading or writing after closing is an error of the store."""
    store = _open(tmp_path)
    store.close()
    store.close()

    with pytest.raises(StoreUnavailable, match="was closed"):
        store.read("c1", "application")
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.write([_state(1)], [])


def test_readers_never_see_half_of_a_write(tmp_path: Path) -> None:
    """A state whose slots were all written as one number is read as one number, under writing, by several threads."""
    store = _open(tmp_path)
    store.write([_state(0)], [ProfileRow("c1", updated_at=0)])
    torn: list[object] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            row = store.read("c1", "application")
            if row.state is None or row.profile is None:
                torn.append(row)
                continue
            numbers = {*row.state.vector.tolist(), row.state.log_position, row.profile.updated_at}
            if len(numbers) != 1:
                torn.append(row)

    readers = [threading.Thread(target=watch) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 200):
        store.write([_state(number)], [ProfileRow("c1", updated_at=number)])
    is_done.set()
    for reader in readers:
        reader.join()
    store.close()

    assert torn == []


def test_a_state_of_another_layout_counts_as_none(tmp_path: Path) -> None:
    """Where a column of the layout is missing there is no state, so that the caller rebuilds it."""
    store = _open(tmp_path)
    store.write([_state(1)], [])
    _execute(tmp_path, f'DELETE FROM "{STATE_TABLE}" WHERE feature_name = ?', "flow")  # noqa: S608

    row = store.read("c1", "application")

    store.close()
    assert row.state is None


def test_an_undeclared_journey_is_refused_whole(tmp_path: Path) -> None:
    """A state of a journey that the store does not know is refused by name, and nothing of the call is kept."""
    store = _open(tmp_path, {"short": FEATURE_SETS["short"]})

    with pytest.raises(Refused, match="a state of the journey 'application', expected one of short"):
        store.write([_state(1, "short"), _state(1)], [])

    row = store.read("c1", "short")
    store.close()
    assert row.state is None


def test_damage_is_said(tmp_path: Path) -> None:
    """Bytes that are no value are an error that says how to rebuild, never a number."""
    store = _open(tmp_path)
    store.write([_state(1)], [])
    _execute(tmp_path, f'UPDATE "{STATE_TABLE}" SET value = ? WHERE feature_name = ?', b"\x7a\x09", "flow")  # noqa: S608

    with pytest.raises(StoreCorrupted, match="headway features backfill"):
        store.read("c1", "application")

    store.close()


def test_clearing_forgets_everything(tmp_path: Path) -> None:
    """After clearing nobody has a state or a profile."""
    store = _open(tmp_path)
    store.write([_state(1)], [ProfileRow("c1")])

    store.clear()

    row = store.read("c1", "application")
    store.close()
    assert (row.state, row.profile) == (None, None)


def test_using_it_does_not_import_feast() -> None:
    """Serving stays free of Feast, pandas and Arrow when it imports its feature store."""
    check = (
        "import sys, features.online; "
        "print([name for name in ('feast', 'pandas', 'pyarrow', 'duckdb', 'google.protobuf') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
