"""The PostgreSQL store where it is cut, closed or asked for what it cannot keep: what it says, and that it heals."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from features.database_location import DatabaseLocation
from features.errors import Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.event_store import SqlEventLog
from features.postgres_store import READERS, REVISION, PostgresReaders, PostgresTransactions, connect
from features.sql_text import SqlConnection, written
from models.record_store import SqlRecordStore
from models.records import ConsentChange
from tests.decision_records import DECIDED_AT, contact, record, reservation
from tests.faults.proxy import Proxy
from tests.histories import event
from tests.postgres_servers import SERVER, empty, postgres_database

_ONE = written("SELECT 1")
_SECRET = "p4ssw0rd"


@pytest.fixture(scope="module")
def database() -> Iterator[DatabaseLocation]:
    """A database with our tables."""
    with postgres_database() as location:
        yield location


@pytest.fixture
def location(database: DatabaseLocation) -> DatabaseLocation:
    """The database, empty."""
    empty(database)
    return database


@pytest.fixture
def proxy(location: DatabaseLocation) -> Iterator[Proxy]:
    """A way to the server that can be cut."""
    server = urlsplit(location.url)
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 5432)
    yield proxy
    proxy.close()


def _through(proxy: Proxy, location: DatabaseLocation) -> DatabaseLocation:
    server = urlsplit(location.url)
    who = server.netloc.rpartition("@")[0]
    return DatabaseLocation.of(f"postgresql://{who}@127.0.0.1:{proxy.port}{server.path}")


def _end_connections(location: DatabaseLocation) -> None:
    """As a restart of the server does."""
    with psycopg.connect(location.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_the_first_call_after_the_server_ended_all_connections_succeeds(location: DatabaseLocation) -> None:
    """Of readers and of the writer alike: nothing was under way, so nothing is lost."""
    with closing(SqlEventLog(location)) as log:
        log.append([event("a")])
        assert log.head() == 1
        for number in range(3):
            _end_connections(location)
            assert log.head() == 1 + number
            assert log.append([event(f"b{number}")])[0].position == 2 + number


def test_a_job_whose_connection_ends_before_the_commit_is_done_again(location: DatabaseLocation) -> None:
    """Nothing of the first time was kept, so that once is enough."""
    times: list[int] = []

    def job(connection: SqlConnection) -> int:
        times.append(1)
        if len(times) == 1:
            _end_connections(location)
        return int(connection.execute(_ONE).fetchone()[0])

    with closing(SqlEventLog(location)) as log:
        assert log._store.run(job) == 1
    assert len(times) == 2


def test_a_commit_of_which_nobody_knows_is_told_by_asking_again(location: DatabaseLocation, proxy: Proxy) -> None:
    """The answer to COMMIT is lost: the decision is unavailable, is there, and is answered with its own bytes."""
    made = record(1)
    with closing(SqlRecordStore(_through(proxy, location))) as store:
        proxy.lost_answer = b"COMMIT"
        with pytest.raises(StoreUnavailable):
            store.commit(made, b"first", reservation(contact(made)))
        proxy.lost_answer = None
        again = store.commit(record(1, decision_id="d-other"), b"second", reservation(contact(made)))

        assert again.answer == b"first"
        assert again.was_stored_before
        assert len(store.customer("c1", since=0, now=DECIDED_AT + 9).contacts) == 1


def test_a_commit_that_never_came_keeps_nothing(location: DatabaseLocation, proxy: Proxy) -> None:
    """The question is lost: nothing is there, and asking again decides anew."""
    made = record(1)
    with closing(SqlRecordStore(_through(proxy, location))) as store:
        proxy.lost_question = b"COMMIT"
        with pytest.raises(StoreUnavailable):
            store.commit(made, b"first", reservation(contact(made)))
        proxy.lost_question = None

        assert store.commit(made, b"second", reservation(contact(made))).answer == b"second"


def test_events_whose_commit_is_unknown_are_duplicates_when_sent_again(
    location: DatabaseLocation, proxy: Proxy
) -> None:
    """Their positions are those that they got the first time."""
    with closing(SqlEventLog(_through(proxy, location))) as log:
        proxy.lost_answer = b"COMMIT"
        with pytest.raises(StoreUnavailable):
            log.append([event("a"), event("b")])
        proxy.lost_answer = None

        again = log.append([event("a"), event("c")])
        assert [(one.position, one.duplicate) for one in again] == [(1, True), (3, False)]


def test_while_no_server_answers_calls_fail_and_after_that_they_succeed(
    location: DatabaseLocation, proxy: Proxy
) -> None:
    """Each with what cannot be reached and without the password; nothing has to be opened again."""
    behind = _through(proxy, location)
    named = DatabaseLocation.of(re.sub("//[^@]*@", f"//postgres:{_SECRET}@", behind.url))
    with closing(SqlEventLog(named)) as log:
        log.append([event("a")])
        proxy.cut()
        for call in (log.head, lambda: log.append([event("b")]), log.check_writes):
            with pytest.raises(StoreUnavailable, match=rf"postgresql://\*\*\*@127\.0\.0\.1:{proxy.port}/") as failed:
                call()
            assert _SECRET not in str(failed.value)
        proxy.mend()
        assert log.head() == 1
        assert log.append([event("b")])[0].position == 2
        log.check_writes()


def test_a_group_that_loses_its_connection_is_done_again_as_a_whole(location: DatabaseLocation) -> None:
    """Jobs that waited together are all kept, each once."""
    entered, go_on = threading.Event(), threading.Event()

    def gate(connection: SqlConnection) -> None:
        entered.set()
        go_on.wait(30)

    with closing(SqlEventLog(location)) as log:
        log._store.submit(gate)
        entered.wait(30)
        waiting = [log.submit_append([event(f"e{number}")]) for number in range(5)]
        breaking = iter([True])
        broken = log._store.submit(lambda _: _end_connections(location) if next(breaking, False) else None)
        waiting += [log.submit_append([event(f"f{number}")]) for number in range(5)]
        go_on.set()

        assert [one.result(30)[0].position for one in waiting] == list(range(1, 11))
        broken.result(30)
        assert log.head() == 10


def test_a_refusal_in_a_group_leaves_what_others_wrote(location: DatabaseLocation) -> None:
    """Whatever the place of the job that fails: marks are undone one by one."""
    entered, go_on = threading.Event(), threading.Event()

    def gate(connection: SqlConnection) -> None:
        entered.set()
        go_on.wait(30)

    with closing(SqlRecordStore(location)) as store:
        store._store.submit(gate)
        entered.wait(30)
        asked = [(number, "r-same" if number % 3 == 0 else f"r-{number}") for number in range(9)]
        made = [record(number, request_id=name, request_hash=str(number)) for number, name in asked]
        futures = [store.submit_commit(one, b"", None) for one in made]
        go_on.set()

        refused = [number for number, future in enumerate(futures) if future.exception(30) is not None]
        assert refused == [3, 6]
        assert len([one for page in store.ids() for one in page]) == 7


@pytest.mark.parametrize(
    "changes", [{"text": "a\0b"}, {"text": "\ud800"}, {"sequence": 10**30}, {"occurred_at": 2**63}]
)
def test_values_that_no_database_keeps_are_refused(location: DatabaseLocation, changes: dict[str, Any]) -> None:
    """The batch alone, with nothing of it kept; the store goes on."""
    with closing(SqlEventLog(location)) as log:
        with pytest.raises(Refused, match="expected text that is valid Unicode without NUL, and integers of 64 bits"):
            log.append([event("a"), replace(event("b"), **changes)])
        assert log.append([event("c")])[0].position == 1


def test_ids_that_no_database_keeps_are_refused(location: DatabaseLocation) -> None:
    """On reading and on writing, though ids also choose locks."""
    with closing(SqlRecordStore(location)) as store:
        for bad in ("\ud800", "a\0"):
            with pytest.raises(Refused):
                store.customer(bad, since=0, now=1)
            with pytest.raises(Refused):
                store.apply_consents([ConsentChange(bad, "sms", "granted", 1)])
        store.set_consents("c1", {"sms": "granted"}, at=1)
        assert store.customer("c1", since=0, now=1).consents == {"sms": "granted"}


def test_more_callers_than_connections_wait_for_one(location: DatabaseLocation) -> None:
    """As many read at once as there are connections, which are used again; the others come after them."""
    readers = PostgresReaders(location, most=2)
    numbers: set[int] = set()

    def read() -> None:
        for _ in range(10):
            with readers.reading() as connection:
                numbers.add(connection.execute(written("SELECT pg_backend_pid()")).fetchone()[0])

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    readers.close()

    assert 1 <= len(numbers) <= 2
    assert READERS > 2


def test_a_connection_that_was_left_in_the_middle_is_not_used_again(location: DatabaseLocation) -> None:
    """Whoever reads next gets a clean one."""
    readers = PostgresReaders(location)
    with readers.reading() as connection:
        connection.execute(written("BEGIN"))
        first = connection.execute(written("SELECT pg_backend_pid()")).fetchone()
    with readers.reading() as connection:
        second = connection.execute(written("SELECT pg_backend_pid()")).fetchone()
    readers.close()

    assert first != second


def test_a_failed_transaction_is_never_taken_for_committed(location: DatabaseLocation) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK, which is no error of its own."""
    transactions = PostgresTransactions(location, "FULL")
    transactions.begin([])
    with pytest.raises(psycopg.Error):
        transactions.connection.execute(written("SELECT nothing"))
    with pytest.raises(psycopg.Error, match="ended with ROLLBACK"):
        transactions.commit()
    transactions.roll_back()
    transactions.begin(["a", "b"])
    transactions.commit()
    transactions.close()


