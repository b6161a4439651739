"""The kernel: ``fold`` an event into a customer's state, ``read`` the features of a state as of a moment.

The same compiled functions run online over one customer and in batch over millions of sorted events; there is no second
implementation. All jitted code that calls each other stands in this file, since numba's cache does not see edits in
another one. The state is one float64 vector: times are microseconds since the epoch, exact in a double until 2255, and
NaN means "never" or "unknown". ``features.schema`` names the slots and the features, and builds the ``Plan``.

A window of length w at t holds events with ``t - w <= occurred_at < t``. The caller folds only what is strictly before
the moment that it reads.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

HOUR_US: Final = 3_600_000_000.0
DAY_US: Final = 24 * HOUR_US

# Roles, as numbers; ``is_own_role`` says which of them the customer did.
ACTIVITY: Final = 0
CALL: Final = 1
CONTACT: Final = 2
RESPONSE: Final = 3
FEEDBACK: Final = 4
OFFER_SHOWN: Final = 5
OFFER_ACCEPTED: Final = 6
OFFER_REJECTED: Final = 7
OPERATION: Final = 8
OUTCOME: Final = 9
OVERRIDE: Final = 10
PROFILE: Final = 11
CONSENT: Final = 12

# Columns of ``Plan.kinds``.
ROLE: Final = 0
STAGE: Final = 1  # index of the stage it enters, n_stages for the goal, -1 for none
ENTRY: Final = 2
EXIT: Final = 3
WAITING: Final = 4  # 1 starts, 2 ends

# Journey status.
NEVER: Final = 0
OPEN: Final = 1
REACHED: Final = 2
EXITED: Final = 3
ABANDONED: Final = 4

# Slots of ``times``.
LAST_EVENT_AT: Final = 0
LAST_SEQUENCE: Final = 1
FIRST_EVENT_AT: Final = 2
ENTERED_AT: Final = 3
LAST_PROGRESS_AT: Final = 4
CLOSED_AT: Final = 5
LAST_CUSTOMER_AT: Final = 6
LAST_CONTACT_AT: Final = 7
LAST_RESPONSE_AT: Final = 8
LAST_FEEDBACK_AT: Final = 9
WAITING_SINCE_AT: Final = 10
WAITED_US: Final = 11
N_TIMES: Final = 12

# Slots of ``progress``.
STATUS: Final = 0
STAGE_INDEX: Final = 1
N_ENTRIES: Final = 2
N_PROGRESS: Final = 3
N_LOOPS: Final = 4
LOOPS_SINCE: Final = 5
EVENTS_SINCE: Final = 6
CALLS_SINCE: Final = 7
CONTACTS_SINCE: Final = 8
N_EVENTS: Final = 9
N_PROGRESS_SLOTS: Final = 10

# Slots of ``flow``.
LAST_CHANNEL: Final = 0
SWITCHES: Final = 1
DIGITAL_TO_OFFLINE: Final = 2
N_CONTACTS: Final = 3
N_RESPONSES: Final = 4
SHOWN: Final = 5
ACCEPTED: Final = 6
REJECTED: Final = 7
NPS_LAST: Final = 8
SENTIMENT_LAST: Final = 9
VALUE_LAST: Final = 10
VALUE_TOTAL: Final = 11
N_FLOW: Final = 12

# Decayed counts: value and the time it was brought up to.
CUSTOMER_1D: Final = 0
CUSTOMER_7D: Final = 1
CONTACTS_7D: Final = 2
N_DECAYED: Final = 3

# Rings of recent times.
CUSTOMER_RING: Final = 64
CONTACT_RING: Final = 16
CALL_RING: Final = 16

# Positions of the fields inside ``Plan.offsets``.
TIMES: Final = 0
PROGRESS: Final = 1
STAGE_ENTERED: Final = 2
KIND_COUNTS: Final = 3
KIND_LAST: Final = 4
CHANNEL_COUNTS: Final = 5
FLOW: Final = 6
DECAYED_VALUE: Final = 7
DECAYED_AT: Final = 8
RING_AT: Final = 9
RING_N: Final = 10
END: Final = 11

N_FIXED_FEATURES: Final = 42


class Plan(NamedTuple):
    """What the kernel must know of taxonomy and journey, as arrays.

    Attributes:
        offsets: ``(12,)`` start of each field in the state vector; the last is the vector's length.
        kinds: ``(n_kinds, 5)`` role, stage, entry, exit, waiting.
        digital: ``(n_channels,)`` 1 where the channel is digital.
        stall_after: ``(n_stages,)`` microseconds.
        abandon_after: ``(1,)`` microseconds.
    """

    offsets: Integers
    kinds: Integers
    digital: Integers
    stall_after: Floats
    abandon_after: Floats


def new_state(plan: Plan) -> Floats:
    """State of a customer of whom nothing is known."""
    state = np.empty(plan.offsets[END], dtype=np.float64)
    reset(state, plan)
    return state


def n_features(plan: Plan) -> int:
    """Number of features that ``read`` writes."""
    return N_FIXED_FEATURES + plan.stall_after.size + 2 * int(plan.kinds.shape[0]) + int(plan.digital.shape[0])


@numba.njit(cache=True)
def is_own_role(role: int) -> bool:
    """Whether events of a role are the customer's own doing, rather than ours."""
    return role < OPERATION and role != CONTACT and role != OFFER_SHOWN


