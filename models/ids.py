"""Ids of decisions and jobs: they carry their time, sort by it, and need no central counter."""

from __future__ import annotations

import re
from typing import Final

from features.subjects import bucket_of

PREFIX: Final = "d-"
JOB_PREFIX: Final = "j-"
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_JOB_ID: Final = re.compile(f"{JOB_PREFIX}[{_ALPHABET}]{{26}}")
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS: Final = range(120, -1, -10)  # of the 26 digits, two at a time
_LATEST_MS: Final = 2**48 - 1


def decision_id(*, at: int, customer_id: str, randomness: bytes) -> str:
    """A new decision id: 48 bits of milliseconds, 8 bits of shard, 72 random bits, in Crockford's base 32.

    Args:
        at: microseconds since the epoch.
        customer_id: the customer, whose stable hash gives the shard byte.
        randomness: 9 random bytes.

    >>> decision_id(at=0, customer_id="c-1", randomness=bytes(9))[:12]
    'd-0000000000'
    """
    number = (at // 1000) << 80 | bucket_of(customer_id) << 72 | int.from_bytes(randomness[:9], "big")
    return _written(PREFIX, number)


def job_id(*, at: int, randomness: bytes) -> str:
    """A new id of a job: 48 bits of milliseconds, 80 random bits, in Crockford's base 32.

    Args:
        at: microseconds since the epoch.
        randomness: 10 random bytes.

    >>> job_id(at=0, randomness=bytes(10))[:12]
    'j-0000000000'
    """
    return _written(JOB_PREFIX, (at // 1000) << 80 | int.from_bytes(randomness[:10], "big"))


def is_job_id(text: str) -> bool:
    """Whether a job could have an id.

    >>> [is_job_id(text) for text in (job_id(at=0, randomness=bytes(10)), "j-1", "j-" + 26 * "?")]
    [True, False, False]
    """
    return _JOB_ID.fullmatch(text) is not None


def first_id_at(at: int) -> str:
    """The least id that a decision of the millisecond of ``at`` can have: what bounds a stretch of time by ids.

    >>> first_id_at(1_000) <= decision_id(at=1_999, customer_id="c-1", randomness=bytes(9)) < first_id_at(2_000)
    True
    """
    number = min(max(at, 0) // 1000, _LATEST_MS) << 80
    return _written(PREFIX, number)


def _written(prefix: str, number: int) -> str:
    return prefix + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
