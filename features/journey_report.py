"""The journey report: how customers really go through a declared journey, where they stall, leak, loop and stray.

Pure: tables of events in, one typed report out. ``docs/concepts/journey-report.md`` defines every figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from features import kernel
from features.duck import connected
from features.event_tables import EVENTS_PER_TABLE, EventSource, event_tables
from features.events import dump_timestamp, dump_timestamp_or_none
from features.journey_counts import (
    BACKWARDS,
    CALM_FOLLOWED,
    CALM_GOAL,
    FOLLOWED,
    GOAL_SHARE,
    LATE_ENTRY,
    PROGRESS_SHARE,
    SKIPPED,
    STALL_SHARE,
    STALLED,
    STALLED_FOLLOWED,
    STALLED_GOAL,
    Counts,
    Window,
    counted,
)
from features.journey_findings import (
    REPORT_FORMAT,
    ChannelLeak,
    ChannelUse,
    Compared,
    Comparison,
    Conformance,
    Deviation,
    DeviationKind,
    GoalValue,
    Group,
    HotSpot,
    HotSpots,
    Hours,
    InstanceTotals,
    JourneyReport,
    KindEdge,
    KindGraph,
    Leaks,
    LeakStep,
    Loops,
    LoopStep,
    OutsideEvent,
    PingPong,
    Repeat,
    Share,
    StageFlow,
    StageLeak,
    StageLoops,
    StepEdge,
    StuckPool,
)
from features.journey_paths import ADVANCED, EXIT, GOAL, SILENCE, STILL_OPEN, state_names
from features.journey_question import Question
from features.journey_statistics import (
    ShareSums,
    Tally,
    benjamini_hochberg,
    difference,
    kaplan_meier_hours,
    p_value,
    quantile_hours,
)
from features.journeys import PROGRESS, Journey
from features.kernel import Floats, Integers
from features.schema import feature_set
from features.taxonomy import Taxonomy

SMALLEST_CELL: Final = 30
"""A hot spot of fewer visits is left out: its rate could be anything."""

_HOUR_US: Final = 3_600_000_000
_STATUS: Final = {
    kernel.NEVER: "never_entered",
    kernel.REACHED: "goal_reached",
    kernel.EXITED: "left",
    kernel.ABANDONED: "abandoned",
}
_DEVIATIONS: Final[dict[int, DeviationKind]] = {LATE_ENTRY: "late_entry", SKIPPED: "skipped", BACKWARDS: "backwards"}


def journey_report(
    source: EventSource,
    taxonomy: Taxonomy,
    journey: Journey,
    question: Question,
    *,
    configuration: str,
    events_per_table: int = EVENTS_PER_TABLE,
) -> JourneyReport:
    """The report of one journey over a source of events, read table by table of whole customers.

    Args:
        source: the events.
        taxonomy: the vocabulary that they keep to.
        journey: the journey.
        question: what to report on.
        configuration: version of the configuration, for the report.
        events_per_table: about how many events are in memory at once; changes nothing but that.

    Raises:
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    newest = newest_event(source)
    until = min(at for at in (newest, question.until, 0 if newest is None else None) if at is not None)
    features = feature_set(taxonomy, journey)
    tables = event_tables(source, taxonomy, events_per_table=events_per_table)
    window = Window(since=question.since, until=until, group_by=question.group_by)
    counts = counted(tables, taxonomy, journey, features, window)
    return JourneyReport(
        format=REPORT_FORMAT,
        journey_id=journey.id,
        title=journey.title,
        configuration=configuration,
        currency=taxonomy.currency,
        observed_from=dump_timestamp_or_none(question.since),
        observed_until=None if newest is None else dump_timestamp(until),
        events=counts.n_events,
        customers=counts.n_customers,
        travellers=counts.n_travellers,
        **_Findings(counts, question.top).parts(),
    )


def newest_event(source: EventSource) -> int | None:
    """When the newest event occurred, microseconds since the epoch; None where there are none."""
    with connected() as connection:
        is_file = isinstance(source, Path)
        relation = connection.read_parquet(str(source)) if is_file else connection.from_arrow(source)
        row = relation.aggregate("max(epoch_us(occurred_at))").fetchall()[0]
    return None if row[0] is None else int(row[0])


