"""The head of a store: a file that lacks anything answered is refused, and none that lacks nothing."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import vouched_transactions
from features.errors import Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.event_store import SqlEventLog
from features.head_file import PLACE_BYTES, head_path, read_head
from features.sqlite_files import Durability
from features.store_head import accept_file, verify_head
from features.vouched_transactions import SYNC_SECONDS
from models.record_store import SqlRecordStore
from models.records import ConsentChange
from tests.decision_records import DECIDED_AT, contact, record, reservation
from tests.faults.failing_calls import failing_calls
from tests.histories import event

ANSWERED = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "state" / "events.db"


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a process left which died after so many answers, without closing anything; only read."""
    folder = tmp_path_factory.mktemp("died")
    _died(folder / "alive" / "events.db", folder / "left")
    return folder / "left"


def _died(path: Path, left: Path) -> None:
    with closing(SqlEventLog(path)) as log:
        for number in range(ANSWERED):
            log.append([event(f"e-{number}")])
        shutil.copytree(path.parent, left)


def _copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to / "events.db"


def _refusal(path: Path) -> str:
    with pytest.raises(StoreCorrupted) as refused:
        SqlEventLog(path)
    assert verify_head(path).problem == str(refused.value)
    return str(refused.value)


def _events(path: Path) -> list[str]:
    with closing(SqlEventLog(path)) as log:
        return [logged.event.event_id for page in log.read() for logged in page]


def _changed(path: Path, statement: str) -> None:
    """Behind the service's back."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_store_that_died_opens_with_all_that_was_answered(died: Path, tmp_path: Path) -> None:
    """And with the head of it."""
    path = _copy(died, tmp_path / "home")

    assert verify_head(path).problem == ""
    assert _events(path) == [f"e-{number}" for number in range(ANSWERED)]
    head = read_head(path)
    assert head is not None
    assert (head.rows, head.commits) == (ANSWERED, 1 + ANSWERED)


def test_a_log_of_writes_that_was_deleted_is_refused(died: Path, tmp_path: Path) -> None:
    """It says what is missing since when, and what to do; nothing is changed, and the lock is given back."""
    path = _copy(died, tmp_path / "home")
    path.with_name("events.db-wal").unlink()

    first, second = _refusal(path), _refusal(path)

    assert first == second
    assert "events.db lacks its last 12 commits, 12 rows fewer: all that was answered after 20" in first
    assert "restore a backup of the whole home" in first
    assert "`headway accept-loss events " in first


@settings(max_examples=25)
@given(share=st.floats(0, 1))
def test_a_log_of_writes_that_was_cut_anywhere_never_loses_silently(
    died: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    """The store is refused, or everything is there."""
    path = _copy(died, tmp_path_factory.getbasetemp() / "cut")
    wal = path.with_name("events.db-wal")
    os.truncate(wal, int(share * wal.stat().st_size))

    try:
        kept = _events(path)
    except StoreCorrupted:
        assert "lacks its last" in verify_head(path).problem
    else:
        assert kept == [f"e-{number}" for number in range(ANSWERED)]


@settings(max_examples=25)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_log_of_writes_with_a_changed_byte_never_loses_silently(
    died: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bits: int
) -> None:
    """SQLite ends it at the first page whose checksum is wrong; the head knows that there was more."""
    path = _copy(died, tmp_path_factory.getbasetemp() / "flipped")
    wal = path.with_name("events.db-wal")
    data = bytearray(wal.read_bytes())
    data[int(place * len(data))] ^= bits
    wal.write_bytes(data)

    try:
        kept = _events(path)
    except (StoreCorrupted, StoreUnavailable):
        pass
    else:
        assert kept == [f"e-{number}" for number in range(ANSWERED)]


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_store_with_a_changed_byte_is_refused_or_right(
    tmp_path_factory: pytest.TempPathFactory, place: float, bits: int
) -> None:
    """Never another event than those that were answered, and none fewer, in the file itself too."""
    folder = tmp_path_factory.getbasetemp() / "closed"
    if not folder.exists():
        with closing(SqlEventLog(folder / "events.db")) as log:
            log.append([event(f"e-{number}", facts={"amount": 12.5}) for number in range(40)])
    wanted = _kept(folder / "events.db")
    path = _copy(folder, tmp_path_factory.getbasetemp() / "damaged")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= bits
    path.write_bytes(data)

    try:
        found = _kept(path)
    except (StoreCorrupted, StoreUnavailable):
        return
    assert found == wanted


def _kept(path: Path) -> list[tuple[object, ...]]:
    with closing(SqlEventLog(path)) as log:
        return [(logged.position, repr(logged.event)) for page in log.read() for logged in page]


def test_an_older_copy_is_refused(path: Path, tmp_path: Path) -> None:
    """Put in the place of the file, as whoever restores only half of a backup does."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
    shutil.copy(path, tmp_path / "older.db")
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-2"), event("e-3")])
    shutil.copy(tmp_path / "older.db", path)

    assert "events.db lacks its last 1 commits, 2 rows fewer" in _refusal(path)


