"""Who is calling: a principal, from an API key or from a token of the company's directory, and nothing else.

What a principal may call stands in ``serving.access``; keys are kept by ``serving.keys``, tokens read by
``serving.tokens``.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

from serving.key_limits import KeyLimit
from serving.problems import Unauthenticated

Role = Literal["caller", "agent", "marketer", "analyst", "admin", "privacy"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

Right = Literal["link", "consent", "profile", "company"]
"""What an event may say beside what a customer did: whose an id is; what somebody consents to; what is known of them;
what the company did, and what came of it."""
RIGHTS: Final[tuple[Right, ...]] = get_args(Right)

RIGHTS_OF: Final[dict[Role, frozenset[Right]]] = {
    "caller": frozenset(RIGHTS),
    "agent": frozenset(RIGHTS),
    "marketer": frozenset(RIGHTS) - {"link"},
    "admin": frozenset(RIGHTS),
}

BOOTSTRAP_SOURCE: Final = "bootstrap"
KEY_PREFIX: Final = "hw_"
_BEARER: Final = "expected `Authorization: Bearer <key>`"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the source of its events and decisions, and what it may do.

    Attributes:
        key_id: id of the key; of a person who came by token, ``sub-`` and a hash of who they are.
        limit: how often it may ask; None for any number.
        is_public: the key stands in pages that anybody can read.
        granted: rights of the key itself, beside those of its roles.
        origins: of a public key, the origins that it may be used from.
    """

    key_id: str
    source: str
    roles: frozenset[Role]
    limit: KeyLimit | None = None
    is_public: bool = False
    granted: frozenset[Right] = frozenset()
    origins: frozenset[str] = frozenset()

    @property
    def rights(self) -> frozenset[Right]:
        """What its events may say."""
        return self.granted.union(*(RIGHTS_OF.get(role, frozenset()) for role in self.roles))


class Keys(Protocol):
    """The API keys of an installation."""

    def holder(self, key: str, *, at: int) -> Principal | None:
        """Who calls with a key at a moment; None where it is none, or not valid then.

        Raises:
            StoreError: the keys cannot be read.
        """
        ...


class Tokens(Protocol):
    """The tokens of a directory."""

    def holder(self, token: str, *, at: int) -> Principal:
        """Who calls with a token at a moment.

        Raises:
            Unauthenticated: it is none that is accepted.
            SigningKeysUnavailable: it cannot be told now.
        """
        ...


class Authenticator:
    """Tells who is calling from the ``Authorization`` header.

    Args:
        keys: the API keys.
        bootstrap_key: the key of the first steps, if there is one.
        clock: now, microseconds since the epoch.
        tokens: reads tokens; None where no issuer is configured.
    """

    def __init__(
        self, keys: Keys, bootstrap_key: str | None, *, clock: Callable[[], int], tokens: Tokens | None = None
    ) -> None:
        self._keys = keys
        self._bootstrap_digest = None if bootstrap_key is None else key_digest(bootstrap_key)
        self._clock = clock
        self._tokens = tokens

    def principal(self, authorization: str | None) -> Principal:
        """Who is calling.

        Raises:
            Unauthenticated: the header is missing or not a bearer token, or the key is unknown or not valid now.
            SigningKeysUnavailable: a token cannot be checked now.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthenticated(f"the request carries no API key; {_BEARER}")
        return self._holder_of(key.strip())

    def tracking_principal(self, authorization: str | None) -> Principal:
        """Who is calling, where a key may also come as tracking SDKs send it: Basic, as the user, without a password.

        Raises:
            Unauthenticated: as ``principal``, and where what is encoded is no user without a password.
            SigningKeysUnavailable: as ``principal``.
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
        return self._holder_of(user, takes_tokens=False)

    def _holder_of(self, key: str, *, takes_tokens: bool = True) -> Principal:
        if self._bootstrap_digest is not None and hmac.compare_digest(key_digest(key), self._bootstrap_digest):
            return Principal(BOOTSTRAP_SOURCE, BOOTSTRAP_SOURCE, frozenset({"admin"}))
        if takes_tokens and self._tokens is not None and not key.startswith(KEY_PREFIX):
            return self._tokens.holder(key, at=self._clock())
        found = self._keys.holder(key, at=self._clock())
        if found is None:
            raise Unauthenticated(
                "the API key is unknown, expired or revoked; expected one made with `headway keys create`, or the "
                "bootstrap key"
            )
        return found


def authorization_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The one ``Authorization`` header of a request; None where there is none.

    Raises:
        Unauthenticated: there are several: whoever stands between us and the caller may have read another one.
    """
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) > 1:
        raise Unauthenticated(f"the request carries {len(found)} Authorization headers; {_BEARER}, once")
    return found[0].decode("latin-1") if found else None


def key_digest(key: str) -> str:
    """What is kept and compared of an API key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
