"""How the writing of a store goes, whatever kind of store it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommitFigures:
    """How the writing of a store goes.

    Attributes:
        groups: transactions until now.
        jobs: pieces of work that were written in them.
        waiting: pieces of work that nobody has begun.
        delay_seconds: how long the oldest one waits that is not on disk yet; 0 where there is none.
    """

    groups: int = 0
    jobs: int = 0
    waiting: int = 0
    delay_seconds: float = 0.0
