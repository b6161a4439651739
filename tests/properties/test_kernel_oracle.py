"""The kernel equals the oracle for every feature: window edges, ties, saturation, re-entry, silence, waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.events import FactValue, JourneyEvent
from features.events import parse_timestamp as _moment
from features.journeys import Journey
from features.kernel import new_state
from features.schema import feature_set
from features.taxonomy import Taxonomy
from tests.histories import START_AT, event
from tests.properties.oracle import DAY, HOUR, expected_features

TAXONOMY = Taxonomy.model_validate(
    {
        "version": 1,
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "channels": {
            "web": {"title": "Web", "digital": True},
            "app": {"title": "App", "digital": True, "outbound": True},
            "branch": {"title": "Branch", "digital": False},
        },
        "kinds": {
            "started": {"title": "Started"},
            "uploaded": {"title": "Uploaded", "waiting": "starts"},
            "checked": {"title": "Checked", "role": "operation", "waiting": "ends"},
            "signed": {"title": "Signed", "value_fact": "amount", "facts": {"amount": {"dtype": "number"}}},
            "used": {"title": "Used"},
            "withdrew": {"title": "Withdrew"},
            "rejected": {"title": "Rejected by us", "role": "operation"},
            "called": {"title": "Called", "role": "call"},
            "mailed": {"title": "Mailed", "role": "contact"},
            "clicked": {"title": "Clicked", "role": "response"},
            "rated": {
                "title": "Rated",
                "role": "feedback",
                "facts": {"nps": {"dtype": "number"}, "sentiment": {"dtype": "number"}, "theme": {"dtype": "text"}},
            },
            "shown": {
                "title": "Shown",
                "role": "offer_shown",
                "price_fact": "rate",
                "facts": {"rate": {"dtype": "number"}},
            },
            "taken": {"title": "Taken", "role": "offer_accepted"},
            "declined": {"title": "Declined", "role": "offer_rejected"},
        },
        "themes": {"price": {"title": "Price"}, "waiting": {"title": "Waiting"}},
    }
)
JOURNEY = Journey.model_validate(
    {
        "id": "card",
        "title": "Card",
        "entry": ["started", "signed"],
        "stages": [
            {"id": "applied", "title": "A", "enter": ["started"], "stall_after": "1d", "stall_state": "IDLE"},
            {
                "id": "verified",
                "title": "V",
                "enter": ["checked", "uploaded"],
                "stall_after": "1h",
                "stall_state": "WAIT",
            },
            {"id": "signed", "title": "S", "enter": ["signed"], "stall_after": "7d", "stall_state": "IDLE"},
        ],
        "goal": {"id": "used", "title": "Used", "enter": ["used"]},
        "exits": {"withdrawn": ["withdrew"], "rejected": ["rejected"]},
        "abandon_after": "7d",
        "horizon": "7d",
        "outcomes": [{"id": "used", "title": "Used", "event": "used", "window": "7d", "value": 1.0}],
    }
)
FEATURES = feature_set(TAXONOMY, JOURNEY)
_GAPS = (0, 1, HOUR - 1, HOUR, DAY - 1, DAY, DAY + 1, 2 * DAY, 7 * DAY - 1, 7 * DAY, 7 * DAY + 1, 23 * DAY)
_WINDOWS = (1, HOUR, DAY, 7 * DAY, 30 * DAY)
_FEEDBACK: dict[str, st.SearchStrategy[FactValue]] = {
    "nps": st.floats(0, 10) | st.integers(0, 10).map(float),
    "sentiment": st.floats(-1, 1),
    "theme": st.sampled_from(["price", "waiting", "weather"]),
}
_STARTS = (START_AT, _moment("2026-03-28T23:30:00Z"), _moment("2026-10-24T23:30:00Z"), _moment("2200-06-01T00:00:00Z"))
"""Some day, the nights before the clocks change, and one far ahead."""
_FACTS: dict[str, st.SearchStrategy[dict[str, FactValue]]] = {
    "signed": st.fixed_dictionaries({}, optional={"amount": st.floats(-1e4, 1e4)}),
    "rated": st.fixed_dictionaries({}, optional=_FEEDBACK),
    "shown": st.fixed_dictionaries({}, optional={"rate": st.floats(0, 30)}),
    "outcome_observed": st.fixed_dictionaries({"value": st.floats(-1e4, 1e4)}),
}


@st.composite
def _history(draw: st.DrawFn) -> list[JourneyEvent]:
    """Runs of one kind; the gap between two events is often zero, or the length of a window to the microsecond."""
    events: list[JourneyEvent] = []
    at = draw(st.sampled_from(_STARTS))
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(tuple(TAXONOMY.all_kinds)))
        facts = draw(_FACTS.get(kind, st.just({})))
        channel = draw(st.sampled_from([None, "web", "app", "branch"]))
        at += draw(st.sampled_from(_GAPS))
        gap = draw(st.sampled_from([0, 1, HOUR // 7, HOUR]))
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 17, 130]))):
            events.append(
                event(
                    f"e{draw(st.integers(0, 9))}-{len(events)}",
                    kind=kind,
                    at=at,
                    sequence=draw(st.integers(0, 1)) if gap == 0 else 0,
                    channel=channel,
                    facts=facts,
                )
            )
            at += gap
    return events


def _features(events: list[JourneyEvent], at: int) -> dict[str, float]:
    state = new_state(FEATURES.plan)
    for each in sorted(events, key=lambda one: one.order):
        if each.occurred_at < at:
            FEATURES.fold(state, each)
    return dict(zip(FEATURES.names, FEATURES.vector(state, {}, at).tolist(), strict=True))


def _assert_equal(events: list[JourneyEvent], at: int) -> None:
    expected = expected_features(events, at, TAXONOMY, JOURNEY)
    actual = _features(events, at)
    assert set(actual) == set(expected)
    # Sums of powers and of money are added in another order; everything else is exact well within this.
    different = {
        name: (actual[name], expected[name])
        for name in expected
        if not np.isclose(actual[name], expected[name], rtol=1e-9, atol=1e-7, equal_nan=True)
    }
    assert different == {}


@given(
    events=_history(), pick=st.integers(0, 10**6), window=st.sampled_from(_WINDOWS), nudge=st.sampled_from([-1, 0, 1])
)
@example(events=[event("a", kind="started")], pick=0, window=DAY, nudge=0)
@example(events=[event("a", kind="started")], pick=0, window=7 * DAY, nudge=0)
@example(events=[event("a", kind="started"), event("b", kind="used", at=START_AT + 7 * DAY)], pick=1, window=1, nudge=0)
@settings(deadline=None, max_examples=100)
def test_the_kernel_equals_the_oracle(events: list[JourneyEvent], pick: int, window: int, nudge: int) -> None:
    """At the edge of a window after any event, a microsecond before it and after it, every feature is as defined."""
    _assert_equal(events, events[pick % len(events)].occurred_at + window + nudge)


@given(events=_history(), later=st.sampled_from(_GAPS))
@settings(deadline=None, max_examples=100)
def test_the_kernel_equals_the_oracle_after_everything(events: list[JourneyEvent], later: int) -> None:
    """Having seen the whole history, however much later."""
    _assert_equal(events, events[-1].occurred_at + 1 + later)


def test_nothing_known_is_unknown() -> None:
    """Before the first event, counts are 0 and times NaN, by both."""
    _assert_equal([event("a", kind="started")], START_AT)


def test_the_moment_itself_is_excluded() -> None:
    """An event at the very moment of the read has not happened yet."""
    features = _features([event("a", kind="started")], START_AT)
    assert features["events_total"] == 0.0
    assert np.isnan(features["stage_index"])


@pytest.mark.parametrize(("window", "name"), [(DAY, "customer_events_1d"), (7 * DAY, "customer_events_7d")])
def test_a_window_holds_its_older_edge(window: int, name: str) -> None:
    """An event exactly as old as the window still counts; a microsecond older does not."""
    events = [event("a", kind="used"), replace(event("b", kind="used"), occurred_at=START_AT - 1)]
    assert _features(events, START_AT + window)[name] == 1.0


def test_the_ring_saturates() -> None:
    """More events than the ring keeps count as many as it keeps, in windows only."""
    events = [event(f"e{i}", kind="called", at=START_AT + i) for i in range(130)]
    features = _features(events, START_AT + HOUR)
    assert (features["customer_events_1d"], features["calls_7d"], features["count_called"]) == (128.0, 128.0, 130.0)
    assert features["count_called_1h"] == 128.0


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-03-29T00:59:59.999999Z", 1.0),  # the clock of Berlin goes from 02:00 to 03:00
        ("2026-03-29T01:00:00Z", 3.0),
        ("2026-10-25T00:59:59.999999Z", 2.0),  # and from 03:00 back to 02:00
        ("2026-10-25T01:00:00Z", 2.0),
        ("2026-10-25T02:00:00Z", 3.0),
    ],
)
def test_local_hours_follow_the_clock_of_the_zone(text: str, hour: float) -> None:
    """Across both changes of the clock, at the moment and for what the customer did."""
    at = _moment(text)
    assert _features([], at)["local_hour"] == hour
    assert _features([event("a", kind="used", at=at)], at + 1)["preferred_local_hour"] == hour


def test_a_customer_with_a_hundred_thousand_events_is_counted_in_full() -> None:
    """Nothing in the state grows with the events."""
    events = [event(f"e{i}", kind="called", at=START_AT + i * HOUR, channel="web") for i in range(100_000)]
    features = _features(events, START_AT + 100_000 * HOUR)
    counted = [features[name] for name in ("count_called", "events_on_web", "calls_since_progress", "calls_7d")]
    assert counted == [100_000.0, 100_000.0, 100_000.0, 128.0]
