"""API keys: who is calling, as which source, in which roles.

A key is shown once, when it is made; kept is its SHA-256, which is enough for 256 bits of chance. The file is small
and read again when it changes, so that a revoked key stops working without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from features.errors import InvalidInput, Problem, StoreCorrupted, StoreUnavailable, UnknownObject
from features.events import dump_timestamp, shown
from features.home import Home, lock_file
from serving.key_limits import KeyLimit
from serving.problems import Forbidden, Unauthenticated

Role = Literal["caller", "agent", "marketer", "analyst", "admin", "privacy"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

BOOTSTRAP_SOURCE: Final = "bootstrap"
KEY_PREFIX: Final = "hw_"
FORMAT: Final = 1
_SOURCE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_RESERVED_SOURCES: Final = frozenset({BOOTSTRAP_SOURCE})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the source of its events and decisions, what it may do, and how often, None for any number."""

    key_id: str
    source: str
    roles: frozenset[Role]
    limit: KeyLimit | None = None

    def require(self, *roles: Role) -> None:
        """Pass where one of ``roles`` is held; ``admin`` may do everything.

        Raises:
            Forbidden: none of them is.
        """
        if "admin" not in self.roles and self.roles.isdisjoint(roles):
            raise Forbidden(
                f"key {self.key_id} has the roles {', '.join(sorted(self.roles))}; expected one of "
                f"{', '.join(sorted({*roles, 'admin'}))}: use a key with one of them"
            )


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key as it is kept: never the key itself."""

    key_id: str
    sha256: str
    source: str
    roles: tuple[Role, ...]
    created_at: str
    revoked_at: str | None = None
    limit: KeyLimit | None = None

    @property
    def principal(self) -> Principal:
        """Who calls with it."""
        return Principal(self.key_id, self.source, frozenset(self.roles), self.limit)


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int = FORMAT
    keys: tuple[StoredKey, ...] = ()


class KeyFile:
    """The keys of one installation, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, StoredKey] = {}

    @classmethod
    def of(cls, home: Home) -> KeyFile:
        """The keys of a home."""
        return cls(home.state / "keys.json")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def keys(self) -> dict[str, StoredKey]:
        """All keys by id, revoked ones too; read again where the file has changed.

        Raises:
            StoreCorrupted: the file is no key file.
            StoreUnavailable: it cannot be read.
        """
        stamp = self._file_stamp()
        if stamp != self._stamp:
            self._keys = {} if stamp is None else self._read()
            self._stamp = stamp
        return self._keys

    def create(
        self, *, source: str, roles: Iterable[str], secret: bytes, at: int, limit: KeyLimit | None = None
    ) -> str:
        """Make a key and give it; it cannot be had again.

        Args:
            source: the source of all events and decisions sent with it.
            roles: what it may do.
            secret: 36 random bytes.
            at: now, microseconds since the epoch.
            limit: how often it may ask; as often as it likes where there is none.

        Raises:
            InvalidInput: the source or a role is not valid.
        """
        chosen = _checked(source, tuple(roles))
        key_id = secret[:4].hex()
        key = f"{KEY_PREFIX}{key_id}_{secret[4:36].hex()}"
        stored = StoredKey(
            key_id=key_id,
            sha256=_digest(key),
            source=source,
            roles=chosen,
            created_at=dump_timestamp(at),
            limit=limit,
        )
        with lock_file(self._path):
            self._write([*self.keys().values(), stored])
        return key

    def revoke(self, key_id: str, *, at: int) -> StoredKey:
        """Make a key invalid from now on; revoking it again changes nothing.

        Raises:
            UnknownObject: there is no such key.
        """
        return self._changed(
            key_id,
            lambda key: key if key.revoked_at else msgspec.structs.replace(key, revoked_at=dump_timestamp(at)),
        )

    def limit(self, key_id: str, limit: KeyLimit | None) -> StoredKey:
        """Change how often a key may ask, from now on.

        Raises:
            UnknownObject: there is no such key.
        """
        return self._changed(key_id, lambda key: msgspec.structs.replace(key, limit=limit))

    def _changed(self, key_id: str, change: Callable[[StoredKey], StoredKey]) -> StoredKey:
        with lock_file(self._path):
            keys = self.keys()
            if key_id not in keys:
                raise UnknownObject(
                    f"no key {key_id}; expected one of {', '.join(keys) or 'none: there are no keys'}: "
                    "see `headway keys list`"
                )
            key = change(keys[key_id])
            if key != keys[key_id]:
                self._write([{**keys, key_id: key}[other] for other in keys])
        return key

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self._path}: {error.strerror}") from error
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def _read(self) -> dict[str, StoredKey]:
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_KeyFile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreCorrupted(f"{self._path} is no key file: {error}; restore it, or make the keys again") from error
        except OSError as error:
            raise StoreUnavailable(f"cannot read {self._path}: {error.strerror}") from error
        return {key.key_id: key for key in content.keys}

    def _write(self, keys: Iterable[StoredKey]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_KeyFile(keys=tuple(keys))), indent=1)
        temporary = self._path.with_suffix(".tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        self._stamp = None


class Authenticator:
    """Tells who is calling from the ``Authorization`` header."""

    def __init__(self, keys: KeyFile, bootstrap_key: str | None) -> None:
        self._keys = keys
        self._bootstrap_digest = None if bootstrap_key is None else _digest(bootstrap_key)

    def principal(self, authorization: str | None) -> Principal:
        """Who is calling.

        Raises:
            Unauthenticated: the header is missing or not a bearer token, or the key is unknown or revoked.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated("the request carries no API key; expected `Authorization: Bearer <key>`")
        return self._holder_of(key.strip())

    def tracking_principal(self, authorization: str | None) -> Principal:
        """Who is calling, where a key may also come as tracking SDKs send it: Basic, as the user, without a password.

        Raises:
            Unauthenticated: as ``principal``, and where what is encoded is no user without a password.
        """
        scheme, _, encoded = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return self.principal(authorization)
        try:
            user, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
        except ValueError:  # no base64, or no UTF-8
            user, colon, password = "", "", ""
        if not user or not colon or password:
            raise Unauthenticated("the request carries no API key; expected it as the user of Basic, with no password")
        return self._holder_of(user)

    def _holder_of(self, key: str) -> Principal:
        digest = _digest(key)
        if self._bootstrap_digest is not None and hmac.compare_digest(digest, self._bootstrap_digest):
            return Principal(BOOTSTRAP_SOURCE, BOOTSTRAP_SOURCE, frozenset({"admin"}))
        stored = self._keys.keys().get(key.removeprefix(KEY_PREFIX).partition("_")[0])
        if stored is None or not hmac.compare_digest(digest, stored.sha256) or stored.revoked_at is not None:
            raise Unauthenticated(
                "the API key is unknown or revoked; expected one made with `headway keys create`, or the bootstrap key"
            )
        return stored.principal


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _checked(source: str, roles: tuple[str, ...]) -> tuple[Role, ...]:
    problems = []
    if not _SOURCE.fullmatch(source) or source in _RESERVED_SOURCES:
        problems.append(
            Problem("source", shown(source), "lower-case letters, digits, `_`, `.`, `-`, at most 64, not `bootstrap`")
        )
    chosen = tuple(role for role in ROLES if role in roles)
    problems += [Problem("role", shown(role), f"one of {', '.join(ROLES)}") for role in roles if role not in ROLES]
    if not roles:
        problems.append(Problem("role", "", f"one or more of {', '.join(ROLES)}"))
    if problems:
        raise InvalidInput("the key cannot be made", problems)
    return chosen
