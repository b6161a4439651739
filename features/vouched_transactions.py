"""The transactions of an SQLite file whose head is kept: before a commit is answered, the head says what there is."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from features.errors import StoreUnavailable
from features.head_file import Head, HeadWriter
from features.sqlite_files import Durability, SqliteTransactions, store_errors
from features.store_head import WRITE, Vouched, checked_head, triggers
from features.write_ahead import sync_write_ahead

C = TypeVar("C")

SYNC_SECONDS: Final = 0.2
"""So much of the newest head a loss of power may take. Of the commits themselves it takes nothing."""


class VouchedTransactions(SqliteTransactions[C]):
    """The transactions of one file, with its head.

    A commit is on disk before its head is written, and its head is written before anybody is answered: what the death
    of the process leaves is a head that has everything answered, and never more than the file. It is synced a few times
    a second, in a thread of its own, and not with each commit, whose time that would double.

    Where ``NORMAL`` gives up commits at a loss of power, the head is written once the file was synced: at the end.

    Args:
        path: the file.
        driver: the connection, in autocommit mode and for any thread.
        connection: what jobs run their statements on.
        tables: the tables that are vouched for.
        durability: of the commits.
        clock: now, microseconds since the epoch.

    Raises:
        StoreCorrupted: the file lacks what its head vouches for.
        StoreUnavailable: the head cannot be written.
    """

    def __init__(
        self,
        path: Path,
        driver: sqlite3.Connection,
        connection: C,
        *,
        tables: Iterable[str],
        durability: Durability = "FULL",
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        super().__init__(path, driver, connection)
        self._clock = clock
        self._is_each_kept = durability == "FULL"
        tables = tuple(tables)
        with store_errors(path):
            self._head = checked_head(path, driver, tables, at=clock())
            driver.create_function("vouch", -1, self._vouch)
            for statement in triggers(driver, tables):
                driver.execute(statement)
        self._vouched = self._begun = self._marked = Vouched.of(self._head)
        self._changes = driver.total_changes
        self._kept = HeadWriter(path)
        self._failed: StoreUnavailable | None = None
        self._sync_failed: StoreUnavailable | None = None
        self._is_unsynced = threading.Event()
        self._is_closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name=f"head of {path.name}", daemon=True)
        self._syncing.start()

    def check_head(self) -> None:
        """Raise where what was answered is not vouched for; it is tried again.

        Raises:
            StoreUnavailable: the head could not be written, or not be synced.
        """
        if (failure := self._failed or self._sync_failed) is not None:
            raise StoreUnavailable(str(failure)) from failure

    def begin(self, keys: Collection[str]) -> None:
        """Begin a transaction."""
        super().begin(keys)
        self._begun = self._vouched
        self._changes = self._driver.total_changes

    def commit(self) -> None:
        """Keep what was done, then what there is now."""
        if self._driver.total_changes == self._changes:
            super().commit()
            if self._failed is not None:
                self._keep()
            return
        now = self._vouched
        head = Head(self._head.store_id, self._head.commits + 1, now.rows, now.digest, self._clock())
        self._driver.execute(WRITE, (head.commits, head.rows, head.digest, head.at))
        super().commit()
        self._head = head
        if self._is_each_kept:
            self._keep()

    def roll_back(self) -> None:
        """Undo what was done."""
        super().roll_back()
        self._vouched = self._begun

    def mark(self) -> None:
        """Remember this place."""
        super().mark()
        self._marked = self._vouched

    def undo_since_mark(self) -> None:
        """Undo what was done since."""
        super().undo_since_mark()
        self._vouched = self._marked

    def close(self) -> None:
        """Close the connection, and keep the head of what it leaves."""
        super().close()  # first: it writes the log of writes back and syncs the file, where nobody reads any more
        try:
            sync_write_ahead(self._path)
        except OSError:
            pass  # the head before holds
        else:
            self._keep()
        self._is_closed.set()
        self._is_unsynced.set()
        self._syncing.join()
        with suppress(StoreUnavailable):
            self._kept.sync()
        self._kept.close()

    def _vouch(self, sign: int, table: str, *values: Any) -> None:
        self._vouched = self._vouched.plus(table, values, sign)

    def _keep(self) -> None:
        # The commit is on disk, so whoever waits for it is answered; that its head is behind is told by `check_head`.
        try:
            self._kept.write(self._head)
        except StoreUnavailable as error:
            self._failed = error
        else:
            self._failed = None
            self._is_unsynced.set()

    def _sync(self) -> None:
        while not self._is_closed.is_set():
            self._is_unsynced.wait()
            self._is_unsynced.clear()
            try:
                self._kept.sync()
            except StoreUnavailable as error:
                self._sync_failed = error
                self._is_unsynced.set()
            else:
                self._sync_failed = None
            self._is_closed.wait(SYNC_SECONDS)
