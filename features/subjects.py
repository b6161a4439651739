"""Which customers a derived artefact may hold, so that erasing one need not open every artefact there is.

A customer belongs to one of 256 buckets by stable hash; it is also the shard byte of decision ids. Every folder of
derived rows carries ``subjects.json``, one bit a bucket: where it is not set, nobody of the bucket is in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from features.errors import StoreCorrupted
from features.stable_hash import stable_hash

BUCKETS: Final = 256
SUBJECTS_FILE: Final = "subjects.json"
FORMAT: Final = 1


def bucket_of(customer_id: str) -> int:
    """The bucket of a customer, 0 to 255."""
    return stable_hash("shard", customer_id) % BUCKETS


def subject_buckets(customer_ids: Iterable[str]) -> str:
    """The buckets of some customers: 64 hexadecimal digits, bucket b the bit of value ``2**b``.

    >>> subject_buckets([]) == "0" * 64
    True
    """
    bits = 0
    for customer_id in customer_ids:
        bits |= 1 << bucket_of(customer_id)
    return f"{bits:0{BUCKETS // 4}x}"


def forget_subjects(folder: Path) -> None:
    """Say nothing of ``folder`` any more, before its rows change: if that is cut short, nobody is missed."""
    (folder / SUBJECTS_FILE).unlink(missing_ok=True)


def write_subjects(folder: Path, customer_ids: Iterable[str]) -> None:
    """Say in ``folder`` whose rows it holds."""
    document = {"format": FORMAT, "buckets": subject_buckets(customer_ids)}
    (folder / SUBJECTS_FILE).write_text(json.dumps(document) + "\n", encoding="utf-8")


def may_hold(folder: Path, customer_id: str) -> bool:
    """Whether ``folder`` may hold rows of a customer; a folder that does not say may hold anyone's.

    Raises:
        StoreCorrupted: what it says cannot be read.
    """
    file = folder / SUBJECTS_FILE
    if not file.exists():
        return True
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        bits = int(document["buckets"], 16)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupted(f"{file} cannot be read: {error}; expected what was written there") from error
    return bool(bits >> bucket_of(customer_id) & 1)
