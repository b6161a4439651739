"""Checks of the PostgreSQL database behind events and records: that it keeps what it answered, and has room for us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from features.check_findings import Finding, failed, passed, warned
from features.database_location import VARIABLE, DatabaseLocation
from features.errors import HeadwayError
from features.machine_checks import clock_skew
from features.postgres_store import READERS, check_database, rows_of
from features.sqlite_files import Durability

OLDEST_TESTED: Final = 15
"""The oldest major version that is tested with."""
STORES: Final = 2
CONNECTIONS: Final = STORES * (READERS + 1)
"""Of one process that serves, at most; each store has one that writes."""
SPARE_CONNECTIONS: Final = 2 * STORES
"""For commands beside it."""

_ASKED: Final = {
    "version": "current_setting('server_version')",
    "version_number": "current_setting('server_version_num')::int",
    "is_standby": "pg_is_in_recovery()",
    "is_superuser": "current_setting('is_superuser') = 'on'",
    "fsync": "current_setting('fsync')",
    "full_page_writes": "current_setting('full_page_writes')",
    "synchronous_commit": "current_setting('synchronous_commit')",
    "encoding": "pg_encoding_to_char(encoding)",
    "collation": "datcollate",
    "most_connections": "current_setting('max_connections')::int "
    "- current_setting('superuser_reserved_connections')::int",
    "others_connections": "(SELECT count(*) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND application_name <> 'headway')",
    "moment": "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
}
_STATEMENT: Final = f"SELECT {', '.join(_ASKED.values())} FROM pg_database WHERE datname = current_database()"  # noqa: S608  # our own words


def postgres_findings(
    location: DatabaseLocation, *, durability: Durability, workers: int, clock: Callable[[], int]
) -> list[Finding]:
    """What there is to say of a database; one finding alone where it does not answer.

    Args:
        location: the database.
        durability: as the service is told to write.
        workers: processes that serve.
        clock: now, microseconds since the epoch.
    """
    try:
        asked_at = clock()
        (row,) = rows_of(location, _STATEMENT, durability=durability)
        now = (asked_at + clock()) // 2
    except HeadwayError as error:
        return [
            failed(
                "database",
                str(error),
                expected="an answer; without one nothing is decided and no event is taken",
                remedy=f"start PostgreSQL, or correct {VARIABLE} (address, user, password, database)",
            )
        ]
    told = dict(zip(_ASKED, row, strict=True))
    return [
        passed("database", f"{location.masked} answers"),
        version(told),
        role(told),
        written_through(told),
        commits(told, durability),
        text(told),
        connections(told, workers),
        tables(lambda: check_database(location)),
        clock_skew("database", int(told["moment"]), now),
    ]


def version(told: Mapping[str, Any]) -> Finding:
    """Whether the server is one that was tested with."""
    found = f"PostgreSQL {told['version']}"
    if int(told["version_number"]) // 10_000 < OLDEST_TESTED:
        return warned("database version", found, expected=f"{OLDEST_TESTED} or newer", remedy="upgrade the server")
    return passed("database version", found)


def role(told: Mapping[str, Any]) -> Finding:
    """Whether the server takes writes, and from a user who may do no more than that."""
    name = "database role"
    if told["is_standby"]:
        return failed(
            name,
            "a standby, which takes no writes",
            expected="a primary",
            remedy=f"name the primary in {VARIABLE}",
        )
    if told["is_superuser"]:
        return warned(
            name,
            "a primary, used by a superuser",
            expected="a user who owns our database and nothing else",
            remedy=f"make a user for Headway, and name it in {VARIABLE}",
        )
    return passed(name, "a primary")


def written_through(told: Mapping[str, Any]) -> Finding:
    """Whether a commit reaches the disk whole."""
    name = "database writes"
    if told["fsync"] != "on":
        return failed(
            name,
            f"fsync is {told['fsync']}: a power cut may destroy the database",
            expected="on",
            remedy="set `fsync = on` in postgresql.conf and reload it",
        )
    if told["full_page_writes"] != "on":
        return warned(
            name,
            f"full_page_writes is {told['full_page_writes']}",
            expected="on, unless the file system never writes a part of a page",
            remedy="set `full_page_writes = on` in postgresql.conf and reload it",
        )
    return passed(name, "fsync and full_page_writes are on")


def commits(told: Mapping[str, Any], durability: Durability) -> Finding:
    """Whether an answered commit is on disk, in a session as the service opens it."""
    name, found = "database commits", str(told["synchronous_commit"])
    if durability != "FULL":
        return passed(name, f"synchronous_commit is {found}, as HEADWAY_DURABILITY=normal asks for")
    if found == "off":
        return failed(
            name,
            "synchronous_commit is off: an answered decision may be lost",
            expected="on",
            remedy="let nothing between Headway and the server (a pooler, say) change what sessions ask for",
        )
    return passed(name, f"synchronous_commit is {found}")


def text(told: Mapping[str, Any]) -> Finding:
    """Whether the database can keep every text; how it orders does not matter, since our columns say how."""
    name = "database text"
    if told["encoding"] != "UTF8":
        return failed(
            name,
            f"encoding {told['encoding']}",
            expected="UTF8",
            remedy="make a new database: createdb --encoding=UTF8 --template=template0",
        )
    return passed(name, f"encoding UTF8, collation {told['collation']}; our columns order by code point")


def connections(told: Mapping[str, Any], workers: int) -> Finding:
    """Whether there are enough connections for the service and for commands beside it."""
    name = "database connections"
    needed = CONNECTIONS * workers + SPARE_CONNECTIONS
    most, others = int(told["most_connections"]), int(told["others_connections"])
    found = f"{most} for all, {others} taken by others"
    if most - others < needed:
        return warned(
            name,
            found,
            expected=f"{needed} for Headway: {CONNECTIONS} a worker, {SPARE_CONNECTIONS} for commands",
            remedy="raise `max_connections` in postgresql.conf and restart it, or end what others hold open",
        )
    return passed(name, f"{found}; Headway needs {needed}")


def tables(check: Callable[[], object]) -> Finding:
    """Whether the tables are those of this release.

    Args:
        check: raises where they are not.
    """
    try:
        check()
    except HeadwayError as error:
        return failed(
            "database tables",
            str(error),
            expected="those of this release",
            remedy="run `headway database upgrade`; where a newer release made them, use that one",
        )
    return passed("database tables", "those of this release")
