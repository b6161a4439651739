"""A PostgreSQL server that dies, stops, fills up or turns callers away: nothing answered is lost or doubled."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace

import psycopg
import pytest

from features.database_location import DatabaseLocation
from features.errors import StoreUnavailable
from features.event_store import SqlEventLog
from models.record_store import SqlRecordStore
from tests.decision_records import record
from tests.faults.postgres_cluster import Cluster, cluster
from tests.faults.proxy import Proxy
from tests.faults.store_load import Account, KillPoint, check, hold, serve, tell
from tests.histories import event
from tests.postgres_servers import postgres_database

pytestmark = pytest.mark.slow

_CALLERS = 4
_SEGMENT = 16 << 20
"""Bytes of a file of the log of writes."""
_names = (f"load_{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server of our own."""
    with cluster() as own:
        yield own


@contextmanager
def _load(*locations: DatabaseLocation) -> Iterator[Account]:
    """Callers of a pair of stores at each location, until the end; then everything they still wait for is answered."""
    account, is_over, numbers = Account(), threading.Event(), itertools.count()
    guarded = iter(lambda: next(numbers), -1)
    with ExitStack() as stack:
        pairs = [
            (stack.enter_context(closing(SqlEventLog(one))), stack.enter_context(closing(SqlRecordStore(one))))
            for one in locations
        ]
        failures: list[BaseException] = []

        def caller(place: int) -> None:
            try:
                tell(*pairs[place % len(pairs)], guarded, account, is_over=is_over)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=caller, args=(place,)) for place in range(_CALLERS)]
        for thread in threads:
            thread.start()
        try:
            _answered(account, 20)
            yield account
            _answered(account, 20)
        finally:
            is_over.set()
            for thread in threads:
                thread.join(60)
        assert failures == []


def _answered(account: Account, more: int) -> None:
    """Wait until so much more is answered."""
    enough = len(account.answers) + more
    until = time.monotonic() + 120
    while len(account.answers) < enough:
        assert time.monotonic() < until, account.errors
        threading.Event().wait(0.01)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_server_that_crashes_and_starts_again(server: Cluster, mode: str) -> None:
    """Under load: what was answered is there once, callers see it unavailable, and it heals by itself."""
    location = server.database(next(_names))
    with _load(location, location) as account:
        for _ in range(3):
            server.stop(mode)
            server.start()
            _answered(account, 20)
    print(f"longest time without an answer, {mode}: {account.outage:.2f} s")
    check(location, account)
    assert set(account.errors) == {"StoreUnavailable"}


def test_a_server_that_is_away_for_a_while(server: Cluster) -> None:
    """As long as it is stopped nothing is answered and nothing blocks; afterwards all goes on."""
    location = server.database(next(_names))
    with _load(location) as account:
        server.stop()
        before = len(account.answers) + len(account.events)
        seen = sum(account.errors.values())
        while sum(account.errors.values()) < seen + 20:
            threading.Event().wait(0.01)
        # What was under way when it stopped may have been answered after `before` was counted, and nothing else.
        assert len(account.answers) + len(account.events) <= before + _CALLERS
        server.start()
    check(location, account)


def test_backends_that_are_terminated_again_and_again(server: Cluster) -> None:
    """Every connection of the product ends, twenty times."""
    location = server.database(next(_names))
    with _load(location, location) as account:
        for _ in range(20):
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headway'")
            _answered(account, 2)
    check(location, account)


def test_a_network_that_cuts_commits(server: Cluster) -> None:
    """Questions and answers of COMMIT are lost in turn: unknown results, each told by asking again."""
    location = server.database(next(_names))
    proxy = Proxy("127.0.0.1", server.port)
    behind = DatabaseLocation.of(location.url.replace(str(server.port), str(proxy.port)))
    with closing(proxy), _load(behind, location) as account:
        for number in range(12):
            proxy.lost_answer, proxy.lost_question = (b"COMMIT", None) if number % 2 else (None, b"COMMIT")
            threading.Event().wait(0.05)
            proxy.lost_answer = proxy.lost_question = None
            _answered(account, 2)
    check(location, account)
    assert account.errors["StoreUnavailable"] > 0


def test_a_slow_network(server: Cluster) -> None:
    """Every answer of the server takes a while: all is slower, and right."""
    location = server.database(next(_names))
    proxy = Proxy("127.0.0.1", server.port)
    proxy.delay_seconds = 0.02
    behind = DatabaseLocation.of(location.url.replace(str(server.port), str(proxy.port)))
    with closing(proxy), _load(behind) as account:
        pass
    check(location, account)
    assert account.errors == {}


