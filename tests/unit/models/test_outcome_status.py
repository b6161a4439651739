"""Pending, yes, no and no by default; and what came too late."""

from __future__ import annotations

import pytest

from features.journeys import Outcome
from models.outcome_status import Happening, OutcomeStatus, is_late, outcome_status
from tests.decision_records import DAY_US, DECIDED_AT, record

MADE = record(0)
AT = MADE.decided_at
END = AT + DAY_US


def _outcome(kind: str = "binary") -> Outcome:
    return Outcome.model_validate(
        {"id": "paid", "title": "Paid", "event": "paid", "window": "1d", "type": kind, "value": 1.0}
    )


def _status(*happenings: Happening, now: int = END, kind: str = "binary") -> OutcomeStatus:
    return outcome_status(_outcome(kind), MADE, happenings, now=now)


def test_nothing_is_pending_until_the_window_ends() -> None:
    """Then it is a "no" that nobody told."""
    before, after = _status(now=END - 1), _status(now=END)

    assert (before.status, before.by_default, before.settled_at) == ("pending", False, None)
    assert (after.status, after.by_default, after.value, after.settled_at) == ("no", True, 0.0, END)


def test_a_yes_settles_it_at_once() -> None:
    """The first one, in whatever order they were told."""
    found = _status(Happening(AT + 9, 1.0), Happening(AT + 5, 1.0), Happening(AT + 2, 0.0), now=AT + 10)

    assert (found.status, found.value, found.settled_at, found.by_default) == ("yes", 1.0, AT + 5, False)


def test_a_no_that_was_told_waits_for_the_end() -> None:
    """A "yes" may still come; in the end it is a "no", and not by default."""
    told = Happening(AT + 5, 0.0, is_report=True)

    assert _status(told, now=AT + 10).status == "pending"
    assert (_status(told).status, _status(told).by_default) == ("no", False)


def test_what_happened_after_the_window_counts_for_nothing() -> None:
    """It is told as late; what happened in time and was told later counts."""
    late, in_time = Happening(END + 1, 1.0, is_report=True), Happening(END, 1.0, is_report=True)

    found = _status(late, now=END + 10)
    assert (found.status, found.by_default, found.late) == ("no", True, 1)
    assert (_status(late, in_time, now=END + 10).status, _status(late, in_time, now=END + 10).late) == ("yes", 1)
    assert _status(Happening(END + 1, 1.0), now=END + 10).late == 0
    assert (is_late(_outcome(), MADE, END), is_late(_outcome(), MADE, END + 1)) == (False, True)


def test_what_came_before_the_decision_is_not_of_it() -> None:
    """Nor what came at its very moment."""
    assert _status(Happening(AT, 1.0), Happening(DECIDED_AT - 9, 1.0)).status == "no"


@pytest.mark.parametrize(("now", "status", "settled_at"), [(END - 1, "pending", None), (END, "yes", END)])
def test_a_sum_grows_until_the_end(now: int, status: str, settled_at: int | None) -> None:
    """A continuous outcome is not settled by its first part."""
    found = _status(Happening(AT + 1, 2.0), Happening(AT + 2, 3.5), now=now, kind="continuous")

    assert (found.value, found.status, found.settled_at) == (5.5, status, settled_at)