def goal_value(journey: Journey) -> GoalValue:
    """The declared value of the first binary outcome that is the goal; else of the binary one with the largest value.

    Progress is worth something at every stage, so it is taken only where nothing else is declared.
    """
    binary = [outcome for outcome in journey.outcomes if outcome.type == "binary"]
    chosen = [outcome for outcome in binary if outcome.event in journey.goal.enter][:1]
    for candidates in ([one for one in binary if one.event != PROGRESS], binary):
        chosen = chosen or sorted(candidates, key=lambda one: -one.value)[:1]
    if not chosen:
        return GoalValue(outcome_id=None, value=None)
    return GoalValue(outcome_id=chosen[0].id, value=chosen[0].value)


class _Findings:
    """The parts of the report out of the counts."""

    def __init__(self, counts: Counts, top: int) -> None:
        self._counts, self._top = counts, top
        self._journey, self._taxonomy = counts.journey, counts.taxonomy
        self._value = goal_value(counts.journey)
        self._kinds, self._channels = tuple(counts.taxonomy.all_kinds), tuple(counts.taxonomy.channels)
        self._stages, self._states = counts.journey.stage_ids, state_names(counts.journey)
        exits = [f"exit:{name}" for name in counts.journey.exits]
        self._steps = (*self._stages, counts.journey.goal.id, *exits, "abandoned", "entry")

    def parts(self) -> dict[str, Any]:
        """Every part of the report by its name there."""
        ends = self._counts.instances.dense()
        return {
            "goal_value": self._value,
            "instances": InstanceTotals(
                entered=int(ends.sum()),
                reached_goal=int(ends[GOAL]),
                exited=int(ends[EXIT]),
                abandoned=int(ends[SILENCE]),
                open=int(ends[STILL_OPEN]),
            ),
            "steps": tuple(self._step_edges()),
            "kinds": self._kind_graph(),
            "stages": tuple(self._stage_flow(i) for i in range(len(self._stages))),
            "hot_spots": self._hot_spots(),
            "leaks": self._leaks(),
            "loops": self._loops(),
            "conformance": self._conformance(),
            "groups": self._comparison(),
            "stuck": tuple(self._stuck()),
            "channels": tuple(self._channel_use(i) for i in range(len(self._channels))),
        }

    def _step_edges(self) -> Iterator[StepEdge]:
        customers = dict(self._counts.edge_customers.rows())
        n = len(self._steps)
        # The entry first, then in the order of the journey.
        for key, count in sorted(self._counts.edges.rows(), key=lambda row: ((row[0][0] + 1) % n, row[0][1])):
            yield StepEdge(
                from_step=self._steps[key[0]],
                to_step=self._steps[key[1]],
                count=count,
                customers=customers[key],
                dwell_hours=_hours(self._counts.edge_dwell.histogram(*key)),
            )

    def _kind_graph(self) -> KindGraph:
        edges = _largest(self._counts.kind_edges)
        customers = dict(self._counts.kind_edge_customers.rows())
        total = sum(count for _, count in edges)
        shown_edges = edges[: self._top]
        return KindGraph(
            count=total,
            edges=len(edges),
            share_shown=sum(count for _, count in shown_edges) / total if total else None,
            shown=tuple(
                KindEdge(
                    from_kind=self._kinds[key[0]],
                    to_kind=self._kinds[key[1]],
                    count=count,
                    customers=customers[key],
                    gap_hours=_hours(self._counts.kind_edge_gaps.histogram(*key)),
                )
                for key, count in shown_edges
            ),
        )

    def _stage_flow(self, i: int) -> StageFlow:
        counts, stage = self._counts, self._journey.stages[i]
        ends = counts.visits.dense()[i]
        stalls = counts.stalls.of(i)
        dwell = [counts.dwell.histogram(i, 0, end) + counts.dwell.histogram(i, 1, end) for end in (0, 1)]
        return StageFlow(
            stage=stage.id,
            title=stage.title,
            stall_state=stage.stall_state,
            stall_after_hours=stage.stall_after / _HOUR_US,
            entered=int(ends.sum()),
            customers=int(counts.visit_customers.dense()[i]),
            progressed=int(ends[ADVANCED] + ends[GOAL]),
            exited=int(ends[EXIT]),
            abandoned=int(ends[SILENCE]),
            open=int(ends[STILL_OPEN]),
            looped=int(counts.looped_visits.dense()[i]),
            stalled=stalls.hits,
            stall=_share(stalls),
            drop_off=_share(counts.drop_offs.of(i)),
            dwell_hours=_survival(dwell[0], dwell[1]),
        )

    def _hot_spots(self) -> HotSpots:
        counts = self._counts
        n_channels, n_states = len(self._channels) + 1, len(self._states)
        stages = counts.cells_by_stage
        by_stage = [(i, None, None, cell) for i, cell in enumerate(stages)]
        by_channel = [
            (i // n_channels, (*self._channels, None)[i % n_channels], None, cell)
            for i, cell in enumerate(counts.cells_by_channel)
        ]
        by_state = []
        for i, cell in enumerate(counts.cells_by_state):
            # Only stalled visits have a state; what they are compared with is all visits of the stage.
            whole = stages[i // n_states].copy()
            whole[[STALLED, STALLED_FOLLOWED, STALLED_GOAL]] = cell[[STALLED, STALLED_FOLLOWED, STALLED_GOAL]]
            by_state.append((i // n_states, None, self._states[i % n_states], whole))
        return HotSpots(
            smallest=SMALLEST_CELL,
            by_stage=self._ranked(by_stage),
            by_channel=self._ranked(by_channel),
            by_state=self._ranked(by_state),
        )

    def _ranked(self, cells: Iterable[tuple[int, str | None, str | None, Integers]]) -> tuple[HotSpot, ...]:
        spots = [
            self._hot_spot(stage, channel, state, cell)
            for stage, channel, state, cell in cells
            if cell[FOLLOWED, 0] >= SMALLEST_CELL and cell[STALLED, 0] > 0
        ]
        spots.sort(key=lambda spot: (-(spot.value_at_risk or 0.0), -spot.stalled))
        return tuple(msgspec.structs.replace(spot, rank=i) for i, spot in enumerate(spots[: self._top], start=1))

    def _hot_spot(self, stage: int, channel: str | None, state: str | None, cell: Integers) -> HotSpot:
        lost = _lost_goals(cell)
        at_risk = None if self._value.value is None or np.isnan(lost[0]) else self._value.value * float(lost[0])
        known = lost[1:][~np.isnan(lost[1:])]
        interval = None
        if at_risk is not None and self._value.value is not None and known.size:
            low, high = (self._value.value * float(bound) for bound in np.quantile(known, [0.025, 0.975]))
            interval = (low, high)
        visits, stalled = int(cell[FOLLOWED, 0]), int(cell[STALLED, 0])
        return HotSpot(
            rank=0,
            stage=self._stages[stage],
            channel=channel,
            state=state,
            visits=visits,
            stalled=stalled,
            stall_rate=stalled / visits,
            goal_share_stalled=_ratio(int(cell[STALLED_GOAL, 0]), int(cell[STALLED_FOLLOWED, 0])),
            goal_share_calm=_ratio(int(cell[CALM_GOAL, 0]), int(cell[CALM_FOLLOWED, 0])),
            value_at_risk=at_risk,
            interval=interval,
        )

    def _leaks(self) -> Leaks:
        rows = _largest(self._counts.leaks)
        return Leaks(
            stages=tuple(self._stage_leak(i, rows) for i in range(len(self._stages))),
            channels=tuple(self._channel_leak(key, count) for key, count in rows[: self._top]),
        )

    def _stage_leak(self, stage: int, rows: list[tuple[tuple[int, ...], int]]) -> StageLeak:
        costs = [(count, self._handling_cost(key[2])) for key, count in rows if key[0] == stage]
        known = [count * cost for count, cost in costs if cost is not None]
        return StageLeak(
            stage=self._stages[stage],
            count=sum(count for count, _ in costs),
            visits=_share(self._counts.stage_leak_shares.of(stage)),
            cost=sum(known) if known else None,
            moves_of_unknown_cost=sum(count for count, cost in costs if cost is None),
        )

    def _channel_leak(self, key: tuple[int, ...], count: int) -> ChannelLeak:
        counts = self._counts
        stage, start, end = key
        cost = self._handling_cost(end)
        steps = [(row[3:], times) for row, times in _largest(counts.leak_kinds) if row[:3] == key]
        return ChannelLeak(
            stage=self._stages[stage],
            from_channel=self._channels[start],
            to_channel=self._channels[end],
            count=count,
            customers=int(counts.leak_customers.dense()[key]),
            visits=_share(counts.leak_shares.of(*key)),
            cost=None if cost is None else count * cost,
            steps=tuple(
                LeakStep(from_kind=self._kinds[one], to_kind=self._kinds[other], count=times)
                for (one, other), times in steps[:3]
            ),
        )

    def _handling_cost(self, channel: int) -> float | None:
        return self._taxonomy.channels[self._channels[channel]].handling_cost

    def _loops(self) -> Loops:
        counts = self._counts
        loop_customers = counts.loop_customers.dense()
        repeat_customers = counts.repeat_customers.dense()
        ping_pong_customers = counts.ping_pong_customers.dense()
        return Loops(
            stages=tuple(self._stage_loops(i) for i in range(len(self._stages))),
            steps=tuple(
                LoopStep(
                    stage=self._stages[key[0]],
                    kind=self._kinds[key[1]],
                    count=count,
                    customers=int(loop_customers[key]),
                )
                for key, count in _largest(counts.loop_steps)[: self._top]
            ),
            repeats=tuple(
                Repeat(
                    kind=self._kinds[key[0]],
                    count=count,
                    customers=int(repeat_customers[key]),
                    gap_hours=_hours(counts.repeat_gaps.histogram(*key)),
                )
                for key, count in _largest(counts.repeats)[: self._top]
            ),
            ping_pongs=tuple(
                PingPong(
                    kinds=(self._kinds[key[0]], self._kinds[key[1]]),
                    count=count,
                    customers=int(ping_pong_customers[key]),
                    hours=_hours(counts.ping_pong_times.histogram(*key)),
                )
                for key, count in _largest(counts.ping_pongs)[: self._top]
            ),
        )

    def _stage_loops(self, stage: int) -> StageLoops:
        dwell = self._counts.dwell
        straight, looped = (
            _survival(dwell.histogram(stage, loops, 0), dwell.histogram(stage, loops, 1)) for loops in (0, 1)
        )
        both = looped.median is not None and straight.median is not None
        return StageLoops(
            stage=self._stages[stage],
            looped=int(self._counts.looped_visits.dense()[stage]),
            dwell_hours_looped=looped,
            dwell_hours_straight=straight,
            extra_median_hours=(looped.median or 0.0) - (straight.median or 0.0) if both else None,
        )

    def _conformance(self) -> Conformance:
        counts = self._counts
        conforming = counts.conforming.of(0)
        instances, customers = counts.deviation_instances.dense(), counts.deviation_customers.dense()
        outside_customers = counts.outside_customers.dense()
        return Conformance(
            conforming=_share(conforming),
            deviations=tuple(
                Deviation(
                    deviation=_DEVIATIONS[key[0]],
                    from_step=self._steps[key[1]],
                    to_step=self._steps[key[2]],
                    count=count,
                    instances=int(instances[key]),
                    customers=int(customers[key]),
                    share=_ratio(int(instances[key]), conforming.n),
                )
                for key, count in _largest(counts.deviations)[: self._top]
            ),
            outside=tuple(
                OutsideEvent(
                    status=_STATUS[key[0]],
                    kind=self._kinds[key[1]],
                    count=count,
                    customers=int(outside_customers[key]),
                )
                for key, count in _largest(counts.outside)[: self._top]
            ),
        )

    def _comparison(self) -> Comparison | None:
        by = self._counts.window.group_by
        if by is None:
            return None
        shares = self._counts.group_shares
        places = range(len(self._counts.groups) + 1)
        sums = [[shares.of(group, which) for which in (PROGRESS_SHARE, STALL_SHARE, GOAL_SHARE)] for group in places]
        compared = [
            [
                _compared(one, [sums[other][which] for other in places if other != group])
                for which, one in enumerate(row)
            ]
            for group, row in enumerate(sums)
        ]
        known = [one.p_value for row in compared for one in row if one.p_value is not None]
        adjusted = iter(benjamini_hochberg(known))
        compared = [
            [one if one.p_value is None else msgspec.structs.replace(one, q_value=next(adjusted)) for one in row]
            for row in compared
        ]
        instances, customers = self._counts.group_instances.dense(), self._counts.group_customers.dense()
        return Comparison(
            by=by,
            comparisons=len(known),
            groups=tuple(
                Group(
                    group=(*self._counts.groups, None)[group],
                    instances=int(instances[group]),
                    customers=int(customers[group]),
                    progress=compared[group][PROGRESS_SHARE],
                    stall=compared[group][STALL_SHARE],
                    goal=compared[group][GOAL_SHARE],
                )
                for group in places
                if instances[group]
            ),
        )

    def _stuck(self) -> Iterator[StuckPool]:
        customers = self._counts.pool_customers.dense()
        for key, count in _largest(self._counts.pools):
            each = self._lost_per_stalled(key[0])
            value = self._value.value
            yield StuckPool(
                stage=self._stages[key[0]],
                state=self._states[key[1]],
                count=count,
                customers=int(customers[key]),
                age_hours=_hours(self._counts.pool_ages.histogram(*key)),
                value_at_risk=None if each is None or value is None else count * value * each,
            )

    def _lost_per_stalled(self, stage: int) -> float | None:
        """Goals lost for one stalled visit to a stage: at least 0."""
        cell = self._counts.cells_by_stage[stage][:, :1]
        lost = _lost_goals(cell)[0] / max(1, int(cell[STALLED, 0]))
        return None if np.isnan(lost) else float(lost)

    def _channel_use(self, i: int) -> ChannelUse:
        counts = self._counts
        return ChannelUse(
            channel=self._channels[i],
            events=int(counts.channel_events.dense()[i]),
            customers=int(counts.channel_customers.dense()[i]),
            instances=_share(counts.channel_touches.of(i)),
            progress_24h=_share(counts.channel_progress.of(i)),
        )


def _lost_goals(cell: Integers) -> Floats:
    """Goals lost in a cell, for it as it is and each replicate: ``(1 + n_replicates,)``; NaN where unknown.

    visits x stall rate is the stalled visits; each loses the goal share of the calm minus that of the stalled.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        calm = cell[CALM_GOAL] / cell[CALM_FOLLOWED]
        stalled = cell[STALLED_GOAL] / cell[STALLED_FOLLOWED]
    return np.asarray(cell[STALLED] * np.maximum(calm - stalled, 0.0))


def _compared(one: ShareSums, others: Iterable[ShareSums]) -> Compared:
    rest = ShareSums(0, 0, 0, 0, 0)
    for other in others:
        rest = rest + other
    found = difference(one, rest)
    return Compared(
        share=_share(one),
        difference=None if found is None else found[0],
        interval=None if found is None else found[1],
        p_value=p_value(one, rest),
        q_value=None,
    )


def _share(sums: ShareSums) -> Share:
    return Share(n=sums.n, hits=sums.hits, share=sums.share, interval=sums.interval)


def _hours(histogram: Integers) -> Hours:
    return Hours(median=quantile_hours(histogram, 0.5), p90=quantile_hours(histogram, 0.9))


def _survival(ended: Integers, censored: Integers) -> Hours:
    return Hours(
        median=kaplan_meier_hours(ended, censored, 0.5),
        p90=kaplan_meier_hours(ended, censored, 0.9),
    )


def _largest(tally: Tally) -> list[tuple[tuple[int, ...], int]]:
    """The combinations of a tally, the most frequent first, then by their order in the configuration."""
    return sorted(tally.rows(), key=lambda row: (-row[1], row[0]))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
