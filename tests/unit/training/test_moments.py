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
    """The moments of a history; silence ends the journey after two days."""
    return labelled_moments(
        whole_table(arrow_events(events), TAXONOMY), FEATURES, idle_us=IDLE_US, observed_until=observed_until
    )


def progressed(moments: Moments) -> list[bool]:
    """Within one day."""
    return moments.after.progressed(DAY_US).tolist()


def abandoned(moments: Moments) -> list[bool]:
    """Within one day."""
    return moments.after.abandoned(DAY_US).tolist()


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
    assert (progressed(at_the_end)[0], progressed(just_after)[0]) == (True, False)


def test_skipping_a_stage_is_progress() -> None:
    """Entering a later stage counts, though it is not the next."""
    moments = moments_of([event("e1"), event("e2", kind="uploaded", at=START_AT + HOUR_US)])
    assert progressed(moments)[0]


def test_going_back_is_no_progress() -> None:
    """A return to an earlier stage is a loop."""
    events = [
        event("e1"),
        event("e2", kind="uploaded", at=START_AT + HOUR_US),
        event("e3", kind="applied", at=START_AT + 2 * HOUR_US),
    ]
    moments = moments_of(events)
    after_upload = moments.at == START_AT + HOUR_US + 1
    assert np.array(progressed(moments))[after_upload].tolist() == [False]


def test_an_exit_is_an_abandonment_and_no_progress() -> None:
    """A declared exit within the horizon."""
    moments = moments_of([event("e1"), event("e2", kind="declined", at=START_AT + HOUR_US * 3)])
    assert (progressed(moments), abandoned(moments)) == ([False, False], [True, True])


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
    assert (progressed(moments)[0], abandoned(moments)[0]) == (False, True)


def test_silence_is_an_abandonment_once_it_falls_into_the_horizon() -> None:
    """Silence longer than two days ends it: a day after the event that is still beyond a horizon of a day."""
    moments = moments_of([event("e1")])
    assert abandoned(moments) == [False, False, False, False, True]


def test_what_we_do_does_not_break_the_silence() -> None:
    """Only the customer's own events do; ours give a row, but the journey ends when it would have."""
    moments = moments_of([event("e1"), event("e2", kind="checked", at=START_AT + 47 * HOUR_US)])
    assert offsets(moments)[-2:] == [47 * HOUR_US + 1, 48 * HOUR_US]


def test_progress_after_a_long_silence_is_none() -> None:
    """An event after the journey has ended by silence does not progress it."""
    moments = moments_of([event("e1"), event("e2", kind="applied", at=START_AT + 49 * HOUR_US)])
    assert progressed(moments) == [False] * len(moments)


def test_windows_that_are_not_over_are_censored() -> None:
    """A moment is kept for as long as it was observed; whether the horizon is known says the rest."""
    events = [event("e1"), event("e2", kind="applied", at=START_AT + 2 * HOUR_US)]
    moments = moments_of(events, observed_until=START_AT + DAY_US + HOUR_US)
    assert offsets(moments) == [1, HOUR_US, 2 * HOUR_US + 1, 3 * HOUR_US, 8 * HOUR_US]
    assert moments.after.is_known(DAY_US).tolist() == [True, True, False, False, False]


def test_what_lies_beyond_the_observation_did_not_happen_yet() -> None:
    """Progress that the log holds already, but after the end of observation, is not told."""
    events = [event("e1"), event("e2", kind="applied", at=START_AT + 2 * HOUR_US)]
    moments = moments_of(events, observed_until=START_AT + HOUR_US + 30 * MINUTE_US)
    assert np.isinf(moments.after.progress).all()


def test_the_next_contact_is_told() -> None:
    """Contacts end the observation of those who are left alone; what comes after each is counted anew."""
    events = [event("e1"), event("e2", kind="action_exposed", at=START_AT + 3 * HOUR_US, facts={"action_id": "nudge"})]
    moments = moments_of(events)
    assert moments.after.contact[:2].tolist() == [3 * HOUR_US - 1, 2 * HOUR_US]
    assert np.isinf(moments.after.contact[2:]).all()


def test_cutting_the_observation_short_forgets_what_came_after() -> None:
    """As if the history had been looked at then."""
    moments = moments_of([event("e1"), event("e2", kind="applied", at=START_AT + 2 * HOUR_US)])
    early = moments.after.where(np.array([0, 1])).until(np.array([1.5 * HOUR_US, 1.5 * HOUR_US]))
    assert early.progress.tolist() == [np.inf, HOUR_US]
    assert early.observed.tolist() == [1.5 * HOUR_US] * 2


def test_an_event_gives_a_row_when_it_becomes_known() -> None:
    """A late event is a moment at its arrival, not at its own time; the label knows when it really happened."""
    events = [event("e1"), event("e2", kind="applied", at=START_AT + HOUR_US // 2, arrived_at=START_AT + 3 * HOUR_US)]
    moments = moments_of(events)
    assert offsets(moments)[:3] == [1, HOUR_US, 3 * HOUR_US + 1]
    assert progressed(moments)[:2] == [True, False]
    assert np.array_equal(moments.stage[:3], [0, 1, 1])
