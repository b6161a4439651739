"""Deployment settings: everything that ``HEADWAY_*`` variables say to the service, read once and checked together."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from features.database_location import EXPECTED as DATABASE_EXPECTED
from features.database_location import VARIABLE as DATABASE
from features.database_location import DatabaseLocation, parse_database
from features.errors import ConfigurationError, Problem
from features.home import FileLock, lock_file, share_file
from features.online_location import EXPECTED as ONLINE_STORE_EXPECTED
from features.online_location import SQLITE, RedisLocation, parse_location
from features.online_location import VARIABLE as ONLINE_STORE
from serving.signing_rules import ALGORITHMS, key_location_problem

PREFIX: Final = "HEADWAY_"
TEST_PREFIX: Final = "HEADWAY_TEST_"
SHORTEST_KEY: Final = 16
MOST_WORKERS: Final = 64

Durability = Literal["full", "normal"]
FeatureReader = Literal["online", "feast"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The deployment of one service. The bootstrap key never shows in a ``repr``."""

    home: Path = Path("data")
    config: Path | None = None
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    bootstrap_key: str | None = field(default=None, repr=False)
    max_body_bytes: int = 1 << 20
    max_batch_bytes: int = 8 << 20
    max_batch_items: int = 5_000
    durability: Durability = "full"
    database: DatabaseLocation | None = None
    online_store: RedisLocation | None = None
    feature_reader: FeatureReader = "online"
    deadline_ms: int = 1_000
    threads: int = 16
    most_queued_jobs: int = 20
    jobs_kept_days: int = 7
    log_level: LogLevel = "info"
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_jwks: str | None = None
    oidc_roles: Path | None = None
    oidc_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    oidc_leeway_s: int = 30

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """The settings that ``env`` names, defaults for the rest; an empty variable counts as not set.

        Raises:
            ConfigurationError: with every unknown name and every bad value at once.
        """
        problems = _unknown_names(env)
        values: dict[str, Any] = {}
        for variable in VARIABLES:
            text = env.get(variable.name, "")
            if not text or variable.attribute is None:
                continue
            try:
                values[variable.attribute] = variable.parse(text)
            except ValueError:
                shown = "(hidden)" if variable.is_secret else repr(text)
                problems.append(Problem(variable.name, shown, variable.expected))
        problems += _missing_of_oidc(env)
        settings = cls(**values)
        told = {problem.path for problem in problems}
        problems += [problem for problem in settings._alone() if problem.path not in told]
        if problems:
            raise ConfigurationError("the environment cannot be used", problems)
        return settings

    def _alone(self) -> list[Problem]:
        """What keeps several worker processes from serving one home."""
        if self.workers == 1:
            return []
        why = f"HEADWAY_WORKERS is {self.workers}, and"
        problems = []
        if self.database is None:
            expected = f"postgresql://...: {why} the home's files of events and records have one writing process"
            problems.append(Problem(DATABASE, SQLITE, expected))
        if self.online_store is None:
            expected = f"redis://...: {why} the home's file of states has one writing process"
            problems.append(Problem(ONLINE_STORE, SQLITE, expected))
        if self.feature_reader != "online":
            expected = f"online: {why} what Feast writes could put a newer state back"
            problems.append(Problem("HEADWAY_FEATURE_READER", self.feature_reader, expected))
        return problems


