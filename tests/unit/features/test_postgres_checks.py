"""Checks of a PostgreSQL: that it keeps what it answered, has our tables, and room for our connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from features import postgres_checks
from features.check_findings import Finding
from features.database_location import DatabaseLocation
from features.postgres_checks import postgres_findings
from tests.postgres_servers import postgres_database

SOUND: dict[str, Any] = {
    "version": "17.2",
    "version_number": 170_002,
    "is_standby": False,
    "is_superuser": False,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "encoding": "UTF8",
    "collation": "C.UTF-8",
    "most_connections": 97,
    "others_connections": 3,
}


def now() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


def found(location: DatabaseLocation, **changes: Any) -> dict[str, Finding]:
    """The findings by their names."""
    asked: dict[str, Any] = {"durability": "FULL", "workers": 1, "clock": now, **changes}
    return {one.name: one for one in postgres_findings(location, **asked)}


@pytest.fixture
def database() -> Iterator[DatabaseLocation]:
    """A real database with our tables."""
    with postgres_database() as location:
        yield location


def test_a_real_database_is_asked_everything(database: DatabaseLocation) -> None:
    """In one question; the tests use a superuser, which is told."""
    findings = found(database)

    names = ("database", *(f"database {each}" for each in ("version", "role", "writes", "commits", "text")))
    assert tuple(findings) == (*names, "database connections", "database tables", "database clock")
    assert findings["database role"].found.startswith("a primary")
    for name in ("database", "database commits", "database text", "database tables", "database clock"):
        assert findings[name].status == "ok"


def test_tables_of_another_revision_fail(database: DatabaseLocation) -> None:
    """Or none at all; the remedy is the migration."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    other = found(database)["database tables"]
    with postgres_database(tables=False) as empty:
        none = found(empty)["database tables"]

    assert (other.status, none.status) == ("failed", "failed")
    assert "is at revision 0000" in other.found
    assert "has no tables" in none.found
    assert "headway database upgrade" in none.remedy


def test_a_clock_that_differs_is_told(database: DatabaseLocation) -> None:
    """Ours is an hour behind."""
    assert found(database, clock=lambda: now() - 3_600_000_000)["database clock"].status == "warning"


def test_less_durable_commits_are_as_they_were_asked_for(database: DatabaseLocation) -> None:
    """By name of the setting."""
    finding = found(database, durability="NORMAL")["database commits"]

    assert finding.found == "synchronous_commit is off, as HEADWAY_DURABILITY=normal asks for"


def test_a_database_that_does_not_answer_fails() -> None:
    """Nothing else is said of it, and its password is not."""
    (finding,) = found(DatabaseLocation.of("postgresql://app:s3cret@127.0.0.1:1/x")).values()

    assert (finding.name, finding.status) == ("database", "failed")
    assert "s3cret" not in str(finding)


@pytest.mark.parametrize(
    ("check", "changes", "status"),
    [
        (postgres_checks.version, {}, "ok"),
        (postgres_checks.version, {"version_number": 140_020}, "warning"),
        (postgres_checks.role, {}, "ok"),
        (postgres_checks.role, {"is_superuser": True}, "warning"),
        (postgres_checks.role, {"is_standby": True}, "failed"),
        (postgres_checks.written_through, {}, "ok"),
        (postgres_checks.written_through, {"full_page_writes": "off"}, "warning"),
        (postgres_checks.written_through, {"fsync": "off"}, "failed"),
        (lambda told: postgres_checks.commits(told, "FULL"), {"synchronous_commit": "off"}, "failed"),
        (lambda told: postgres_checks.commits(told, "NORMAL"), {"synchronous_commit": "off"}, "ok"),
        (postgres_checks.text, {}, "ok"),
        (postgres_checks.text, {"encoding": "LATIN1"}, "failed"),
        (lambda told: postgres_checks.connections(told, 1), {"most_connections": 25}, "ok"),
        (lambda told: postgres_checks.connections(told, 1), {"most_connections": 24}, "warning"),
        (lambda told: postgres_checks.connections(told, 6), {}, "warning"),
    ],
)
def test_what_a_server_tells_of_itself_is_judged(
    check: Callable[[dict[str, Any]], Finding], changes: dict[str, Any], status: str
) -> None:
    """By what Headway needs of it: 18 connections a worker, and 4 beside."""
    assert check({**SOUND, **changes}).status == status
