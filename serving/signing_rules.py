"""What tokens may be signed with, and where the keys for that may be; it loads nothing that checks signatures."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""All that may be allowed: signatures with a public key. No secret that both sides know, and no ``none``."""


def key_location_problem(location: str) -> str | None:
    """What was expected of where keys are, or None where it fits: a path, https, or http on a loopback.

    >>> key_location_problem("https://login.example.com/keys"), key_location_problem("/etc/headway/jwks.json")
    (None, None)
    >>> key_location_problem("http://login.example.com/keys")
    'a path, or an address that starts with https; http on a loopback only'
    """
    if "://" not in location:
        return None
    try:
        parts = urlsplit(location)
        host = parts.hostname
    except ValueError:
        host = None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or "")) if host else False
    if is_safe and not parts.username:
        return None
    return "a path, or an address that starts with https; http on a loopback only"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return host in ("localhost", "127.0.0.1", "::1")
