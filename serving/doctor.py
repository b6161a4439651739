"""The checks of an installation, in one table. They change nothing, and need no service stopped or running.

A check is a function of the installation that gives one or more findings; ``CHECKS`` names all of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from features.check_findings import Finding, failed, not_applicable, passed, warned
from features.database_location import VARIABLE as DATABASE
from features.database_location import DatabaseLocation
from features.errors import ConfigurationError, HeadwayError, StoreError, UnknownObject
from features.file_checks import compiled_code_folder, left_overs, privacy, running_user, secret_files, writable
from features.home import Home
from features.machine_checks import clock_behind, free_bytes, free_inodes, openmp_library, time_zone
from features.online_location import SQLITE, VARIABLE
from features.sqlite_checks import layout, one_writer, pages, sqlite_version
from features.sqlite_files import looked_up
from features.store_head import verify_head
from models.configuration import Configuration, load_configuration
from serving.keys import KeyFile
from serving.settings import Settings

_RESTORE: Final = "stop the service, and restore the home from a backup"
_NEWEST_EVENT: Final = "SELECT arrived_at FROM events ORDER BY position DESC LIMIT 1"
_NEWEST_DECISION: Final = "SELECT decided_at FROM decisions ORDER BY decision_id DESC LIMIT 1"
_NEWEST_CUSTOMERS: Final = (
    "SELECT DISTINCT customer_id FROM (SELECT customer_id FROM events ORDER BY position DESC LIMIT 2000) AS newest "
    "LIMIT 25"
)
"""Whose states are read both ways; more would find no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is checked.

    Attributes:
        settings: None where the environment cannot be used, for the reason in ``refused_settings``.
        configuration: None where it is not valid, for the reason in ``refused_configuration``.
        clock: now, microseconds since the epoch.
    """

    home: Home
    env: Mapping[str, str]
    settings: Settings | None
    refused_settings: ConfigurationError | None
    configuration: Configuration | None
    refused_configuration: HeadwayError | None
    clock: Callable[[], int]

    @classmethod
    def of(cls, env: Mapping[str, str], clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> Installation:
        """The installation that an environment describes."""
        settings, refused_settings, configuration, refused_configuration = None, None, None, None
        try:
            home = Home.from_environment(env)
        except ConfigurationError:  # told with the other settings
            home = Home.from_environment({**env, DATABASE: ""})
        try:
            settings = Settings.from_environment(env)
        except ConfigurationError as error:
            refused_settings = error
        try:
            configuration = load_configuration(home, env)
        except HeadwayError as error:
            refused_configuration = error
        return cls(
            home=home,
            env=env,
            settings=settings,
            refused_settings=refused_settings,
            configuration=configuration,
            refused_configuration=refused_configuration,
            clock=clock,
        )


Check = Callable[[Installation], Iterable[Finding]]


def examined(installation: Installation, checks: Sequence[Check]) -> list[Finding]:
    """What every check found, in order. One that breaks is a finding too, and stops no other."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(installation)
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            findings.append(
                failed(
                    check.__name__.replace("_", " "),
                    f"the check itself failed: {type(error).__name__}{f': {said}' if said else ''}",
                    expected="a finding",
                    remedy="look at what it names; if nothing is wrong there, please report it",
                )
            )
    return findings


def environment(installation: Installation) -> Iterable[Finding]:
    """Settings and configuration load."""
    remedy = "correct what it names"
    if installation.refused_settings is not None:
        problems = "; ".join(map(str, installation.refused_settings.problems))
        yield failed("settings", problems, expected="an environment without problems", remedy=remedy)
    else:
        yield passed("settings", "the environment can be used")
    if installation.configuration is None:
        lines = [line.strip() for line in str(installation.refused_configuration).splitlines()]
        yield failed("configuration", "; ".join(lines), expected="four valid files", remedy=remedy)
    else:
        found = installation.configuration
        yield passed("configuration", f"version {found.version}, {found.origin}")


def machine(installation: Installation) -> Iterable[Finding]:
    """Libraries, time zones, and the room on the disk."""
    yield openmp_library()
    if installation.configuration is not None:
        yield time_zone(installation.configuration.taxonomy.time_zone)
    yield free_bytes(installation.home)
    yield free_inodes(installation.home)


def files(installation: Installation) -> Iterable[Finding]:
    """Who may read and write the home, and what was left in it."""
    home = installation.home
    yield running_user(home)
    yield privacy(home)
    yield secret_files([KeyFile.of(home).path])
    yield keys(KeyFile.of(home), has_bootstrap_key=bool(installation.env.get("HEADWAY_BOOTSTRAP_KEY")))
    yield writable(home)
    yield compiled_code_folder(home, installation.env.get("NUMBA_CACHE_DIR"))
    yield left_overs(home, installation.clock())


def keys(kept: KeyFile, *, has_bootstrap_key: bool) -> Finding:
    """Whether anybody can call the service, and whether the first key is still in use."""
    name, remedy = "keys", "run `headway keys create --source NAME --role caller`"
    try:
        valid = [key for key in kept.keys().values() if key.revoked_at is None]
    except StoreError as error:
        return failed(name, str(error), expected="the keys that were made", remedy="restore the file from a backup")
    if not valid and not has_bootstrap_key:
        return warned(name, "there is none: nobody can call the service", expected="a key", remedy=remedy)
    if has_bootstrap_key:
        return warned(
            name,
            f"{len(valid)} valid, and HEADWAY_BOOTSTRAP_KEY may do everything",
            expected="a bootstrap key for the first steps only",
            remedy="make a key for each caller (`headway keys create`), then start without it",
        )
    return passed(name, f"{len(valid)} valid")


