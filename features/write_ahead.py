"""The write-ahead log of an SQLite file: how long it is, and what keeps it from growing without end.

SQLite begins it anew once all of it was written back and nobody reads from it; whoever reads for long keeps all that
was written since. It stays as long as it ever was, unless somebody cuts it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

CUT_ABOVE: Final = 16 << 20
"""Bytes; four times what SQLite lets come together where nobody reads for long."""

NOTED_ABOVE: Final = 64 << 20
"""Bytes; so much comes together in some minutes of a busy service only while somebody reads from before."""

_BETWEEN_SECONDS: Final = 1.0


def write_ahead_path(path: Path) -> Path:
    """Where the write-ahead log of a file is."""
    return path.with_name(path.name + "-wal")


def write_ahead_bytes(path: Path) -> int:
    """How long the write-ahead log of a file is; 0 where there is none."""
    try:
        return write_ahead_path(path).stat().st_size
    except OSError:
        return 0


def sync_write_ahead(path: Path) -> None:
    """Have what is in the write-ahead log of a file survive a loss of power, where there is one.

    Raises:
        OSError: the disk does not take it.
    """
    with suppress(FileNotFoundError), write_ahead_path(path).open("rb") as log:
        os.fsync(log.fileno())


class WriteAheadLog:
    """Cuts the write-ahead log of a file that one connection writes.

    Args:
        path: the file.
        driver: the connection.
        busy_timeout_ms: how long the connection waits for others, in any other statement.
        cut_above: bytes.
        timer: a monotonic clock, seconds.
    """

    def __init__(
        self,
        path: Path,
        driver: sqlite3.Connection,
        *,
        busy_timeout_ms: int,
        cut_above: int = CUT_ABOVE,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._driver = driver
        self._busy_timeout_ms = busy_timeout_ms
        self._cut_above = cut_above
        self._timer = timer
        self._tried_at = -_BETWEEN_SECONDS

    def look(self) -> None:
        """Write a long log back and cut it, where nobody reads from it; waits for nobody, and is called by the writer.

        What it cannot do it tries again a second later at the earliest: nothing that was committed hangs on it.
        """
        if write_ahead_bytes(self._path) <= self._cut_above or self._timer() - self._tried_at < _BETWEEN_SECONDS:
            return
        self._tried_at = self._timer()
        with suppress(sqlite3.Error):
            self._driver.execute("PRAGMA busy_timeout = 0").close()
            self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(sqlite3.Error):
            self._driver.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}").close()
