"""One SQLite file as a store keeps it: an exclusive lock, one writing thread, and a read-only connection per thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from sqlalchemy import MetaData

from features.commit_figures import CommitFigures
from features.errors import StoreUnavailable
from features.group_commit import GroupCommit
from features.home import FileLock, lock_file
from features.no_writer import NoWriter
from features.sql_text import SqlConnection, SqliteConnection, open_layout
from features.sqlite_files import Durability, Readers, check_version
from features.store_head import check_is_there
from features.vouched_transactions import VouchedTransactions

T = TypeVar("T")

LEAST_FREE_BYTES: Final = 1 << 20
"""With less room on its disk a store does not count as one that can be written."""


class SqliteStore:
    """A file with the tables of ``metadata``; made with its folder where it is missing, unless ``readonly``.

    Args:
        path: the file.
        metadata: its tables.
        version: of their layout.
        facts: names of those that hold what was answered, whose rows are vouched for.
        readonly: read what another process writes; takes no lock and cannot write.
        durability: ``NORMAL`` gives up answered commits at a power loss, for speed.
        upgrades: the earlier versions that are brought to this one on opening, once their missing tables are made: the
            statements of each.

    Raises:
        HomeLocked: if another process writes the file.
        UnknownObject: if there is no such file and it was opened read-only.
        StoreUnavailable: if the file cannot be opened.
        StoreCorrupted: if it has another layout, is no SQLite file, or lacks what was answered.
    """

    def __init__(
        self,
        path: Path,
        metadata: MetaData,
        version: int,
        *,
        facts: Sequence[str],
        readonly: bool,
        durability: Durability,
        upgrades: Mapping[int, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.path = path
        self._version = version
        self._readers = Readers(path, SqliteConnection)
        self._lock: FileLock | None = None
        self._writer: GroupCommit[SqliteConnection] | NoWriter = NoWriter(str(path))
        self._transactions: VouchedTransactions[SqliteConnection] | None = None
        if readonly:
            with self._readers.reading() as connection:
                check_version(connection.driver, path, version)
            return

        def connect() -> VouchedTransactions[SqliteConnection]:
            check_is_there(path)
            driver = open_layout(path, metadata, version, durability=durability, upgrades=upgrades)
            try:
                self._transactions = VouchedTransactions(
                    path, driver, SqliteConnection(driver), tables=facts, durability=durability
                )
            except BaseException:
                driver.close()
                raise
            return self._transactions

        self._lock = lock_file(path)
        try:
            self._writer = GroupCommit(str(path), connect)
        except BaseException:
            self._lock.close()
            raise

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """This thread's read-only connection."""
        return self._readers.reading()

    def run(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> T:
        """What a job gives once its transaction is on disk; done in this thread where nobody is writing.

        Raises:
            StoreUnavailable: the store was opened read-only, or the transaction failed.
        """
        return self._writer.run(job, keys=keys)

    def submit(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """Run a job in the writing thread; the future resolves once its transaction is on disk.

        Raises:
            StoreUnavailable: the store was opened read-only.
        """
        return self._writer.submit(job, keys=keys)

    def leave(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``submit`` of a job that is begun with others at ``write_left``, or before.

        Raises:
            StoreUnavailable: the store was opened read-only.
        """
        return self._writer.leave(job, keys=keys)

    def write_left(self) -> None:
        """Have everything written that was left."""
        self._writer.write_left()

    def wait_for(self, keys: Collection[str]) -> None:
        """Nothing: one process writes, and who asks in it knows what it writes."""

    def check_writes(self, *, within_seconds: float = 2.0) -> None:
        """Write something that changes nothing: a disk that is full or read-only still reads.

        What was given back within the files has room for that even on a full disk, so the disk's own room is looked at.

        Raises:
            StoreUnavailable: it cannot be written, or not in time, or the disk has no room for more.
        """
        statement = f"PRAGMA user_version = {self._version}"
        try:
            self._writer.submit(lambda connection: connection.driver.execute(statement).close()).result(within_seconds)
        except TimeoutError as error:
            raise StoreUnavailable(f"{self.path} takes longer than {within_seconds:g} s to write") from error
        if self._transactions is not None:
            self._transactions.check_head()
        free = shutil.disk_usage(self.path.parent).free
        if free < LEAST_FREE_BYTES:
            raise StoreUnavailable(
                f"the disk of {self.path} has {free:,} bytes left, expected at least {LEAST_FREE_BYTES:,}: make room"
            )

    @property
    def commits(self) -> CommitFigures:
        """How the writing goes."""
        return self._writer.figures

    def close(self) -> None:
        """Finish what was accepted and release file and lock; closing twice is harmless."""
        self._readers.close()  # first, so that the writer is the last to close and leaves one whole file
        self._writer.close()
        if self._lock is not None:
            self._lock.close()