def stores(installation: Installation) -> Iterable[Finding]:
    """The files of events and records: SQLite itself, who writes them, their layout and their pages."""
    from features import event_log_tables
    from models import record_tables

    home = installation.home
    yield sqlite_version()
    if home.database is not None:
        yield not_applicable("events and records", f"kept in {home.database.masked}")
        return
    for name, path, version in (
        ("events", home.events_db, event_log_tables.LAYOUT.version),
        ("records", home.records_db, record_tables.LAYOUT.version),
    ):
        yield one_writer(name, path)
        yield layout(name, path, version)
        yield pages(name, path, remedy=_RESTORE)
        yield head(name, path)


def head(name: str, path: Path) -> Finding:
    """Whether a store's file holds all that its head, kept outside of it, vouches for; each row is looked at."""
    check = f"{name} head"
    try:
        found = verify_head(path)
    except UnknownObject:
        return not_applicable(check, f"there is no {path} yet")
    except StoreError as error:
        return failed(check, str(error), expected="all that was answered", remedy=_RESTORE)
    if found.problem:
        return failed(check, found.problem, expected="all that was answered", remedy=_RESTORE)
    if found.kept is None:
        return not_applicable(check, found.note)
    return passed(check, found.note or f"{found.kept.rows:,} rows in {found.kept.commits:,} commits, all there")


def database(installation: Installation) -> Iterable[Finding]:
    """The PostgreSQL that keeps events and records, where one does."""
    location, settings = installation.home.database, installation.settings
    if location is None:
        yield not_applicable("database", f"{DATABASE} names no PostgreSQL")
        return
    try:
        from features.postgres_checks import postgres_findings
    except ModuleNotFoundError as error:
        yield failed(
            "database",
            f"the package {error.name} is not installed",
            expected="what PostgreSQL needs",
            remedy="uv sync --locked --no-dev --extra server",
        )
        return
    yield from postgres_findings(
        location,
        durability="NORMAL" if settings is not None and settings.durability == "normal" else "FULL",
        workers=1 if settings is None else settings.workers,
        clock=installation.clock,
    )


def online_store(installation: Installation) -> Iterable[Finding]:
    """The file or the Redis that decisions read features from."""
    home, settings = installation.home, installation.settings
    if settings is None:
        yield not_applicable("online store", "the environment does not say which one there is")
        return
    if settings.online_store is None:
        yield not_applicable("redis", f"{VARIABLE} is {SQLITE}")
        yield one_writer("online store", home.online_db)
        remedy = f"stop the service, delete {home.online_db}, and run `headway features backfill`"
        yield pages("online store", home.online_db, remedy=remedy)
        return
    from features.redis_checks import redis_findings

    yield from redis_findings(settings.online_store, home.online_epoch, installation.clock)


def clock(installation: Installation) -> Iterable[Finding]:
    """The clock, against the newest moments of the stores."""
    home, newest = installation.home, {}
    for store, place, statement in (
        ("events", home.events_place, _NEWEST_EVENT),
        ("records", home.records_place, _NEWEST_DECISION),
    ):
        try:
            rows = _rows(place, statement)
        except (sqlite3.Error, StoreError):  # told by the checks of the stores
            continue
        if rows:
            newest[store] = int(rows[0][0])
    yield clock_behind(newest, installation.clock())


def _rows(place: Path | DatabaseLocation, query: str) -> list[tuple[Any, ...]]:
    """What a store answers to a query; nothing where there is none yet.

    Raises:
        sqlite3.Error: its file is damaged, or does not answer.
        StoreError: its database.
    """
    if isinstance(place, DatabaseLocation):
        from features.postgres_store import rows_of

        return rows_of(place, query)
    return looked_up(place, lambda connection: connection.execute(query).fetchall()) if place.is_file() else []


def bundles(installation: Installation) -> Iterable[Finding]:
    """Every champion and challenger."""
    if installation.configuration is None:
        yield not_applicable("bundles", "without a valid configuration there is nothing to hold them against")
        return
    from models.bundle_checks import bundle_findings
    from models.rulebooks import feature_sets_of

    yield from bundle_findings(
        installation.home.champion_file,
        installation.home.challenger_file,
        {journey_id: one.names for journey_id, one in feature_sets_of(installation.configuration).items()},
        {journey.id: journey.horizon for journey in installation.configuration.journeys.journeys},
    )


def libraries(installation: Installation) -> Iterable[Finding]:
    """What LightGBM and Feast themselves say, beside what serving computes and reads."""
    from models import library_checks  # seconds to import: only where it was asked for
    from models.registry import CHALLENGER, CHAMPION, read_champions
    from models.rulebooks import feature_sets_of

    home, configuration, settings = installation.home, installation.configuration, installation.settings
    for alias, file in ((CHAMPION, home.champion_file), (CHALLENGER, home.challenger_file)):
        for name, pointer in read_champions(file).items():
            yield library_checks.forest_equals_lightgbm(f"lightgbm {name}@{alias}", pointer)
    if configuration is None or settings is None:
        yield not_applicable("feast", "without valid settings and configuration nothing can be read")
        return
    customers = _newest_customers(home)
    yield library_checks.reader_equals_feast(
        home, settings.online_store, customers, feature_sets_of(configuration), configuration.taxonomy
    )


def _newest_customers(home: Home) -> list[str]:
    return [str(row[0]) for row in _rows(home.events_place, _NEWEST_CUSTOMERS)]


CHECKS: Final[tuple[Check, ...]] = (environment, machine, files, stores, database, online_store, clock, bundles)
DEEP_CHECKS: Final[tuple[Check, ...]] = (libraries,)
"""Those that import Feast and LightGBM."""
