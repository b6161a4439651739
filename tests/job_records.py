"""Jobs for tests: what somebody asks for, and who would do it."""

from __future__ import annotations

from typing import Any

from models.ids import job_id
from models.jobs import Claim, JobProgress, Submission

ASKED_AT = 1_772_366_400_000_000
"""2026-03-01T12:00:00Z."""

SECOND_US = 1_000_000
LEASE_US = 30 * SECOND_US
KIND = "count"


def submission(number: int = 1, **changes: Any) -> Submission:
    """What a source asks for, the ``number``-th time."""
    fields: dict[str, Any] = {
        "job_id": job_id(at=ASKED_AT + number * SECOND_US, randomness=number.to_bytes(10, "big")),
        "kind": KIND,
        "spec": b'{"to":%d}' % number,
        "source": "crm",
        "key_id": "k-1",
        "request_id": f"r-{number}",
        "request_hash": f"h-{number}",
    }
    return Submission(**fields | changes)


def claim(owner: str = "w-1", **changes: Any) -> Claim:
    """Who would do any job of the kind."""
    fields: dict[str, Any] = {"owner": owner, "kinds": (KIND,), "lease_us": LEASE_US}
    return Claim(**fields | changes)


def progress(done: int = 1, step: str = "counting", total: int | None = 10) -> JobProgress:
    """How far a job has come."""
    return JobProgress(step, done, total)
