"""The kinds of durable jobs that this service runs; ``models.job_work`` is the contract of their commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """One kind of job.

    Attributes:
        name: as callers see it.
        words: of its command, after ``headway``; what is asked goes over standard input, never here.
        seconds: how long one attempt may take.
    """

    name: str
    words: tuple[str, ...]
    seconds: float


AUDIENCE: Final = JobKind(name="audience", words=("audience", "make"), seconds=6 * 3_600.0)
SCREENING: Final = JobKind(name="screening", words=("audience", "screen-list"), seconds=3_600.0)

KINDS: Final[tuple[JobKind, ...]] = (AUDIENCE, SCREENING)
