"""A PostgreSQL database as a store keeps it: one writing connection a process, and a few that read.

Nothing is held in between: every statement of a reader is a transaction of its own, and jobs take the locks of their
keys, in one order, before they look. The password is in no message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from zlib import crc32

import psycopg
from psycopg.pq import TransactionStatus

from features.commit_figures import CommitFigures
from features.database_location import VARIABLE, DatabaseLocation
from features.errors import Refused, StoreCorrupted, StoreError, StoreUnavailable, UnknownObject
from features.group_commit import GroupCommit
from features.no_writer import NoWriter
from features.sql_text import Cursor, SqlConnection, Statement, Values, written
from features.sqlite_files import UNKEEPABLE, Durability

T = TypeVar("T")

REVISION: Final = "0002"
"""The newest of the database's migrations: the layout that this release reads and writes."""

RESTORING: Final = "restoring"
"""The revision of a database that a restore has filled, or half filled, whose home is not in its place yet."""

READERS: Final = 8
"""Connections of one store in one process that read at once; whoever comes later waits for one."""

CONNECT_SECONDS: Final = 3
LOCK_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
WRITE_SECONDS: Final = 30.0
"""How long the server may take: to accept, for a lock, for a statement that reads, for one that writes."""

IDLE_SECONDS: Final = 10.0
"""How long a process may hold locks without a statement, so that one that was stopped does not keep the others out."""

LOCKS: Final = 4_096
"""Locks that keys fall into. A transaction takes all of them at most, and the server's table has room for 6,400."""

_SESSION: Final = {
    "lock_timeout": f"{LOCK_SECONDS:g}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS:g}s",
    "default_transaction_isolation": "read\\ committed",
    "client_encoding": "UTF8",
}
_OURS: Final = 0x48776479
"""Sets our advisory locks apart from those of others in the same database."""
_WAIT: Final = written(f"SELECT pg_advisory_xact_lock_shared({_OURS}, one) FROM unnest(%s::int[]) AS one")  # noqa: S608  # ours
_REVISION: Final = "SELECT version_num FROM alembic_version"
_TOUCH: Final = "UPDATE alembic_version SET version_num = version_num"
_ENCODING: Final = "UTF8"
_AGAIN: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_DAMAGED: Final = (
    *(psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted),
    *(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn),
)