def test_what_was_accepted_is_finished_before_closing(location: DatabaseLocation) -> None:
    """Closing waits for it, and refuses what comes later; closing twice is harmless."""
    log = SqlEventLog(location)
    waiting = [log.submit_append([event(f"e{number}")]) for number in range(20)]
    log.close()
    log.close()

    assert sorted(one.result(0)[0].position for one in waiting) == list(range(1, 21))
    for call in (log.head, lambda: log.append([event("late")])):
        with pytest.raises(StoreUnavailable, match="was closed; expected to be open"):
            call()
    with psycopg.connect(location.url) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'headway' AND state <> 'idle'"
        ).fetchone()
    assert left == (0,)


def test_a_reader_cannot_write(location: DatabaseLocation) -> None:
    """Not by the port, and not by the connection."""
    with closing(SqlEventLog(location, readonly=True)) as log:
        with pytest.raises(StoreUnavailable, match="opened read-only"):
            log.append([event("a")])
        with pytest.raises(StoreUnavailable, match="read-only"), log._store.reading() as connection:
            connection.execute(written("DELETE FROM events"))


def test_a_database_that_is_not_there_is_named() -> None:
    """With what to look at."""
    missing = DatabaseLocation.of(f"{SERVER}/headway_test_nobody_made_it")
    with pytest.raises(StoreUnavailable, match="does not exist; expected a PostgreSQL that answers: look at it"):
        SqlEventLog(missing)


