"""The shapes of the journey report. Unknown numbers are None, never zero; nothing heavy is imported."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Interval: TypeAlias = tuple[float, float]

REPORT_FORMAT: Final = 1
"""Raised when the meaning of a figure changes; a report that was kept under another is not given again."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share with its interval.

    Attributes:
        n: rows it is a share of; only those followed long enough to be judged.
        hits: rows among them that count.
        share: hits over n; None where n is 0.
        interval: 95 %, by customer; None where n is 0.
    """

    n: int
    hits: int
    share: float | None
    interval: Interval | None


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """How long something takes, in hours, within 1 %; None where it was never seen, or not yet by so many.

    Attributes:
        median: half took no longer.
        p90: nine of ten took no longer.
    """

    median: float | None
    p90: float | None


class InstanceTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Ways through the journey, by how they ended: ``entered`` is the sum of the others."""

    entered: int
    reached_goal: int
    exited: int
    abandoned: int
    open: int


class StepEdge(msgspec.Struct, frozen=True, kw_only=True):
    """Going from one declared step to another.

    Attributes:
        from_step: a stage, or ``entry``.
        to_step: a stage, the goal, ``exit:<name>``, or ``abandoned``.
        dwell_hours: time in the first of them, of those who took this way.
    """

    from_step: str
    to_step: str
    count: int
    customers: int
    dwell_hours: Hours


