"""Calls that fail for the n-th time that they are made, of the system or a driver, where no store can stand between."""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def failing_calls(owner: Any, name: str, fails: Callable[[int], BaseException | None]) -> Iterator[None]:
    """Inside, calls of an attribute of a module or class raise what ``fails`` gives for their number, from 1 on.

    Args:
        owner: the module or class.
        name: the attribute.
        fails: told the number of a call: what it raises, or None where it is to work as always.
    """
    function = getattr(owner, name)
    numbers = itertools.count(1)

    def called(*args: Any, **kwargs: Any) -> Any:
        if (error := fails(next(numbers))) is not None:
            raise error
        return function(*args, **kwargs)

    setattr(owner, name, called)
    try:
        yield
    finally:
        setattr(owner, name, function)


@contextmanager
def failing_statements(file: str, statement: str, fails: Callable[[int], Exception | None]) -> Iterator[None]:
    """Inside, connections that are opened to write a database file fail at statements, instead of running them.

    Args:
        file: the file's name.
        statement: how the statement begins.
        fails: told the number of such a statement, from 1: what it raises, or None where it is to run.
    """
    numbers = itertools.count(1)
    connect = sqlite3.connect

    class Failing(sqlite3.Connection):
        """A connection that fails where it is told to."""

        def __init__(self, database: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(database, *args, **kwargs)
            self._is_meant = Path(str(database)).name == file

        def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
            self._fail(sql)
            return super().execute(sql, *args)

        def executemany(self, sql: str, rows: Any, /) -> sqlite3.Cursor:
            self._fail(sql)
            return super().executemany(sql, rows)

        def _fail(self, sql: str) -> None:
            if self._is_meant and sql.startswith(statement) and (error := fails(next(numbers))) is not None:
                raise error

    sqlite3.connect = functools.partial(connect, factory=Failing)  # type: ignore[assignment]  # on purpose
    try:
        yield
    finally:
        sqlite3.connect = connect
