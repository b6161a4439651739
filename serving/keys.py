"""API keys, kept hashed: made, rotated, revoked, and found again by who calls with them.

A key is shown once, when it is made; kept is its SHA-256, which is enough for 256 bits of chance. The file is small
and read again when it changes, so that a revoked key stops working without a restart.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from features.durable_files import replace_durably
from features.errors import InvalidInput, Problem, Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.events import dump_timestamp, dump_timestamp_or_none, parse_timestamp, shown
from features.home import Home, lock_file
from serving.auth import BOOTSTRAP_SOURCE, KEY_PREFIX, RIGHTS, ROLES, Principal, Right, Role, key_digest
from serving.key_limits import KeyLimit
from serving.key_use import KeyUse

FORMAT: Final = 2
DIRECTORY_SOURCE: Final = "directory"
"""The source of everybody who comes by token."""

LONGEST_OVERLAP_US: Final = 90 * 86_400_000_000
_SOURCE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_RESERVED_SOURCES: Final = frozenset({BOOTSTRAP_SOURCE, DIRECTORY_SOURCE})


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as it is kept: never the key itself.

    Attributes:
        expires_at: not valid from here on.
        previous_sha256: of the secret before the last rotation.
        previous_until: that one is not valid from here on.
        origins: makes it a publishable key, for pages of these origins.
        rights: what its events may say beside what its roles allow.
        limit: how often it may ask; as often as it likes where there is none.
    """

    key_id: str
    sha256: str
    source: str
    roles: tuple[Role, ...]
    created_at: str
    revoked_at: str | None = None
    expires_at: str | None = None
    rotated_at: str | None = None
    previous_sha256: str | None = None
    previous_until: str | None = None
    origins: tuple[str, ...] = ()
    rights: tuple[Right, ...] = ()
    limit: KeyLimit | None = None

    @property
    def is_public(self) -> bool:
        """Whether it stands in pages that anybody can read."""
        return bool(self.origins)

    def state(self, at: int) -> str:
        """Whether it is valid at a moment, in words."""
        if self.revoked_at is not None:
            return f"revoked {self.revoked_at}"
        if self.expires_at is not None:
            return f"{'expired' if parse_timestamp(self.expires_at) <= at else 'valid until'} {self.expires_at}"
        return "valid"


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int = FORMAT
    keys: tuple[StoredKey, ...] = ()


@dataclass(frozen=True, slots=True)
class _Holder:
    """A key as every call needs it; moments in microseconds since the epoch, a key without an end has none."""

    principal: Principal
    digest: str
    expires: float
    previous: str | None
    previous_until: float

    def is_held(self, digest: str, at: int) -> bool:
        """Whether a secret of this digest is valid at a moment."""
        if at >= self.expires:
            return False
        if hmac.compare_digest(digest, self.digest):
            return True
        return self.previous is not None and at < self.previous_until and hmac.compare_digest(digest, self.previous)


