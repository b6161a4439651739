"""Where a process may be told to kill itself: at the n-th time that a statement runs, or that a function is called.

The product has no hook for it: ``arm`` patches the driver, or the named function, of the process that it is called in.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

When = Literal["before", "during", "after"]
"""During: a moment after it began, while it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtStatement:
    """At a statement on a connection that writes.

    Attributes:
        file: name of the database file.
        statement: how the statement begins.
        count: the time at which, from 1.
        delay_seconds: of ``during``.
        checkpoint_pages: after so many pages each commit copies the log of writes back; None as the product does.
    """

    file: str
    statement: str
    when: When
    count: int = 1
    delay_seconds: float = 0.0005
    checkpoint_pages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtCall:
    """At a call of a function that others look up by its name.

    Attributes:
        target: ``module:name``, the name dotted within its module.
        count: the time at which, from 1.
    """

    target: str
    when: Literal["before", "after"]
    count: int = 1


KillPoint = AtStatement | AtCall


def arm(point: KillPoint) -> None:
    """Have this process kill itself, as ``kill -9`` does, when it comes to a point."""
    if isinstance(point, AtCall):
        _arm_call(point)
    else:
        sqlite3.connect = functools.partial(sqlite3.connect, factory=_armed(point))  # type: ignore[assignment]  # on purpose


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm_call(point: AtCall) -> None:
    module_name, _, path = point.target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *owners, name = path.split(".")
    for each in owners:
        owner = getattr(owner, each)
    function = getattr(owner, name)
    numbers = itertools.count(1)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        is_due = next(numbers) == point.count
        if is_due and point.when == "before":
            _die()
        result = function(*args, **kwargs)
        if is_due:
            _die()
        return result

    setattr(owner, name, called)


def _armed(point: AtStatement) -> type[sqlite3.Connection]:
    numbers = itertools.count(1)

    class Armed(sqlite3.Connection):
        """A connection that counts statements of the file that is meant."""

        def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(database, *args, **kwargs)
            self._is_meant = Path(str(database)).name == point.file  # a reader's name is a URI with `?mode=ro`
            if self._is_meant and point.checkpoint_pages is not None:
                super().execute(f"PRAGMA wal_autocheckpoint = {point.checkpoint_pages}")

        def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
            return self._counted(sql, lambda: sqlite3.Connection.execute(self, sql, *args))

        def executemany(self, sql: str, rows: Any, /) -> sqlite3.Cursor:
            return self._counted(sql, lambda: sqlite3.Connection.executemany(self, sql, list(rows)))

        def _counted(self, sql: str, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
            if not (self._is_meant and sql.lstrip().startswith(point.statement) and _is_due(numbers, point.count)):
                return run()
            if point.when == "before":
                _die()
            if point.when == "during":
                threading.Timer(point.delay_seconds, _die).start()
            cursor = run()
            if point.when == "during":
                threading.Event().wait()  # what was begun is over; nothing is answered any more
            _die()
            return cursor

    return Armed


def _is_due(numbers: Iterator[int], count: int) -> bool:
    return next(numbers) == count