def test_a_disk_that_is_full(server: Cluster) -> None:
    """A table that cannot grow makes writes unavailable, not reads; with room again they succeed."""
    location = server.database(next(_names))
    big = [replace(event(f"big-{number}"), text=os.urandom(1_000_000).hex()) for number in range(12)]
    with closing(SqlEventLog(location)) as log:
        log.append([event("a")])
        server.stop()
        server.start(file_bytes=_SEGMENT)  # stands in for the disk: the log of writes fits under it, the table does not
        with pytest.raises(StoreUnavailable, match=r"could not (extend|write to) file"):
            log.append(big)
        assert log.head() == 1
        assert log.append([event("small")])[0].position == 2
        server.stop()
        server.start()
        assert len(log.append(big)) == len(big)
        assert log.head() == 2 + len(big)


def test_a_process_that_is_stopped_while_it_holds_locks(server: Cluster) -> None:
    """The server ends its transaction, and others go on; what it had done in it is undone."""
    location = server.database(next(_names))
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    holder = context.Process(target=hold, args=(location.url, sending), daemon=True)
    holder.start()
    sending.close()
    assert receiving.recv() == "holding"
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        with closing(SqlEventLog(location)) as log:
            account, is_over = Account(), threading.Event()
            with closing(SqlRecordStore(location)) as records:
                tell(log, records, iter(range(3)), account, is_over=is_over)
        assert len(account.answers) == 3
        assert account.errors["StoreUnavailable"] >= 1
        check(location, account)
    finally:
        holder.kill()
        holder.join(30)


def test_no_connection_is_left(server: Cluster) -> None:
    """Opening and reading say so; what has its connection goes on; with room again all is well."""
    location = server.database(next(_names))
    with closing(SqlEventLog(location)) as log, ExitStack() as others:
        log.append([event("a")])
        with suppress(psycopg.OperationalError):
            while True:
                others.enter_context(psycopg.connect(location.url))
        with pytest.raises(StoreUnavailable, match="too many clients"):
            log.head()
        with pytest.raises(StoreUnavailable, match="too many clients"):
            SqlRecordStore(location)
        assert log.append([event("b")])[0].position == 2
        others.close()
        assert log.head() == 2


def test_a_wrong_password_is_refused_without_telling_it(server: Cluster) -> None:
    """It says who was refused; and the password that is right lets in."""
    location = server.database(next(_names))
    server.execute("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'right-password'")
    access = server.folder / "data" / "pg_hba.conf"
    before = access.read_text()
    access.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}")
    server.execute("SELECT pg_reload_conf()")
    try:
        named = location.url.replace("postgres@", "guarded:{}@")
        with pytest.raises(StoreUnavailable, match="password authentication failed") as refused:
            SqlEventLog(DatabaseLocation.of(named.format("wrong-password")))
        assert "wrong-password" not in str(refused.value)
        with closing(SqlEventLog(DatabaseLocation.of(named.format("right-password")))) as log:
            assert log.append([event("a")])[0].position == 1
    finally:
        access.write_text(before)
        server.execute("SELECT pg_reload_conf()")


def test_a_database_that_is_dropped_under_the_product(server: Cluster) -> None:
    """Nothing is answered any more, and nothing is made up; made anew it is without tables."""
    location = server.database(next(_names))
    name = location.url.rpartition("/")[2]
    with closing(SqlEventLog(location)) as log, closing(SqlRecordStore(location)) as records:
        log.append([event("a")])
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for call in (log.head, lambda: log.append([event("b")]), lambda: records.commit(record(1), b"", None)):
            with pytest.raises(StoreUnavailable, match="does not exist"):
                call()
        server.execute(f'CREATE DATABASE "{name}"')
        with pytest.raises(Exception, match="does not exist; expected the tables of this release"):
            log.head()


def test_processes_that_are_killed_at_every_step() -> None:
    """Twenty-five deaths at the steps of a transaction, before and after each, in a database that lives on."""
    points = [
        KillPoint(method, when, count)
        for method, when in itertools.product(("begin", "mark", "commit", "roll_back"), ("before", "after"))
        for count in (2, 17, 40)
    ] + [KillPoint("commit", "after", 90)]
    assert len(points) == 25
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.store_load"])
    account, first = Account(), 0
    with postgres_database() as location:
        for point in points:
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=serve, args=(location.url, point, first, sending), daemon=True)
            process.start()
            sending.close()
            with suppress(EOFError):
                while True:
                    what, name, answer = receiving.recv()
                    if what == "event":
                        account.events.add(name)
                    else:
                        account.answers[name] = answer
            process.join(60)
            assert process.exitcode == -signal.SIGKILL
            first += 1_000
        assert len(account.answers) > len(points)
        check(location, account)