def test_the_file_of_another_home_is_refused(path: Path, tmp_path: Path) -> None:
    """However many commits it has."""
    other = tmp_path / "other" / "events.db"
    for each, events in ((path, 1), (other, 5)):
        with closing(SqlEventLog(each)) as log:
            for number in range(events):
                log.append([event(f"e-{number}")])
    shutil.copy(other, path)

    assert "is not the file that its head was kept of" in _refusal(path)


def test_a_file_that_is_gone_is_refused(path: Path) -> None:
    """An empty store in its place would take every event for new."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
    path.unlink()

    assert "events.db is gone, with 1 rows" in _refusal(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM events WHERE position = 1", "holds 1 rows of events, where its commits left 2"),
        ("UPDATE events SET customer_id = 'c9' WHERE position = 1", "holds rows of events that its commits did not"),
        ("UPDATE head SET rows = 7", "holds other rows than it did at 20"),
    ],
)
def test_rows_that_somebody_changed_are_refused(path: Path, statement: str, said: str) -> None:
    """Which rows there are, and what they say."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1"), event("e-2")])
    _changed(path, statement)

    assert said in _refusal(path)


def test_a_store_of_an_earlier_release_gets_a_head(path: Path) -> None:
    """Made of what it holds."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1"), event("e-2")])
    _changed(path, "DROP TABLE head")
    head_path(path).unlink()
    assert "the next start makes it anew" in verify_head(path).note

    assert _events(path) == ["e-1", "e-2"]
    assert verify_head(path).problem == verify_head(path).note == ""


def test_a_head_that_is_gone_is_made_anew(path: Path) -> None:
    """The file alone tells as much as it always did."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
    head_path(path).unlink()

    assert _events(path) == ["e-1"]
    assert verify_head(path).problem == verify_head(path).note == ""


def test_a_head_that_is_behind_is_brought_up(path: Path) -> None:
    """The process died after a commit and before its head, or the power failed before the head was synced."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        earlier = head_path(path).read_bytes()
        log.append([event("e-2")])
    head_path(path).write_bytes(earlier)

    assert _events(path) == ["e-1", "e-2"]
    head = read_head(path)
    assert head is not None
    assert head.rows == 2


@pytest.mark.parametrize("place", [0, 1])
def test_a_head_that_was_cut_while_it_was_written_leaves_the_one_before(path: Path, place: int) -> None:
    """Two places are written in turn; either may be the one."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        log.append([event("e-2")])
    with head_path(path).open("r+b") as file:
        file.seek(place * PLACE_BYTES + 40)
        file.write(b"cut" * 20)

    assert _events(path) == ["e-1", "e-2"]


def test_a_head_that_nobody_can_read_is_refused(path: Path) -> None:
    """No crash leaves that; and it can be given up."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
    head_path(path).write_bytes(b"?" * 2 * PLACE_BYTES)

    assert "events.head is damaged" in _refusal(path)
    accept_file(path, code="damaged")
    assert _events(path) == ["e-1"]


def test_a_loss_is_accepted_by_its_code_only(died: Path, tmp_path: Path) -> None:
    """Then the file is taken as it is, and vouched for from there on; the head that was given up is kept."""
    path = _copy(died, tmp_path / "home")
    path.with_name("events.db-wal").unlink()
    code = _refusal(path).rpartition(" ")[2].strip("`")
    with pytest.raises(Refused, match=f"has the code {code}, not 12345678"):
        accept_file(path, code="12345678")

    aside = accept_file(path, code=code)

    assert aside.name == f"events.head.given-up-{code}"
    assert _events(path) == []
    assert verify_head(path).problem == ""
    with pytest.raises(Refused, match="not " + code):
        accept_file(path, code=code)


def test_there_is_nothing_to_accept_where_nothing_was_kept(path: Path) -> None:
    """It says so."""
    with pytest.raises(UnknownObject, match=r"there is no .*events\.head"):
        accept_file(path, code="12345678")
    with pytest.raises(UnknownObject, match=r"there is no file .*events\.db"):
        verify_head(path)


def _told(store: SqlRecordStore) -> Iterator[Callable[[], object]]:
    """Everything that a record store is told, some of it refused."""
    made = record(1)
    yield lambda: store.commit(made, b"answer", reservation(contact(made)))
    yield lambda: store.commit(record(2, request_id="r-1", request_hash="another"), b"other", None)
    yield lambda: store.apply_consents(
        [ConsentChange("c1", "sms", "granted", 1), ConsentChange("c1", "sms", "objected", 1)]
    )
    yield lambda: store.confirm_contacts([contact(made, status="lease")])
    yield lambda: store.append_imported([record(3), record(3), record(4)])
    yield lambda: store.forget_decisions(decided_before=DECIDED_AT + 10, most=2)
    yield lambda: store.check_writes()


def test_the_head_follows_whatever_is_written(tmp_path: Path) -> None:
    """Inserts, updates, deletes, and what is undone alone in a group; also while the store is open."""
    path = tmp_path / "records.db"
    with closing(SqlRecordStore(path)) as store:
        for tell in _told(store):
            with suppress(Refused):
                tell()
            assert verify_head(path).problem == ""
            assert read_head(path) == verify_head(path).found
        pending = [store.leave_commit(record(10 + i % 3, request_hash=f"h-{i}"), b"a", None) for i in range(9)]
        store.write_left()
        refused = [one.exception() is not None for one in pending]
        assert verify_head(path).problem == ""
    assert any(refused)
    assert not all(refused)
    SqlRecordStore(path).close()


def test_an_objection_alone_is_missed(tmp_path: Path) -> None:
    """It is a commit like any other, though no decision is missing."""
    path = tmp_path / "records.db"
    with closing(SqlRecordStore(path)) as store:
        store.commit(record(1), b"answer", None)
    shutil.copy(path, tmp_path / "older.db")
    with closing(SqlRecordStore(path)) as store:
        store.set_consents("c1", {"marketing": "objected"}, at=5)
    shutil.copy(tmp_path / "older.db", path)

    with pytest.raises(StoreCorrupted, match="lacks its last 1 commits, 1 rows fewer"):
        SqlRecordStore(path)


def test_what_changes_nothing_is_no_commit(path: Path) -> None:
    """Duplicates and looks at the disk."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        before = read_head(path)
        log.append([event("e-1")])
        log.check_writes()

        assert read_head(path) == before