@numba.njit(cache=True)
def reset(state: Floats, plan: Plan) -> None:
    """Make ``state`` that of a customer of whom nothing is known."""
    o = plan.offsets
    state[:] = 0.0
    state[o[TIMES] : o[TIMES] + N_TIMES] = np.nan
    state[o[TIMES] + WAITED_US] = 0.0
    state[o[PROGRESS] + STAGE_INDEX] = np.nan
    state[o[STAGE_ENTERED] : o[KIND_COUNTS]] = np.nan
    state[o[KIND_LAST] : o[CHANNEL_COUNTS]] = np.nan
    state[o[FLOW] + LAST_CHANNEL] = np.nan
    state[o[FLOW] + NPS_LAST] = np.nan
    state[o[FLOW] + SENTIMENT_LAST] = np.nan
    state[o[FLOW] + VALUE_LAST] = np.nan
    state[o[DECAYED_AT] : o[RING_N]] = np.nan


@numba.njit(cache=True)
def _push(state: Floats, start: int, size: int, counter: int, at: float) -> None:
    n = int(state[counter])
    state[start + n % size] = at
    state[counter] = n + 1.0


@numba.njit(cache=True)
def _count_since(state: Floats, start: int, size: int, earliest: float) -> float:
    n = 0.0
    for i in range(start, start + size):
        if state[i] >= earliest:
            n += 1.0
    return n


@numba.njit(cache=True)
def _add_decayed(state: Floats, plan: Plan, slot: int, at: float, half_life: float) -> None:
    value = plan.offsets[DECAYED_VALUE] + slot
    moment = plan.offsets[DECAYED_AT] + slot
    previous = state[moment]
    if not np.isnan(previous):
        state[value] *= 0.5 ** ((at - previous) / half_life)
    state[value] += 1.0
    state[moment] = at


@numba.njit(cache=True)
def _decayed(state: Floats, plan: Plan, slot: int, at: float, half_life: float) -> float:
    previous = state[plan.offsets[DECAYED_AT] + slot]
    if np.isnan(previous):
        return 0.0
    return float(state[plan.offsets[DECAYED_VALUE] + slot] * 0.5 ** ((at - previous) / half_life))


@numba.njit(cache=True)
def _silence_ends_at(state: Floats, plan: Plan) -> float:
    """When an open journey is abandoned unless the customer does something by then."""
    o = plan.offsets
    last = state[o[TIMES] + LAST_CUSTOMER_AT]
    entered = state[o[TIMES] + ENTERED_AT]
    if np.isnan(last) or last < entered:
        last = entered
    return float(last + plan.abandon_after[0])


@numba.njit(cache=True)
def status_at(state: Floats, plan: Plan, at: float) -> int:
    """Journey status at ``at``: an open journey that was silent for longer than ``abandon_after`` is abandoned."""
    status = int(state[plan.offsets[PROGRESS] + STATUS])
    if status == OPEN and at > _silence_ends_at(state, plan):
        return ABANDONED
    return status