class KeyFile:
    """The keys of one installation, in one small file.

    Args:
        path: the file.
        use: remembers when each key was used; None where nobody asks.
    """

    def __init__(self, path: Path, use: KeyUse | None = None) -> None:
        self._path = path
        self._use = use
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, StoredKey] = {}
        self._holders: dict[str, _Holder] = {}
        self._origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, home: Home, use: KeyUse | None = None) -> KeyFile:
        """The keys of a home."""
        return cls(home.state / "keys.json", use)

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
            self._take({} if stamp is None else self._read())
            self._stamp = stamp
        return self._keys

    def holder(self, key: str, *, at: int) -> Principal | None:
        """Who calls with a key at a moment; None where it is none, or not valid then.

        Raises:
            StoreError: as ``keys``.
        """
        self.keys()
        found = self._holders.get(key.removeprefix(KEY_PREFIX).partition("_")[0])
        if found is None or not found.is_held(key_digest(key), at):
            return None
        if self._use is not None:
            self._use.note(found.principal.key_id, at)
        return found.principal

    def origins(self) -> frozenset[str]:
        """The origins of all publishable keys that are not revoked.

        Raises:
            StoreError: as ``keys``.
        """
        self.keys()
        return self._origins

    def create(
        self,
        *,
        source: str,
        roles: Iterable[str],
        secret: bytes,
        at: int,
        expires_at: int | None = None,
        origins: Iterable[str] = (),
        rights: Iterable[str] = (),
        limit: KeyLimit | None = None,
    ) -> str:
        """Make a key and give it; it cannot be had again.

        Args:
            source: the source of all events and decisions sent with it.
            roles: what it may do; none of a publishable key.
            secret: 36 random bytes.
            at: now, microseconds since the epoch.
            expires_at: when it ends; None for never.
            origins: the origins of the pages that a publishable key is for; none of any other.
            rights: what its events may say beside what its roles allow.
            limit: how often it may ask; as often as it likes where there is none.

        Raises:
            InvalidInput: something of it is not valid.
        """
        key_id, named, granted = secret[:4].hex(), tuple(roles), tuple(rights)
        key = _key_of(key_id, secret)
        stored = StoredKey(
            key_id=key_id,
            sha256=key_digest(key),
            source=source,
            roles=tuple(role for role in ROLES if role in named),
            created_at=dump_timestamp(at),
            expires_at=dump_timestamp_or_none(expires_at),
            origins=tuple(dict.fromkeys(origins)),
            rights=tuple(right for right in RIGHTS if right in granted),
            limit=limit,
        )
        with lock_file(self._path):
            problems = _problems_of(stored, named, granted, at, self.keys().values())
            if problems:
                raise InvalidInput("the key cannot be made", problems)
            self._write([*self.keys().values(), stored])
        return key

    def rotate(self, key_id: str, *, secret: bytes, at: int, overlap_us: int) -> str:
        """A new secret for a key, which cannot be had again; the one before is valid for a while longer.

        One that an earlier rotation had left valid ends now: a key never has more than two.

        Args:
            key_id: the key.
            secret: 36 random bytes, of which the last 32 are used.
            at: now, microseconds since the epoch.
            overlap_us: for how long the secret before is still valid.

        Raises:
            UnknownObject: there is no such key.
            Refused: it is revoked or expired, or both would be valid for too long.
        """
        if not 0 <= overlap_us <= LONGEST_OVERLAP_US:
            raise Refused(
                f"both secrets would be valid for {overlap_us / 86_400_000_000:g} days; expected 0 to "
                f"{LONGEST_OVERLAP_US // 86_400_000_000} days: name a shorter overlap"
            )
        with lock_file(self._path):
            key = self._known(key_id)
            if not key.state(at).startswith("valid"):
                raise Refused(f"key {key_id} is {key.state(at)}; expected a valid one: make a new key")
            new = _key_of(key_id, secret)
            self._replace(
                msgspec.structs.replace(
                    key,
                    sha256=key_digest(new),
                    rotated_at=dump_timestamp(at),
                    previous_sha256=key.sha256 if overlap_us else None,
                    previous_until=dump_timestamp(at + overlap_us) if overlap_us else None,
                )
            )
        return new

    def revoke(self, key_id: str, *, at: int) -> StoredKey:
        """Make a key invalid from now on, with all its secrets; revoking it again changes nothing.

        Raises:
            UnknownObject: there is no such key.
        """
        with lock_file(self._path):
            key = self._known(key_id)
            if key.revoked_at is None:
                key = msgspec.structs.replace(key, revoked_at=dump_timestamp(at))
                self._replace(key)
        return key

    def limit(self, key_id: str, limit: KeyLimit | None) -> StoredKey:
        """Change how often a key may ask, from now on.

        Raises:
            UnknownObject: there is no such key.
        """
        with lock_file(self._path):
            key = msgspec.structs.replace(self._known(key_id), limit=limit)
            if key != self._keys[key_id]:
                self._replace(key)
        return key

    def _known(self, key_id: str) -> StoredKey:
        keys = self.keys()
        if key_id not in keys:
            raise UnknownObject(
                f"no key {key_id}; expected one of {', '.join(keys) or 'none: there are no keys'}: "
                "see `headway keys list`"
            )
        return keys[key_id]

    def _replace(self, key: StoredKey) -> None:
        self._write([{**self._keys, key.key_id: key}[other] for other in self._keys])

    def _take(self, keys: dict[str, StoredKey]) -> None:
        valid = [key for key in keys.values() if key.revoked_at is None]
        self._keys = keys
        self._holders = {key.key_id: _holder(key) for key in valid}
        self._origins = frozenset(origin for key in valid for origin in key.origins)

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
        if content.format > FORMAT:
            raise StoreCorrupted(
                f"{self._path} has the format {content.format}; expected at most {FORMAT}: a later release wrote it, "
                "run that one"
            )
        return {key.key_id: key for key in content.keys}

    def _write(self, keys: Iterable[StoredKey]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_KeyFile(keys=tuple(keys))), indent=1)
        replace_durably(self._path, data, mode=0o600)
        self._stamp = None


