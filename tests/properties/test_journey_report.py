"""The journey report equals a slow, obvious walk over each customer's events, however the tables are cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import JourneyEvent
from features.journey_findings import JourneyReport
from features.journey_question import Question
from features.journey_report import journey_report
from tests.histories import MINUTE_US, START_AT, TAXONOMY, arrow_events, journey, random_history

JOURNEY = journey()
STAGES = ("visited", "applied", "uploaded")
STEPS = ("looking", "applied", "uploaded", "customer")
STALL_US = [60 * MINUTE_US, 120 * MINUTE_US, 120 * MINUTE_US]
ABANDON_US = 2 * 24 * 60 * MINUTE_US
OWN = ("visited", "applied", "uploaded", "paid", "called", "surveyed")
BOOKKEEPING = ("profile_updated", "consent_changed", "outcome_observed", "decision_overridden")


@dataclass
class Visit:
    """One stay in a stage."""

    stage: int
    entered_at: int
    ended_at: int = 0
    end: str = "open"
    loops: int = 0


@dataclass
class Way:
    """One instance: its visits, and its events with the visit that each came in."""

    visits: list[Visit]
    events: list[tuple[JourneyEvent, Visit]]
    deviations: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Walked:
    """All ways of one customer, and events of the journey while none was open."""

    ways: list[Way] = field(default_factory=list)
    outside: list[tuple[str, str]] = field(default_factory=list)


def walked(events: Sequence[JourneyEvent], until: int) -> Walked:
    """The ways of one customer, from the definitions alone: events in order, one after another."""
    found, way, status, heard = Walked(), None, "never_entered", 0
    for one in events:
        if way is not None and one.occurred_at > heard + ABANDON_US:
            close(way, heard + ABANDON_US, "abandoned")
            way, status = None, "abandoned"
        if way is None:
            if one.kind == "visited":
                visit = Visit(0, one.occurred_at)
                way = Way([visit], [(one, visit)])
                found.ways.append(way)
            elif one.kind in (*STAGES, "paid", "declined"):
                found.outside.append((status, one.kind))
        else:
            visit = way.visits[-1]
            way.events.append((one, visit))
            target = {**{kind: i for i, kind in enumerate(STAGES)}, "paid": 3}.get(one.kind, -1)
            if one.kind == "declined":
                close(way, one.occurred_at, "exit:declined")
                way, status = None, "left"
            elif target > visit.stage:
                if target > visit.stage + 1:
                    way.deviations.append(("skipped", STEPS[visit.stage], STEPS[target]))
                close(way, one.occurred_at, STEPS[target])
                if target == 3:
                    way, status = None, "goal_reached"
                else:
                    way.visits.append(Visit(target, one.occurred_at))
            elif target >= 0:
                visit.loops += 1
                if target < visit.stage:
                    way.deviations.append(("backwards", STEPS[visit.stage], STEPS[target]))
        if one.kind in OWN:
            heard = one.occurred_at
    if way is not None:
        gone = until > heard + ABANDON_US
        close(way, heard + ABANDON_US if gone else until, "abandoned" if gone else "open")
    return found


def close(way: Way, at: int, end: str) -> None:
    """End the visit that goes on."""
    way.visits[-1].ended_at, way.visits[-1].end = at, end


def all_walked(events: list[JourneyEvent], until: int) -> dict[str, Walked]:
    """The ways of every customer."""
    customers = sorted({one.customer_id for one in events})
    ordered = sorted((one for one in events if one.occurred_at <= until), key=lambda one: one.order)
    return {customer: walked([one for one in ordered if one.customer_id == customer], until) for customer in customers}


def ways_of(found: dict[str, Walked]) -> Iterator[Way]:
    """Every way of every customer."""
    for one in found.values():
        yield from one.ways


def report_of(
    events: list[JourneyEvent], question: Question | None = None, *, events_per_table: int = 1_000
) -> JourneyReport:
    """The report over events."""
    return journey_report(
        arrow_events(events),
        TAXONOMY,
        JOURNEY,
        question or Question(top=1_000),
        configuration="c",
        events_per_table=events_per_table,
    )


def end_of(events: list[JourneyEvent]) -> int:
    """When the newest event occurred."""
    return max(one.occurred_at for one in events)


histories = given(seed=st.integers(0, 100_000), minutes=st.sampled_from([600, 6_000, 30_000]))
looks = settings(max_examples=40, deadline=None)


@looks
@histories
def test_stages_and_transitions_equal_the_slow_walk(seed: int, minutes: int) -> None:
    """Entered, progressed, exited, abandoned, open, looped and stalled visits, and every edge between steps."""
    events = random_history(seed, n_customers=4, n_events=80, minutes=minutes)
    found = all_walked(events, end_of(events))
    visits = [visit for way in ways_of(found) for visit in way.visits]

    report = report_of(events)

    for i, stage in enumerate(report.stages):
        mine = [visit for visit in visits if visit.stage == i]
        ends = Counter(visit.end for visit in mine)
        assert stage.entered == len(mine)
        assert stage.progressed == sum(ends[step] for step in STEPS)
        assert (stage.exited, stage.abandoned, stage.open) == (ends["exit:declined"], ends["abandoned"], ends["open"])
        assert stage.looped == sum(visit.loops > 0 for visit in mine)
        assert stage.stalled == sum(visit.ended_at - visit.entered_at >= STALL_US[i] for visit in mine)
        assert stage.stall.n == sum(visit.entered_at + STALL_US[i] <= end_of(events) for visit in mine)
    edges = Counter((STEPS[visit.stage], visit.end) for visit in visits if visit.end != "open")
    edges["entry", "looking"] = sum(len(one.ways) for one in found.values())
    assert {(one.from_step, one.to_step): one.count for one in report.steps} == {k: n for k, n in edges.items() if n}


@looks
@histories
def test_events_equal_the_slow_walk(seed: int, minutes: int) -> None:
    """Pairs of steps, repeats, there and back, leaks, loops, deviations and events outside of instances."""
    events = random_history(seed, n_customers=4, n_events=80, minutes=minutes)
    found = all_walked(events, end_of(events))
    pairs: Counter[tuple[str, str]] = Counter()
    back: Counter[tuple[str, ...]] = Counter()
    leaks: Counter[tuple[str, str, str]] = Counter()
    for way in ways_of(found):
        kinds = [one.kind for one, _ in way.events if one.kind not in BOOKKEEPING]
        pairs.update(pairwise(kinds))
        triples = zip(kinds, kinds[1:], kinds[2:], strict=False)
        back.update(tuple(sorted((a, b))) for a, b, c in triples if a == c != b)
        own = [(one.channel, visit) for one, visit in way.events if one.kind in OWN and one.channel]
        for (before, _), (after, visit) in pairwise(own):
            if (before, after) == ("web", "phone"):
                leaks[STEPS[visit.stage], before, after] += 1

    report = report_of(events)

    assert {(one.from_kind, one.to_kind): one.count for one in report.kinds.shown} == pairs
    assert {one.kind: one.count for one in report.loops.repeats} == {a: n for (a, b), n in pairs.items() if a == b}
    assert {tuple(sorted(one.kinds)): one.count for one in report.loops.ping_pongs} == back
    assert {(one.stage, one.from_channel, one.to_channel): one.count for one in report.leaks.channels} == leaks
    loops = sum(visit.loops for way in ways_of(found) for visit in way.visits)
    assert sum(one.count for one in report.loops.steps) == loops
    deviations = Counter(one for way in ways_of(found) for one in way.deviations)
    assert {
        (one.deviation, one.from_step, one.to_step): one.count for one in report.conformance.deviations
    } == deviations
    conforming = sum(not way.deviations for way in ways_of(found))
    assert (report.conformance.conforming.hits, report.conformance.conforming.n) == (
        conforming,
        sum(1 for _ in ways_of(found)),
    )
    outside = Counter(one for each in found.values() for one in each.outside)
    assert {(one.status, one.kind): one.count for one in report.conformance.outside} == outside


@looks
@given(
    seed=st.integers(0, 100_000),
    size=st.sampled_from([1, 7, 40]),
    group_by=st.sampled_from(["channel", "nps_band", "tier", "member"]),
)
def test_how_tables_are_cut_changes_nothing(seed: int, size: int, group_by: str) -> None:
    """Byte for byte, intervals included: so the size of the tables is only a matter of memory."""
    events = random_history(seed, n_customers=12, n_events=200)
    question = Question(group_by=group_by)

    whole, cut = (report_of(events, question, events_per_table=n) for n in (10_000, size))

    assert msgspec.json.encode(cut) == msgspec.json.encode(whole)


@looks
@given(seed=st.integers(0, 100_000), share=st.sampled_from([0.2, 0.5, 0.9]))
def test_an_earlier_end_is_the_log_as_it_was_to_happen(seed: int, share: float) -> None:
    """Up to ``until`` is the same as a log that holds nothing later, whenever its events arrived."""
    events = random_history(seed, n_customers=4, n_events=80)
    times = sorted(one.occurred_at for one in events)
    until = times[int(share * (len(times) - 1))]

    cut = report_of(events, Question(until=until, top=1_000))

    assert cut == report_of([one for one in events if one.occurred_at <= until])


@looks
@histories
def test_totals_add_up(seed: int, minutes: int) -> None:
    """Instances and visits are the sums of what became of them, and groups hold every instance once."""
    events = random_history(seed, n_customers=4, n_events=80, minutes=minutes)
    middle = int(np.median([one.occurred_at for one in events]))

    report = report_of(events, Question(since=middle, group_by="tier"))

    ways = report.instances
    assert ways.entered == ways.reached_goal + ways.exited + ways.abandoned + ways.open
    assert ways.entered == sum(
        way.visits[0].entered_at >= middle for way in ways_of(all_walked(events, end_of(events)))
    )
    for stage in report.stages:
        assert stage.entered == stage.progressed + stage.exited + stage.abandoned + stage.open
    assert report.groups is not None
    assert sum(group.instances for group in report.groups.groups) == ways.entered
    assert sum(pool.count for pool in report.stuck) <= ways.open


@pytest.mark.parametrize("until", [START_AT - 1, START_AT - 10**15])
def test_an_end_before_all_events_reports_nothing(until: int) -> None:
    """No instance, and no share made of nothing."""
    report = report_of(random_history(1), Question(until=until))

    assert (report.events, report.instances.entered, report.steps) == (0, 0, ())
    assert report.conformance.conforming.share is None