@numba.njit(cache=True)
def _start_since(state: Floats, plan: Plan, at: float) -> None:
    o = plan.offsets
    state[o[TIMES] + LAST_PROGRESS_AT] = at
    state[o[PROGRESS] + LOOPS_SINCE] = 0.0
    state[o[PROGRESS] + EVENTS_SINCE] = 0.0
    state[o[PROGRESS] + CALLS_SINCE] = 0.0
    state[o[PROGRESS] + CONTACTS_SINCE] = 0.0


@numba.njit(cache=True)
def _fold_journey(state: Floats, plan: Plan, kind: int, at: float) -> None:
    o = plan.offsets
    p = o[PROGRESS]
    t = o[TIMES]
    n_stages = plan.stall_after.size
    stage = plan.kinds[kind, STAGE]
    status = status_at(state, plan, at)
    if status == ABANDONED and state[p + STATUS] == OPEN:
        state[p + STATUS] = ABANDONED
        state[t + CLOSED_AT] = _silence_ends_at(state, plan)
    if status != OPEN:
        if plan.kinds[kind, ENTRY] == 1:
            state[p + STATUS] = OPEN
            state[p + N_ENTRIES] += 1.0
            state[p + N_PROGRESS] = 0.0
            state[p + N_LOOPS] = 0.0
            state[t + ENTERED_AT] = at
            state[t + CLOSED_AT] = np.nan
            state[o[STAGE_ENTERED] : o[KIND_COUNTS]] = np.nan
            first = stage if 0 <= stage < n_stages else 0
            state[p + STAGE_INDEX] = first
            state[o[STAGE_ENTERED] + first] = at
            _start_since(state, plan, at)
        return
    if plan.kinds[kind, EXIT] == 1:
        state[p + STATUS] = EXITED
        state[t + CLOSED_AT] = at
    elif stage > state[p + STAGE_INDEX]:
        state[p + STAGE_INDEX] = stage
        state[p + N_PROGRESS] += 1.0
        state[o[STAGE_ENTERED] + stage] = at
        _start_since(state, plan, at)
        if stage == n_stages:
            state[p + STATUS] = REACHED
            state[t + CLOSED_AT] = at
    elif stage >= 0 or plan.kinds[kind, ENTRY] == 1:
        state[p + N_LOOPS] += 1.0
        state[p + LOOPS_SINCE] += 1.0