class PostgresConnection:
    """A connection of PostgreSQL's driver."""

    __slots__ = ("driver",)

    def __init__(self, driver: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.driver = driver

    def execute(self, statement: Statement, values: Values = ()) -> Cursor:
        """Run a statement."""
        return self.driver.execute(statement.postgres.encode(), values, binary=True)

    def executemany(self, statement: Statement, rows: Iterable[Values]) -> Cursor:
        """Run a statement once for each of some rows, in one go."""
        rows = list(rows)
        if len(rows) == 1:  # going through a pipeline costs as much again
            return self.execute(statement, rows[0])
        cursor = self.driver.cursor(binary=True)
        cursor.executemany(statement.postgres.encode(), rows)
        if rows:
            # A pipeline disarms `idle_in_transaction_session_timeout` of PostgreSQL 15 until the next plain statement.
            self.driver.execute(b"SELECT", prepare=False)
        return cursor


def connect(
    location: DatabaseLocation, *, readonly: bool = False, durability: Durability = "FULL"
) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit mode, for any thread but one at a time.

    Raises:
        psycopg.Error: there is no database at the location that lets us in.
    """
    session = _SESSION | {
        "statement_timeout": f"{READ_SECONDS if readonly else WRITE_SECONDS:g}s",
        "default_transaction_read_only": "on" if readonly else "off",
        "synchronous_commit": "on" if durability == "FULL" else "off",
    }
    return psycopg.connect(
        location.url,
        autocommit=True,
        application_name="headway",
        connect_timeout=CONNECT_SECONDS,
        options=" ".join(f"-c {name}={value}" for name, value in session.items()),
        keepalives_idle=10,
        keepalives_interval=3,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )


def postgres_failure(where: str, error: Exception) -> StoreError | Refused:
    """What an error of the driver means for the store at ``where``."""
    told = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, _DAMAGED):
        return StoreCorrupted(f"{where}: {told}; expected the tables of this release: run `headway database upgrade`")
    if isinstance(error, (psycopg.DataError, *UNKEEPABLE)):
        return Refused(f"{where}: {told}; expected text that is valid Unicode without NUL, and integers of 64 bits")
    return StoreUnavailable(f"{where}: {told}; expected a PostgreSQL that answers: look at it")


class PostgresTransactions:
    """The transactions of the one connection that writes; made anew where it was lost.

    Args:
        location: the database.
        durability: ``NORMAL`` gives up answered commits where the server dies, for speed.
    """

    def __init__(self, location: DatabaseLocation, durability: Durability) -> None:
        self._location = location
        self._durability: Durability = durability
        self._connection = PostgresConnection(connect(location, durability=durability))
        self._is_lost = False  # and no other could be made
        self._is_marked = False

    @property
    def connection(self) -> PostgresConnection:
        """What jobs run their statements on."""
        return self._connection

    def begin(self, keys: Collection[str]) -> None:
        """Begin a transaction that holds the locks of some keys; in one order, so that no two wait for each other."""
        self._is_marked = False
        self._is_lost = self._connection.driver.closed
        if self._is_lost:
            self._connection = PostgresConnection(connect(self._location, durability=self._durability))
            self._is_lost = False
        # Together in one round trip. The statements that follow see what was committed before the last lock was given.
        self._connection.driver.execute(_begin(keys).encode(), prepare=False)

    def commit(self) -> None:
        """Keep what was done.

        Raises:
            psycopg.Error: it was not kept; or the connection was lost meanwhile, and nobody here knows whether it was.
        """
        told = self._connection.driver.execute(b"COMMIT", prepare=False).statusmessage
        if told != "COMMIT":  # as PostgreSQL answers where a statement failed before
            raise psycopg.errors.InFailedSqlTransaction(f"the transaction ended with {told}")

    def roll_back(self) -> None:
        """Undo what was done; with the connection where that is not to be had."""
        with suppress(psycopg.Error):
            self._connection.driver.execute(b"ROLLBACK", prepare=False)
        if self._connection.driver.info.transaction_status != TransactionStatus.IDLE:
            self._connection.driver.close()

    def is_open(self) -> bool:
        """Whether a transaction was begun and neither kept nor undone."""
        return self._connection.driver.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def mark(self) -> None:
        """Remember this place, in place of the one before."""
        again = b"RELEASE job; SAVEPOINT job" if self._is_marked else b"SAVEPOINT job"
        self._connection.driver.execute(again, prepare=False)
        self._is_marked = True

    def keep_since_mark(self) -> None:
        """Nothing: the next mark, or the commit, forgets the place, without a round trip of its own."""

    def undo_since_mark(self) -> None:
        """Undo what was done since."""
        self._connection.driver.execute(b"ROLLBACK TO job", prepare=False)

    def may_try_again(self, error: Exception) -> bool:
        """Where others were in the way, or the connection is gone and with it what was not committed.

        Not where none could be made: whoever waits has waited for that long enough.
        """
        if not isinstance(error, psycopg.Error) or self._is_lost:
            return False
        return isinstance(error, _AGAIN) or bool(self._connection.driver.closed)

    def failure(self, error: BaseException) -> BaseException:
        """What an error means for the store."""
        if not isinstance(error, (psycopg.Error, *UNKEEPABLE)):
            return error
        failure = postgres_failure(self._location.masked, error)
        failure.__cause__ = error
        return failure

    def close(self) -> None:
        """Close the connection."""
        self._connection.driver.close()


class PostgresReaders:
    """The connections that read, given to one caller at a time, and made anew where the server has dropped them.

    Args:
        location: the database.
        most: connections at once.
    """

    def __init__(self, location: DatabaseLocation, *, most: int = READERS) -> None:
        self._location = location
        self._free = threading.BoundedSemaphore(most)
        self._idle: list[PostgresConnection] = []
        self._closed = threading.Event()

    @contextmanager
    def reading(self) -> Iterator[SqlConnection]:
        """One of the connections; errors of the driver leave as errors of the store."""
        where = self._location.masked
        if self._closed.is_set():
            raise StoreUnavailable(f"{where} was closed; expected to be open: open the store again")
        if not self._free.acquire(timeout=LOCK_SECONDS):
            raise StoreUnavailable(f"{where}: every connection is reading for {LOCK_SECONDS:g} s; expected a free one")
        reading = _Reading(self._taken, self._drop)
        try:
            yield reading
        except (psycopg.Error, *UNKEEPABLE) as error:
            raise postgres_failure(where, error) from error
        finally:
            self._idle += reading.given_back()
            self._free.release()
            if self._closed.is_set():
                self._drop()

    def _taken(self) -> PostgresConnection:
        """A connection that nobody uses: the one used last, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:  # also where another thread took it just now
            return PostgresConnection(connect(self._location, readonly=True))

    def _drop(self) -> None:
        """Close the connections that nobody uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop().driver.close()

    def close(self) -> None:
        """Close every connection, those in use once they are given back."""
        self._closed.set()
        self._drop()


class _Reading:
    """A connection for one caller, taken at the first statement; another one where that finds it dead."""

    def __init__(self, take: Callable[[], PostgresConnection], drop_idle: Callable[[], None]) -> None:
        self._take = take
        self._drop_idle = drop_idle
        self._connection: PostgresConnection | None = None

    def execute(self, statement: Statement, values: Values = ()) -> Cursor:
        """Run a statement; again where the server had closed the connection meanwhile."""
        if self._connection is None:
            self._connection = self._take()
        try:
            return self._connection.execute(statement, values)
        except psycopg.Error:
            if not self._connection.driver.closed:
                raise
            self._drop_idle()  # what was idle longer is dead too
            self._connection = None
            self._connection = self._take()
            return self._connection.execute(statement, values)

    def given_back(self) -> list[PostgresConnection]:
        """The connection, if one was taken and is of use to the next caller."""
        if self._connection is None:
            return []
        if self._connection.driver.info.transaction_status == TransactionStatus.IDLE:
            return [self._connection]
        self._connection.driver.close()
        return []

    def executemany(self, statement: Statement, rows: Iterable[Values]) -> Cursor:
        """Nothing is written here.

        Raises:
            StoreUnavailable: always.
        """
        raise StoreUnavailable("a reading connection was asked to write; expected a job of the writer")


class PostgresStore:
    """The tables of one database, made by its migrations.

    Args:
        location: the database.
        readonly: read what others write; cannot write.
        durability: ``NORMAL`` gives up answered commits where the server dies, for speed.

    Raises:
        UnknownObject: the database has no tables.
        StoreUnavailable: it cannot be reached.
        StoreCorrupted: it has the layout of another release.
    """

    def __init__(self, location: DatabaseLocation, *, readonly: bool, durability: Durability) -> None:
        self._location = location
        self._writer: GroupCommit[PostgresConnection] | NoWriter = NoWriter(location.masked)
        check_database(location)
        try:
            if not readonly:
                self._writer = GroupCommit(location.masked, lambda: PostgresTransactions(location, durability))
        except psycopg.Error as error:
            raise postgres_failure(location.masked, error) from error
        self._readers = PostgresReaders(location)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._location.masked

    @contextmanager
    def reading(self) -> Iterator[SqlConnection]:
        """A connection that reads."""
        with self._readers.reading() as connection:
            yield connection

    def run(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> T:
        """What a job gives once its transaction is on disk."""
        return self._writer.run(job, keys=keys)

    def submit(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``run`` for callers that must not block."""
        return self._writer.submit(job, keys=keys)

    def leave(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``submit`` of a job that is begun with others at ``write_left``, or before."""
        return self._writer.leave(job, keys=keys)

    def write_left(self) -> None:
        """Have everything written that was left."""
        self._writer.write_left()

    def wait_for(self, keys: Collection[str]) -> None:
        """Nothing, once no job of any process that has one of some keys is under way."""
        with self.reading() as connection:
            connection.execute(_WAIT, (_locks(keys),))

    def check_writes(self, *, within_seconds: float = 2.0) -> None:
        """Write something that changes nothing.

        Raises:
            StoreUnavailable: it cannot be written, or not in time.
        """
        try:
            self._writer.submit(lambda connection: connection.driver.execute(_TOUCH)).result(within_seconds)
        except TimeoutError as error:
            raise StoreUnavailable(f"{self.name} takes longer than {within_seconds:g} s to write") from error

    @property
    def commits(self) -> CommitFigures:
        """How the writing goes."""
        return self._writer.figures

    def close(self) -> None:
        """Finish what was accepted and close every connection; closing twice is harmless."""
        self._writer.close()
        self._readers.close()


def _locks(keys: Collection[str]) -> list[int]:
    return sorted({crc32(key.encode(errors="surrogatepass")) % LOCKS for key in keys})


def check_database(location: DatabaseLocation) -> None:
    """Nothing, where the database has the layout of this release.

    Raises:
        UnknownObject: it has no tables.
        StoreUnavailable: it cannot be reached.
        StoreCorrupted: it has another layout.
    """
    where = location.masked
    try:
        with connect(location, readonly=True) as connection:
            encoding = connection.info.parameter_status("server_encoding")
            found = connection.execute(_REVISION).fetchone()
    except psycopg.errors.UndefinedTable:
        found = None
    except psycopg.Error as error:
        raise postgres_failure(where, error) from error
    else:
        check_encoding(location, encoding)
    if found is None:
        raise UnknownObject(f"{where} has no tables; expected those of this release: run `headway database upgrade`")
    if found[0] == RESTORING:
        raise StoreCorrupted(restoring_message(where))
    if found[0] != REVISION:
        raise StoreCorrupted(
            f"{where} is at revision {found[0]}; expected {REVISION}: run `headway database upgrade` of this release, "
            f"or use the release that wrote it ({VARIABLE} names the database)"
        )


def check_encoding(location: DatabaseLocation, encoding: str | None) -> None:
    """Nothing, where a database keeps every text.

    Raises:
        Refused: it keeps some only, or does not look at what it keeps.
    """
    if encoding != _ENCODING:
        raise Refused(
            f"{location.masked} has the encoding {encoding}; expected {_ENCODING}: make another database with "
            f"CREATE DATABASE ... TEMPLATE template0 ENCODING '{_ENCODING}'"
        )


def _begin(keys: Collection[str]) -> str:
    """What begins a transaction and waits for the locks of some keys, lowest first."""
    locks = _locks(keys)
    if not locks:
        return "BEGIN"
    if len(locks) == 1:
        return f"BEGIN; SELECT pg_advisory_xact_lock({_OURS}, {locks[0]})"
    listed = ",".join(map(str, locks))
    return f"BEGIN; SELECT pg_advisory_xact_lock({_OURS}, one) FROM unnest('{{{listed}}}'::int[]) AS one"  # noqa: S608  # integers


def rows_of(location: DatabaseLocation, query: str, *, durability: Durability = "FULL") -> list[tuple[Any, ...]]:
    """The rows that a query gives in a session of its own, one like those that write.

    Raises:
        StoreUnavailable: the database cannot be reached, or does not answer.
        StoreCorrupted: it lacks a table that the query names.
    """
    try:
        with connect(location, durability=durability) as connection:
            return connection.execute(query.encode()).fetchall()
    except psycopg.Error as error:
        raise postgres_failure(location.masked, error) from error


def restoring_message(where: str) -> str:
    """What is said of a database at ``RESTORING``."""
    return f"{where} was being restored, and the restore did not end; expected it to: run `headway restore` again"