def test_a_database_without_tables_says_how_to_make_them() -> None:
    """And so does one whose tables another release made, or whose encoding loses texts."""
    with postgres_database(tables=False) as location:
        with pytest.raises(UnknownObject, match=r"has no tables; .*run `headway database upgrade`"):
            SqlEventLog(location)
        with psycopg.connect(location.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num text)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        expected = f"at revision 9999; expected {REVISION}: run `headway database upgrade`"
        with pytest.raises(StoreCorrupted, match=expected):
            SqlEventLog(location)


def test_texts_order_by_code_point_whatever_the_locale_of_the_database(location: DatabaseLocation) -> None:
    """As in SQLite, and as here: pages of ids depend on it."""
    ids = ["a", "B", "é", "z", "\uffff", "\U0001f600", "e\u0301", "~", "\x7f", "\ue000", "ß", "İ", "a b", "a-b", "ab"]
    with closing(SqlRecordStore(location)) as store:
        store.append_imported([record(number, decision_id=one) for number, one in enumerate(ids)])
        assert [one for page in store.ids(page=4) for one in page] == sorted(ids)


def test_sessions_give_up_what_they_hold(location: DatabaseLocation) -> None:
    """The server, which goes on when a client was stopped, is told how long to wait for it."""
    with connect(location) as connection:
        names = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "synchronous_commit")
        told = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in names]
    assert told == [("5s",), ("10s",), ("30s",), ("on",)]