@numba.njit(cache=True)
def fold(
    state: Floats,
    plan: Plan,
    kind: int,
    channel: int,
    at: float,
    sequence: float,
    value: float,
    nps: float,
    sentiment: float,
) -> None:
    """Fold one event into ``state``, in place. Events must come in the order of ``JourneyEvent.order``.

    Args:
        state: ``(offsets[END],)`` the customer's state in one journey.
        plan: what the kernel must know of taxonomy and journey.
        kind: index of the kind in the taxonomy.
        channel: index of the channel, or -1.
        at: when it occurred, microseconds since the epoch.
        sequence: its order among equal times.
        value: its money value, NaN where it has none.
        nps: 0 to 10, NaN where it has none.
        sentiment: -1 to 1, NaN where it has none.
    """
    o = plan.offsets
    t = o[TIMES]
    p = o[PROGRESS]
    f = o[FLOW]
    role = plan.kinds[kind, ROLE]
    _fold_journey(state, plan, kind, at)
    state[t + LAST_EVENT_AT] = at
    state[t + LAST_SEQUENCE] = sequence
    if np.isnan(state[t + FIRST_EVENT_AT]):
        state[t + FIRST_EVENT_AT] = at
    state[p + N_EVENTS] += 1.0
    state[o[KIND_COUNTS] + kind] += 1.0
    state[o[KIND_LAST] + kind] = at
    if channel >= 0:
        state[o[CHANNEL_COUNTS] + channel] += 1.0
    if plan.kinds[kind, WAITING] == 1 and np.isnan(state[t + WAITING_SINCE_AT]):
        state[t + WAITING_SINCE_AT] = at
    elif plan.kinds[kind, WAITING] == 2 and not np.isnan(state[t + WAITING_SINCE_AT]):
        state[t + WAITED_US] += at - state[t + WAITING_SINCE_AT]
        state[t + WAITING_SINCE_AT] = np.nan
    if not np.isnan(value):
        state[f + VALUE_LAST] = value
        state[f + VALUE_TOTAL] += value

    ring = o[RING_AT]
    ring_n = o[RING_N]
    if role == CONTACT:
        state[t + LAST_CONTACT_AT] = at
        state[f + N_CONTACTS] += 1.0
        state[p + CONTACTS_SINCE] += 1.0
        _add_decayed(state, plan, CONTACTS_7D, at, 7 * DAY_US)
        _push(state, ring + CUSTOMER_RING, CONTACT_RING, ring_n + 1, at)
        return
    if role == OFFER_SHOWN:
        state[f + SHOWN] += 1.0
    if not is_own_role(role):
        return

    # From here on the customer did it.
    state[t + LAST_CUSTOMER_AT] = at
    state[p + EVENTS_SINCE] += 1.0
    _add_decayed(state, plan, CUSTOMER_1D, at, DAY_US)
    _add_decayed(state, plan, CUSTOMER_7D, at, 7 * DAY_US)
    _push(state, ring, CUSTOMER_RING, ring_n, at)
    if channel >= 0:
        previous = state[f + LAST_CHANNEL]
        if not np.isnan(previous) and previous != channel:
            state[f + SWITCHES] += 1.0
            if plan.digital[int(previous)] == 1 and plan.digital[channel] == 0:
                state[f + DIGITAL_TO_OFFLINE] += 1.0
        state[f + LAST_CHANNEL] = channel
    if role == CALL:
        state[p + CALLS_SINCE] += 1.0
        _push(state, ring + CUSTOMER_RING + CONTACT_RING, CALL_RING, ring_n + 2, at)
    elif role == RESPONSE:
        state[t + LAST_RESPONSE_AT] = at
        state[f + N_RESPONSES] += 1.0
    elif role == FEEDBACK:
        state[t + LAST_FEEDBACK_AT] = at
        if not np.isnan(nps):
            state[f + NPS_LAST] = nps
        if not np.isnan(sentiment):
            state[f + SENTIMENT_LAST] = sentiment
    elif role == OFFER_ACCEPTED:
        state[f + ACCEPTED] += 1.0
    elif role == OFFER_REJECTED:
        state[f + REJECTED] += 1.0


