"""The one stable hash, for partitions, arms, sampling and exploration noise.

BLAKE2b with an 8-byte digest (RFC 7693), over length-prefixed UTF-8 parts, the salt first. Its values are frozen by
``tests/golden``: changing them would move customers between experiment arms and shards. Never use ``hash()`` instead.
"""

from __future__ import annotations

import hashlib

_SPAN = float(2**52)


def stable_hash(salt: str, *parts: str) -> int:
    """Hash of ``parts`` under ``salt``, uniform over ``[0, 2**64)``.

    Parts are length-prefixed, so ``("ab", "c")`` and ``("a", "bc")`` differ. Give each use its own salt.

    >>> stable_hash("arm", "c-1") == stable_hash("arm", "c-1")
    True
    >>> stable_hash("arm", "ab", "c") == stable_hash("arm", "a", "bc")
    False
    """
    encoded = [part.encode() for part in (salt, *parts)]
    data = b"".join([len(part).to_bytes(4, "big") + part for part in encoded])
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def stable_unit(salt: str, *parts: str) -> float:
    """Uniform number strictly between 0 and 1: the middle of one of ``2**52`` equal cells.

    >>> 0.0 < stable_unit("arm", "c-1") < 1.0
    True
    """
    return ((stable_hash(salt, *parts) >> 12) + 0.5) / _SPAN
