"""Which online store an installation has: its own file, or a Redis at a checked URL that is shown without secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from features.errors import ConfigurationError, Problem

VARIABLE: Final = "HEADWAY_ONLINE_STORE"
SQLITE: Final = "sqlite"
EXPECTED: Final = "sqlite, or redis://[user:password@]host[:port][/database], or rediss:// for TLS"
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
"""The only options that may follow a ``?``; timeouts and pools are ours."""

FEAST_TIMEOUT_SECONDS: Final = 1.0
"""Feast's own client would wait for ever."""


@dataclass(frozen=True, slots=True)
class RedisLocation:
    """One database of one Redis. The password shows neither in a ``repr`` nor in ``masked``."""

    url: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> RedisLocation:
        """The location that a URL names.

        Raises:
            ValueError: it is no URL of a Redis that can be used here.
        """
        parts = urlsplit(url)
        database = parts.path.removeprefix("/") or "0"
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        is_usable = (
            parts.scheme in ("redis", "rediss")
            and bool(parts.hostname)
            and ":" not in (parts.hostname or "")  # Feast takes host and port apart at the first colon
            and database.isdecimal()
            and not parts.fragment
            and all(name in TLS_OPTIONS and parts.scheme == "rediss" for name, _ in options)
        )
        if not is_usable or parts.port == 0:
            raise ValueError("no usable URL of a Redis")
        return cls(url)

    @property
    def masked(self) -> str:
        """The URL without user, password and options."""
        parts = urlsplit(self.url)
        who = "***@" if parts.username or parts.password else ""
        return f"{parts.scheme}://{who}{parts.hostname}:{parts.port or 6379}/{parts.path.removeprefix('/') or 0}"

    @property
    def feast_config(self) -> dict[str, Any]:
        """The online store of Feast's configuration.

        Feast drops, without a word, a write whose time is not newer than the row's unless told not to look: a state
        rebuilt after a late event would vanish.
        """
        return {"type": "redis", "connection_string": self._connection_string(), "skip_dedup": True}

    def _connection_string(self) -> str:
        parts = urlsplit(self.url)
        options: dict[str, str | int | float | bool] = {
            "db": int(parts.path.removeprefix("/") or 0),
            "socket_timeout": FEAST_TIMEOUT_SECONDS,
            "socket_connect_timeout": FEAST_TIMEOUT_SECONDS,
        }
        if parts.username:
            options["username"] = unquote(parts.username)
        if parts.password:
            options["password"] = unquote(parts.password)
        if parts.scheme == "rediss":
            options["ssl"] = True
        for name, value in parse_qsl(parts.query):
            options[name] = value.lower() in ("1", "true", "yes") if name == "ssl_check_hostname" else value
        # Feast splits at commas and then reads JSON: so a comma of a password must not look like one.
        pairs = (f"{name}={json.dumps(value).replace(',', chr(92) + 'u002c')}" for name, value in options.items())
        return ",".join((f"{parts.hostname}:{parts.port or 6379}", *pairs))


def parse_location(text: str) -> RedisLocation | None:
    """What a value of ``HEADWAY_ONLINE_STORE`` names: a Redis, or None for the home's own SQLite file.

    Raises:
        ValueError: it names neither.
    """
    return None if text == SQLITE else RedisLocation.of(text)


def online_location(env: Mapping[str, str]) -> RedisLocation | None:
    """The online store that the environment names.

    Raises:
        ConfigurationError: it names none that there is. The value is not shown: it may carry a password.
    """
    try:
        return parse_location(env.get(VARIABLE) or SQLITE)
    except ValueError as error:
        problem = Problem(VARIABLE, "(hidden)", EXPECTED)
        raise ConfigurationError("the environment cannot be used", [problem]) from error
