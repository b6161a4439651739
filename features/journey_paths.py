"""How customers went through a journey: instances, and the visits to its stages that they consist of.

What an event did to a journey is the kernel's word; here only instances and visits are put together from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numba import njit

from features import kernel
from features.event_tables import EventTable
from features.history import reads_at, transitions
from features.journey_statistics import Booleans
from features.journeys import ACTIVE, Journey
from features.kernel import Floats, Integers
from features.schema import FeatureSet

# How an instance, or a visit to a stage, ended.
STILL_OPEN: Final = 0
ADVANCED: Final = 1  # to a later stage; a visit only
GOAL: Final = 2
EXIT: Final = 3
SILENCE: Final = 4
N_ENDS: Final = 5

NOWHERE: Final = -1
_MOMENTS_AT_ONCE: Final = 20_000
"""A moment costs all features of the journey while it is read: this many are some 30 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Stays in a stage, by customer and then by time; each array ``(n_visits,)``.

    Attributes:
        customer: index into the table's customers.
        instance: index into the instances.
        stage: index of the stage.
        entered_at: microseconds since the epoch.
        ended_at: likewise; the end of the observation where it goes on.
        end: how it ended.
        to: the stage entered next; the index of the exit; else ``NOWHERE``.
        loops: returns to this stage or an earlier one meanwhile.
        channel: the channel that the customer had used last when it began, ``NOWHERE`` where there was none.
    """

    customer: Integers
    instance: Integers
    stage: Integers
    entered_at: Floats
    ended_at: Floats
    end: Integers
    to: Integers
    loops: Integers
    channel: Integers

    @property
    def dwell(self) -> Floats:
        """How long they lasted, microseconds; of those that go on, so far."""
        return self.ended_at - self.entered_at


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Ways through the journey, by customer and then by time; each array ``(n_instances,)``.

    Attributes:
        customer: index into the table's customers.
        entered_at: microseconds since the epoch.
        ended_at: likewise; the end of the observation where it goes on.
        end: how it ended.
        channel: the channel that the customer had used last when it was entered, ``NOWHERE`` where there was none.
        conforms: entered at the first stage, no stage skipped, never back to an earlier one.
    """

    customer: Integers
    entered_at: Floats
    ended_at: Floats
    end: Integers
    channel: Integers
    conforms: Booleans


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """The ways of the customers of one table.

    Attributes:
        table: the events up to the end of the observation.
        instances: every instance.
        visits: every visit.
        instance_of_row: ``(n_events,)`` the instance that an event falls in, its first and last included.
        visit_of_row: ``(n_events,)`` the visit that the customer was in when the event came; of an entry, the first.
        status_of_row: ``(n_events,)`` the kernel's status of the journey when the event came.
        codes: ``(n_events,)`` what it did, as ``kernel.transitions`` says.
        progress_at: ``(n_events,)`` when the same instance made progress next, NaN where it did not.
    """

    table: EventTable
    instances: Instances
    visits: Visits
    instance_of_row: Integers
    visit_of_row: Integers
    status_of_row: Integers
    codes: Integers
    progress_at: Floats


def seen_until(table: EventTable, until: int) -> EventTable:
    """The events of a table that occurred up to a moment, as they are known today.

    Late ones stand where they belong, and those that turned out to be somebody else's are left out.
    """
    keep = (table.events.at <= until) & np.isinf(table.events.until)
    events = kernel.Events._make(column[keep] for column in table.events)
    kept_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
    is_kept = keep[table.profile_rows]
    return EventTable(
        customers=table.customers,
        starts=kept_before[table.starts],
        events=events._replace(arrived=events.at.copy()),
        positions=table.positions[keep],
        sources=table.sources.filter(pa.array(keep)),
        event_ids=table.event_ids.filter(pa.array(keep)),
        profile_rows=kept_before[table.profile_rows[is_kept]],
        profile_facts=tuple(facts for facts, kept in zip(table.profile_facts, is_kept, strict=True) if kept),
    )


