"""Moments: a decision is after every arrival that it can see, and before every other one, whatever the clock does."""

from __future__ import annotations

import threading

import pytest

from features.event_log import MemoryEventLog
from features.moments import Moments, SharedMoments
from tests.histories import event


def _arrived(moments: Moments, now: int) -> int:
    with moments.arriving(["c1"], now=now) as at:
        return at


def test_a_clock_that_runs_is_believed() -> None:
    """Where nothing came in between, moments are what the clock says."""
    moments = Moments()

    assert (_arrived(moments, 100), moments.question(200), _arrived(moments, 300)) == (100, 200, 300)


def test_a_question_is_after_what_arrived_in_its_microsecond() -> None:
    """What arrived in the same microsecond, and can be seen, had arrived strictly before."""
    moments = Moments()

    arrived, asked = _arrived(moments, 100), moments.question(100)

    assert (arrived, asked) == (100, 101)


def test_an_arrival_is_never_before_a_question_that_did_not_see_it() -> None:
    """A clock that steps back cannot put an arrival before a decision that was made without it."""
    moments = Moments()

    asked, arrived = moments.question(1_000), _arrived(moments, 400)

    assert (asked, arrived) == (1_000, 1_000)


def test_arrivals_never_go_back() -> None:
    """The order of their moments is the order in which they came, and a later question is after all of them."""
    moments = Moments()

    arrived = [_arrived(moments, now) for now in (1_000, 400, 401, 2_000)]

    assert arrived == [1_000, 1_000, 1_000, 2_000]
    assert moments.question(0) == 2_001


def test_a_process_goes_on_where_the_last_one_stopped() -> None:
    """Also a clock that stepped back between two processes is seen through."""
    moments = Moments(after=5_000)

    assert (moments.question(10), _arrived(moments, 20)) == (5_001, 5_001)


def test_a_question_waits_for_what_is_on_its_way_into_the_log() -> None:
    """What arrived before it was asked is seen, though its commit takes longer than the asking."""
    moments = Moments()
    order: list[str] = []

    def ask() -> None:
        moments.settle(["c1"], before=moments.question(200))
        order.append("settled")

    with moments.arriving(["c2", "c1"], now=100):
        asking = threading.Thread(target=ask)
        asking.start()
        order.append("kept")
    asking.join()

    assert order == ["kept", "settled"]


@pytest.mark.parametrize(("customer_id", "before"), [("c9", 200), ("c1", 100)])
def test_only_what_can_be_seen_is_waited_for(customer_id: str, before: int) -> None:
    """Neither another customer's events nor those that arrive later keep a question waiting."""
    moments = Moments()

    with moments.arriving(["c1"], now=100):
        moments.settle([customer_id], before=before)

    assert moments.newest_arrival == 100


def test_an_append_that_fails_keeps_nobody_waiting() -> None:
    """Its events will never be in the log."""
    moments = Moments()

    with pytest.raises(OSError, match="full"), moments.arriving(["c1"], now=100):
        raise OSError("disk full")

    moments.settle(["c1"], before=moments.question(200))
    assert moments.question(100) == 101


def test_what_arrived_since_a_moment_is_known_by_customer() -> None:
    """Also while it is on its way; what arrived before the moment, or for others, does not count."""
    moments = Moments()
    _arrived(moments, 100)

    with moments.arriving(["c2"], now=200):
        told = [
            moments.has_arrived([one], since=at, position=1)
            for one, at in (("c1", 100), ("c1", 101), ("c2", 200), ("c2", 201))
        ]

    assert told == [True, False, True, False]


def test_what_is_too_long_ago_to_be_known_may_have_arrived() -> None:
    """Memory is bounded: before the oldest arrival that is remembered everything may have been."""
    moments = Moments()
    for i in range(3):
        with moments.arriving([f"c{i}-{j}" for j in range(50_000)], now=100 + i):
            pass

    assert [moments.has_arrived(["nobody"], since=at, position=1) for at in (100, 101)] == [True, False]


def test_shared_moments_go_by_the_log() -> None:
    """A question is later than all that arrived, in whichever process; an arrival later still, and than the clock."""
    log, now = MemoryEventLog(), [1_000]
    one, other = (SharedMoments(log, lambda: now[0]) for _ in range(2))

    log.append([event("a", arrived_at=5_000)], stamp=one.stamp)
    asked = other.question(4_000)
    log.append([event("b", arrived_at=4_000)], stamp=other.stamp)
    now[0] = 9_000
    log.append([event("c", arrived_at=4_000)], stamp=one.stamp)

    assert asked == 5_001
    assert [log.arrived_at(position) for position in (1, 2, 3)] == [5_000, 5_001, 9_000]
    assert [other.has_arrived(["c1"], since=asked, position=position) for position in (1, 2, 3)] == [False, True, True]
    assert not other.is_under_way(["c1"])
