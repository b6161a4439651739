"""Tokens of the company's directory: JSON Web Tokens that an OpenID provider signed, read strictly.

What counts is what the deployment says: issuer, audience, algorithms, and which groups have which roles. Of its own
header a token decides nothing but which of the issuer's known keys it is checked with.

References:
    Y. Sheffer, D. Hardt, M. Jones (2020), RFC 8725, JSON Web Token Best Current Practices.
    V. Bertocci (2021), RFC 9068, JSON Web Token Profile for OAuth 2.0 Access Tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt
from jwt.api_jws import PyJWS
from pydantic import Field

from features.config_model import ConfigModel
from features.events import shown
from features.yaml_files import load_yaml
from serving.auth import Principal, Role
from serving.keys import DIRECTORY_SOURCE
from serving.problems import Unauthenticated
from serving.settings import Settings
from serving.signing_keys import SigningKeys

LONGEST_TOKEN: Final = 8_192
_LONGEST_NAME: Final = 255
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_NOT_UNDERSTOOD: Final = ("crit", "b64", "cty", "zip", "enc")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_MICROSECONDS: Final = 1_000_000


class Groups(ConfigModel):
    """Which groups of the directory have which roles.

    Attributes:
        claim: the claim that lists the groups, or the way to it, one name a step.
        groups: the roles of each group, by its name or id as the claim has it; others have none.
    """

    claim: str | tuple[str, ...] = "groups"
    groups: dict[str, tuple[Role, ...]] = Field(min_length=1)

    def roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        """The roles of whoever a token is about; none where no group of theirs has any."""
        found: Any = claims
        for step in (self.claim,) if isinstance(self.claim, str) else self.claim:
            found = found.get(step) if isinstance(found, dict) else None
        named: Iterable[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else ()
        return frozenset(role for one in named if isinstance(one, str) for role in self.groups.get(one, ()))


class TokenReader:
    """Tells who calls with a token.

    Args:
        issuer: what `iss` must be.
        audience: what `aud` must hold.
        algorithms: of ``signing_rules.ALGORITHMS``.
        leeway_us: how far the clocks of the issuer and ours may be apart.
        keys: the issuer's.
        groups: which of them have which roles.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: Iterable[str],
        leeway_us: int,
        keys: SigningKeys,
        groups: Groups,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway_us / _MICROSECONDS
        self._keys = keys
        self._groups = groups
        self._signatures = PyJWS(algorithms=sorted(self._algorithms))

    def refresh(self) -> None:
        """Read the issuer's keys again where they are due."""
        self._keys.refresh()

    def holder(self, token: str, *, at: int) -> Principal:
        """Who calls with a token at a moment; with no role where none of their groups has one.

        Raises:
            Unauthenticated: it is not accepted.
            SigningKeysUnavailable: its signature cannot be checked now.
        """
        if len(token) > LONGEST_TOKEN:
            raise _refused(f"has {len(token)} characters", f"at most {LONGEST_TOKEN}")
        segments = token.split(".")
        if len(segments) != 3 or not all(_SEGMENT.fullmatch(one) for one in segments):
            raise _refused("is not three parts in base64url", "a signed token as the issuer made it, not encrypted")
        algorithm, kid = self._header(_object(segments[0]))
        self._check_signature(token, algorithm, kid)
        claims = _object(segments[1])
        subject = self._subject(claims, at / _MICROSECONDS)
        return Principal(subject, DIRECTORY_SOURCE, self._groups.roles(claims))

    def _header(self, header: dict[str, Any]) -> tuple[str, str]:
        """Algorithm and key id; where keys are, or a key itself (`jku`, `x5u`, `jwk`, `x5c`), is not even looked at."""
        extended = [name for name in _NOT_UNDERSTOOD if name in header]
        if extended:
            raise _refused(f"has {extended[0]} in its header", "no extension, and no token inside another")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise _refused(f"is of the type {shown(kind)}", "an access token: JWT or at+jwt")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise _refused(f"is signed with {shown(algorithm)}", f"one of {', '.join(sorted(self._algorithms))}")
        if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_NAME:
            raise _refused("does not name its key", "the kid of a key of the issuer")
        return algorithm, kid

    def _check_signature(self, token: str, algorithm: str, kid: str) -> None:
        key = self._keys.key(kid)
        if algorithm not in key.algorithms:
            raise _refused(f"is signed with {algorithm}", f"what its key is for: {', '.join(sorted(key.algorithms))}")
        try:
            self._signatures.decode(token, key=key.public, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _refused("has a signature that does not fit", "a token as the issuer signed it") from error

    def _subject(self, claims: dict[str, Any], now: float) -> str:
        """Who it is about, as a hash, if it is from our issuer, for us, and of this time."""
        if claims.get("iss") != self._issuer:
            raise _refused(f"is from the issuer {shown(claims.get('iss'))}", f"{self._issuer}")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _refused(f"is for {shown(audience)}", f"the audience {self._audience}")
        if now - self._leeway >= _moment(claims, "exp"):
            raise _refused("has expired", "a newer one: sign in again")
        not_before = [_moment(claims, "iat")] + ([_moment(claims, "nbf")] if "nbf" in claims else [])
        if now + self._leeway < max(not_before):
            raise _refused("is not valid yet", "clocks that agree: set this machine's, or raise the leeway")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_NAME:
            raise _refused("says of nobody that it is about them", f"a sub of 1 to {_LONGEST_NAME} characters")
        return f"sub-{hashlib.sha256(f'{self._issuer}|{subject}'.encode(errors='replace')).hexdigest()[:16]}"


def _object(segment: str) -> dict[str, Any]:
    """The JSON object of one part, in which no name stands twice."""
    try:
        content = json.loads(
            urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise _refused("is not JSON in base64url", "a signed token as the issuer made it") from error
    if not isinstance(content, dict):
        raise _refused("has a part that is no object", "a signed token as the issuer made it")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """A time among the claims, seconds since the epoch."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(f"has no time {name}", "seconds since the epoch in exp, iat, and nbf if it is there")
    return value


def _refused(found: str, expected: str) -> Unauthenticated:
    return Unauthenticated(f"the token {found}; expected {expected}")


def token_reader(settings: Settings) -> TokenReader | None:
    """What reads tokens in a deployment; None where it names no issuer. Nothing is fetched yet.

    Raises:
        ConfigurationError: the file of roles is not valid.
    """
    if settings.oidc_issuer is None or settings.oidc_roles is None:
        return None
    return TokenReader(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience or "",
        algorithms=settings.oidc_algorithms,
        leeway_us=settings.oidc_leeway_s * _MICROSECONDS,
        keys=SigningKeys(settings.oidc_jwks or ""),
        groups=load_yaml(Groups, settings.oidc_roles),
    )
