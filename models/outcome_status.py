"""What came of a decision, outcome by outcome: yes, no, or not known yet. Pure; training reads outcomes alike.

An outcome is open until its reward window ends; what has not come by then is a "no", whether anybody said so or not.
What happened after the window counts for no decision, however it is told. The moment that counts is when it happened,
not when it was told: a "yes" that comes in late still replaces the "no" of an ended window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from features.journeys import Outcome
from models.decision import DecisionRecord

Status = Literal["pending", "yes", "no"]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that an outcome is made of.

    Attributes:
        at: when it happened, microseconds since the epoch.
        value: what it adds; 0 is a "no" that was told.
        is_report: it was told for this very decision.
    """

    at: int
    value: float
    is_report: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeStatus:
    """One outcome of one decision, as of a moment.

    Attributes:
        status: ``pending`` while the window lasts and nothing has settled it.
        by_default: a "no" that nobody told: the window ended without anything.
        value: 0 or 1 of a binary outcome, the sum so far of a continuous one.
        until: end of the reward window, itself included.
        settled_at: when it could no longer change: the first "yes" of a binary outcome, else the end; None before.
        late: reports for this decision of what happened after the window; they count for nothing.
    """

    outcome_id: str
    status: Status
    by_default: bool
    value: float
    until: int
    settled_at: int | None
    late: int


def is_late(outcome: Outcome, record: DecisionRecord, at: int) -> bool:
    """Whether what happened at a moment came too late to count for a decision."""
    return at > record.decided_at + outcome.window


def outcome_status(
    outcome: Outcome, record: DecisionRecord, happenings: Iterable[Happening], *, now: int
) -> OutcomeStatus:
    """What came of a decision within ``(decided_at, decided_at + window]``, as far as it is known at ``now``.

    Args:
        outcome: as declared.
        record: the decision.
        happenings: all that is known, in any order.
        now: microseconds since the epoch.
    """
    until = record.decided_at + outcome.window
    known = sorted(happenings, key=lambda one: one.at)
    counted = [one for one in known if record.decided_at < one.at <= until]
    is_binary = outcome.type == "binary"
    total = math.fsum(one.value for one in counted)
    first_yes = next((one.at for one in counted if one.value != 0), None)
    value = float(first_yes is not None) if is_binary else total
    is_over = now >= until
    settled_at = first_yes if is_binary and first_yes is not None else until if is_over else None
    return OutcomeStatus(
        outcome_id=outcome.id,
        status="pending" if settled_at is None else "yes" if value != 0 else "no",
        by_default=is_over and not counted,
        value=value,
        until=until,
        settled_at=settled_at,
        late=sum(one.is_report and one.at > until for one in known),
    )