def online_lock(settings: Settings) -> Callable[[Path], FileLock]:
    """What takes the right to write the online store: shared where nothing of the home has one writing process only."""
    is_shared = settings.database is not None and settings.online_store is not None
    return share_file if is_shared and settings.feature_reader == "online" else lock_file


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the environment.

    Attributes:
        attribute: the attribute of ``Settings`` it sets; None for one that is read elsewhere.
        expected: what it may be, for messages and the reference.
        default: its default, as text for the reference.
    """

    name: str
    attribute: str | None
    parse: Callable[[str], Any]
    expected: str
    default: str
    meaning: str
    is_secret: bool = False


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(text)
        return number

    return parse


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return parse


def _keys_location(text: str) -> str:
    if key_location_problem(text) is not None:
        raise ValueError(text)
    return text


def _algorithms(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(ALGORITHMS):
        raise ValueError(text)
    return names


def _address(text: str) -> str:
    return str(ip_address(text))


def _key(text: str) -> str:
    if len(text) < SHORTEST_KEY or not text.isascii() or any(character.isspace() for character in text):
        raise ValueError("too short")
    return text


VARIABLES: Final = (
    Variable("HEADWAY_HOME", "home", Path, "a folder", "data", "Where all state lives."),
    Variable(
        "HEADWAY_CONFIG",
        "config",
        Path,
        "a folder",
        "",
        "Folder of the configuration; where it is not set, the home's `config`, then the built-in journey.",
    ),
    Variable(
        "HEADWAY_HOST",
        "host",
        _address,
        "an IP address of this machine, 0.0.0.0 for all of them",
        "127.0.0.1",
        "Address to listen on.",
    ),
    Variable("HEADWAY_PORT", "port", _integer(1, 65_535), "a port from 1 to 65535", "3000", "Port to listen on."),
    Variable(
        "HEADWAY_WORKERS",
        "workers",
        _integer(1, MOST_WORKERS),
        f"a number from 1 to {MOST_WORKERS}; more than 1 needs a PostgreSQL and a Redis",
        "1",
        f"Worker processes. The home's own files have one that writes: more need `{DATABASE}` and `{ONLINE_STORE}`.",
    ),
    Variable(
        "HEADWAY_BOOTSTRAP_KEY",
        "bootstrap_key",
        _key,
        f"at least {SHORTEST_KEY} printable ASCII characters without spaces",
        "",
        "An API key with the role admin, for the first steps; source `bootstrap`.",
        is_secret=True,
    ),
    Variable(
        "HEADWAY_MAX_BODY_BYTES",
        "max_body_bytes",
        _integer(1_024, 1 << 26),
        "bytes from 1024 to 67108864",
        "1048576",
        "Largest body of a decision, after decompression.",
    ),
    Variable(
        "HEADWAY_MAX_BATCH_BYTES",
        "max_batch_bytes",
        _integer(1_024, 1 << 28),
        "bytes from 1024 to 268435456",
        "8388608",
        "Largest body of a batch of events or outcomes, after decompression.",
    ),
    Variable(
        "HEADWAY_MAX_BATCH_ITEMS",
        "max_batch_items",
        _integer(1, 100_000),
        "a number from 1 to 100000",
        "5000",
        "Most events or outcomes in one batch.",
    ),
    Variable(
        "HEADWAY_DURABILITY",
        "durability",
        _one_of("full", "normal"),
        "full or normal",
        "full",
        "`full`: an answer survives power loss. `normal`: it survives a crash of the process, and is faster.",
    ),
    Variable(
        DATABASE,
        "database",
        parse_database,
        DATABASE_EXPECTED,
        SQLITE,
        "Where events and records are kept: in the home's own SQLite files, or in a PostgreSQL database.",
        is_secret=True,
    ),
    Variable(
        ONLINE_STORE,
        "online_store",
        parse_location,
        ONLINE_STORE_EXPECTED,
        SQLITE,
        "Where states and profiles are kept for decisions: the home's own file, or a database of a Redis.",
        is_secret=True,
    ),
    Variable(
        "HEADWAY_FEATURE_READER",
        "feature_reader",
        _one_of("online", "feast"),
        "online or feast",
        "online",
        "`feast` reads features through Feast itself: slower, and a check on the own reader.",
    ),
    Variable(
        "HEADWAY_DEADLINE_MS",
        "deadline_ms",
        _integer(1, 60_000),
        "milliseconds from 1 to 60000",
        "1000",
        "Deadline of a decision whose request names none; who would have to wait for 0.3 of it is answered 429.",
    ),
    Variable(
        "HEADWAY_THREADS",
        "threads",
        _integer(1, 256),
        "a number from 1 to 256",
        "16",
        "Threads for requests that wait; 64 times as many may be waiting, the next is answered 429.",
    ),
    Variable(
        "HEADWAY_MOST_QUEUED_JOBS",
        "most_queued_jobs",
        _integer(1, 1_000),
        "a number from 1 to 1000",
        "20",
        "Durable jobs that may wait in the installation; the next is answered 429.",
    ),
    Variable(
        "HEADWAY_JOBS_KEPT_DAYS",
        "jobs_kept_days",
        _integer(1, 365),
        "days from 1 to 365",
        "7",
        "How long a finished job and the file of its result are kept.",
    ),
    Variable(
        "HEADWAY_LOG_LEVEL",
        "log_level",
        _one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "info",
        "Least severe log entries to write.",
    ),
    Variable(
        "HEADWAY_DRIFT_WEBHOOK_URL",
        None,
        str,
        "an https address; http on a loopback only",
        "",
        "Where `headway drift` sends a signed alert when its verdict changes; the service does not read it.",
        is_secret=True,
    ),
    Variable(
        "HEADWAY_DRIFT_WEBHOOK_SECRET",
        None,
        str,
        "whsec_ and the base64 of 24 to 64 bytes",
        "",
        "What those alerts are signed with.",
        is_secret=True,
    ),
    Variable(
        "HEADWAY_OIDC_ISSUER",
        "oidc_issuer",
        str,
        "the issuer as its tokens name it",
        "",
        "Whose tokens are accepted, beside API keys. Without it none are, and nothing is fetched.",
    ),
    Variable(
        "HEADWAY_OIDC_AUDIENCE",
        "oidc_audience",
        str,
        "a name or address",
        "",
        "What tokens for this service are made out to (`aud`).",
    ),
    Variable(
        "HEADWAY_OIDC_JWKS",
        "oidc_jwks",
        _keys_location,
        "a file, or an address that starts with https; http on a loopback only",
        "",
        "Where the issuer's signing keys are (JSON Web Key Set). A token never says where.",
    ),
    Variable(
        "HEADWAY_OIDC_ROLES",
        "oidc_roles",
        Path,
        "a YAML or JSON file",
        "",
        "Which groups of the directory have which roles.",
    ),
    Variable(
        "HEADWAY_OIDC_ALGORITHMS",
        "oidc_algorithms",
        _algorithms,
        f"some of {', '.join(ALGORITHMS)}, with commas between them",
        "RS256,ES256,EdDSA",
        "What tokens may be signed with.",
    ),
    Variable(
        "HEADWAY_OIDC_LEEWAY_S",
        "oidc_leeway_s",
        _integer(0, 300),
        "seconds from 0 to 300",
        "30",
        "How far the clocks of the issuer and this machine may be apart.",
    ),
    Variable("HEADWAY_DEBUG", None, str, "anything", "", "Where set, the command line shows tracebacks."),
    Variable(
        "HEADWAY_ERRORS",
        None,
        str,
        "json",
        "",
        "Where it is json, commands say an error as one line of JSON: `error` (its type), `message`, `problems`.",
    ),
)


def _missing_of_oidc(env: Mapping[str, str]) -> list[Problem]:
    """What tokens need too, where one of the four that they need is set."""
    needed = [f"HEADWAY_OIDC_{name}" for name in ("ISSUER", "AUDIENCE", "JWKS", "ROLES")]
    given = [name for name in needed if env.get(name)]
    expected = f"a value, since {given[0]} is set" if given else ""
    return [Problem(name, "", expected) for name in needed if given and name not in given]


def _unknown_names(env: Mapping[str, str]) -> list[Problem]:
    known = [variable.name for variable in VARIABLES]
    problems = []
    for name in sorted(env):
        if not name.startswith(PREFIX) or name.startswith(TEST_PREFIX) or name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        # The value stays out of the message: a misspelt name may carry the key.
        problems.append(Problem(name, "", f"a known variable; {hint}"))
    return problems


def reference() -> str:
    """The reference of all settings, as Markdown; ``docs/reference/settings.md`` is this text."""
    rows = [
        f"| `{variable.name}` | {f'`{variable.default}`' if variable.default else ''} | {variable.expected} "
        f"| {variable.meaning} |"
        for variable in VARIABLES
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "A deployment is set by environment variables. They are read once, at start, and checked together: an",
            "unknown `HEADWAY_` name or a bad value stops the start with a message that lists all of them. An empty",
            "variable counts as not set.",
            "",
            "| variable | default | accepted | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