def paths_of(table: EventTable, feature_set: FeatureSet, journey: Journey, *, until: int) -> Paths:
    """The ways of the customers of a table through a journey, observed up to a moment.

    Args:
        table: the events.
        feature_set: of the journey.
        journey: the journey.
        until: the end of the observation, microseconds since the epoch.
    """
    table = seen_until(table, until)
    codes, _ = transitions(table, feature_set)
    kinds = feature_set.plan.kinds
    n_instances = int(np.sum(codes == kernel.ENTERED))
    n_visits = n_instances + int(np.sum(codes == kernel.PROGRESSED))
    instances, visits = np.empty((6, n_instances)), np.empty((9, n_visits))
    rows = np.full((3, table.n_events), NOWHERE)
    progress_at = np.full(table.n_events, np.nan)
    _walk(
        table.starts,
        table.events.at,
        table.events.kind,
        table.events.channel,
        codes,
        np.array([kernel.is_own_role(role) for role in kinds[:, kernel.ROLE]], dtype=np.bool_),
        np.ascontiguousarray(kinds[:, kernel.STAGE]),
        _exit_of_kind(journey, feature_set),
        feature_set.plan.stall_after.size,
        float(feature_set.plan.abandon_after[0]),
        float(until),
        instances,
        visits,
        rows,
        progress_at,
    )
    return Paths(
        table=table,
        instances=_instances(instances),
        visits=_visits(visits),
        instance_of_row=rows[0],
        visit_of_row=rows[1],
        status_of_row=rows[2],
        codes=codes,
        progress_at=progress_at,
    )


def since(paths: Paths, moment: int) -> Paths:
    """Only the instances entered from a moment on, with their visits; events of others fall in none."""
    instances, visits = paths.instances, paths.visits
    chosen = instances.entered_at >= moment
    new_instance = np.where(chosen, np.cumsum(chosen) - 1, NOWHERE)
    chosen_visits = chosen[visits.instance]
    new_visit = np.where(chosen_visits, np.cumsum(chosen_visits) - 1, NOWHERE)
    renumbered = {name: getattr(visits, name)[chosen_visits] for name in Visits.__slots__}
    return replace(
        paths,
        instances=Instances(**{name: getattr(instances, name)[chosen] for name in Instances.__slots__}),
        visits=replace(Visits(**renumbered), instance=new_instance[visits.instance[chosen_visits]]),
        instance_of_row=_renumbered(paths.instance_of_row, new_instance),
        visit_of_row=_renumbered(paths.visit_of_row, new_visit),
    )


def state_names(journey: Journey) -> tuple[str, ...]:
    """Every state that the journey can name, the first match first, ``ACTIVE`` last."""
    return (*dict.fromkeys(rule.state for rule in journey.states if rule.state != ACTIVE), ACTIVE)


def states_at(paths: Paths, feature_set: FeatureSet, journey: Journey, customers: Integers, at: Floats) -> Integers:
    """The state of customers at moments, from what occurred strictly before, as indices into ``state_names``."""
    parts = [np.empty(0, dtype=np.int64)]
    for first in range(0, customers.size, _MOMENTS_AT_ONCE):
        part = slice(first, first + _MOMENTS_AT_ONCE)
        ids = paths.table.customers.take(pa.array(customers[part]))
        parts.append(_states(journey, feature_set, reads_at(paths.table, feature_set, ids, at[part].astype(np.int64))))
    return np.concatenate(parts)


def _states(journey: Journey, feature_set: FeatureSet, vectors: Floats) -> Integers:
    names = state_names(journey)
    states = np.full(len(vectors), names.index(ACTIVE))
    for rule in reversed(journey.states):  # the first match is written last
        numbers = vectors[:, feature_set.names.index(rule.feature)]
        low = -np.inf if rule.at_least is None else rule.at_least
        high = np.inf if rule.at_most is None else rule.at_most
        states[(numbers >= low) & (numbers <= high)] = names.index(rule.state)
    return states


def _renumbered(rows: Integers, new: Integers) -> Integers:
    return np.where(rows == NOWHERE, NOWHERE, np.append(new, NOWHERE)[rows])


def _exit_of_kind(journey: Journey, feature_set: FeatureSet) -> Integers:
    exits = np.full(len(feature_set.kind_index), NOWHERE)
    for i, kinds in enumerate(journey.exits.values()):
        exits[[feature_set.kind_index[kind] for kind in kinds]] = i
    return exits


