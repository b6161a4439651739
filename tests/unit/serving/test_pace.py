"""Pace: the expected wait follows from how often requests get done, and admission from the expected wait."""

from __future__ import annotations

import math

import pytest

from serving.pace import Pace
from serving.problems import TooManyRequests


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _busy(clock: _Clock, *, most: int = 1_000, longest_wait: float = 1.0) -> Pace:
    """A pace at which one request gets done every 0.1 s, with none under way."""
    pace = Pace(most=most, longest_wait=longest_wait, timer=clock)
    for _ in range(200):
        pace.begin()
        clock.now += 0.1
        pace.end()
    return pace


def test_nobody_waits_where_nothing_is_under_way() -> None:
    """However slow the last one was: the next request is what tells that it is over."""
    clock = _Clock()
    pace = Pace(most=10, longest_wait=0.0, timer=clock)
    pace.begin()
    clock.now += 3_600.0
    pace.end()

    pace.admit()

    assert pace.expected_wait == 0.0


def test_the_expected_wait_is_the_backlog_times_the_time_between_two() -> None:
    """Three under way, one done every 0.1 s."""
    pace = _busy(_Clock())
    for _ in range(3):
        pace.begin()

    assert pace.expected_wait == pytest.approx(0.3)


def test_work_side_by_side_counts_as_what_it_gets_done() -> None:
    """Four that take 0.4 s each and end every 0.1 s are as fast as one that takes 0.1 s."""
    clock = _Clock()
    pace = Pace(most=10, longest_wait=10.0, timer=clock)
    for _ in range(3):
        pace.begin()
    for _ in range(200):
        pace.begin()
        clock.now += 0.1
        pace.end()

    assert pace.expected_wait == pytest.approx(0.3)


def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    """Twenty under way are two seconds of work."""
    pace = _busy(_Clock(), longest_wait=1.95)
    for _ in range(20):
        pace.begin()

    with pytest.raises(TooManyRequests, match=r"a wait of 2\.0 s, expected at most 1\.95 s") as refusal:
        pace.admit()

    assert refusal.value.retry_after == 2
    assert pace.refused == 1


def test_the_bound_holds_whatever_the_wait() -> None:
    """A crowd that arrives before the first is done finds no time to go by."""
    pace = Pace(most=2, longest_wait=1.0, timer=_Clock())
    pace.begin()
    pace.begin()

    with pytest.raises(TooManyRequests, match="2 requests are under way, expected at most 2") as refusal:
        pace.begin()

    assert refusal.value.retry_after == 1
    assert pace.under_way == 2


def test_there_is_room_again_once_the_backlog_is_gone() -> None:
    """Refusing heals by itself."""
    clock = _Clock()
    pace = _busy(clock, longest_wait=0.5)
    for _ in range(6):
        pace.begin()
    with pytest.raises(TooManyRequests):
        pace.admit()

    for _ in range(6):
        clock.now += 0.1
        pace.end()

    pace.admit()
    assert pace.under_way == 0


def test_a_refusal_for_the_number_alone_tells_of_no_wait() -> None:
    """Where no wait is too long there is none to tell of."""
    pace = _busy(_Clock(), most=1, longest_wait=math.inf)
    pace.begin()

    with pytest.raises(TooManyRequests, match=r"^1 requests are under way, expected at most 1: ask again later$"):
        pace.admit()


def test_a_slow_disk_does_not_leave_the_service_idle() -> None:
    """A few may be under way however long they wait; beyond them the wait decides."""
    clock = _Clock()
    pace = Pace(most=10, longest_wait=0.3, timer=clock, least=2)
    for _ in range(20):
        pace.begin()
        clock.now += 1.0
        pace.end()

    pace.begin()
    pace.begin()

    with pytest.raises(TooManyRequests, match=r"a wait of 2\.0 s, expected at most 0\.3 s"):
        pace.begin()
