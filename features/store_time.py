"""What time it is for a store: of a server its own clock, which all of its clients share; else the caller's."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement

from features.sql_text import WHOLE, SqlConnection, Statement, statement


class _Moment(ColumnElement[int]):
    """Microseconds since the epoch, as the statement runs."""

    inherit_cache = True
    type = WHOLE


@compiles(_Moment, "sqlite")
def _given(element: _Moment, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(bindparam("now", type_=WHOLE), **more)


@compiles(_Moment, "postgresql")
def _of_the_server(element: _Moment, compiler: SQLCompiler, **more: Any) -> str:
    # Not `now()`: that is when the transaction began, and it may have waited for locks since.
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


_NOW: Final[Statement] = statement(select(_Moment()))


def store_time(connection: SqlConnection, *, now: int) -> int:
    """The present moment, microseconds since the epoch.

    Args:
        connection: in a transaction or not.
        now: the caller's own clock, which counts where the store has none.
    """
    return int(connection.execute(_NOW, {"now": now}).fetchone()[0])
