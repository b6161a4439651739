"""Where events and records are kept: in the home's own files, or in a PostgreSQL database, shown without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from features.errors import ConfigurationError, Problem

VARIABLE: Final = "HEADWAY_DATABASE"
SQLITE: Final = "sqlite"
EXPECTED: Final = "sqlite, or postgresql://[user[:password]@]host[:port]/database"
TLS_OPTIONS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
"""The only options that may follow a ``?``; timeouts and settings of the session are ours."""


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """One database of one PostgreSQL server. The password shows neither in a ``repr`` nor in ``masked``."""

    url: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> DatabaseLocation:
        """The location that a URL names.

        Raises:
            ValueError: it is no URL of a PostgreSQL database that can be used here.
        """
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        is_usable = (
            parts.scheme in ("postgresql", "postgres")
            and bool(parts.hostname)
            and bool(parts.path.removeprefix("/"))
            and not parts.fragment
            and all(name in TLS_OPTIONS for name, _ in options)
        )
        if not is_usable or parts.port == 0:
            raise ValueError("no usable URL of a PostgreSQL database")
        return cls(url)

    def __str__(self) -> str:
        return self.masked

    @property
    def masked(self) -> str:
        """The URL without user, password and options."""
        parts = urlsplit(self.url)
        who = "***@" if parts.username or parts.password else ""
        return f"postgresql://{who}{parts.hostname}:{parts.port or 5432}{parts.path}"


def parse_database(text: str) -> DatabaseLocation | None:
    """What a value of ``HEADWAY_DATABASE`` names: a database, or None for the home's own SQLite files.

    Raises:
        ValueError: it names neither.
    """
    return None if text == SQLITE else DatabaseLocation.of(text)


def database_location(env: Mapping[str, str]) -> DatabaseLocation | None:
    """The database that the environment names.

    Raises:
        ConfigurationError: it names none that there is. The value is not shown: it may carry a password.
    """
    try:
        return parse_database(env.get(VARIABLE) or SQLITE)
    except ValueError as error:
        problem = Problem(VARIABLE, "(hidden)", EXPECTED)
        raise ConfigurationError("the environment cannot be used", [problem]) from error
