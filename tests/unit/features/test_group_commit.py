"""Group commit: what is answered is committed, refusals undo themselves alone, and the queue is bounded."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from features.errors import Conflict, StoreCorrupted, StoreUnavailable
from features.group_commit import MAX_GROUP, GroupCommit
from features.sqlite_files import SqliteTransactions, connect_reader, connect_writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with one table of numbers."""
    path = tmp_path / "numbers.db"
    connection = connect_writer(path)
    connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    connection.close()
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[GroupCommit[sqlite3.Connection]]:
    """Its writer."""
    writer = GroupCommit(str(path), lambda: _transactions(path))
    yield writer
    writer.close()


def _transactions(path: Path) -> SqliteTransactions[sqlite3.Connection]:
    connection = connect_writer(path)
    return SqliteTransactions(path, connection, connection)


def _insert(connection: sqlite3.Connection, n: int) -> int:
    connection.execute("INSERT INTO numbers VALUES (?)", (n,))
    return n


def _numbers(path: Path) -> list[int]:
    connection = connect_reader(path)
    numbers = [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]
    connection.close()
    return numbers


class _Gate:
    """A job that holds the writer until it is opened, so that later jobs wait together."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.entered.set()
        self.opened.wait(10)


def test_an_answered_job_is_committed(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """When the future resolves, another connection sees the row."""
    assert writer.submit(lambda c: _insert(c, 7)).result() == 7
    assert _numbers(path) == [7]


def test_waiting_jobs_share_one_transaction(writer: GroupCommit[sqlite3.Connection]) -> None:
    """Jobs that waited together run in the same transaction: each sees what the others wrote."""
    gate = _Gate()
    first = writer.submit(gate)
    gate.entered.wait(10)
    statements: list[str] = []
    writer.submit(lambda c: c.set_trace_callback(statements.append))
    inserted = [writer.submit(lambda c, n=n: _insert(c, n)) for n in range(50)]  # type: ignore[misc]  # n is bound
    gate.opened.set()

    first.result()
    assert [future.result() for future in inserted] == list(range(50))
    assert statements.count("COMMIT") == 1


def test_a_refused_job_does_not_undo_the_others(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """One job's exception reaches its caller alone, and only its own writes are undone."""

    def refuse(connection: sqlite3.Connection) -> None:
        _insert(connection, 2)
        raise Conflict("no")

    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    one, two, three = (
        writer.submit(lambda c: _insert(c, 1)),
        writer.submit(refuse),
        writer.submit(lambda c: _insert(c, 3)),
    )
    gate.opened.set()

    assert one.result() == 1
    assert three.result() == 3
    with pytest.raises(Conflict, match="no"):
        two.result()
    assert _numbers(path) == [1, 3]


