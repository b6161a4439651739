"""Everything that the journey report counts, table by table: sums that can be added, of bounded size.

Nothing is kept per customer, so ten million events cost no more memory than one table of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from features import kernel
from features.event_tables import EventTable
from features.events import fact_problem
from features.journey_paths import (
    ADVANCED,
    EXIT,
    GOAL,
    N_ENDS,
    NOWHERE,
    SILENCE,
    STILL_OPEN,
    Paths,
    paths_of,
    since,
    state_names,
    states_at,
)
from features.journey_question import ENTRY_CHANNEL, NPS_BAND
from features.journey_statistics import N_BINS, Booleans, Shares, Tally, add_replicates, bins, poisson_steps
from features.journeys import Journey
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from features.stable_hash import stable_hash
from features.taxonomy import BOOKKEEPING, Taxonomy

N_REPLICATES: Final = 200
SALT: Final = "journey-report/1"
"""Of the bootstrap; fixed, so that the same log gives the same intervals."""

NPS_BANDS: Final = ("detractor", "passive", "promoter")
_PROMOTER_FROM, _PASSIVE_FROM = 9.0, 7.0

WITHIN_US: Final = 24 * 3_600_000_000
"""Progress counts for a channel within so long after an event over it."""

# What hot-spot cells count; each is a visit that began early enough to be judged.
FOLLOWED: Final = 0
STALLED: Final = 1
STALLED_FOLLOWED: Final = 2
STALLED_GOAL: Final = 3
CALM_FOLLOWED: Final = 4
CALM_GOAL: Final = 5
N_MEASURES: Final = 6

# What groups are compared by.
PROGRESS_SHARE: Final = 0
STALL_SHARE: Final = 1
GOAL_SHARE: Final = 2
N_SHARES: Final = 3

# Deviations from the declared journey.
LATE_ENTRY: Final = 0
SKIPPED: Final = 1
BACKWARDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is reported on.

    Attributes:
        since: instances entered from here on; None for all.
        until: the end of the observation.
        group_by: an attribute, ``channel`` or ``nps_band``; None for no groups.
    """

    since: int | None = None
    until: int
    group_by: str | None = None


def group_names(taxonomy: Taxonomy, group_by: str) -> tuple[str, ...]:
    """The names of the groups that customers or instances are put in, without those of whom it is unknown."""
    if group_by == ENTRY_CHANNEL:
        return tuple(taxonomy.channels)
    if group_by == NPS_BAND:
        return NPS_BANDS
    attribute = taxonomy.attributes[group_by]
    return attribute.values if attribute.dtype == "category" else ("false", "true")