def test_a_head_that_cannot_be_written_is_said_and_heals(path: Path) -> None:
    """What is on disk is answered; the store is not ready until its head says so too."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with closing(SqlEventLog(path)) as log:
        with failing_calls(os, "pwrite", lambda number: full):
            log.append([event("e-1")])
            with pytest.raises(StoreUnavailable, match=r"cannot write .*events\.head: No space left"):
                log.check_writes()
        log.check_writes()
        head = read_head(path)

    assert head is not None
    assert head.rows == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc to see what is synced")
def test_a_log_of_writes_that_stays_is_synced_before_the_head(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commits are not: somebody reads at the end, so nothing is written back, and a head must not be ahead."""
    synced: list[str] = []
    sync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    log = SqlEventLog(path, durability="NORMAL")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        log.append([event("e-1")])
        monkeypatch.setattr(os, "fsync", seen)
        log.close()

        assert (head := read_head(path)) is not None
        assert (head.rows, synced) == (1, ["events.db-wal"])


@pytest.mark.parametrize(("durability", "rows"), [("FULL", 1), ("NORMAL", 0)])
def test_commits_that_a_loss_of_power_may_take_are_vouched_for_at_the_end(
    path: Path, durability: Durability, rows: int
) -> None:
    """Else the head could be on disk, and they not."""
    with closing(SqlEventLog(path, durability=durability)) as log:
        log.append([event("e-1")])
        running = read_head(path)
    closed = read_head(path)

    assert running is not None
    assert closed is not None
    assert (running.rows, closed.rows) == (rows, 1)


def test_a_head_is_synced_soon(path: Path) -> None:
    """A loss of power takes no more of it than was promised."""
    assert SYNC_SECONDS <= 1.0
    is_synced = threading.Event()

    def note(number: int) -> None:
        is_synced.set()

    with failing_calls(os, "fdatasync", note), closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        assert is_synced.wait(20)


def test_a_head_that_cannot_be_synced_is_told_and_synced_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a further commit; until then the store is not ready, since a loss of power may take the head."""
    monkeypatch.setattr(vouched_transactions, "SYNC_SECONDS", 0.02)
    is_well, has_failed = threading.Event(), threading.Event()

    def full(number: int) -> OSError | None:
        if is_well.is_set():
            return None
        has_failed.set()
        return OSError(errno.EIO, "Input/output error")

    with failing_calls(os, "fdatasync", full), closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
        assert has_failed.wait(20)
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            _until_told(log)
        is_well.set()
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with suppress(StoreUnavailable):
                log.check_writes()
                break
        else:
            pytest.fail("the head was never synced")


def _until_told(log: SqlEventLog) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        log.check_writes()


def test_a_file_whose_damage_the_driver_cannot_say_is_refused(path: Path) -> None:
    """It quotes the damaged bytes of the layout, which are no text."""
    with closing(SqlEventLog(path)) as log:
        log.append([event("e-1")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"CREATE TABLE claims", b"CREAT\xe1 TABLE claims", 1))

    with pytest.raises(StoreCorrupted, match="expected a sound SQLite file"):
        SqlEventLog(path)
