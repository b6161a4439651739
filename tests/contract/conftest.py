"""Empty places for the stores that are tested alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.database_location import DatabaseLocation
from features.sql_store import Place
from tests.postgres_servers import empty, postgres_database

MEMORY = "memory"
STORES = (MEMORY, "sqlite", "postgres")


@pytest.fixture(scope="session")
def database() -> Iterator[DatabaseLocation]:
    """A PostgreSQL database with our tables."""
    with postgres_database() as location:
        yield location


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place | None:
    """An empty place of each kind; None for memory."""
    if request.param == MEMORY:
        return None
    if request.param == "sqlite":
        return tmp_path / "state" / "store.db"
    location: DatabaseLocation = request.getfixturevalue("database")
    empty(location)
    return location
