"""SQLite files as every store opens them: one durable writing connection per file, read-only ones beside it.

Only integers, bytes and text are bound: importing Feast changes how ``sqlite3`` binds datetimes in the whole process.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Generic, Literal, TypeVar

from features.errors import Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.write_ahead import WriteAheadLog, write_ahead_path

Durability = Literal["FULL", "NORMAL"]
"""FULL: an answered commit survives power loss. NORMAL: it survives the death of the process only."""

BUSY_TIMEOUT_MS = 5_000
UNKEEPABLE = (OverflowError, UnicodeEncodeError)
"""What a driver raises of values that no database keeps: integers beyond 64 bits, and half a surrogate pair."""

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def connect_writer(path: Path, *, durability: Durability = "FULL") -> sqlite3.Connection:
    """The one connection that writes and checkpoints ``path``; its folder is made, transactions are the caller's.

    Any thread may use it, one at a time.

    Deleted content is overwritten with zeros, so that an erase leaves no byte.

    Raises:
        StoreUnavailable: if the file cannot be opened or written.
        StoreCorrupted: if it is no SQLite file.
    """
    with store_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot make the folder of {path}: {error.strerror}; expected it writable"
            ) from error
        # For any thread: the one that writes is now this, now that, and never two at a time.
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {durability}")
        connection.execute("PRAGMA secure_delete = ON")
        return connection


C = TypeVar("C")
T = TypeVar("T")


class SqliteTransactions(Generic[C]):
    """The transactions of the one connection that writes a file.

    Args:
        path: the file, for messages.
        driver: the connection, in autocommit mode and for any thread.
        connection: what jobs run their statements on.
    """

    def __init__(self, path: Path, driver: sqlite3.Connection, connection: C) -> None:
        self._path = path
        self._driver = driver
        self._connection = connection
        self._write_ahead = WriteAheadLog(path, driver, busy_timeout_ms=BUSY_TIMEOUT_MS)

    @property
    def connection(self) -> C:
        """What jobs run their statements on."""
        return self._connection

    def begin(self, keys: Collection[str]) -> None:
        """Begin a transaction; the only one there is, whatever the keys."""
        self._driver.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Keep what was done."""
        self._driver.execute("COMMIT")
        self._write_ahead.look()

    def roll_back(self) -> None:
        """Undo what was done."""
        with suppress(sqlite3.Error):
            self._driver.execute("ROLLBACK")

    def is_open(self) -> bool:
        """Whether a transaction was begun and neither kept nor undone."""
        return self._driver.in_transaction

    def mark(self) -> None:
        """Remember this place."""
        self._driver.execute("SAVEPOINT job")

    def keep_since_mark(self) -> None:
        """Forget the place."""
        self._driver.execute("RELEASE job")

    def undo_since_mark(self) -> None:
        """Undo what was done since."""
        self._driver.execute("ROLLBACK TO job")
        self._driver.execute("RELEASE job")

    def may_try_again(self, error: Exception) -> bool:
        """Never: nobody else writes the file."""
        return False

    def failure(self, error: BaseException) -> BaseException:
        """What an error means for the store."""
        if not isinstance(error, (sqlite3.Error, *UNKEEPABLE)):
            return error
        failure = store_error(self._path, error)
        failure.__cause__ = error
        return failure

    def close(self) -> None:
        """Close the connection."""
        self._driver.close()


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read ``path``; it takes no lock that a writer would wait for.

    Raises:
        UnknownObject: if there is no such file.
        StoreUnavailable: if it cannot be opened.
    """
    if not path.is_file():
        raise UnknownObject(f"there is no file {path}; expected a store that was written before: import or serve first")
    with store_errors(path):
        # Closing it is left to whoever closes the store, in whatever thread; each is used by one thread only.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,
        )


def looked_up(
    path: Path, question: Callable[[sqlite3.Connection], T], *, is_sound: Callable[[T], bool] = lambda _: True
) -> T:
    """What a file answers to a question, without a trace beside the file.

    A reader of a file that nobody has open would leave two empty files beside it, and could not read at all where it
    may not write. So such a file is taken to be at rest, and asked again where somebody opened it meanwhile.

    Args:
        path: the file.
        question: reads only.
        is_sound: whether an answer can be believed even if somebody wrote meanwhile.

    Raises:
        sqlite3.Error: the file is damaged, or does not answer.
    """
    log = write_ahead_path(path)
    if not log.exists():
        try:
            with _looking(path, "immutable=1") as connection:
                found = question(connection)
        except sqlite3.Error:
            if not log.exists():
                raise
        else:
            if is_sound(found) or not log.exists():
                return found
    with _looking(path, "mode=ro") as connection:
        return question(connection)


@contextmanager
def _looking(path: Path, options: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?{options}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    with closing(connection):
        yield connection


class Readers(Generic[C]):
    """One read-only connection per thread: a connection shared between threads gives torn reads.

    Args:
        path: the file.
        connection: what statements are run on, of a connection of the driver.
    """

    def __init__(self, path: Path, connection: Callable[[sqlite3.Connection], C]) -> None:
        self._path = path
        self._connection_of = connection
        self._local = threading.local()
        self._guard = threading.Lock()
        self._opened: list[sqlite3.Connection] = []
        self._is_closed = False

    def reading(self) -> AbstractContextManager[C]:
        """This thread's connection; errors of the driver leave as errors of the store.

        Raises:
            StoreUnavailable: if the store was closed or does not answer.
            StoreCorrupted: if the file is damaged.
        """
        return self

    def __enter__(self) -> C:
        if self._is_closed:
            raise StoreUnavailable(f"{self._path} was closed; expected to be open: open the store again")
        return self._connection()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (sqlite3.Error, UnicodeDecodeError, *UNKEEPABLE)):
            raise store_error(self._path, error) from error

    def _connection(self) -> C:
        connection: C | None = getattr(self._local, "connection", None)
        if connection is None:
            driver = connect_reader(self._path)
            self._local.connection = connection = self._connection_of(driver)
            with self._guard:
                self._opened.append(driver)
        return connection

    def close(self) -> None:
        """Close every connection; no thread may be reading."""
        self._is_closed = True
        with self._guard:
            while self._opened:
                self._opened.pop().close()


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Errors of the driver as errors of the store at ``path``."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise store_error(path, error) from error


def store_error(path: Path, error: BaseException) -> StoreCorrupted | StoreUnavailable | Refused:
    """What an error of the driver means for the store at ``path``."""
    if isinstance(error, UNKEEPABLE):
        return Refused(f"{path}: {error}; expected text that is valid Unicode, and integers of 64 bits")
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, UnicodeDecodeError):  # the driver cannot even say what is wrong: its words are of the file
        return StoreCorrupted(f"{path}: {error}; expected a sound SQLite file: restore it from a backup")
    if code is not None and code & 0xFF in _CORRUPT:
        return StoreCorrupted(f"{path}: {error}; expected a sound SQLite file: restore it from a backup")
    return StoreUnavailable(f"{path}: {error}; expected it to answer: look at its disk and at who else uses it")


def check_version(connection: sqlite3.Connection, path: Path, expected: int, *, upgraded: Sequence[int] = ()) -> int:
    """The layout version that the file carries; 0 where it is new. Versions in ``upgraded`` will do as well.

    Raises:
        StoreCorrupted: if another version of the layout wrote it.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, expected, *upgraded):
        remedy = "use the release that wrote it"
        if version < expected:
            remedy = "run `headway serve` or `headway import` once, which bring it up to date"
        raise StoreCorrupted(f"{path} has layout version {version}; expected {expected}: {remedy}")
    return version
