"""Drift of the process: new, vanished and rarer steps, in windows that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.decision import DecisionRecord
from training.drift_process import DAY_US, Window, process_reasons, process_steps, windows
from training.params import ProcessDriftParams, load_params

PARAMS = load_params().drift
WINDOWS = (Window(0, 7 * DAY_US), Window(7 * DAY_US, 14 * DAY_US))
USUAL = ("applied", "verified", "accepted")


class Steps:
    """Steps in place of a home."""

    def __init__(self, paths: Sequence[Sequence[str]], *, observed_until: int = 14 * DAY_US - 1) -> None:
        """Of each window, the kinds that every one of its customers goes through, in order, or a share of them."""
        self.trained_until = ""
        self.observed_until = observed_until
        rows: list[tuple[str, str, int, int]] = []
        for window, customers in zip(WINDOWS, paths, strict=True):
            for number, path in enumerate(customers):
                at = window.since + number
                rows += [(f"c{window.since}-{number}", kind, at, place) for place, kind in enumerate(path.split())]
        names = ("customer_id", "kind", "moment", "sequence")
        self._steps = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))

    def steps(self, since: int) -> pa.Table:
        """All steps."""
        return self._steps

    def ids(self, *, after: str = "") -> Iterator[list[str]]:
        """No decisions."""
        return iter(())

    def records(self, decision_ids: Sequence[str]) -> Iterator[list[DecisionRecord]]:
        """No decisions."""
        return iter(())

    def events(self, customer_ids: Iterable[str]) -> pa.Table:
        """No events."""
        raise AssertionError


def _reasons(before: Sequence[str], lately: Sequence[str]) -> list[tuple[str, str]]:
    found = process_steps(Steps([before, lately]), WINDOWS, PARAMS.process)
    return [(one.code, one.subject) for one in process_reasons(found, PARAMS)]


WAY = "applied verified accepted"


def test_the_same_steps_give_no_reason() -> None:
    """Whatever the number of customers."""
    assert _reasons([WAY] * 400, [WAY] * 900) == []


def test_a_step_that_vanished_is_named_once() -> None:
    """Not again for every transition that led to it."""
    assert _reasons([WAY] * 400, ["applied accepted"] * 400) == [
        ("process.vanished", "verified"),
        ("process.new", "applied -> accepted"),
    ]


def test_a_new_step_is_named() -> None:
    """Where so many take it that some would have before; ten of four hundred may be chance."""
    assert _reasons([WAY] * 400, [WAY] * 370 + [f"{WAY} blocked"] * 30) == [("process.new", "blocked")]
    assert _reasons([WAY] * 400, [WAY] * 390 + [f"{WAY} blocked"] * 10) == []


def test_another_order_of_the_same_steps_is_named() -> None:
    """Kinds alone would not show it."""
    found = _reasons([WAY] * 400, ["verified applied accepted"] * 400)
    assert set(found) == {
        ("process.vanished", "applied -> verified"),
        ("process.vanished", "verified -> accepted"),
        ("process.new", "verified -> applied"),
        ("process.new", "applied -> accepted"),
    }


def test_a_rarer_step_is_named() -> None:
    """From everybody to two in three."""
    found = _reasons([WAY] * 600, [WAY] * 400 + ["applied verified"] * 200)
    assert found == [("process.rate", "accepted")]


def test_a_step_that_was_rare_may_be_missed() -> None:
    """Where hardly anybody was expected to take it, nobody taking it says nothing."""
    assert _reasons([WAY] * 390 + [f"{WAY} blocked"] * 10, [WAY] * 400) == []


def test_too_few_customers_are_not_judged() -> None:
    """Nothing is said of them."""
    found = process_steps(Steps([[WAY] * 400, ["other"] * 50]), WINDOWS, PARAMS.process)
    assert (found.is_judged, process_reasons(found, PARAMS)) == (False, [])


def test_many_customers_are_sampled_whole() -> None:
    """The same ones each time, with all that they did."""
    few = ProcessDriftParams(customers=300)
    found = process_steps(Steps([[WAY] * 900, [WAY] * 900]), WINDOWS, few)
    assert found.customers == (300, 300)
    assert {(step.name, step.before, step.lately) for step in found.kinds} == {(kind, 300, 300) for kind in USUAL}
    assert found == process_steps(Steps([[WAY] * 900, [WAY] * 900]), WINDOWS, few)


@given(since=st.integers(0, 400 * DAY_US), until=st.integers(0, 400 * DAY_US))
def test_windows_are_of_one_length_and_whole_weeks_apart(since: int, until: int) -> None:
    """The earlier one ends before the training, the recent one with the observation; none is longer than allowed."""
    source: Any = Steps([[WAY], [WAY]], observed_until=until)
    before, lately = windows(source, since, PARAMS.process)
    assert before.until - before.since == lately.until - lately.since <= PARAMS.process.longest_days * DAY_US
    assert (lately.since - before.since) % (7 * DAY_US) == 0
    assert before.until <= min(lately.since, max(since, until + 1 - 7 * DAY_US))
    assert lately.until == until + 1


@pytest.mark.parametrize(("days", "length"), [(0, 1), (3, 3), (90, 28)])
def test_the_recent_window_is_the_time_since_the_training(days: int, length: int) -> None:
    """But a day at least; where all was trained on it is as long as allowed."""
    source: Any = Steps([[WAY], [WAY]], observed_until=100 * DAY_US)
    lately = windows(source, (100 - days) * DAY_US, PARAMS.process)[1]
    assert lately.until - lately.since == length * DAY_US
    assert windows(source, None, PARAMS.process)[1].since == lately.until - 28 * DAY_US
