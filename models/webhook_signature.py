"""Signatures of webhooks: whoever receives one can tell that it is ours, whole, and not an old one sent again.

The scheme is that of Standard Webhooks (v1, symmetric): HMAC-SHA256 over ``id.timestamp.body``. Pure: no clock, no
network.

References:
    Standard Webhooks specification 1.0.0, sections "Signature scheme" and "Verifying webhook authenticity"; Krawczyk,
    Bellare and Canetti 1997, HMAC: keyed-hashing for message authentication (RFC 2104).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # how secrets begin, and none itself
SHORTEST_SECRET: Final = 24
LONGEST_SECRET: Final = 64
"""Bytes of a secret that the specification allows."""

TOLERANCE_SECONDS: Final = 300
"""How far a timestamp may be from the receiver's clock: five minutes, as the reference implementations have it."""

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
_VERSION: Final = "v1"


class WrongSignature(Exception):
    """A message that must not be trusted; the text says why and never holds a secret or a signature."""


def secret_key(text: str) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is no ``whsec_`` and base64 of 24 to 64 bytes. The message does not hold the text.

    >>> secret_key("whsec_" + "A" * 32) == bytes(24)
    True
    """
    expected = f"{SECRET_PREFIX} and the base64 of {SHORTEST_SECRET} to {LONGEST_SECRET} bytes"
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(expected)
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(expected) from None  # the cause would show the text
    if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        raise ValueError(expected)
    return key


def signature(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the base64 of the HMAC of ``id.timestamp.body``.

    Args:
        key: from ``secret_key``.
        message_id: of the message, the same when it is sent again; without a full stop, which parts what is signed.
        timestamp: of this attempt, seconds since the epoch.
        body: the very bytes that are sent.

    Raises:
        ValueError: the id is empty or holds a full stop.
    """
    if not message_id or "." in message_id:
        raise ValueError(f"message id {message_id!r:.100}, expected one without a full stop")
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"{_VERSION},{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def signed_headers(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that go with a body."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: signature(key, message_id=message_id, timestamp=timestamp, body=body),
    }


def check_signature(
    key: bytes, headers: Mapping[str, str], body: bytes, *, now: int, tolerance: int = TOLERANCE_SECONDS
) -> None:
    """Nothing, where a message is what the holder of the key sent lately.

    Args:
        key: from ``secret_key``.
        headers: of the request; their names in any case.
        body: as received, before anything is decoded.
        now: seconds since the epoch.
        tolerance: seconds that the timestamp may be off, either way.

    Raises:
        WrongSignature: a header is missing, the time is too far off, or no signature fits.
    """
    given = {name.lower(): value for name, value in headers.items()}
    if missing := [name for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER) if not given.get(name)]:
        raise WrongSignature(f"no {', '.join(missing)}, expected all three headers of a signed message")
    stamp = given[TIMESTAMP_HEADER]
    if not (stamp.isascii() and stamp.isdigit()):
        raise WrongSignature(f"{TIMESTAMP_HEADER} {stamp!r:.40}, expected seconds since the epoch")
    if abs(int(stamp) - now) > tolerance:
        raise WrongSignature(f"{TIMESTAMP_HEADER} {stamp:.40} is more than {tolerance} s from {now}")
    if "." in given[ID_HEADER]:
        raise WrongSignature(f"{ID_HEADER} {given[ID_HEADER]!r:.100}, expected one without a full stop")
    expected = signature(key, message_id=given[ID_HEADER], timestamp=int(stamp), body=body).encode()
    # Several are given while a secret is changed; all are compared, each in constant time.
    fitting = [hmac.compare_digest(expected, one.encode()) for one in given[SIGNATURE_HEADER].split(" ")]
    if not any(fitting):
        raise WrongSignature("no signature fits the body, expected one made with this secret")
