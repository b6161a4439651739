"""Moments and their labels, against histories made by hand."""

import numpy as np

from features.events import JourneyEvent
from features.history import whole_table
from tests.histories import FEATURES, MINUTE_US, START_AT, TAXONOMY, arrow_events, event
from training.moments import HOUR_US, Moments, labelled_moments

DAY_US = 24 * HOUR_US
IDLE_US = [HOUR_US, 6 * HOUR_US, DAY_US, 2 * DAY_US, 4 * DAY_US]
LONG_AFTER = START_AT + 400 * DAY_US


def moments_of(events: list[JourneyEvent], *, observed_until: int = LONG_AFTER) -> Moments:
    """The moments of a history, with a horizon of one day; silence ends the journey after two."""
    return labelled_moments(
        whole_table(arrow_events(events), TAXONOMY),
        FEATURES,
        idle_us=IDLE_US,
        horizon_us=DAY_US,
        observed_until=observed_until,
    )


def offsets(moments: Moments) -> list[int]:
    """The moments, counted from the start."""
    return [int(at) - START_AT for at in moments.at]


def test_a_row_after_the_event_and_at_idle_checkpoints_while_the_journey_is_open() -> None:
    """One event gives a row right after it and one at each checkpoint up to the end of the journey by silence."""
    moments = moments_of([event("e1")])
    assert offsets(moments) == [1, HOUR_US, 6 * HOUR_US, DAY_US, 2 * DAY_US]


def test_no_checkpoint_after_a_newer_event() -> None:
    """A newer event ends the checkpoints of the one before and starts its own."""
    moments = moments_of([event("e1"), event("e2", kind="called", at=START_AT + 2 * HOUR_US)])
    after = 2 * HOUR_US
    assert offsets(moments) == [
        1,
        HOUR_US,
        after + 1,
        after + HOUR_US,
        after + 6 * HOUR_US,
        after + DAY_US,
        after + 2 * DAY_US,
    ]


def test_events_of_one_time_give_one_row() -> None:
    """Tied events are known together."""
    moments = moments_of([event("e1"), event("e2", kind="called", sequence=1)])
    assert offsets(moments)[:2] == [1, HOUR_US]


def test_no_row_outside_a_journey() -> None:
    """Before the entry and after the goal nobody is in the journey."""
    before = event("e1", kind="called")
    entered = event("e2", at=START_AT + HOUR_US * 2)
    paid = event("e3", kind="paid", at=START_AT + HOUR_US * 2 + 10 * MINUTE_US)
    moments = moments_of([before, entered, paid])
    assert offsets(moments) == [2 * HOUR_US + 1]


def test_progress_within_the_horizon_is_its_end_included() -> None:
    """``(t, t + H]``: progress exactly a horizon after the moment counts, a microsecond later it does not."""
    at_the_end = moments_of([event("e1"), event("e2", kind="applied", at=START_AT + 1 + DAY_US)])
    just_after = moments_of([event("e1"), event("e2", kind="applied", at=START_AT + 2 + DAY_US)])
    assert (at_the_end.progressed[0], just_after.progressed[0]) == (True, False)


def test_skipping_a_stage_is_progress() -> None:
    """Entering a later stage counts, though it is not the next."""
    moments = moments_of([event("e1"), event("e2", kind="uploaded", at=START_AT + HOUR_US)])
    assert moments.progressed[0]


def test_going_back_is_no_progress() -> None:
    """A return to an earlier stage is a loop."""
    events = [
        event("e1"),
        event("e2", kind="uploaded", at=START_AT + HOUR_US),
        event("e3", kind="applied", at=START_AT + 2 * HOUR_US),
    ]
    moments = moments_of(events)
    after_upload = moments.at == START_AT + HOUR_US + 1
    assert moments.progressed[after_upload].tolist() == [False]


def test_an_exit_is_an_abandonment_and_no_progress() -> None:
    """A declared exit within the horizon."""
    moments = moments_of([event("e1"), event("e2", kind="declined", at=START_AT + HOUR_US * 3)])
    assert (moments.progressed.tolist(), moments.abandoned.tolist()) == ([False, False], [True, True])


def test_progress_after_an_exit_belongs_to_another_instance() -> None:
    """A journey that is left and entered again within the horizon did not progress."""
    events = [
        event("e1"),
        event("e2", kind="declined", at=START_AT + HOUR_US),
        event("e3", at=START_AT + 2 * HOUR_US),
        event("e4", kind="applied", at=START_AT + 3 * HOUR_US),
    ]
    moments = moments_of(events)
    assert moments.at[0] == START_AT + 1
    assert (moments.progressed[0], moments.abandoned[0]) == (False, True)


def test_silence_is_an_abandonment_once_it_falls_into_the_horizon() -> None:
    """Silence longer than two days ends it: a day after the event that is still beyond a horizon of a day."""
    moments = moments_of([event("e1")])
    assert moments.abandoned.tolist() == [False, False, False, False, True]


def test_what_we_do_does_not_break_the_silence() -> None:
    """Only the customer's own events do; ours give a row, but the journey ends when it would have."""
    moments = moments_of([event("e1"), event("e2", kind="checked", at=START_AT + 47 * HOUR_US)])
    assert offsets(moments)[-2:] == [47 * HOUR_US + 1, 48 * HOUR_US]


def test_progress_after_a_long_silence_is_none() -> None:
    """An event after the journey has ended by silence does not progress it."""
    moments = moments_of([event("e1"), event("e2", kind="applied", at=START_AT + 49 * HOUR_US)])
    assert not moments.progressed.any()


def test_windows_that_are_not_over_are_left_out() -> None:
    """A moment is censored when its horizon ends after the observation, even if progress was seen."""
    events = [event("e1"), event("e2", kind="applied", at=START_AT + 2 * HOUR_US)]
    moments = moments_of(events, observed_until=START_AT + DAY_US + HOUR_US)
    assert offsets(moments) == [1, HOUR_US]


def test_an_event_gives_a_row_when_it_becomes_known() -> None:
    """A late event is a moment at its arrival, not at its own time; the label knows when it really happened."""
    events = [event("e1"), event("e2", kind="applied", at=START_AT + HOUR_US // 2, arrived_at=START_AT + 3 * HOUR_US)]
    moments = moments_of(events)
    assert offsets(moments)[:3] == [1, HOUR_US, 3 * HOUR_US + 1]
    assert moments.progressed[:2].tolist() == [True, False]
    assert np.array_equal(moments.stage[:3], [0, 1, 1])
