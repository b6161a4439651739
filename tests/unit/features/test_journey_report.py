"""Figures of the journey report that follow from others, on small logs whose answer is plain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from features.events import JourneyEvent
from features.journey_findings import HotSpot, JourneyReport
from features.journey_question import Question, groupings, question_of
from features.journey_report import goal_value, journey_report
from features.journeys import Journey
from features.taxonomy import Taxonomy
from tests.histories import MINUTE_US, START_AT, TAXONOMY, arrow_events, event, journey

HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


def report_of(events: list[JourneyEvent], taxonomy: Taxonomy = TAXONOMY, **asked: str | int) -> JourneyReport:
    """The report over events, observed up to ten days after the start."""
    end = event("end", customer_id="nobody", kind="called", at=START_AT + 10 * DAY_US)
    return journey_report(arrow_events([*events, end]), taxonomy, journey(), Question(**asked), configuration="c")


def looking(report: JourneyReport) -> HotSpot:
    """The hot spot of the first stage."""
    (spot,) = (one for one in report.hot_spots.by_stage if one.stage == "looking")
    return spot


def visitors(n: int, *, hours: float, name: str, paid: int = 0, channel: str | None = "web") -> Iterator[JourneyEvent]:
    """Customers who visit, apply after so many hours, and of whom some pay an hour later."""
    for i in range(n):
        who = f"{name}-{i}"
        yield event(f"{who}-v", customer_id=who, kind="visited", channel=channel)
        yield event(f"{who}-a", customer_id=who, kind="applied", at=START_AT + int(hours * HOUR_US))
        if i < paid:
            yield event(f"{who}-p", customer_id=who, kind="paid", at=START_AT + int((hours + 1) * HOUR_US))


def test_value_at_risk_is_what_stalled_visits_lose_against_calm_ones() -> None:
    """40 of 100 stall; 30 of 60 calm reach the goal, 8 of 40 stalled: 40 x 10 x (0.5 - 0.2) = 120."""
    events = [*visitors(60, hours=0.5, name="calm", paid=30), *visitors(40, hours=3, name="slow", paid=8)]

    spot = looking(report_of(events))

    assert (spot.visits, spot.stalled) == (100, 40)
    assert (spot.goal_share_calm, spot.goal_share_stalled, spot.stall_rate) == (0.5, 0.2, 0.4)
    assert spot.value_at_risk == pytest.approx(120)
    assert spot.interval is not None
    assert 20 < spot.interval[0] < 120 < spot.interval[1] < 230


def test_hot_spots_are_ranked_by_value_at_risk() -> None:
    """The most at risk first, numbered from one."""
    events = [*visitors(60, hours=0.5, name="calm", paid=30), *visitors(40, hours=3, name="slow", paid=8)]

    spots = report_of(events).hot_spots.by_stage

    # Of 100 in the second stage 38 paid within the hour and 62 never: 62 x 10 x (1 - 0) are at risk there.
    assert [(spot.rank, spot.stage, spot.stalled) for spot in spots] == [(1, "applied", 62), (2, "looking", 40)]
    assert [spot.value_at_risk for spot in spots] == pytest.approx([620, 120])


def test_a_stall_that_costs_no_goals_puts_no_value_at_risk() -> None:
    """Where the stalled do better than the calm, never a negative amount."""
    events = [*visitors(50, hours=0.5, name="calm", paid=5), *visitors(50, hours=3, name="slow", paid=45)]

    spot = looking(report_of(events))

    assert (spot.value_at_risk, spot.interval) == (0.0, (0.0, 0.0))


def test_hot_spots_by_channel_are_of_the_channel_used_last() -> None:
    """Those who came by no channel are a cell of their own, and cells of fewer than thirty are left out."""
    events = [
        *visitors(31, hours=3, name="web"),
        *visitors(30, hours=3, name="none", channel=None),
        *visitors(29, hours=3, name="phone", channel="phone"),
    ]

    spots = [spot for spot in report_of(events).hot_spots.by_channel if spot.stage == "looking"]

    assert [(spot.channel, spot.visits, spot.stalled) for spot in spots] == [("web", 31, 31), (None, 30, 30)]
    # Nobody was calm, so what the stalled lose is unknown, not nothing.
    assert [spot.value_at_risk for spot in spots] == [None, None]


def test_visits_that_are_too_young_are_not_judged() -> None:
    """Half an hour in a stage that stalls after one: neither stalled nor calm, and its time is censored."""
    young = START_AT + 10 * DAY_US - HOUR_US // 2
    events = [*visitors(3, hours=3, name="old"), event("y", customer_id="young", kind="visited", at=young)]

    stage = report_of(events).stages[0]

    assert (stage.entered, stage.open, stage.stalled) == (4, 1, 3)
    assert (stage.stall.n, stage.stall.hits) == (3, 3)


def test_moves_to_a_channel_without_a_cost_are_counted_and_not_priced() -> None:
    """The cost is unknown, never zero; where the taxonomy says it, it is moves times that."""
    events = list(visitors(2, hours=3, name="web"))
    events += [
        event(f"c{i}", customer_id=f"web-{i}", kind="called", channel="phone", at=START_AT + HOUR_US) for i in (0, 1)
    ]
    phone = TAXONOMY.channels["phone"].model_copy(update={"handling_cost": 2.5})
    priced = TAXONOMY.model_copy(update={"channels": {**TAXONOMY.channels, "phone": phone}})

    unknown, known = report_of(events).leaks, report_of(events, priced).leaks

    assert [(one.count, one.cost) for one in unknown.channels] == [(2, None)]
    assert (unknown.stages[0].cost, unknown.stages[0].moves_of_unknown_cost) == (None, 2)
    assert [(one.count, one.cost) for one in known.channels] == [(2, 5.0)]
    assert (known.stages[0].cost, known.stages[0].moves_of_unknown_cost) == (5.0, 0)
    assert (known.stages[0].visits.hits, known.stages[0].visits.n) == (2, 2)


def test_groups_are_compared_each_with_all_others() -> None:
    """By the attribute told last: gold pays 30 of 40, basic 10 of 40, and one told nothing."""
    events = [
        *visitors(40, hours=0.5, name="gold", paid=30),
        *visitors(40, hours=0.5, name="basic", paid=10),
        *visitors(1, hours=0.5, name="other"),
    ]
    for name in ("gold", "basic"):
        told = [
            event(f"{name}{i}t", customer_id=f"{name}-{i}", kind="profile_updated", facts={"tier": name})
            for i in range(40)
        ]
        events += told

    groups = report_of(events, group_by="tier").groups

    assert groups is not None
    assert [(one.group, one.instances) for one in groups.groups] == [("basic", 40), ("gold", 40), (None, 1)]
    basic, gold, _ = (one.goal for one in groups.groups)
    assert (basic.share.share, gold.share.share) == (0.25, 0.75)
    assert gold.difference == pytest.approx(30 / 40 - 10 / 41)
    assert gold.q_value is not None
    assert gold.q_value < 0.001
    assert gold.interval is not None
    assert gold.interval[0] > 0.2


def test_nps_bands_are_of_the_last_score() -> None:
    """6 is a detractor, 7 and 8 are passive, 9 is a promoter; a later score counts more than an earlier one."""
    events = list(visitors(5, hours=3, name="c"))
    scores = {"c-0": [6], "c-1": [7], "c-2": [8], "c-3": [9], "c-4": [10, 0]}
    for who, given in scores.items():
        for i, score in enumerate(given):
            facts: dict[str, str | float | bool] = {"nps": float(score)}
            at = START_AT + (i + 1) * MINUTE_US
            events.append(event(f"{who}n{i}", customer_id=who, kind="surveyed", at=at, facts=facts))

    groups = report_of(events, group_by="nps_band").groups

    assert groups is not None
    assert {one.group: one.instances for one in groups.groups} == {"detractor": 2, "passive": 2, "promoter": 1}


def test_progress_after_an_event_on_a_channel_is_within_a_day() -> None:
    """Not the progress that the event itself was, not later than a day, and only of events a day before the end."""
    late = START_AT + 10 * DAY_US - HOUR_US
    events = [
        *visitors(2, hours=3, name="soon"),
        *visitors(1, hours=30, name="later"),
        event("now", customer_id="now", kind="visited", channel="web", at=late),
    ]

    web = report_of(events).channels[0]

    assert (web.channel, web.events, web.customers) == ("web", 4, 4)
    assert (web.instances.hits, web.instances.n) == (4, 4)
    assert (web.progress_24h.hits, web.progress_24h.n) == (2, 3)


def _with_outcomes(*outcomes: dict[str, object]) -> Journey:
    declared = [{"title": "t", "window": "1d", **one} for one in outcomes]
    return Journey.model_validate({**journey().model_dump(exclude={"outcomes"}), "outcomes": declared})


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (({"id": "a", "event": "applied", "value": 90}, {"id": "p", "event": "paid", "value": 5}), ("p", 5.0)),
        (({"id": "a", "event": "applied", "value": 2}, {"id": "b", "event": "called", "value": 3}), ("b", 3.0)),
        (({"id": "g", "event": "progress", "value": 50}, {"id": "a", "event": "applied", "value": 2}), ("a", 2.0)),
        (({"id": "g", "event": "progress", "value": 50},), ("g", 50.0)),
        (({"id": "s", "event": "paid", "value": 1, "type": "continuous"},), (None, None)),
    ],
)
def test_the_value_of_the_goal(
    outcomes: tuple[dict[str, object], ...], expected: tuple[str | None, float | None]
) -> None:
    """The outcome that is the goal, else the largest that is not progress, else progress, else unknown."""
    found = goal_value(_with_outcomes(*outcomes))

    assert (found.outcome_id, found.value) == expected


def test_what_can_be_grouped_by() -> None:
    """Categories and booleans that are not personal; numbers and texts are not."""
    assert groupings(TAXONOMY) == ("channel", "nps_band", "member", "tier")


def test_words_become_a_question() -> None:
    """With times in microseconds, and what was not asked left as it is."""
    asked = question_of(TAXONOMY, since="1970-01-01T00:00:01Z", top="7")

    assert asked == Question(since=1_000_000, top=7)