def _instances(columns: Floats) -> Instances:
    customer, entered_at, ended_at, end, channel, deviations = columns
    return Instances(
        customer.astype(np.int64),
        entered_at,
        ended_at,
        end.astype(np.int64),
        channel.astype(np.int64),
        deviations == 0,
    )


def _visits(columns: Floats) -> Visits:
    customer, instance, stage, entered_at, ended_at, end, to, loops, channel = columns
    whole = [column.astype(np.int64) for column in (customer, instance, stage, end, to, loops, channel)]
    return Visits(whole[0], whole[1], whole[2], entered_at, ended_at, *whole[3:])


@njit(cache=True)
def _walk(
    starts: Integers,
    at: Floats,
    kinds: Integers,
    channels: Integers,
    codes: Integers,
    is_own: Booleans,
    stage_of_kind: Integers,
    exit_of_kind: Integers,
    n_stages: int,
    abandon_after: float,
    until: float,
    instances: Floats,
    visits: Floats,
    rows: Integers,
    progress_at: Floats,
) -> None:
    """Write instances ``(6, n)``, visits ``(9, n)``, rows ``(3, n_events)`` and the next progress ``(n_events,)``.

    The rows of each are those of ``Instances``, ``Visits`` and ``Paths`` in the order of their attributes.
    """
    i, v = -1, -1
    for c in range(starts.size - 1):
        status, heard, last_channel = kernel.NEVER, np.nan, NOWHERE
        for row in range(starts[c], starts[c + 1]):
            t, kind, code = at[row], kinds[row], codes[row]
            if status == kernel.OPEN and t > heard + abandon_after:
                status = kernel.ABANDONED
                instances[2, i], instances[3, i] = heard + abandon_after, SILENCE
                visits[4, v], visits[5, v] = heard + abandon_after, SILENCE
            rows[2, row] = status
            if is_own[kind] and channels[row] >= 0:
                last_channel = channels[row]
            begins, end, to = False, STILL_OPEN, NOWHERE
            stage = stage_of_kind[kind]
            if status == kernel.OPEN:
                rows[0, row], rows[1, row] = i, v
                here = visits[2, v]
                if code == kernel.PROGRESSED or code == kernel.GOAL_REACHED:
                    end, to, begins = ADVANCED, stage, code == kernel.PROGRESSED
                    if code == kernel.GOAL_REACHED:
                        end, status = GOAL, kernel.REACHED
                    if stage > here + 1:
                        instances[5, i] += 1
                elif code == kernel.LEFT:
                    end, to, status = EXIT, exit_of_kind[kind], kernel.EXITED
                elif code == kernel.LOOPED:
                    visits[7, v] += 1
                    if 0 <= stage < here:
                        instances[5, i] += 1
                if end != STILL_OPEN:
                    visits[4, v], visits[5, v], visits[6, v] = t, end, to
                    if status != kernel.OPEN:
                        instances[2, i], instances[3, i] = t, end
            elif code == kernel.ENTERED:
                i += 1
                status, begins = kernel.OPEN, True
                if stage < 0 or stage >= n_stages:
                    stage = 0
                instances[0, i], instances[1, i], instances[2, i] = c, t, until
                instances[3, i], instances[4, i], instances[5, i] = STILL_OPEN, last_channel, stage > 0
                rows[0, row], rows[1, row] = i, v + 1
            if begins:
                v += 1
                visits[0, v], visits[1, v], visits[2, v], visits[3, v], visits[4, v] = c, i, stage, t, until
                visits[5, v], visits[6, v], visits[7, v], visits[8, v] = STILL_OPEN, NOWHERE, 0, last_channel
            if is_own[kind] or code == kernel.ENTERED:
                heard = t
        if status == kernel.OPEN and until > heard + abandon_after:
            instances[2, i], instances[3, i] = heard + abandon_after, SILENCE
            visits[4, v], visits[5, v] = heard + abandon_after, SILENCE
        following, instance = np.nan, NOWHERE
        for row in range(starts[c + 1] - 1, starts[c] - 1, -1):
            if rows[0, row] != instance:
                following, instance = np.nan, rows[0, row]
            if instance != NOWHERE:
                progress_at[row] = following
                if codes[row] == kernel.PROGRESSED or codes[row] == kernel.GOAL_REACHED:
                    following = at[row]