def test_an_error_of_the_driver_is_an_error_of_the_store(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """A failed statement is a StoreUnavailable that names the file; the writer lives on."""
    with pytest.raises(StoreUnavailable, match=r"numbers\.db.*no such table"):
        writer.submit(lambda c: c.execute("INSERT INTO letters VALUES ('a')")).result()
    writer.submit(lambda c: _insert(c, 1)).result()
    assert _numbers(path) == [1]


def test_a_lost_transaction_fails_every_job_in_it(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Where the driver rolled everything back, as it does on a full disk, no job of the group claims to be stored."""

    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    before, lost, after = (
        writer.submit(lambda c: _insert(c, 1)),
        writer.submit(lose),
        writer.submit(lambda c: _insert(c, 2)),
    )
    gate.opened.set()

    for future in (before, lost, after):
        with pytest.raises(StoreUnavailable, match="disk is full"):
            future.result()
    assert _numbers(path) == []
    assert writer.submit(lambda c: _insert(c, 3)).result() == 3


def test_a_full_disk_answers_the_truth(path: Path) -> None:
    """Where the file cannot grow, exactly the jobs that were answered are stored, and later ones work again."""

    def connect() -> SqliteTransactions[sqlite3.Connection]:
        connection = connect_writer(path)
        connection.execute("CREATE TABLE blobs (n INTEGER PRIMARY KEY, content BLOB)")
        connection.execute("PRAGMA max_page_count = 40")
        return SqliteTransactions(path, connection, connection)

    def store(connection: sqlite3.Connection, n: int, size: int) -> int:
        connection.execute("INSERT INTO blobs VALUES (?, zeroblob(?))", (n, size))
        return n

    writer = GroupCommit(str(path), connect)
    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    sizes = (10, 10**6, 10, 30_000, 10**6, 30_000, 200_000, 10)
    futures = [writer.submit(lambda c, n=n, size=size: store(c, n, size)) for n, size in enumerate(sizes)]  # type: ignore[misc]  # bound
    gate.opened.set()
    errors = [future.exception() for future in futures]
    writer.submit(lambda c: store(c, 100, 10)).result()
    writer.close()

    connection = connect_reader(path)
    stored = [n for (n,) in connection.execute("SELECT n FROM blobs ORDER BY n")]
    connection.close()
    assert stored == [*(n for n, error in enumerate(errors) if error is None), 100]
    assert {str(error) for error in errors if error is not None} == {
        f"{path}: database or disk is full; expected it to answer: look at its disk and at who else uses it"
    }


def test_a_failed_commit_fails_every_job_in_it(path: Path) -> None:
    """Where only the commit fails, every job of the group fails and nothing of it is kept."""

    def connect() -> SqliteTransactions[sqlite3.Connection]:
        connection = connect_writer(path)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("CREATE TABLE children (n REFERENCES numbers (n) DEFERRABLE INITIALLY DEFERRED)")
        return SqliteTransactions(path, connection, connection)

    writer = GroupCommit(str(path), connect)
    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    sound = writer.submit(lambda c: _insert(c, 1))
    dangling = writer.submit(lambda c: c.execute("INSERT INTO children VALUES (99)"))
    gate.opened.set()

    for future in (sound, dangling):
        with pytest.raises(StoreUnavailable, match="FOREIGN KEY"):
            future.result()
    assert writer.submit(lambda c: _insert(c, 2)).result() == 2
    writer.close()
    assert _numbers(path) == [2]


def test_a_full_queue_refuses(path: Path) -> None:
    """More waiting jobs than allowed are refused at once, not kept in memory."""
    writer = GroupCommit(str(path), lambda: _transactions(path), max_waiting=2)
    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    waiting = [writer.submit(lambda c, n=n: _insert(c, n)) for n in (1, 2)]  # type: ignore[misc]  # n is bound

    with pytest.raises(StoreUnavailable, match="2 writes wait already"):
        writer.submit(lambda c: _insert(c, 3))

    gate.opened.set()
    assert [future.result() for future in waiting] == [1, 2]
    writer.close()


def test_closing_finishes_what_was_accepted(path: Path) -> None:
    """Jobs accepted before close are committed; later ones are refused; closing twice is harmless."""
    writer = GroupCommit(str(path), lambda: _transactions(path))
    futures = [writer.submit(lambda c, n=n: _insert(c, n)) for n in range(300)]  # type: ignore[misc]  # n is bound
    writer.close()
    writer.close()

    assert [future.result(0) for future in futures] == list(range(300))
    assert _numbers(path) == list(range(300))
    with pytest.raises(StoreUnavailable, match="was closed"):
        writer.submit(lambda c: _insert(c, 1_000))


def test_a_cancelled_job_is_not_run(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """A caller that went away while waiting writes nothing."""
    gate = _Gate()
    writer.submit(gate)
    gate.entered.wait(10)
    cancelled, kept = writer.submit(lambda c: _insert(c, 1)), writer.submit(lambda c: _insert(c, 2))
    assert cancelled.cancel()
    gate.opened.set()

    kept.result()
    assert _numbers(path) == [2]


def test_a_file_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    """What goes wrong while opening is raised by the constructor."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes, not a database" * 100)
    with pytest.raises(StoreCorrupted, match=r"notes\.txt.*restore"):
        GroupCommit(str(path), lambda: _transactions(path))


def test_the_writer_is_durable_and_erases(path: Path) -> None:
    """WAL, a full fsync per commit, and zeros over what was deleted."""
    connection = connect_writer(path)
    found = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "secure_delete")
    ]
    connection.close()
    assert found == ["wal", 2, 1]