class Counts:
    """All counts of one journey and window. ``add`` the tables one by one, each with all events of its customers."""

    def __init__(self, taxonomy: Taxonomy, journey: Journey, feature_set: FeatureSet, window: Window) -> None:
        self.taxonomy, self.journey, self.window = taxonomy, journey, window
        self._features = feature_set
        kinds, channels = len(taxonomy.all_kinds), len(taxonomy.channels)
        stages, states = len(journey.stages), len(state_names(journey))
        # Steps: the stages, the goal, the exits, silence, and last the entry.
        self.n_steps = stages + 1 + len(journey.exits) + 2
        self.groups = () if window.group_by is None else group_names(taxonomy, window.group_by)
        groups = len(self.groups) + 1
        self._is_step = np.array([kind.role not in BOOKKEEPING for kind in taxonomy.all_kinds.values()])
        self._is_own = np.array([kernel.is_own_role(role) for role in feature_set.plan.kinds[:, kernel.ROLE]])
        self._is_digital = np.array([channel.digital for channel in taxonomy.channels.values()])

        self.n_events = self.n_customers = self.n_travellers = 0
        self.instances = Tally(N_ENDS)
        self.edges, self.edge_customers = Tally(self.n_steps, self.n_steps), Tally(self.n_steps, self.n_steps)
        self.edge_dwell = Tally(self.n_steps, self.n_steps, N_BINS)
        self.kind_edges, self.kind_edge_customers = Tally(kinds, kinds), Tally(kinds, kinds)
        self.kind_edge_gaps = Tally(kinds, kinds, N_BINS)
        self.visits, self.visit_customers = Tally(stages, N_ENDS), Tally(stages)
        self.looped_visits = Tally(stages)
        self.dwell = Tally(stages, 2, 2, N_BINS)  # looped or not; ended or not
        self.stalls, self.drop_offs = Shares(stages), Shares(stages)
        self.cells_by_stage = _cells(stages)
        self.cells_by_channel = _cells(stages * (channels + 1))
        self.cells_by_state = _cells(stages * states)
        self.leaks, self.leak_customers = Tally(stages, channels, channels), Tally(stages, channels, channels)
        self.leak_kinds = Tally(stages, channels, channels, kinds, kinds)
        self.leak_shares, self.stage_leak_shares = Shares(stages, channels, channels), Shares(stages)
        self.loop_steps, self.loop_customers = Tally(stages, kinds), Tally(stages, kinds)
        self.repeats, self.repeat_customers = Tally(kinds), Tally(kinds)
        self.repeat_gaps = Tally(kinds, N_BINS)
        self.ping_pongs, self.ping_pong_customers = Tally(kinds, kinds), Tally(kinds, kinds)
        self.ping_pong_times = Tally(kinds, kinds, N_BINS)
        self.conforming = Shares(1)
        self.deviations = Tally(3, self.n_steps, self.n_steps)
        self.deviation_instances = Tally(3, self.n_steps, self.n_steps)
        self.deviation_customers = Tally(3, self.n_steps, self.n_steps)
        self.outside, self.outside_customers = Tally(5, kinds), Tally(5, kinds)
        self.group_instances, self.group_customers = Tally(groups), Tally(groups)
        self.group_shares = Shares(groups, N_SHARES)
        self.pools, self.pool_customers = Tally(stages, states), Tally(stages, states)
        self.pool_ages = Tally(stages, states, N_BINS)
        self.channel_events, self.channel_customers = Tally(channels), Tally(channels)
        self.channel_touches, self.channel_progress = Shares(channels), Shares(channels)

    def add(self, table: EventTable) -> None:
        """Count the customers of a table."""
        paths = paths_of(table, self._features, self.journey, until=self.window.until)
        rows = np.ones(paths.table.n_events, dtype=np.bool_)
        if self.window.since is not None:
            paths = since(paths, self.window.since)
            rows = paths.table.events.at >= self.window.since
        self.n_events += int(rows.sum())
        self.n_customers += np.unique(paths.table.customer_of_row[rows]).size
        self.n_travellers += np.unique(paths.instances.customer).size
        self.instances.add(paths.instances.end)
        stalled = _stalled(paths, self._features)
        self._add_steps(paths)
        self._add_stages(paths, stalled)
        self._add_hot_spots(paths, stalled)
        self._add_kinds(paths)
        self._add_leaks(paths)
        self._add_deviations(paths, rows)
        self._add_groups(paths, stalled)
        self._add_pools(paths, stalled)
        self._add_channels(paths, rows)

    def _add_steps(self, paths: Paths) -> None:
        """Edges from the entry to the first stage, and from each stage that was left to where it went."""
        visits = paths.visits
        n_stages = len(self.journey.stages)
        first = np.flatnonzero(np.diff(visits.instance, prepend=-1) != 0)
        left = np.flatnonzero(visits.end != STILL_OPEN)
        to = visits.to.copy()
        to[visits.end == GOAL] = n_stages
        to[visits.end == EXIT] += n_stages + 1
        to[visits.end == SILENCE] = self.n_steps - 2
        chosen = np.concatenate([first, left])
        start = np.concatenate([np.full(first.size, self.n_steps - 1), visits.stage[left]])
        end = np.concatenate([visits.stage[first], to[left]])
        self.edges.add(start, end)
        self.edge_customers.add_distinct(visits.customer[chosen], start, end)
        self.edge_dwell.add(visits.stage[left], to[left], bins(visits.dwell[left]))

    def _add_stages(self, paths: Paths, stalled: Booleans) -> None:
        visits = paths.visits
        looped = visits.loops > 0
        self.visits.add(visits.stage, visits.end)
        self.visit_customers.add_distinct(visits.customer, visits.stage)
        self.looped_visits.add(visits.stage[looped])
        is_open = (visits.end == STILL_OPEN).astype(np.int64)
        self.dwell.add(visits.stage, looped.astype(np.int64), is_open, bins(visits.dwell))
        followed = self._followed(paths, self._stall_after(paths))
        self.stalls.add(visits.customer[followed], stalled[followed], visits.stage[followed])
        followed = self._followed(paths, self._abandon_after)
        dropped = (visits.end == EXIT) | (visits.end == SILENCE)
        self.drop_offs.add(visits.customer[followed], dropped[followed], visits.stage[followed])

    def _add_hot_spots(self, paths: Paths, stalled: Booleans) -> None:
        visits = paths.visits
        seeds = _seeds(paths)
        followed = self._followed(paths, self._stall_after(paths))
        long_followed = followed & self._followed(paths, self._abandon_after)
        reached = self._reaches_goal(paths)
        measures = np.empty((visits.customer.size, N_MEASURES), dtype=np.bool_)
        measures[:, FOLLOWED] = followed
        measures[:, STALLED] = stalled
        measures[:, STALLED_FOLLOWED] = long_followed & stalled
        measures[:, STALLED_GOAL] = long_followed & stalled & reached
        measures[:, CALM_FOLLOWED] = long_followed & ~stalled
        measures[:, CALM_GOAL] = long_followed & ~stalled & reached
        self._add_cells(self.cells_by_stage, visits.customer, seeds, visits.stage, measures)
        # Of customers who used no channel the index is the last one.
        channel = np.where(visits.channel == NOWHERE, len(self.taxonomy.channels), visits.channel)
        cells = visits.stage * (len(self.taxonomy.channels) + 1) + channel
        self._add_cells(self.cells_by_channel, visits.customer, seeds, cells, measures)
        stalled_at = visits.entered_at[stalled] + self._stall_after(paths)[stalled]
        states = states_at(paths, self._features, self.journey, visits.customer[stalled], stalled_at)
        cells = visits.stage[stalled] * len(state_names(self.journey)) + states
        self._add_cells(self.cells_by_state, visits.customer[stalled], seeds[stalled], cells, measures[stalled])

    def _add_cells(
        self, sums: Integers, owners: Integers, seeds: Integers, cells: Integers, measures: Booleans
    ) -> None:
        add_replicates(sums, owners, seeds.astype(np.uint64), cells, np.ascontiguousarray(measures), poisson_steps())

    def _add_kinds(self, paths: Paths) -> None:
        """Pairs of steps that follow each other inside an instance, repeats, and triples that go there and back."""
        kinds, at, customer = paths.table.events.kind, paths.table.events.at, paths.table.customer_of_row
        steps = np.flatnonzero((paths.instance_of_row != NOWHERE) & self._is_step[kinds])
        instance = paths.instance_of_row[steps]
        pairs = np.flatnonzero(instance[1:] == instance[:-1])
        a, b = steps[pairs], steps[pairs + 1]
        gaps = bins(at[b] - at[a])
        self.kind_edges.add(kinds[a], kinds[b])
        self.kind_edge_customers.add_distinct(customer[a], kinds[a], kinds[b])
        self.kind_edge_gaps.add(kinds[a], kinds[b], gaps)
        again = kinds[a] == kinds[b]
        self.repeats.add(kinds[a][again])
        self.repeat_customers.add_distinct(customer[a][again], kinds[a][again])
        self.repeat_gaps.add(kinds[a][again], gaps[again])
        triples = np.flatnonzero(instance[2:] == instance[:-2])
        a, b, c = steps[triples], steps[triples + 1], steps[triples + 2]
        back = (kinds[a] == kinds[c]) & (kinds[a] != kinds[b])
        one, other = np.minimum(kinds[a], kinds[b])[back], np.maximum(kinds[a], kinds[b])[back]
        self.ping_pongs.add(one, other)
        self.ping_pong_customers.add_distinct(customer[a][back], one, other)
        self.ping_pong_times.add(one, other, bins(at[c] - at[a])[back])
        looped = np.flatnonzero((paths.codes == kernel.LOOPED) & (paths.visit_of_row != NOWHERE))
        stage = paths.visits.stage[paths.visit_of_row[looped]]
        self.loop_steps.add(stage, kinds[looped])
        self.loop_customers.add_distinct(customer[looped], stage, kinds[looped])

    def _add_leaks(self, paths: Paths) -> None:
        """Moves from a digital channel to an offline one, between the customer's own events inside an instance."""
        events, visits = paths.table.events, paths.visits
        own = np.flatnonzero((paths.visit_of_row != NOWHERE) & self._is_own[events.kind] & (events.channel >= 0))
        pairs = np.flatnonzero(paths.instance_of_row[own[1:]] == paths.instance_of_row[own[:-1]])
        before, after = own[pairs], own[pairs + 1]
        start, end = events.channel[before], events.channel[after]
        leaks = self._is_digital[start] & ~self._is_digital[end]
        visit = paths.visit_of_row[after]
        stage, customer = visits.stage[visit], visits.customer[visit]
        moved = (stage[leaks], start[leaks], end[leaks])
        self.leaks.add(*moved)
        self.leak_customers.add_distinct(customer[leaks], *moved)
        self.leak_kinds.add(*moved, events.kind[before][leaks], events.kind[after][leaks])

        # A visit used a channel where an event of it is over the channel, or comes straight from it.
        uses = np.stack([np.append(paths.visit_of_row[own], visit), np.append(events.channel[own], start)])
        uses = uses[:, self._is_digital[uses[1]]]
        n_channels = len(self.taxonomy.channels)
        used = np.unique(uses[0] * n_channels + uses[1])
        leaked = (visit * n_channels + start) * n_channels + end
        offline = np.flatnonzero(~self._is_digital)
        pair = np.repeat(used, offline.size) * n_channels + np.tile(offline, used.size)
        used_visit = pair // n_channels // n_channels
        self.leak_shares.add(
            visits.customer[used_visit],
            np.isin(pair, leaked[leaks]),
            visits.stage[used_visit],
            pair // n_channels % n_channels,
            pair % n_channels,
        )
        digital = np.unique(used // n_channels)
        self.stage_leak_shares.add(visits.customer[digital], np.isin(digital, visit[leaks]), visits.stage[digital])

    def _add_deviations(self, paths: Paths, rows: Booleans) -> None:
        visits, kinds = paths.visits, paths.table.events.kind
        stage_of_kind = self._features.plan.kinds[:, kernel.STAGE]
        self.conforming.add(
            paths.instances.customer, paths.instances.conforms, np.zeros(paths.instances.customer.size, dtype=np.int64)
        )
        first = np.flatnonzero((np.diff(visits.instance, prepend=-1) != 0) & (visits.stage > 0))
        self._add_deviation(paths, LATE_ENTRY, visits.instance[first], self.n_steps - 1, visits.stage[first])
        to = np.where(visits.end == GOAL, len(self.journey.stages), visits.to)
        skipped = np.flatnonzero(((visits.end == ADVANCED) | (visits.end == GOAL)) & (to > visits.stage + 1))
        self._add_deviation(paths, SKIPPED, visits.instance[skipped], visits.stage[skipped], to[skipped])
        looped = np.flatnonzero((paths.codes == kernel.LOOPED) & (paths.visit_of_row != NOWHERE))
        here, there = visits.stage[paths.visit_of_row[looped]], stage_of_kind[kinds[looped]]
        back = (there >= 0) & (there < here)
        self._add_deviation(paths, BACKWARDS, paths.instance_of_row[looped][back], here[back], there[back])

        is_exit = self._features.plan.kinds[:, kernel.EXIT] == 1
        of_journey = (stage_of_kind >= 0) | is_exit
        outside = rows & (paths.status_of_row != kernel.OPEN) & (paths.codes != kernel.ENTERED) & of_journey[kinds]
        self.outside.add(paths.status_of_row[outside], kinds[outside])
        self.outside_customers.add_distinct(
            paths.table.customer_of_row[outside], paths.status_of_row[outside], kinds[outside]
        )

    def _add_deviation(self, paths: Paths, what: int, instance: Integers, start: Integers | int, end: Integers) -> None:
        columns = (np.full(end.size, what), np.broadcast_to(np.asarray(start), end.shape), end)
        self.deviations.add(*columns)
        self.deviation_instances.add_distinct(instance, *columns)
        self.deviation_customers.add_distinct(paths.instances.customer[instance], *columns)

    def _add_groups(self, paths: Paths, stalled: Booleans) -> None:
        if self.window.group_by is None:
            return
        instances, visits = paths.instances, paths.visits
        group = self._group_of_instance(paths)
        self.group_instances.add(group)
        self.group_customers.add_distinct(instances.customer, group)
        progressed = (visits.end == ADVANCED) | (visits.end == GOAL)
        horizon = float(self.journey.horizon)
        self._add_share(paths, PROGRESS_SHARE, horizon, progressed & (visits.dwell <= horizon), group)
        self._add_share(paths, STALL_SHARE, self._stall_after(paths), stalled, group)
        limit = self._abandon_after
        followed = instances.entered_at + limit <= self.window.until
        reached = (instances.end == GOAL) & (instances.ended_at - instances.entered_at <= limit)
        self.group_shares.add(
            instances.customer[followed],
            reached[followed],
            group[followed],
            np.full(int(followed.sum()), GOAL_SHARE),
        )

    def _add_share(self, paths: Paths, which: int, limit: Floats | float, hits: Booleans, group: Integers) -> None:
        """Count visits that could be followed up to a limit."""
        followed = self._followed(paths, limit)
        self.group_shares.add(
            paths.visits.customer[followed],
            hits[followed],
            group[paths.visits.instance[followed]],
            np.full(int(followed.sum()), which),
        )

    def _group_of_instance(self, paths: Paths) -> Integers:
        """The group of each instance; one past the last where it is unknown."""
        unknown = len(self.groups)
        if self.window.group_by == ENTRY_CHANNEL:
            return np.where(paths.instances.channel == NOWHERE, unknown, paths.instances.channel)
        by_customer = _nps_bands(paths.table) if self.window.group_by == NPS_BAND else self._by_attribute(paths.table)
        return by_customer[paths.instances.customer]

    def _by_attribute(self, table: EventTable) -> Integers:
        """For each customer the place of what was told last among the groups."""
        name = str(self.window.group_by)
        declared = self.taxonomy.attributes[name]
        groups = np.full(len(table.customers), len(self.groups))
        roles = self._features.plan.kinds[table.events.kind[table.profile_rows], kernel.ROLE]
        for row, facts, role in zip(table.profile_rows, table.profile_facts, roles, strict=True):
            if role == kernel.PROFILE and name in facts and fact_problem(name, facts[name], declared) is None:
                value = facts[name]
                place = int(value) if isinstance(value, bool) else self.groups.index(str(value))
                groups[table.customer_of_row[row]] = place
        return groups

    def _add_pools(self, paths: Paths, stalled: Booleans) -> None:
        visits = paths.visits
        stuck = np.flatnonzero(stalled & (visits.end == STILL_OPEN))
        # A microsecond later, so that the last event of the observation counts.
        now = np.full(stuck.size, float(self.window.until + 1))
        states = states_at(paths, self._features, self.journey, visits.customer[stuck], now)
        self.pools.add(visits.stage[stuck], states)
        self.pool_customers.add_distinct(visits.customer[stuck], visits.stage[stuck], states)
        self.pool_ages.add(visits.stage[stuck], states, bins(visits.dwell[stuck]))

    def _add_channels(self, paths: Paths, rows: Booleans) -> None:
        events, customer = paths.table.events, paths.table.customer_of_row
        over = np.flatnonzero(rows & (events.channel >= 0))
        self.channel_events.add(events.channel[over])
        self.channel_customers.add_distinct(customer[over], events.channel[over])
        n_channels = len(self.taxonomy.channels)
        inside = np.flatnonzero((paths.instance_of_row != NOWHERE) & (events.channel >= 0))
        touched = np.unique(paths.instance_of_row[inside] * n_channels + events.channel[inside])
        every = np.arange(paths.instances.customer.size * n_channels)
        self.channel_touches.add(
            paths.instances.customer[every // n_channels], np.isin(every, touched), every % n_channels
        )
        inside = inside[events.at[inside] + WITHIN_US <= self.window.until]
        in_time = paths.progress_at[inside] <= events.at[inside] + WITHIN_US
        self.channel_progress.add(customer[inside], in_time, events.channel[inside])

    @property
    def _abandon_after(self) -> float:
        return float(self.journey.abandon_after)

    def _stall_after(self, paths: Paths) -> Floats:
        """``stall_after`` of the stage of each visit."""
        return self._features.plan.stall_after[paths.visits.stage]

    def _followed(self, paths: Paths, limit: Floats | float) -> Booleans:
        """Visits that began so long before the end of the observation, whatever became of them since."""
        return np.asarray(paths.visits.entered_at + limit <= self.window.until)

    def _reaches_goal(self, paths: Paths) -> Booleans:
        """Visits from which the goal was reached within ``abandon_after``."""
        instance = paths.visits.instance
        took = paths.instances.ended_at[instance] - paths.visits.entered_at
        return np.asarray((paths.instances.end[instance] == GOAL) & (took <= self._abandon_after))


def counted(
    tables: Iterable[EventTable], taxonomy: Taxonomy, journey: Journey, feature_set: FeatureSet, window: Window
) -> Counts:
    """The counts over tables; how the customers are cut into tables changes nothing."""
    counts = Counts(taxonomy, journey, feature_set, window)
    for table in tables:
        counts.add(table)
    return counts


def _cells(n: int) -> Integers:
    return np.zeros((n, N_MEASURES, 1 + N_REPLICATES), dtype=np.int64)


def _stalled(paths: Paths, feature_set: FeatureSet) -> Booleans:
    return np.asarray(paths.visits.dwell >= feature_set.plan.stall_after[paths.visits.stage])


def _seeds(paths: Paths) -> Integers:
    """The hash of each visit's customer: ``(n_visits,)``."""
    customers, places = np.unique(paths.visits.customer, return_inverse=True)
    ids = paths.table.customers.to_pylist()
    hashes = np.array([stable_hash(SALT, ids[c]) for c in customers.tolist()], dtype=np.uint64)
    return hashes[places]  # type: ignore[return-value]  # whole numbers, if unsigned ones


def _nps_bands(table: EventTable) -> Integers:
    """The band of each customer's last score: 0 to 6 detractor, 7 and 8 passive, 9 and 10 promoter.

    References:
        F. F. Reichheld (2003), The one number you need to grow, Harvard Business Review 81.
    """
    scored = np.flatnonzero(~np.isnan(table.events.nps))
    scores = table.events.nps[scored]
    bands = np.full(len(table.customers), len(NPS_BANDS))
    bands[table.customer_of_row[scored]] = np.select([scores >= _PROMOTER_FROM, scores >= _PASSIVE_FROM], [2, 1], 0)
    return bands
