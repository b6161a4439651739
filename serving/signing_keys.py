"""The keys that an issuer signs tokens with: read from a file or an address, and kept while that does not answer.

A token never says where its keys are. Whatever arrives, they are read at most once a minute.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import msgspec

from features.events import shown
from serving.problems import SigningKeysUnavailable, Unauthenticated
from serving.signing_rules import is_loopback
from serving.telemetry import log_event

BETWEEN_READS_SECONDS: Final = 60.0
"""At least so long passes between two reads, however many tokens name keys that are not known."""

READ_AGAIN_SECONDS: Final = 600.0
KEPT_SECONDS: Final = 86_400.0
"""So long the last good set is used while the issuer does not answer; then no token is accepted."""

TIMEOUT_SECONDS: Final = 5.0
LARGEST_SET: Final = 256 << 10
SMALLEST_RSA_BITS: Final = 2_048
_MOST_KEYS: Final = 100

_OF_CURVE: Final = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
_OF_RSA: Final = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One public key, and the algorithms that it may be used with."""

    public: Any
    algorithms: frozenset[str]


class SigningKeys:
    """The keys of one issuer.

    Args:
        location: a path, or an address that ``key_location_problem`` accepts.
        timer: a monotonic clock, seconds.
        later: runs something beside the requests.
    """

    def __init__(
        self,
        location: str,
        *,
        timer: Callable[[], float] = time.monotonic,
        later: Callable[[Callable[[], object]], None] | None = None,
    ) -> None:
        self._location = location
        self._timer = timer
        self._later = later or _in_a_thread
        self._lock = threading.Lock()
        self._keys: Mapping[str, SigningKey] = {}
        self._read_at: float | None = None
        self._asked_at: float | None = None
        self._is_reading = False

    def key(self, kid: str) -> SigningKey:
        """The key that a token names. Never waits: keys that are not known are read beside the requests.

        Raises:
            Unauthenticated: the issuer has no such key.
            SigningKeysUnavailable: the keys are being read, or were not to be had for too long.
        """
        if self._read_at is not None and self._timer() - self._read_at <= KEPT_SECONDS:
            found = self._keys.get(kid)
            if found is not None:
                return found
            if not self._begins_to_read():
                raise Unauthenticated(f"the issuer has no signing key {shown(kid)}; expected a token that it signed")
        else:
            self._begins_to_read()
        raise SigningKeysUnavailable("the keys that tokens are signed with are not there yet: ask again")

    def refresh(self) -> None:
        """Read the keys where they are due; what cannot be read is logged, and the last good ones stay."""
        since = None if self._read_at is None else self._timer() - self._read_at
        if (since is None or since >= READ_AGAIN_SECONDS) and self._may_ask():
            self._read()

    def _begins_to_read(self) -> bool:
        """Whether the keys are being read now, by what this begins or what began before."""
        if self._may_ask():
            self._later(self._read)
            return True
        return self._is_reading

    def _may_ask(self) -> bool:
        with self._lock:
            now = self._timer()
            if self._is_reading or (self._asked_at is not None and now - self._asked_at < BETWEEN_READS_SECONDS):
                return False
            self._asked_at, self._is_reading = now, True
            return True

    def _read(self) -> None:
        try:
            keys = parse_keys(_content(self._location))
        except (OSError, ValueError, HTTPException) as error:
            log_event("signing_keys_not_read", level=logging.WARNING, reason=type(error).__name__)
        else:
            self._keys, self._read_at = keys, self._timer()
            log_event("signing_keys_read", keys=len(keys))
        finally:
            self._is_reading = False


def parse_keys(content: bytes) -> dict[str, SigningKey]:
    """The usable keys of a JSON Web Key Set, by ``kid``; secrets, private, weak and foreign ones are passed over.

    Raises:
        ValueError: it is no set, or has no usable key.
    """
    try:
        listed = msgspec.json.decode(content, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError("no JSON Web Key Set") from error
    if not isinstance(listed, list):
        raise ValueError("no JSON Web Key Set: `keys` is no list")
    keys: dict[str, SigningKey] = {}
    for one in listed[:_MOST_KEYS]:
        key = _key_of(one) if isinstance(one, dict) else None
        if key is not None:
            keys.setdefault(one["kid"], key)
    if not keys:
        raise ValueError("a JSON Web Key Set without a key that can check a signature")
    return keys


def _key_of(one: dict[str, Any]) -> SigningKey | None:
    operations = one.get("key_ops", ["verify"])
    is_for_checking = one.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if not is_for_checking or not isinstance(one.get("kid"), str) or one.get("kty") == "oct" or "d" in one:
        return None
    try:
        public = jwt.PyJWK.from_dict(one).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    able = _algorithms_of(one, public)
    named = one.get("alg")
    usable = able if named is None else able & {named}
    return SigningKey(public, usable) if usable else None


def _algorithms_of(one: dict[str, Any], public: Any) -> frozenset[str]:
    """What a key may check, by what it is: never what a token would like it to be."""
    if one.get("kty") == "RSA":
        return _OF_RSA if public.key_size >= SMALLEST_RSA_BITS else frozenset()
    return _OF_CURVE.get((str(one.get("kty")), str(one.get("crv"))), frozenset())


def _content(location: str) -> bytes:
    if "://" not in location:
        with Path(location).open("rb") as file:
            return _bounded(file.read(LARGEST_SET + 1))
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with _opener(location).open(location, timeout=TIMEOUT_SECONDS) as answer:
        content = b""
        while len(content) <= LARGEST_SET and (piece := answer.read1(LARGEST_SET)):
            content += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"no end within {TIMEOUT_SECONDS} s")
    return _bounded(content)


def _bounded(content: bytes) -> bytes:
    if len(content) > LARGEST_SET:
        raise ValueError(f"more than {LARGEST_SET} bytes")
    return content


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Nowhere: the address that is configured is the one that is trusted."""


def _opener(location: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_loopback(urlsplit(location).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    return urllib.request.build_opener(*handlers)


def _in_a_thread(work: Callable[[], object]) -> None:
    threading.Thread(target=work, name="signing-keys", daemon=True).start()