def test_durability_has_a_named_opt_out(path: Path) -> None:
    """NORMAL leaves the fsync of the WAL to the checkpoint."""
    connection = connect_writer(path, durability="NORMAL")
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1
    connection.close()


def test_a_lone_caller_commits_itself(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Nobody else is writing, so no thread is changed; the row is there for other connections."""
    threads: list[threading.Thread] = []

    def job(connection: sqlite3.Connection) -> int:
        threads.append(threading.current_thread())
        return _insert(connection, 7)

    assert writer.run(job) == 7
    assert threads == [threading.current_thread()]
    assert _numbers(path) == [7]


def test_callers_that_meet_share_one_transaction(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Those who come while somebody writes wait together, and one transaction takes them all."""
    gate = _Gate()
    statements: list[str] = []
    answers: list[int] = []
    first = threading.Thread(target=lambda: writer.run(gate))
    first.start()
    gate.entered.wait(10)
    writer.submit(lambda c: c.set_trace_callback(statements.append))
    callers = [
        threading.Thread(target=lambda n=n: answers.append(writer.run(lambda c: _insert(c, n))))  # type: ignore[misc]
        for n in range(20)
    ]
    for caller in callers:
        caller.start()
    while writer.waiting < 21:
        time.sleep(0.001)
    gate.opened.set()
    for thread in (first, *callers):
        thread.join(10)

    assert sorted(answers) == _numbers(path) == list(range(20))
    assert statements.count("COMMIT") == 1


def test_many_callers_lose_nothing(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Eight threads, each job answered with its own value and on disk, whoever committed it."""
    wrong: list[int] = []

    def call(start: int) -> None:
        numbers = range(start, start + 100)
        wrong.extend(n for n in numbers if writer.run(lambda c, n=n: _insert(c, n)) != n)  # type: ignore[misc]

    callers = [threading.Thread(target=call, args=(1_000 * number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert wrong == []
    assert _numbers(path) == [n for start in range(0, 8_000, 1_000) for n in range(start, start + 100)]


def test_a_caller_that_commits_itself_is_refused_alone(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """What its job raises is raised, nothing of it is kept, and the writer goes on."""

    def refuse(connection: sqlite3.Connection) -> None:
        _insert(connection, 1)
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        writer.run(refuse)

    assert writer.run(lambda c: _insert(c, 2)) == 2
    assert _numbers(path) == [2]


def test_an_interrupted_caller_leaves_the_writer_sound(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Ctrl-C in the midst of a transaction undoes it, and the next job is committed as always."""

    def interrupt(connection: sqlite3.Connection) -> None:
        _insert(connection, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.run(interrupt)

    assert writer.run(lambda c: _insert(c, 2)) == 2
    assert _numbers(path) == [2]


def test_a_job_that_ends_the_thread_ends_no_writing(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """All that shared its transaction are told that nothing was written, and the thread goes on; no caller is ended."""

    def leave(connection: sqlite3.Connection) -> None:
        _insert(connection, 1)
        raise SystemExit(3)

    gate = _Gate()
    held = writer.submit(gate)
    gate.entered.wait(10)
    together = [writer.submit(lambda c: _insert(c, 5)), writer.submit(leave), writer.submit(lambda c: _insert(c, 6))]
    gate.opened.set()

    held.result(10)
    for one in together:
        with pytest.raises(StoreUnavailable, match="interrupted by SystemExit"):
            one.result(10)
    assert writer.submit(lambda c: _insert(c, 2)).result(10) == 2
    assert _numbers(path) == [2]


def test_whoever_waits_is_told_where_even_undoing_fails(path: Path) -> None:
    """A driver that fails in every way keeps nobody waiting."""

    class Broken(SqliteTransactions[sqlite3.Connection]):
        def roll_back(self) -> None:
            super().roll_back()
            raise MemoryError

    connection = connect_writer(path)
    writer = GroupCommit(str(path), lambda: Broken(path, connection, connection))

    def fail(connection: sqlite3.Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(StoreUnavailable):
        writer.submit(fail).result(10)
    assert writer.submit(lambda c: _insert(c, 2)).result(10) == 2
    writer.close()


def test_a_lone_job_that_raises_leaves_nothing_and_harms_no_later_one(
    writer: GroupCommit[sqlite3.Connection], path: Path
) -> None:
    """It has no savepoint: the whole transaction is undone."""

    def refused(connection: sqlite3.Connection) -> None:
        _insert(connection, 1)
        raise Conflict("no")

    with pytest.raises(Conflict):
        writer.run(refused)
    writer.run(lambda connection: _insert(connection, 2))

    assert _numbers(path) == [2]


def test_the_delay_is_that_of_the_oldest_job_that_is_not_on_disk(path: Path) -> None:
    """The one being written counts, also while others wait behind it; afterwards there is none."""
    now = [0.0]
    writer = GroupCommit(str(path), lambda: _transactions(path), timer=lambda: now[0])
    gate = _Gate()
    held = writer.submit(gate)
    gate.entered.wait(10)
    now[0] = 2.0
    later = writer.submit(lambda connection: _insert(connection, 1))
    now[0] = 5.0
    found = [writer.delay]
    gate.opened.set()
    held.result(10)
    later.result(10)
    writer.close()
    found.append(writer.delay)

    assert found == [5.0, 0.0]
    assert (writer.groups, writer.jobs) == (2, 2)


def test_jobs_that_were_left_share_a_transaction(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Nobody begins them until all are to be written."""
    left = [writer.leave(lambda connection, n=n: _insert(connection, n)) for n in range(3)]  # type: ignore[misc]  # a default binds n
    before = (writer.groups, [future.done() for future in left])
    writer.write_left()

    assert [future.result(10) for future in left] == [0, 1, 2]
    assert before == (0, [False] * 3)
    assert (writer.groups, writer.jobs) == (1, 3)
    assert _numbers(path) == [0, 1, 2]


def test_jobs_that_were_left_are_run_where_they_are_written(writer: GroupCommit[sqlite3.Connection]) -> None:
    """By whoever writes them, who does not wait for the disk; the future resolves in the writing thread."""
    threads: list[int] = []
    gate = _Gate()
    left = writer.leave(lambda connection: threads.append(threading.get_ident()))
    left.add_done_callback(lambda _: threads.append(threading.get_ident()))
    left.add_done_callback(lambda _: gate.entered.set())
    writer.write_left()
    run_in = threads[0]

    assert gate.entered.wait(10)
    assert run_in == threading.get_ident()
    assert threads[1] != run_in


def test_jobs_that_were_left_wait_for_nobody(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """While another transaction is open they are left to the writing thread, behind it and in their order."""
    gate = _Gate()
    held = writer.submit(gate)
    gate.entered.wait(10)
    left = [writer.leave(lambda connection, n=n: _insert(connection, n)) for n in range(3)]  # type: ignore[misc]  # a default binds n
    writer.write_left()  # returns
    before = [future.done() for future in left]
    gate.opened.set()
    held.result(10)

    assert before == [False] * 3
    assert [future.result(10) for future in left] == [0, 1, 2]
    assert _numbers(path) == [0, 1, 2]


def test_a_left_job_that_raises_does_not_undo_the_others(writer: GroupCommit[sqlite3.Connection], path: Path) -> None:
    """Alone or among others."""

    def refuse(connection: sqlite3.Connection) -> None:
        _insert(connection, 2)
        raise Conflict("no")

    refused = [writer.leave(refuse)]
    writer.write_left()
    refused[0].exception(10)
    refused.append(writer.leave(refuse))
    kept = writer.leave(lambda connection: _insert(connection, 1))
    writer.write_left()

    assert kept.result(10) == 1
    assert [type(one.exception(10)) for one in refused] == [Conflict, Conflict]
    assert _numbers(path) == [1]


def test_a_lost_commit_fails_every_left_job(path: Path) -> None:
    """None of them is in the file, and the next one is kept."""
    fails = iter([True])

    class Failing(SqliteTransactions[sqlite3.Connection]):
        def commit(self) -> None:
            if next(fails, False):
                raise sqlite3.OperationalError("disk I/O error")
            super().commit()

    def failing() -> Failing:
        driver = connect_writer(path)
        return Failing(path, driver, driver)

    writer = GroupCommit(str(path), failing)
    lost = [writer.leave(lambda connection, n=n: _insert(connection, n)) for n in range(2)]  # type: ignore[misc]  # as above
    writer.write_left()
    errors = [one.exception(10) for one in lost]
    later = writer.leave(lambda connection: _insert(connection, 2))
    writer.write_left()
    writer.close()

    assert [type(one) for one in errors] == [StoreUnavailable] * 2
    assert later.result(0) == 2
    assert _numbers(path) == [2]


def test_an_interrupted_writer_of_left_jobs_leaves_none_waiting(
    writer: GroupCommit[sqlite3.Connection], path: Path
) -> None:
    """Ctrl-C undoes the transaction that it meets; what did not fit into that one is written all the same."""

    def interrupt(connection: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    writer.leave(interrupt)
    left = [writer.leave(lambda connection, n=n: _insert(connection, n)) for n in range(MAX_GROUP)]  # type: ignore[misc]  # as above
    with pytest.raises(KeyboardInterrupt):
        writer.write_left()

    assert left[-1].result(10) == MAX_GROUP - 1
    assert _numbers(path) == [MAX_GROUP - 1]


def test_a_handed_on_transaction_keeps_nobody_behind_it_waiting(path: Path) -> None:
    """Whoever comes while it is committed is written after it, once, in the order of coming."""
    gate = _Gate()

    class Slow(SqliteTransactions[sqlite3.Connection]):
        def commit(self) -> None:
            gate(self.connection)
            super().commit()

    def slow() -> Slow:
        driver = connect_writer(path)
        return Slow(path, driver, driver)

    writer = GroupCommit(str(path), slow)
    first = writer.leave(lambda connection: _insert(connection, 0))
    writer.write_left()
    assert gate.entered.wait(10)
    with ThreadPoolExecutor(1) as pool:
        futures = [writer.submit(lambda connection: _insert(connection, 1))]
        futures.append(writer.leave(lambda connection: _insert(connection, 2)))
        writer.write_left()
        waiting = pool.submit(writer.run, lambda connection: _insert(connection, 3))
        while writer.waiting < 3:
            time.sleep(0.001)
        before = [one.done() for one in (first, *futures, waiting)]
        gate.opened.set()
        answers = [one.result(10) for one in (first, *futures, waiting)]
    writer.close()

    assert before == [False] * 4
    assert answers == [0, 1, 2, 3]
    assert _numbers(path) == [0, 1, 2, 3]


def test_closing_finishes_what_was_left_and_begun(path: Path) -> None:
    """Whether or not anybody said that it is to be written."""
    writer = GroupCommit(str(path), lambda: _transactions(path))
    begun = writer.leave(lambda connection: _insert(connection, 1))
    writer.write_left()
    left = writer.leave(lambda connection: _insert(connection, 2))
    writer.close()

    assert (begun.result(0), left.result(0)) == (1, 2)
    assert _numbers(path) == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_jobs_of_every_kind_at_once_are_each_done_once(seed: int, path: Path) -> None:
    """By callers that wait, that do not, and that leave theirs: all are answered, and all are there."""
    writer = GroupCommit(str(path), lambda: _transactions(path))
    callers, each = 6, 60

    def call(caller: int) -> list[Future[int]]:
        chance = random.Random(seed * callers + caller)  # noqa: S311  # no secret
        futures: list[Future[int]] = []
        for number in range(caller * each, (caller + 1) * each):
            job = partial(_insert, n=number)
            kind = chance.choice(("run", "submit", "leave", "leave"))
            if kind == "run":
                assert writer.run(job) == number
            else:
                futures.append(writer.submit(job) if kind == "submit" else writer.leave(job))
            if chance.random() < 0.3:
                writer.write_left()
        writer.write_left()
        return futures

    with ThreadPoolExecutor(callers) as pool:
        futures = [future for found in pool.map(call, range(callers)) for future in found]
    answers = [future.result(10) for future in futures]
    writer.close()

    assert len(set(answers)) == len(answers)
    assert sorted(_numbers(path)) == list(range(callers * each))
