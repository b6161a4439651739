"""A small OpenID issuer for tests: it has signing keys, makes tokens, and serves its key set over HTTP."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS

ISSUER = "https://login.example.com/company"
AUDIENCE = "api://headway"
NOW_S = 1_772_366_400
"""2026-03-01T12:00:00Z."""


def private_key(kind: str, number: int = 0) -> Any:
    """A private key, the same one each time in one run: making one of RSA takes a while."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    del number
    if kind == "RS256":
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    if kind == "short RSA":
        return rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505  # too short is the point
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_jwk(kind: str, kid: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """A public key as it stands in a set."""
    algorithm = ECAlgorithm if kind == "ES256" else OKPAlgorithm if kind == "EdDSA" else RSAAlgorithm
    found: Any = algorithm.to_jwk(private_key(kind, number).public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig", **more}


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; a change to None leaves a claim out."""
    told = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "iat": NOW_S - 60,
        "nbf": NOW_S - 60,
        "exp": NOW_S + 3_600,
        "groups": ["cx-desk"],
    } | changes
    return {name: value for name, value in told.items() if value is not None}


def token(
    content: dict[str, Any] | bytes | None = None,
    *,
    kind: str = "RS256",
    kid: str | None = "RS256",
    alg: str | None = None,
    key: Any = None,
    **header: Any,
) -> str:
    """A token signed by the issuer, unless told otherwise."""
    payload = content if isinstance(content, bytes) else json.dumps(content or claims()).encode()
    headers = ({} if kid is None else {"kid": kid}) | header
    return PyJWS().encode(payload, key or private_key(kind), algorithm=alg or kind, headers=headers)


def segment(content: Any) -> str:
    """One part of a token, as it is written."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Issuer:
    """What an issuer serves, and how often it was asked."""

    keys: list[dict[str, Any]] = field(
        default_factory=lambda: [public_jwk(kind, kind) for kind in ("RS256", "ES256", "EdDSA")]
    )
    status: int = 200
    body: bytes | None = None
    location: str | None = None
    asked: int = 0
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator[Issuer]:
        """The same, over HTTP on a free port of the loopback."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": issuer.keys}).encode() if issuer.body is None else issuer.body
                self.send_response(issuer.status)
                if issuer.location is not None:
                    self.send_header("Location", issuer.location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing on the screen."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