class KindEdge(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of event directly after another, inside an instance."""

    from_kind: str
    to_kind: str
    count: int
    customers: int
    gap_hours: Hours


class KindGraph(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent edges between kinds of events.

    Attributes:
        count: pairs of events on all edges.
        edges: how many different edges there are.
        share_shown: share of the pairs that the shown edges hold; None where there are none.
        shown: the most frequent first.
    """

    count: int
    edges: int
    share_shown: float | None
    shown: tuple[KindEdge, ...]


class StageFlow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the visits to a stage: ``entered`` is progressed + exited + abandoned + open.

    Attributes:
        progressed: left for a later stage or the goal.
        looped: visits with a return to this or an earlier stage; whatever became of them.
        open: going on at the end of the observation: censored, not failed.
        stalled: visits that lasted ``stall_after`` or longer, whatever became of them.
        stall: of the visits that began at least ``stall_after`` ago, those that stalled.
        drop_off: of the visits that began at least ``abandon_after`` ago, those that ended without progress.
        dwell_hours: time in the stage until it is left in any way, by Kaplan-Meier.
    """

    stage: str
    title: str
    stall_state: str
    stall_after_hours: float
    entered: int
    customers: int
    progressed: int
    exited: int
    abandoned: int
    open: int
    looped: int
    stalled: int
    stall: Share
    drop_off: Share
    dwell_hours: Hours


class HotSpot(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journey stalls, and what that costs.

    Attributes:
        rank: 1 for the most value at risk, then by stalled visits.
        channel: the channel used last when the visit began; None where there was none, or it is not looked at.
        state: the state of the customer when the visit stalled; None where it is not looked at.
        visits: those that began at least ``stall_after`` ago.
        stalled: those of them that stalled, in this state.
        stall_rate: stalled over visits.
        goal_share_stalled: of stalled visits, those from which the goal was reached within ``abandon_after``.
        goal_share_calm: the same of the visits that did not stall.
        value_at_risk: visits x stall rate x value x (goal share of the calm - of the stalled), at least 0; None where
            a share or the value is unknown.
        interval: 95 %, by a bootstrap over customers; None where the value at risk is.
    """

    rank: int
    stage: str
    channel: str | None
    state: str | None
    visits: int
    stalled: int
    stall_rate: float
    goal_share_stalled: float | None
    goal_share_calm: float | None
    value_at_risk: float | None
    interval: Interval | None


class HotSpots(msgspec.Struct, frozen=True, kw_only=True):
    """Hot spots in three cuts of the same visits.

    Attributes:
        smallest: cells of fewer visits are left out.
        by_stage: each stage.
        by_channel: each stage and channel used last when it was entered.
        by_state: each stage and state of the customer when the visit stalled.
    """

    smallest: int
    by_stage: tuple[HotSpot, ...]
    by_channel: tuple[HotSpot, ...]
    by_state: tuple[HotSpot, ...]


class LeakStep(msgspec.Struct, frozen=True, kw_only=True):
    """What the customer did before and after a move to an offline channel."""

    from_kind: str
    to_kind: str
    count: int


class ChannelLeak(msgspec.Struct, frozen=True, kw_only=True):
    """Moves from one digital channel to one offline channel, in one stage.

    Attributes:
        count: moves.
        visits: of the visits that used the digital channel, those that moved from it to this offline one.
        cost: moves times the handling cost of the offline channel; None where the taxonomy does not say it.
        steps: the most frequent steps before and after.
    """

    stage: str
    from_channel: str
    to_channel: str
    count: int
    customers: int
    visits: Share
    cost: float | None
    steps: tuple[LeakStep, ...]


class StageLeak(msgspec.Struct, frozen=True, kw_only=True):
    """All moves from digital to offline channels in one stage.

    Attributes:
        visits: of the visits that used a digital channel, those that moved to an offline one.
        cost: of the moves whose cost is known; None where that is none of them.
        moves_of_unknown_cost: moves to channels without a handling cost.
    """

    stage: str
    count: int
    visits: Share
    cost: float | None
    moves_of_unknown_cost: int


class Leaks(msgspec.Struct, frozen=True, kw_only=True):
    """Where the journey leaks to offline channels, the most frequent first."""

    stages: tuple[StageLeak, ...]
    channels: tuple[ChannelLeak, ...]


class LoopStep(msgspec.Struct, frozen=True, kw_only=True):
    """A return to a stage that had been entered already.

    Attributes:
        stage: where the customer was.
        kind: the event that went back.
    """

    stage: str
    kind: str
    count: int
    customers: int


class StageLoops(msgspec.Struct, frozen=True, kw_only=True):
    """What looping goes with in a stage: a difference between visits, not an effect.

    Attributes:
        looped: visits with a return.
        dwell_hours_looped: their time in the stage, by Kaplan-Meier.
        dwell_hours_straight: that of the others.
        extra_median_hours: difference of the medians; None where either is not reached.
    """

    stage: str
    looped: int
    dwell_hours_looped: Hours
    dwell_hours_straight: Hours
    extra_median_hours: float | None


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of event directly after itself, inside an instance."""

    kind: str
    count: int
    customers: int
    gap_hours: Hours


class PingPong(msgspec.Struct, frozen=True, kw_only=True):
    """There and back: one kind, another, and the first again, inside an instance.

    Attributes:
        hours: from the first to the third of them.
    """

    kinds: tuple[str, str]
    count: int
    customers: int
    hours: Hours


class Loops(msgspec.Struct, frozen=True, kw_only=True):
    """What is done again, the most frequent first."""

    stages: tuple[StageLoops, ...]
    steps: tuple[LoopStep, ...]
    repeats: tuple[Repeat, ...]
    ping_pongs: tuple[PingPong, ...]


DeviationKind = Literal["late_entry", "skipped", "backwards"]


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """A way between declared steps that the journey does not have.

    Attributes:
        deviation: ``late_entry`` past the first stage, ``skipped`` stages, or ``backwards``.
        share: of all instances, those with it; None where there are none.
    """

    deviation: DeviationKind
    from_step: str
    to_step: str
    count: int
    instances: int
    customers: int
    share: float | None


class OutsideEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Events that mean a stage, the goal or an exit while no instance was open.

    Attributes:
        status: of the journey then: ``never_entered``, ``goal_reached``, ``left`` or ``abandoned``.
    """

    status: str
    kind: str
    count: int
    customers: int


class Conformance(msgspec.Struct, frozen=True, kw_only=True):
    """How far reality keeps to the declared journey.

    Attributes:
        conforming: instances entered at the first stage, with every stage in order and none skipped, so far.
        deviations: the most frequent first.
        outside: the most frequent first.
    """

    conforming: Share
    deviations: tuple[Deviation, ...]
    outside: tuple[OutsideEvent, ...]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A share of one group beside that of all others together.

    Attributes:
        difference: minus the share of the others; None where either is unknown.
        interval: 95 % of the difference.
        p_value: of no difference.
        q_value: adjusted for all comparisons of this report.
    """

    share: Share
    difference: float | None
    interval: Interval | None
    p_value: float | None
    q_value: float | None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One group of instances.

    Attributes:
        group: its name; None for those of whom it is unknown.
        progress: of the visits that began at least a ``horizon`` ago, those that made progress within it.
        stall: of the visits that began at least ``stall_after`` ago, those that stalled.
        goal: of the instances entered at least ``abandon_after`` ago, those that reached the goal within it.
    """

    group: str | None
    instances: int
    customers: int
    progress: Compared
    stall: Compared
    goal: Compared


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Groups compared, each with all others.

    Attributes:
        by: what they differ in.
        comparisons: how many p-values were adjusted together, by Benjamini-Hochberg.
    """

    by: str
    comparisons: int
    groups: tuple[Group, ...]


class StuckPool(msgspec.Struct, frozen=True, kw_only=True):
    """Customers who are stalled at the end of the observation.

    Attributes:
        state: as of the end of the observation.
        age_hours: time in the stage.
        value_at_risk: count x value x (goal share of the stage's calm visits - of its stalled), at least 0; None where
            a share or the value is unknown.
    """

    stage: str
    state: str
    count: int
    customers: int
    age_hours: Hours
    value_at_risk: float | None


class ChannelUse(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over a channel.

    Attributes:
        instances: of all instances, those with an event over it.
        progress_24h: of its events inside an instance, at least a day ago, those with progress within 24 hours after.
    """

    channel: str
    events: int
    customers: int
    instances: Share
    progress_24h: Share


class GoalValue(msgspec.Struct, frozen=True, kw_only=True):
    """What one more reached goal is taken to be worth.

    Attributes:
        outcome_id: the declared outcome whose value it is; None where none is binary.
    """

    outcome_id: str | None
    value: float | None


class JourneyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How customers really went through a declared journey. Money is in ``currency``, times are hours.

    Attributes:
        configuration: version of the configuration.
        observed_from: only instances entered since, if given.
        observed_until: the end of the observation; None where there are no events.
        events: in the time observed.
        customers: with an event in that time.
        travellers: customers with an instance.
        steps: transitions between declared steps.
        kinds: transitions between kinds of events.
        groups: compared, where that was asked for.
        stuck: pools of customers who are stalled now, the largest first.
    """

    format: int
    journey_id: str
    title: str
    configuration: str
    currency: str
    observed_from: str | None
    observed_until: str | None
    events: int
    customers: int
    travellers: int
    goal_value: GoalValue
    instances: InstanceTotals
    steps: tuple[StepEdge, ...]
    kinds: KindGraph
    stages: tuple[StageFlow, ...]
    hot_spots: HotSpots
    leaks: Leaks
    loops: Loops
    conformance: Conformance
    groups: Comparison | None
    stuck: tuple[StuckPool, ...]
    channels: tuple[ChannelUse, ...]
