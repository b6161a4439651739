"""Whose rows a Redis holds, and since when: the epoch that every read and write asks for in its own round trip.

A row says how far into the event log it was folded, which shows one that is missing or old. It cannot show a row that
was folded from *another* log: of a second installation on the same database, or of this home before it was made anew.
Nor a database set back to a copy from before everything was written anew. So a home keeps its epoch in a file, the text
``<home>.<number>``, and the Redis holds the same as long as its rows are this home's; each clearing raises the number.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from features.durable_files import made_durably, replace_durably
from features.errors import HomeLocked, Refused, StoreUnavailable
from features.home import lock_file

_CLEARING: Final = ":clearing"
_TEXT: Final = re.compile(r"([0-9a-f]{16})\.(\d{1,18})")


class EpochCell(Protocol):
    """The place in the Redis where an epoch stands."""

    def value(self) -> str | None:
        """What stands there; None where nothing does."""

    def replace(self, expected: str | None, new: str) -> bool:
        """Put ``new`` where ``expected`` stands, at once; False where something else does."""


class Epoch:
    """The epoch of one home. Several processes of the home may have one each: they agree on it by way of the file.

    Args:
        path: the file that keeps it; made where it is missing.
        cell: the place in the Redis.
        forget_rows: removes every row from the Redis.
        where: the Redis, for messages, without its password.

    Raises:
        StoreUnavailable: the file cannot be read or written.
    """

    def __init__(self, path: Path, cell: EpochCell, forget_rows: Callable[[], None], where: str) -> None:
        self._path = path
        self._cell = cell
        self._forget_rows = forget_rows
        self._where = where
        self._guard = threading.Lock()
        self._home, self._number = _kept(path)

    @property
    def text(self) -> str:
        """What the Redis has to hold for its rows to be this home's."""
        return f"{self._home}.{self._number}"

    def holds(self) -> bool:
        """Whether the Redis holds this epoch."""
        return self._cell.value() == self.text or (self.is_renewed() and self._cell.value() == self.text)

    def is_renewed(self) -> bool:
        """Whether another process of the home gave the Redis a new epoch, by which this one goes from now on.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        with self._guard, suppress(Refused):  # what is no epoch is said by who wants to write one
            known = self.text
            self._home, self._number = _kept(self._path)
            return self.text != known
        return False

    def claim(self) -> None:
        """Make the Redis this home's where it is nobody's: emptied, set back to before a clearing, or new.

        Raises:
            Refused: another home keeps it.
            StoreUnavailable: it does not answer, or another process of this home is clearing it.
        """
        with self._guard, self._alone():
            found = self.check()
            if found != self.text:
                self._take(found)

    def check(self) -> str | None:
        """What stands in the Redis: an epoch of this home, or None.

        Raises:
            Refused: another home keeps it.
            StoreUnavailable: it does not answer.
        """
        found = self._cell.value()
        if found is not None and not self._is_ours(found):
            raise Refused(
                f"{self._where} holds the states of another home ({found[:40]!r}), expected those of this one or "
                f"none: name another database in HEADWAY_ONLINE_STORE, or empty this one and fill it for this "
                f"home with `headway features backfill --take-over`"
            )
        return found

    def renew(self) -> None:
        """Forget every row, whosever it is, under a new epoch.

        Raises:
            StoreUnavailable: the Redis does not answer, or another process of this home is clearing it.
        """
        with self._guard, self._alone():
            self._take(self._cell.value())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process of the home gives the Redis an epoch meanwhile; what the last one gave is known."""
        try:
            lock = lock_file(self._path)
        except HomeLocked as error:
            raise StoreUnavailable(f"{self._where} is being cleared by another process: try again shortly") from error
        with lock:
            self._home, self._number = _kept(self._path)
            yield

    def _is_ours(self, found: str) -> bool:
        return found.split(".", 1)[0] == self._home

    def _take(self, found: str | None) -> None:
        """Forget all rows while nobody trusts them: neither those who know the old epoch nor those who know the new."""
        number = self._number + 1
        new = f"{self._home}.{number}"
        _keep(self._path, new)
        if not self._cell.replace(found, new + _CLEARING):
            raise StoreUnavailable(f"{self._where} was taken by another home meanwhile; expected it free: try again")
        self._forget_rows()
        if not self._cell.replace(new + _CLEARING, new):
            raise StoreUnavailable(f"{self._where} was emptied or taken while it was cleared: try again")
        self._number = number


def set_back(path: Path, *, at: int) -> None:
    """Give a home that was set back to an older log an epoch that no Redis holds, so that its rows are made anew.

    Args:
        path: the file; where there is none nothing happens.
        at: now, microseconds since the epoch: far above the number of clearings that there were or will be.

    Raises:
        Refused: the file holds no epoch.
        StoreUnavailable: it cannot be written.
    """
    if path.exists():
        home, number = _kept(path)
        _keep(path, f"{home}.{max(number + 1, at)}")


def kept_epoch(path: Path) -> str | None:
    """The epoch that a home keeps; None where it has never used a Redis.

    Raises:
        StoreUnavailable: the file cannot be read.
    """
    try:
        return path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"cannot read {path}: {error.strerror}; expected the epoch of this home")


def _kept(path: Path) -> tuple[str, int]:
    text = kept_epoch(path)
    if text is None:
        text = _made(path)
    found = _TEXT.fullmatch(text)
    if found is None:
        raise Refused(
            f"{path} holds {text[:40]!r}, expected an epoch: remove the file, and run `headway features backfill`"
        )
    return found[1], int(found[2])


def _made(path: Path) -> str:
    """The text of a new file; of two processes that make one, both go by the one that was first."""
    try:
        return made_durably(path, f"{secrets.token_hex(8)}.0".encode()).decode("utf-8", "replace").strip()
    except OSError as error:
        raise _unreadable(path, error) from error


def _keep(path: Path, text: str) -> None:
    """Replace the file, durably: the Redis must never know a later epoch than the home."""
    try:
        replace_durably(path, text.encode())
    except OSError as error:
        raise StoreUnavailable(f"cannot write {path}: {error.strerror}; expected a writable folder") from error