def _key_of(key_id: str, secret: bytes) -> str:
    return f"{KEY_PREFIX}{key_id}_{secret[4:36].hex()}"


def _holder(key: StoredKey) -> _Holder:
    return _Holder(
        principal=Principal(
            key.key_id,
            key.source,
            frozenset(key.roles),
            key.limit,
            is_public=key.is_public,
            granted=frozenset(key.rights),
            origins=frozenset(key.origins),
        ),
        digest=key.sha256,
        expires=_end(key.expires_at),
        previous=key.previous_sha256,
        previous_until=_end(key.previous_until),
    )


def _end(timestamp: str | None) -> float:
    return float("inf") if timestamp is None else parse_timestamp(timestamp)


def _problems_of(
    key: StoredKey, roles: tuple[str, ...], rights: tuple[str, ...], at: int, others: Iterable[StoredKey]
) -> list[Problem]:
    problems = []
    if not _SOURCE.fullmatch(key.source) or key.source in _RESERVED_SOURCES:
        reserved = " or ".join(f"`{one}`" for one in sorted(_RESERVED_SOURCES))
        expected = f"lower-case letters, digits, `_`, `.`, `-`, at most 64, not {reserved}"
        problems.append(Problem("source", shown(key.source), expected))
    elif any(one.source == key.source and one.is_public != key.is_public and one.revoked_at is None for one in others):
        # Whoever reads the pages could send under the ids of the company's own events.
        expected = "a source that no publishable key shares with a secret one"
        problems.append(Problem("source", shown(key.source), expected))
    problems += [Problem("role", shown(role), f"one of {', '.join(ROLES)}") for role in roles if role not in ROLES]
    problems += [Problem("may", shown(one), f"one of {', '.join(RIGHTS)}") for one in rights if one not in RIGHTS]
    if key.is_public and roles:
        problems.append(Problem("role", shown(roles[0]), "no role: a publishable key sends events and nothing else"))
    if not key.is_public and not roles:
        problems.append(Problem("role", "", f"one or more of {', '.join(ROLES)}"))
    problems += [
        Problem("origin", shown(one), "scheme, host and port if any, such as https://www.example.com")
        for one in key.origins
        if not is_origin(one)
    ]
    if key.expires_at is not None and parse_timestamp(key.expires_at) <= at:
        problems.append(Problem("expires", shown(key.expires_at), "a moment in the future"))
    return problems


def is_origin(text: str) -> bool:
    """Whether a text is an origin as browsers send it.

    >>> is_origin("https://www.example.com"), is_origin("http://localhost:5173")
    (True, True)
    >>> is_origin("https://www.example.com/"), is_origin("*"), is_origin("null")
    (False, False, False)
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return (
        parts.scheme in ("http", "https")
        and bool(host)
        and text == f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    )
