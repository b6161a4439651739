"""DuckDB in memory, as every part of the product opens it: it never draws on the terminal or into a captured output."""

from __future__ import annotations

import duckdb


def connected() -> duckdb.DuckDBPyConnection:
    """A connection to a database of its own, in memory; close it, or use it as a context."""
    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    return connection