@numba.njit(cache=True)
def read(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    """Write the features of ``state`` as of ``at`` into ``out``, in the order of ``features.schema``.

    Args:
        state: the customer's state, holding only events strictly before ``at``.
        plan: what the kernel must know of taxonomy and journey.
        at: the moment, microseconds since the epoch.
        out: ``(n_features(plan),)`` written in place; NaN means unknown or never.
    """
    o = plan.offsets
    t = o[TIMES]
    p = o[PROGRESS]
    f = o[FLOW]
    ring = o[RING_AT]
    n_stages = plan.stall_after.size
    status = status_at(state, plan, at)
    is_open = status == OPEN
    stage = state[p + STAGE_INDEX]
    since_progress = at - state[t + LAST_PROGRESS_AT]
    stall_after = plan.stall_after[int(stage)] if is_open else np.nan
    in_journey = (at - state[t + ENTERED_AT]) if is_open else np.nan

    out[0] = (at - state[t + LAST_EVENT_AT]) / HOUR_US
    out[1] = (at - state[t + FIRST_EVENT_AT]) / HOUR_US
    out[2] = (at - state[t + LAST_CUSTOMER_AT]) / HOUR_US
    out[3] = float(status)
    out[4] = stage
    out[5] = since_progress / HOUR_US if is_open else np.nan
    out[6] = since_progress / stall_after
    out[7] = np.nan if not is_open else (1.0 if since_progress >= stall_after else 0.0)
    out[8] = in_journey / HOUR_US
    out[9] = state[p + N_ENTRIES]
    out[10] = state[p + N_PROGRESS]
    out[11] = state[p + N_PROGRESS] / max(in_journey / DAY_US, 1.0 / 24.0) if is_open else np.nan
    out[12] = state[p + N_LOOPS]
    out[13] = state[p + LOOPS_SINCE]
    out[14] = state[p + N_EVENTS]
    out[15] = state[p + EVENTS_SINCE]
    out[16] = state[p + CALLS_SINCE]
    out[17] = state[p + CONTACTS_SINCE]
    out[18] = _count_since(state, ring, CUSTOMER_RING, at - DAY_US)
    out[19] = _count_since(state, ring, CUSTOMER_RING, at - 7 * DAY_US)
    out[20] = _count_since(state, ring, CUSTOMER_RING, at - 30 * DAY_US)
    out[21] = _count_since(state, ring + CUSTOMER_RING + CONTACT_RING, CALL_RING, at - 7 * DAY_US)
    out[22] = _count_since(state, ring + CUSTOMER_RING, CONTACT_RING, at - 7 * DAY_US)
    out[23] = _count_since(state, ring + CUSTOMER_RING, CONTACT_RING, at - 30 * DAY_US)
    out[24] = _decayed(state, plan, CUSTOMER_1D, at, DAY_US)
    out[25] = _decayed(state, plan, CUSTOMER_7D, at, 7 * DAY_US)
    out[26] = _decayed(state, plan, CONTACTS_7D, at, 7 * DAY_US)
    out[27] = state[f + SWITCHES]
    out[28] = state[f + DIGITAL_TO_OFFLINE]
    last_channel = state[f + LAST_CHANNEL]
    out[29] = np.nan if np.isnan(last_channel) else float(plan.digital[int(last_channel)])
    out[30] = (at - state[t + LAST_CONTACT_AT]) / HOUR_US
    out[31] = (at - state[t + LAST_RESPONSE_AT]) / HOUR_US
    contacts = state[f + N_CONTACTS]
    out[32] = state[f + N_RESPONSES] / contacts if contacts > 0 else np.nan
    out[33] = state[f + SHOWN]
    out[34] = state[f + ACCEPTED]
    out[35] = state[f + REJECTED]
    out[36] = state[f + NPS_LAST]
    out[37] = state[f + SENTIMENT_LAST]
    waiting_since = state[t + WAITING_SINCE_AT]
    out[38] = 0.0 if np.isnan(waiting_since) else (at - waiting_since) / HOUR_US
    waited = state[t + WAITED_US]
    out[39] = (waited if np.isnan(waiting_since) else waited + at - waiting_since) / HOUR_US
    out[40] = state[f + VALUE_LAST]
    out[41] = state[f + VALUE_TOTAL]
    i = N_FIXED_FEATURES
    for s in range(n_stages):
        out[i] = (at - state[o[STAGE_ENTERED] + s]) / HOUR_US
        i += 1
    for k in range(plan.kinds.shape[0]):
        out[i] = state[o[KIND_COUNTS] + k]
        out[i + 1] = (at - state[o[KIND_LAST] + k]) / HOUR_US
        i += 2
    for c in range(plan.digital.shape[0]):
        out[i] = state[o[CHANNEL_COUNTS] + c]
        i += 1


class Events(NamedTuple):
    """Sorted events of many customers as columns, each ``(n_events,)``; see ``fold`` for their meaning."""

    kind: Integers
    channel: Integers
    at: Floats
    arrived: Floats
    sequence: Floats
    value: Floats
    nps: Floats
    sentiment: Floats


@numba.njit(cache=True)
def _fold_row(state: Floats, plan: Plan, events: Events, row: int) -> None:
    fold(
        state,
        plan,
        events.kind[row],
        events.channel[row],
        events.at[row],
        events.sequence[row],
        events.value[row],
        events.nps[row],
        events.sentiment[row],
    )


@numba.njit(cache=True)
def final_states(plan: Plan, events: Events, starts: Integers, out: Floats) -> None:
    """State of every customer after all of its events.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start; the last is the number of events.
        out: ``(n_customers, offsets[END])`` written in place.
    """
    for c in range(starts.size - 1):
        reset(out[c], plan)
        for row in range(starts[c], starts[c + 1]):
            _fold_row(out[c], plan, events, row)


@numba.njit(cache=True)
def arrival_states(plan: Plan, events: Events, starts: Integers, arrival_rank: Integers, out: Floats) -> None:
    """State of every customer after each arrival: what was known then, with late events folded in their place.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start.
        arrival_rank: ``(n_events,)`` for each row, the how-manieth arrival of its customer it was, from 0.
        out: ``(n_events, offsets[END])`` row ``starts[c] + k`` is the state after customer c's arrival k.
    """
    state = np.empty(plan.offsets[END])
    for c in range(starts.size - 1):
        start = starts[c]
        n = starts[c + 1] - start
        row_of = np.empty(n, dtype=np.int64)
        for row in range(start, start + n):
            row_of[arrival_rank[row]] = row
        reset(state, plan)
        newest = -1
        for k in range(n):
            if row_of[k] > newest:
                newest = row_of[k]
                _fold_row(state, plan, events, newest)
            else:
                reset(state, plan)
                for row in range(start, newest + 1):
                    if arrival_rank[row] <= k:
                        _fold_row(state, plan, events, row)
            out[start + k] = state


@numba.njit(cache=True)
def reads_at(
    plan: Plan, events: Events, starts: Integers, moment_starts: Integers, moments: Floats, out: Floats
) -> None:
    """Features of every customer at requested moments, from what had occurred and had arrived strictly before.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start.
        moment_starts: ``(n_customers + 1,)`` likewise for the moments.
        moments: ``(n_moments,)`` sorted within each customer, microseconds since the epoch.
        out: ``(n_moments, n_features)`` written in place.
    """
    state = np.empty(plan.offsets[END])
    for c in range(starts.size - 1):
        reset(state, plan)
        is_late = False
        for row in range(starts[c], starts[c + 1]):
            if events.arrived[row] > events.at[row]:
                is_late = True
        row = starts[c]
        for m in range(moment_starts[c], moment_starts[c + 1]):
            if is_late:
                reset(state, plan)
                for r in range(starts[c], starts[c + 1]):
                    if events.at[r] < moments[m] and events.arrived[r] < moments[m]:
                        _fold_row(state, plan, events, r)
            else:
                while row < starts[c + 1] and events.at[row] < moments[m]:
                    _fold_row(state, plan, events, row)
                    row += 1
            read(state, plan, moments[m], out[m])


# Codes of ``transitions``.
NOTHING: Final = 0
ENTERED: Final = 1
PROGRESSED: Final = 2
GOAL_REACHED: Final = 3
LEFT: Final = 4
LOOPED: Final = 5


@numba.njit(cache=True)
def transitions(plan: Plan, events: Events, starts: Integers, codes: Integers, stages: Integers) -> None:
    """What each event did to its customer's journey.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start.
        codes: ``(n_events,)`` written in place: NOTHING, ENTERED, PROGRESSED, GOAL_REACHED, LEFT or LOOPED.
        stages: ``(n_events,)`` written in place: stage index after the event, -1 where no journey is open.
    """
    p = plan.offsets[PROGRESS]
    state = np.empty(plan.offsets[END])
    for c in range(starts.size - 1):
        reset(state, plan)
        for row in range(starts[c], starts[c + 1]):
            entries = state[p + N_ENTRIES]
            progress = state[p + N_PROGRESS]
            loops = state[p + N_LOOPS]
            was_open = status_at(state, plan, events.at[row]) == OPEN
            _fold_row(state, plan, events, row)
            status = int(state[p + STATUS])
            codes[row] = NOTHING
            if state[p + N_ENTRIES] > entries:
                codes[row] = ENTERED
            elif was_open and status == REACHED:
                codes[row] = GOAL_REACHED
            elif was_open and status == EXITED:
                codes[row] = LEFT
            elif was_open and state[p + N_PROGRESS] > progress:
                codes[row] = PROGRESSED
            elif was_open and state[p + N_LOOPS] > loops:
                codes[row] = LOOPED
            stages[row] = int(state[p + STAGE_INDEX]) if status == OPEN else -1
