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
WINDOWED: Final = 5  # 1 where it has window counts and a decayed count
KIND_READ_AT: Final = 6  # where its features start in the vector

# Columns of ``Plan.channels``.
DIGITAL: Final = 0
OUTBOUND: Final = 1
CHANNEL_READ_AT: Final = 2  # where its features start in the vector

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
FIRST_CUSTOMER_AT: Final = 6
LAST_CUSTOMER_AT: Final = 7
LAST_CONTACT_AT: Final = 8
LAST_RESPONSE_AT: Final = 9
LAST_FEEDBACK_AT: Final = 10
LAST_OFFER_AT: Final = 11
WAITING_SINCE_AT: Final = 12
WAITED_US: Final = 13
RESPONSE_TOOK_US: Final = 14
N_TIMES: Final = 15

# Slots of ``progress``.
STATUS: Final = 0
STAGE_INDEX: Final = 1
N_ENTRIES: Final = 2
N_PROGRESS: Final = 3
N_LOOPS: Final = 4
LOOPS_SINCE: Final = 5
N_REVISITS: Final = 6
REVISITS_SINCE: Final = 7
EVENTS_SINCE: Final = 8
CALLS_SINCE: Final = 9
CONTACTS_SINCE: Final = 10
SWITCHES_SINCE: Final = 11
N_EVENTS: Final = 12
N_PROGRESS_SLOTS: Final = 13

# Blocks of ``kinds``, each with one slot per kind.
KIND_COUNT: Final = 0
KIND_LAST_AT: Final = 1
KIND_DECAYED: Final = 2
N_KIND_BLOCKS: Final = 3

# Blocks of ``channels``, each with one slot per channel. The decayed counts are as of the block that follows them.
CHANNEL_COUNT: Final = 0
CHANNEL_DECAYED: Final = 1
CHANNEL_LAST_AT: Final = 2
CHANNEL_OWN: Final = 3
CHANNEL_OWN_AT: Final = 4
CHANNEL_CONTACTS: Final = 5
CHANNEL_RESPONSES: Final = 6
N_CHANNEL_BLOCKS: Final = 7

N_HOURS: Final = 24

# Slots of ``flow``.
LAST_CHANNEL: Final = 0
SWITCHES: Final = 1
DIGITAL_TO_OFFLINE: Final = 2
N_OWN: Final = 3
N_CONTACTS: Final = 4
N_RESPONSES: Final = 5
UNANSWERED: Final = 6
SHOWN: Final = 7
ACCEPTED: Final = 8
REJECTED: Final = 9
N_FEEDBACK: Final = 10
NPS_LAST: Final = 11
NPS_SUM: Final = 12
NPS_N: Final = 13
SENTIMENT_LAST: Final = 14
SENTIMENT_SUM: Final = 15
SENTIMENT_N: Final = 16
SENTIMENT_LOWEST: Final = 17
VALUE_LAST: Final = 18
VALUE_TOTAL: Final = 19
VALUE_N: Final = 20
VALUE_HIGHEST: Final = 21
PRICE_FIRST: Final = 22
PRICE_LAST: Final = 23
PRICE_LOWEST: Final = 24
N_FLOW: Final = 25

# Decayed counts over all kinds: first their values, then the times that these were brought up to.
CUSTOMER_1D: Final = 0
CUSTOMER_7D: Final = 1
CONTACTS_7D: Final = 2
CALLS_7D: Final = 3
N_DECAYED: Final = 4

# The ring of recent events: their times, their codes (kind and channel in one number), and how many were ever put in.
RECENT: Final = 128
N_RECENT: Final = 2 * RECENT + 1

# Positions of the fields inside ``Plan.offsets``.
TIMES: Final = 0
PROGRESS: Final = 1
STAGE_ENTERED: Final = 2
KINDS: Final = 3
CHANNELS: Final = 4
HOURS: Final = 5
THEMES: Final = 6
FLOW: Final = 7
DECAYED: Final = 8
RECENT_EVENTS: Final = 9
END: Final = 10

WINDOWS_US: Final = (HOUR_US, DAY_US, 7 * DAY_US, 30 * DAY_US)
N_WINDOWS: Final = 4
HALF_LIFE_US: Final = 7 * DAY_US
"""Of the decayed counts by kind and channel."""
OWN_HALF_LIFE_US: Final = 30 * DAY_US
"""Of the counts that say which channel a customer prefers."""

N_WINDOWED: Final = N_WINDOWS + 1
"""Window counts and the decayed count of a kind or a channel."""

# How many features each part of ``read`` writes; ``features.schema`` lists their names in the same order.
N_READ_TIMES: Final = 13
N_READ_JOURNEY: Final = 22
N_READ_WINDOWS: Final = 20
N_READ_CHANNELS: Final = 9
N_READ_CONTACTS: Final = 5
N_READ_OFFERS: Final = 5
N_READ_FEEDBACK: Final = 7
N_READ_MONEY: Final = 7
_JOURNEY_AT: Final = N_READ_TIMES
_WINDOWS_AT: Final = _JOURNEY_AT + N_READ_JOURNEY
_CHANNELS_AT: Final = _WINDOWS_AT + N_READ_WINDOWS
_CONTACTS_AT: Final = _CHANNELS_AT + N_READ_CHANNELS
_OFFERS_AT: Final = _CONTACTS_AT + N_READ_CONTACTS
_FEEDBACK_AT: Final = _OFFERS_AT + N_READ_OFFERS
_MONEY_AT: Final = _FEEDBACK_AT + N_READ_FEEDBACK
N_FIXED_FEATURES: Final = _MONEY_AT + N_READ_MONEY


class Plan(NamedTuple):
    """What the kernel must know of taxonomy and journey, as arrays.

    Attributes:
        offsets: ``(11,)`` start of each field in the state vector; the last is the vector's length.
        kinds: ``(n_kinds, 7)`` role, stage, entry, exit, waiting, windowed, where its features start.
        channels: ``(n_channels, 3)`` digital, outbound, where its features start.
        stall_after: ``(n_stages,)`` microseconds.
        abandon_after: ``(1,)`` microseconds.
        zone_from: ``(n_offsets,)`` from when on each offset of the installation's time zone holds, ascending.
        zone_offset: ``(n_offsets,)`` local time minus UTC, microseconds.
    """

    offsets: Integers
    kinds: Integers
    channels: Integers
    stall_after: Floats
    abandon_after: Floats
    zone_from: Floats
    zone_offset: Floats


def new_state(plan: Plan) -> Floats:
    """State of a customer of whom nothing is known."""
    state = np.empty(plan.offsets[END], dtype=np.float64)
    reset(state, plan)
    return state


def n_features(plan: Plan) -> int:
    """Number of features that ``read`` writes."""
    n_kinds, n_channels = plan.kinds.shape[0], plan.channels.shape[0]
    n_windowed, n_outbound = int(plan.kinds[:, WINDOWED].sum()), int(plan.channels[:, OUTBOUND].sum())
    n_themes = int(plan.offsets[FLOW] - plan.offsets[THEMES])
    by_kind = 2 * n_kinds + N_WINDOWED * n_windowed
    by_channel = (1 + N_WINDOWED) * n_channels + 2 * n_outbound
    return int(N_FIXED_FEATURES + 2 * plan.stall_after.size + by_kind + by_channel + n_themes)


@numba.njit(cache=True)
def is_own_role(role: int) -> bool:
    """Whether events of a role are the customer's own doing, rather than ours."""
    return bool(role < OPERATION and role != CONTACT and role != OFFER_SHOWN)


@numba.njit(cache=True)
def reset(state: Floats, plan: Plan) -> None:
    """Make ``state`` that of a customer of whom nothing is known."""
    o = plan.offsets
    n_kinds = plan.kinds.shape[0]
    n_channels = plan.channels.shape[0]
    state[:] = 0.0
    state[o[TIMES] : o[PROGRESS]] = np.nan
    state[o[TIMES] + WAITED_US] = 0.0
    state[o[PROGRESS] + STAGE_INDEX] = np.nan
    state[o[STAGE_ENTERED] : o[KINDS]] = np.nan
    state[o[KINDS] + KIND_LAST_AT * n_kinds : o[KINDS] + KIND_DECAYED * n_kinds] = np.nan
    state[o[CHANNELS] + CHANNEL_LAST_AT * n_channels : o[CHANNELS] + CHANNEL_OWN * n_channels] = np.nan
    state[o[CHANNELS] + CHANNEL_OWN_AT * n_channels : o[CHANNELS] + CHANNEL_CONTACTS * n_channels] = np.nan
    for slot in (
        LAST_CHANNEL,
        NPS_LAST,
        SENTIMENT_LAST,
        SENTIMENT_LOWEST,
        VALUE_LAST,
        VALUE_HIGHEST,
        PRICE_FIRST,
        PRICE_LAST,
        PRICE_LOWEST,
    ):
        state[o[FLOW] + slot] = np.nan
    state[o[DECAYED] + N_DECAYED : o[RECENT_EVENTS]] = np.nan
    state[o[RECENT_EVENTS] : o[RECENT_EVENTS] + 2 * RECENT] = np.nan


@numba.njit(cache=True)
def _faded(value: float, previous: float, at: float, half_life: float) -> float:
    """A decayed count as of a later moment; 0 where nothing was ever counted."""
    return 0.0 if np.isnan(previous) else float(value * np.exp2((previous - at) / half_life))


@numba.njit(cache=True)
def _count_decayed(state: Floats, value: int, moment: int, at: float, half_life: float) -> None:
    """Count one more in the decayed count at slot ``value``, which is as of the time at slot ``moment``."""
    state[value] = _faded(state[value], state[moment], at, half_life) + 1.0
    state[moment] = at


@numba.njit(cache=True)
def _local(zone_from: Floats, zone_offset: Floats, at: float) -> float:
    """Local time of the installation, in microseconds since the local epoch."""
    return float(at + zone_offset[max(int(np.searchsorted(zone_from, at, side="right")) - 1, 0)])


@numba.njit(cache=True)
def _local_hour(zone_from: Floats, zone_offset: Floats, at: float) -> int:
    return int(_local(zone_from, zone_offset, at) // HOUR_US) % N_HOURS


@numba.njit(cache=True)
def _local_weekday(zone_from: Floats, zone_offset: Floats, at: float) -> int:
    """0 is Monday; the epoch was a Thursday."""
    return (int(_local(zone_from, zone_offset, at) // DAY_US) + 3) % 7


@numba.njit(cache=True)
def _silence_ends_at(state: Floats, o: Integers, abandon_after: Floats) -> float:
    """When an open journey is abandoned unless the customer does something by then."""
    last = state[o[TIMES] + LAST_CUSTOMER_AT]
    entered = state[o[TIMES] + ENTERED_AT]
    if np.isnan(last) or last < entered:
        last = entered
    return float(last + abandon_after[0])


@numba.njit(cache=True)
def status_at(state: Floats, plan: Plan, at: float) -> int:
    """Journey status at ``at``: an open journey that was silent for longer than ``abandon_after`` is abandoned."""
    return _status_at(state, plan.offsets, plan.abandon_after, at)


@numba.njit(cache=True)
def _status_at(state: Floats, o: Integers, abandon_after: Floats, at: float) -> int:
    status = int(state[o[PROGRESS] + STATUS])
    if status == OPEN and at > _silence_ends_at(state, o, abandon_after):
        return ABANDONED
    return status


@numba.njit(cache=True)
def _start_since(state: Floats, o: Integers, at: float) -> None:
    state[o[TIMES] + LAST_PROGRESS_AT] = at
    for slot in (LOOPS_SINCE, REVISITS_SINCE, EVENTS_SINCE, CALLS_SINCE, CONTACTS_SINCE, SWITCHES_SINCE):
        state[o[PROGRESS] + slot] = 0.0


@numba.njit(cache=True)
def _fold_journey(
    state: Floats, o: Integers, kinds: Integers, n_stages: int, abandon_after: Floats, kind: int, at: float
) -> None:
    p = o[PROGRESS]
    t = o[TIMES]
    stage = kinds[kind, STAGE]
    status = _status_at(state, o, abandon_after, at)
    if status == ABANDONED and state[p + STATUS] == OPEN:
        state[p + STATUS] = ABANDONED
        state[t + CLOSED_AT] = _silence_ends_at(state, o, abandon_after)
    if status != OPEN:
        if kinds[kind, ENTRY] == 1:
            state[p + STATUS] = OPEN
            state[p + N_ENTRIES] += 1.0
            state[p + N_PROGRESS] = 0.0
            state[p + N_LOOPS] = 0.0
            state[p + N_REVISITS] = 0.0
            state[t + ENTERED_AT] = at
            state[t + CLOSED_AT] = np.nan
            state[o[STAGE_ENTERED] : o[KINDS]] = np.nan
            first = stage if 0 <= stage < n_stages else 0
            state[p + STAGE_INDEX] = first
            state[o[STAGE_ENTERED] + first] = at
            _start_since(state, o, at)
        return
    if kinds[kind, EXIT] == 1:
        state[p + STATUS] = EXITED
        state[t + CLOSED_AT] = at
    elif stage > state[p + STAGE_INDEX]:
        state[p + STAGE_INDEX] = stage
        state[p + N_PROGRESS] += 1.0
        state[o[STAGE_ENTERED] + stage] = at
        _start_since(state, o, at)
        if stage == n_stages:
            state[p + STATUS] = REACHED
            state[t + CLOSED_AT] = at
    elif stage >= 0 or kinds[kind, ENTRY] == 1:
        state[p + N_LOOPS] += 1.0
        state[p + LOOPS_SINCE] += 1.0
        if 0 <= stage < state[p + STAGE_INDEX]:
            state[p + N_REVISITS] += 1.0
            state[p + REVISITS_SINCE] += 1.0


@numba.njit(cache=True)
def _fold_counts(state: Floats, o: Integers, n_kinds: int, n_channels: int, kind: int, channel: int, at: float) -> None:
    """What every event is counted in, whoever did it."""
    k = o[KINDS] + kind
    state[o[PROGRESS] + N_EVENTS] += 1.0
    state[k + KIND_COUNT * n_kinds] += 1.0
    _count_decayed(state, k + KIND_DECAYED * n_kinds, k + KIND_LAST_AT * n_kinds, at, HALF_LIFE_US)
    if channel >= 0:
        c = o[CHANNELS] + channel
        state[c + CHANNEL_COUNT * n_channels] += 1.0
        _count_decayed(state, c + CHANNEL_DECAYED * n_channels, c + CHANNEL_LAST_AT * n_channels, at, HALF_LIFE_US)
    recent = o[RECENT_EVENTS]
    n = int(state[recent + 2 * RECENT])
    state[recent + n % RECENT] = at
    state[recent + RECENT + n % RECENT] = kind * (n_channels + 1) + channel + 1
    state[recent + 2 * RECENT] = n + 1.0


@numba.njit(cache=True)
def _fold_money(state: Floats, f: int, value: float, price: float) -> None:
    if not np.isnan(value):
        state[f + VALUE_LAST] = value
        state[f + VALUE_TOTAL] += value
        state[f + VALUE_N] += 1.0
        if not value <= state[f + VALUE_HIGHEST]:
            state[f + VALUE_HIGHEST] = value
    if not np.isnan(price):
        if np.isnan(state[f + PRICE_FIRST]):
            state[f + PRICE_FIRST] = price
        state[f + PRICE_LAST] = price
        if not price >= state[f + PRICE_LOWEST]:
            state[f + PRICE_LOWEST] = price


@numba.njit(cache=True)
def _fold_contact(state: Floats, o: Integers, n_channels: int, channel: int, at: float) -> None:
    state[o[TIMES] + LAST_CONTACT_AT] = at
    state[o[FLOW] + N_CONTACTS] += 1.0
    state[o[FLOW] + UNANSWERED] += 1.0
    state[o[PROGRESS] + CONTACTS_SINCE] += 1.0
    if channel >= 0:
        state[o[CHANNELS] + CHANNEL_CONTACTS * n_channels + channel] += 1.0
    _count_decayed(state, o[DECAYED] + CONTACTS_7D, o[DECAYED] + N_DECAYED + CONTACTS_7D, at, 7 * DAY_US)


@numba.njit(cache=True)
def _fold_own(state: Floats, o: Integers, channels: Integers, channel: int, hour: int, at: float) -> None:
    """What the customer's own doing is counted in."""
    t = o[TIMES]
    f = o[FLOW]
    d = o[DECAYED]
    if np.isnan(state[t + FIRST_CUSTOMER_AT]):
        state[t + FIRST_CUSTOMER_AT] = at
    state[t + LAST_CUSTOMER_AT] = at
    state[f + N_OWN] += 1.0
    state[o[PROGRESS] + EVENTS_SINCE] += 1.0
    state[o[HOURS] + hour] += 1.0
    _count_decayed(state, d + CUSTOMER_1D, d + N_DECAYED + CUSTOMER_1D, at, DAY_US)
    _count_decayed(state, d + CUSTOMER_7D, d + N_DECAYED + CUSTOMER_7D, at, 7 * DAY_US)
    if channel < 0:
        return
    n_channels = channels.shape[0]
    c = o[CHANNELS] + channel
    _count_decayed(state, c + CHANNEL_OWN * n_channels, c + CHANNEL_OWN_AT * n_channels, at, OWN_HALF_LIFE_US)
    previous = state[f + LAST_CHANNEL]
    if not np.isnan(previous) and previous != channel:
        state[f + SWITCHES] += 1.0
        state[o[PROGRESS] + SWITCHES_SINCE] += 1.0
        if channels[int(previous), DIGITAL] == 1 and channels[channel, DIGITAL] == 0:
            state[f + DIGITAL_TO_OFFLINE] += 1.0
    state[f + LAST_CHANNEL] = channel


@numba.njit(cache=True)
def _fold_response(state: Floats, o: Integers, n_channels: int, channel: int, at: float) -> None:
    state[o[TIMES] + LAST_RESPONSE_AT] = at
    state[o[TIMES] + RESPONSE_TOOK_US] = at - state[o[TIMES] + LAST_CONTACT_AT]
    state[o[FLOW] + N_RESPONSES] += 1.0
    state[o[FLOW] + UNANSWERED] = 0.0
    if channel >= 0:
        state[o[CHANNELS] + CHANNEL_RESPONSES * n_channels + channel] += 1.0


@numba.njit(cache=True)
def _fold_feedback(state: Floats, o: Integers, at: float, nps: float, sentiment: float, theme: int) -> None:
    f = o[FLOW]
    state[o[TIMES] + LAST_FEEDBACK_AT] = at
    state[f + N_FEEDBACK] += 1.0
    if not np.isnan(nps):
        state[f + NPS_LAST] = nps
        state[f + NPS_SUM] += nps
        state[f + NPS_N] += 1.0
    if not np.isnan(sentiment):
        state[f + SENTIMENT_LAST] = sentiment
        state[f + SENTIMENT_SUM] += sentiment
        state[f + SENTIMENT_N] += 1.0
        if not sentiment >= state[f + SENTIMENT_LOWEST]:
            state[f + SENTIMENT_LOWEST] = sentiment
    if theme >= 0:
        state[o[THEMES] + theme] += 1.0


@numba.njit(cache=True)
def fold(
    state: Floats,
    plan: Plan,
    kind: int,
    channel: int,
    at: float,
    sequence: float,
    value: float,
    price: float,
    nps: float,
    sentiment: float,
    theme: int,
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
        price: the price it named, NaN where it named none.
        nps: 0 to 10, NaN where it has none.
        sentiment: -1 to 1, NaN where it has none.
        theme: index of the theme that it is about, or -1.
    """
    # Unpacked once: every access to a field of the tuple costs some ten nanoseconds, and there would be forty.
    o, kinds, channels, stall_after, abandon_after, zone_from, zone_offset = plan
    n_kinds = kinds.shape[0]
    n_channels = channels.shape[0]
    t = o[TIMES]
    role = kinds[kind, ROLE]
    _fold_journey(state, o, kinds, stall_after.size, abandon_after, kind, at)
    state[t + LAST_EVENT_AT] = at
    state[t + LAST_SEQUENCE] = sequence
    if np.isnan(state[t + FIRST_EVENT_AT]):
        state[t + FIRST_EVENT_AT] = at
    _fold_counts(state, o, n_kinds, n_channels, kind, channel, at)
    _fold_money(state, o[FLOW], value, price)
    if kinds[kind, WAITING] == 1 and np.isnan(state[t + WAITING_SINCE_AT]):
        state[t + WAITING_SINCE_AT] = at
    elif kinds[kind, WAITING] == 2 and not np.isnan(state[t + WAITING_SINCE_AT]):
        state[t + WAITED_US] += at - state[t + WAITING_SINCE_AT]
        state[t + WAITING_SINCE_AT] = np.nan
    if role == CONTACT:
        _fold_contact(state, o, n_channels, channel, at)
    elif role == OFFER_SHOWN:
        state[o[FLOW] + SHOWN] += 1.0
        state[t + LAST_OFFER_AT] = at
    if not is_own_role(role):
        return
    _fold_own(state, o, channels, channel, _local_hour(zone_from, zone_offset, at), at)
    if role == CALL:
        state[o[PROGRESS] + CALLS_SINCE] += 1.0
        _count_decayed(state, o[DECAYED] + CALLS_7D, o[DECAYED] + N_DECAYED + CALLS_7D, at, 7 * DAY_US)
    elif role == RESPONSE:
        _fold_response(state, o, n_channels, channel, at)
    elif role == FEEDBACK:
        _fold_feedback(state, o, at, nps, sentiment, theme)
    elif role == OFFER_ACCEPTED:
        state[o[FLOW] + ACCEPTED] += 1.0
    elif role == OFFER_REJECTED:
        state[o[FLOW] + REJECTED] += 1.0


@numba.njit(cache=True)
def _over(part: float, whole: float) -> float:
    """A share; NaN of nothing."""
    return part / whole if whole > 0.0 else np.nan


@numba.njit(cache=True)
def _read_times(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    t = plan.offsets[TIMES]
    n_own = state[plan.offsets[FLOW] + N_OWN]
    since_own = at - state[t + LAST_CUSTOMER_AT]
    out[0] = (at - state[t + LAST_EVENT_AT]) / HOUR_US
    out[1] = (at - state[t + FIRST_EVENT_AT]) / HOUR_US
    out[2] = since_own / HOUR_US
    gap = np.nan
    if n_own > 1.0:
        gap = (state[t + LAST_CUSTOMER_AT] - state[t + FIRST_CUSTOMER_AT]) / (n_own - 1.0)
    out[3] = gap / HOUR_US
    out[4] = _over(since_own, gap)
    waiting_since = state[t + WAITING_SINCE_AT]
    waited = state[t + WAITED_US]
    out[5] = 0.0 if np.isnan(waiting_since) else (at - waiting_since) / HOUR_US
    out[6] = (waited if np.isnan(waiting_since) else waited + at - waiting_since) / HOUR_US
    hour_now = _local_hour(plan.zone_from, plan.zone_offset, at)
    out[7] = hour_now
    out[8] = _local_weekday(plan.zone_from, plan.zone_offset, at)
    hours = plan.offsets[HOURS]
    best = 0
    near = 0.0
    for hour in range(N_HOURS):
        if state[hours + hour] > state[hours + best]:
            best = hour
    for step in (-1, 0, 1):
        near += state[hours + (hour_now + step) % N_HOURS]
    out[9] = best if n_own > 0.0 else np.nan
    out[10] = _over(state[hours + best], n_own)
    out[11] = _over(near, n_own)
    out[12] = n_own


@numba.njit(cache=True)
def _read_journey(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    o = plan.offsets
    t = o[TIMES]
    p = o[PROGRESS]
    kinds = plan.kinds
    n_kinds = kinds.shape[0]
    n_stages = plan.stall_after.size
    status = status_at(state, plan, at)
    is_open = status == OPEN
    stage = state[p + STAGE_INDEX]
    since_progress = at - state[t + LAST_PROGRESS_AT]
    stall_after = plan.stall_after[int(stage)] if is_open else np.nan
    in_journey = (at - state[t + ENTERED_AT]) if is_open else np.nan
    last_at = o[KINDS] + KIND_LAST_AT * n_kinds
    entered = state[t + ENTERED_AT]
    progressed = state[t + LAST_PROGRESS_AT]
    steps = 0.0
    steps_since = 0.0
    for k in range(n_kinds):
        if is_own_role(kinds[k, ROLE]):
            last = state[last_at + k]
            steps += last >= entered
            steps_since += last >= progressed
    out[0] = float(status)
    out[1] = stage
    out[2] = since_progress / HOUR_US if is_open else np.nan
    out[3] = since_progress / stall_after
    out[4] = np.nan if not is_open else (1.0 if since_progress >= stall_after else 0.0)
    out[5] = in_journey / HOUR_US
    out[6] = state[p + N_ENTRIES]
    out[7] = state[p + N_PROGRESS]
    out[8] = state[p + N_PROGRESS] / max(in_journey / DAY_US, 1.0 / 24.0) if is_open else np.nan
    out[9] = stage / max(n_stages, 1)
    out[10] = state[p + N_LOOPS]
    out[11] = state[p + LOOPS_SINCE]
    out[12] = state[p + N_REVISITS]
    out[13] = state[p + REVISITS_SINCE]
    out[14] = steps if is_open else np.nan
    out[15] = steps_since if is_open else np.nan
    out[16] = state[p + N_EVENTS]
    out[17] = state[p + EVENTS_SINCE]
    out[18] = state[p + CALLS_SINCE]
    out[19] = max(state[p + CALLS_SINCE] - 1.0, 0.0)
    out[20] = state[p + CONTACTS_SINCE]
    out[21] = state[p + SWITCHES_SINCE]


@numba.njit(cache=True)
def _read_channels(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    o = plan.offsets
    channels = plan.channels
    f = o[FLOW]
    n_channels = channels.shape[0]
    own = o[CHANNELS] + CHANNEL_OWN * n_channels
    own_at = o[CHANNELS] + CHANNEL_OWN_AT * n_channels
    total = 0.0
    offline = 0.0
    highest = 0.0
    preferred = np.nan
    used = 0.0
    for c in range(n_channels):
        value = _faded(state[own + c], state[own_at + c], at, OWN_HALF_LIFE_US)
        total += value
        used += not np.isnan(state[own_at + c])
        if channels[c, DIGITAL] == 0:
            offline += value
        if value > highest:
            highest = value
            preferred = float(c)
    last = state[f + LAST_CHANNEL]
    out[0] = state[f + SWITCHES]
    out[1] = state[f + DIGITAL_TO_OFFLINE]
    out[2] = np.nan if np.isnan(last) else float(channels[int(last), DIGITAL])
    out[3] = last
    out[4] = used
    out[5] = preferred
    out[6] = _over(highest, total)
    out[7] = _over(offline, total)
    out[8] = np.nan if np.isnan(last) or np.isnan(preferred) else (1.0 if last == preferred else 0.0)


@numba.njit(cache=True)
def _read_contacts(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    t = plan.offsets[TIMES]
    f = plan.offsets[FLOW]
    out[0] = (at - state[t + LAST_CONTACT_AT]) / HOUR_US
    out[1] = (at - state[t + LAST_RESPONSE_AT]) / HOUR_US
    out[2] = _over(state[f + N_RESPONSES], state[f + N_CONTACTS])
    out[3] = state[f + UNANSWERED]
    out[4] = state[t + RESPONSE_TOOK_US] / HOUR_US


@numba.njit(cache=True)
def _read_offers(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    f = plan.offsets[FLOW]
    out[0] = state[f + SHOWN]
    out[1] = state[f + ACCEPTED]
    out[2] = state[f + REJECTED]
    out[3] = (at - state[plan.offsets[TIMES] + LAST_OFFER_AT]) / HOUR_US
    out[4] = _over(state[f + ACCEPTED], state[f + SHOWN])


@numba.njit(cache=True)
def _read_feedback(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    f = plan.offsets[FLOW]
    nps = state[f + NPS_LAST]
    out[0] = (at - state[plan.offsets[TIMES] + LAST_FEEDBACK_AT]) / HOUR_US
    out[1] = nps
    out[2] = np.nan if np.isnan(nps) else (0.0 if nps <= 6.0 else (2.0 if nps >= 9.0 else 1.0))
    out[3] = _over(state[f + NPS_SUM], state[f + NPS_N])
    out[4] = state[f + SENTIMENT_LAST]
    out[5] = _over(state[f + SENTIMENT_SUM], state[f + SENTIMENT_N])
    out[6] = state[f + SENTIMENT_LOWEST]


@numba.njit(cache=True)
def _read_money(state: Floats, plan: Plan, out: Floats) -> None:
    f = plan.offsets[FLOW]
    out[0] = state[f + VALUE_LAST]
    out[1] = state[f + VALUE_TOTAL]
    out[2] = _over(state[f + VALUE_TOTAL], state[f + VALUE_N])
    out[3] = state[f + VALUE_HIGHEST]
    out[4] = state[f + PRICE_LAST]
    out[5] = state[f + PRICE_LAST] - state[f + PRICE_FIRST]
    out[6] = state[f + PRICE_LAST] - state[f + PRICE_LOWEST]


@numba.njit(cache=True)
def _read_recent(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    """Window counts, over all and by kind and channel, from the ring of recent events."""
    kinds = plan.kinds
    channels = plan.channels
    recent = plan.offsets[RECENT_EVENTS]
    n_codes = channels.shape[0] + 1
    for i in range(min(int(state[recent + 2 * RECENT]), RECENT)):
        age = at - state[recent + i]
        if age > WINDOWS_US[N_WINDOWS - 1]:
            continue
        code = int(state[recent + RECENT + i])
        kind = code // n_codes
        channel = code % n_codes - 1
        role = kinds[kind, ROLE]
        by_kind = kinds[kind, KIND_READ_AT] + 2
        by_channel = channels[channel, CHANNEL_READ_AT] + 1
        for w in range(N_WINDOWS - 1, -1, -1):
            if age > WINDOWS_US[w]:
                break
            if is_own_role(role):
                out[_WINDOWS_AT + w] += 1.0
            if role == CALL:
                out[_WINDOWS_AT + N_WINDOWS + w] += 1.0
            elif role == CONTACT:
                out[_WINDOWS_AT + 2 * N_WINDOWS + w] += 1.0
            elif role == RESPONSE:
                out[_WINDOWS_AT + 3 * N_WINDOWS + w] += 1.0
            if kinds[kind, WINDOWED] == 1:
                out[by_kind + w] += 1.0
            if channel >= 0:
                out[by_channel + w] += 1.0


@numba.njit(cache=True)
def _read_decayed(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    d = plan.offsets[DECAYED]
    for slot in range(N_DECAYED):
        half_life = DAY_US if slot == CUSTOMER_1D else 7 * DAY_US
        out[slot] = _faded(state[d + slot], state[d + N_DECAYED + slot], at, half_life)


@numba.njit(cache=True)
def _read_stages(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    """Since each stage, and how long it took to come to each step after the first."""
    entered = plan.offsets[STAGE_ENTERED]
    n_stages = plan.stall_after.size
    for s in range(n_stages):
        out[s] = (at - state[entered + s]) / HOUR_US
        out[n_stages + s] = (state[entered + s + 1] - state[plan.offsets[TIMES] + ENTERED_AT]) / HOUR_US


@numba.njit(cache=True)
def _read_kinds(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    kinds = plan.kinds
    n_kinds = kinds.shape[0]
    first = plan.offsets[KINDS]
    for k in range(n_kinds):
        slot = first + k
        last = state[slot + KIND_LAST_AT * n_kinds]
        i = kinds[k, KIND_READ_AT]
        out[i] = state[slot + KIND_COUNT * n_kinds]
        out[i + 1] = (at - last) / HOUR_US
        if kinds[k, WINDOWED] == 1:
            out[i + 2 + N_WINDOWS] = _faded(state[slot + KIND_DECAYED * n_kinds], last, at, HALF_LIFE_US)


@numba.njit(cache=True)
def _read_by_channel(state: Floats, plan: Plan, at: float, out: Floats) -> None:
    channels = plan.channels
    n_channels = channels.shape[0]
    first = plan.offsets[CHANNELS]
    for c in range(n_channels):
        slot = first + c
        last = state[slot + CHANNEL_LAST_AT * n_channels]
        i = channels[c, CHANNEL_READ_AT]
        out[i] = state[slot + CHANNEL_COUNT * n_channels]
        out[i + N_WINDOWED] = _faded(state[slot + CHANNEL_DECAYED * n_channels], last, at, HALF_LIFE_US)
        if channels[c, OUTBOUND] == 1:
            out[i + N_WINDOWED + 1] = state[slot + CHANNEL_CONTACTS * n_channels]
            out[i + N_WINDOWED + 2] = state[slot + CHANNEL_RESPONSES * n_channels]


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
    n_themes = o[FLOW] - o[THEMES]
    out[:] = 0.0
    _read_times(state, plan, at, out[:_JOURNEY_AT])
    _read_journey(state, plan, at, out[_JOURNEY_AT:_WINDOWS_AT])
    _read_recent(state, plan, at, out)
    _read_decayed(state, plan, at, out[_WINDOWS_AT + 4 * N_WINDOWS : _CHANNELS_AT])
    _read_channels(state, plan, at, out[_CHANNELS_AT:_CONTACTS_AT])
    _read_contacts(state, plan, at, out[_CONTACTS_AT:_OFFERS_AT])
    _read_offers(state, plan, at, out[_OFFERS_AT:_FEEDBACK_AT])
    _read_feedback(state, plan, at, out[_FEEDBACK_AT:_MONEY_AT])
    _read_money(state, plan, out[_MONEY_AT:N_FIXED_FEATURES])
    _read_stages(state, plan, at, out[N_FIXED_FEATURES:])
    _read_kinds(state, plan, at, out)
    _read_by_channel(state, plan, at, out)
    out[out.size - n_themes :] = state[o[THEMES] : o[FLOW]]


class Events(NamedTuple):
    """Sorted events of many customers as columns, each ``(n_events,)``; see ``fold`` for their meaning.

    A row counts at a moment that lies after ``at`` and ``arrived`` and not after ``until``, which is infinite for all
    but events that turned out to be somebody else's.
    """

    kind: Integers
    channel: Integers
    at: Floats
    arrived: Floats
    until: Floats
    sequence: Floats
    value: Floats
    price: Floats
    nps: Floats
    sentiment: Floats
    theme: Integers


@numba.njit(cache=True)
def final_states(plan: Plan, events: Events, starts: Integers, out: Floats) -> None:
    """State of every customer after all of its events.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start; the last is the number of events.
        out: ``(n_customers, offsets[END])`` written in place.
    """
    kind, channel, at, _, _, sequence, value, price, nps, sentiment, theme = events
    for c in range(starts.size - 1):
        state = out[c]
        reset(state, plan)
        for row in range(starts[c], starts[c + 1]):
            fold(
                state,
                plan,
                kind[row],
                channel[row],
                at[row],
                sequence[row],
                value[row],
                price[row],
                nps[row],
                sentiment[row],
                theme[row],
            )


CHECKPOINT: Final = 256
"""A late event costs at most so many rows, and those between it and the newest, folded anew."""


@numba.njit(cache=True)
def _refold(
    state: Floats,
    plan: Plan,
    events: Events,
    start: int,
    counts: Integers,
    first: int,
    last: int,
    kept: Floats,
    done: Integers,
) -> None:
    """Bring ``state`` up to date after some rows of a customer began or ceased to count.

    Args:
        state: the state, written in place.
        plan: what the kernel must know.
        events: of all customers.
        start: the customer's first row.
        counts: ``(n,)`` 1 for each row of the customer that counts now.
        first: the first row that changed, from 0.
        last: the last row that counts.
        kept: ``(n // CHECKPOINT + 1, offsets[END])`` states before every row that is a multiple of ``CHECKPOINT``.
        done: ``(2,)`` rows folded, and how many of ``kept`` are right; start with ``[0, 0]``.
    """
    if done[1] == 0:
        reset(state, plan)
        kept[0] = state
        done[1] = 1
    if first < done[0]:
        nearest = min(first // CHECKPOINT, done[1] - 1)
        state[:] = kept[nearest]
        done[0] = nearest * CHECKPOINT
        done[1] = nearest + 1
    kind, channel, at, _, _, sequence, value, price, nps, sentiment, theme = events
    for row in range(done[0], last + 1):
        if row == done[1] * CHECKPOINT:
            kept[done[1]] = state
            done[1] += 1
        if counts[row] == 1:
            i = start + row
            fold(
                state,
                plan,
                kind[i],
                channel[i],
                at[i],
                sequence[i],
                value[i],
                price[i],
                nps[i],
                sentiment[i],
                theme[i],
            )
    done[0] = max(done[0], last + 1)


@numba.njit(cache=True)
def known_states(
    plan: Plan,
    events: Events,
    starts: Integers,
    change_starts: Integers,
    rows: Integers,
    begins: Integers,
    is_last: Integers,
    out: Floats,
    newest: Integers,
) -> None:
    """State of every customer after each moment at which rows began or ceased to count: what was known from then on.

    Args:
        plan: what the kernel must know.
        events: sorted by customer, then by ``JourneyEvent.order``.
        starts: ``(n_customers + 1,)`` row at which each customer's events start.
        change_starts: ``(n_customers + 1,)`` likewise for the changes.
        rows: ``(n_changes,)`` the row that begins or ceases to count, sorted by moment within each customer.
        begins: ``(n_changes,)`` 1 where it begins to count, 0 where it ceases to.
        is_last: ``(n_changes,)`` 1 for the last change of each moment.
        out: ``(n_moments, offsets[END])`` written in place, a state for each last change.
        newest: ``(n_moments,)`` written in place: the last row that counts then, -1 where none does.
    """
    state = np.empty(plan.offsets[END])
    n_out = 0
    for c in range(starts.size - 1):
        start = starts[c]
        n = starts[c + 1] - start
        counts = np.zeros(n, dtype=np.int64)
        kept = np.empty((n // CHECKPOINT + 1, state.size))
        done = np.zeros(2, dtype=np.int64)
        first = n
        last = -1
        for i in range(change_starts[c], change_starts[c + 1]):
            row = rows[i] - start
            counts[row] = begins[i]
            first = min(first, row)
            last = max(last, row)
            if is_last[i] == 0:
                continue
            _refold(state, plan, events, start, counts, first, last, kept, done)
            first = n
            while last >= 0 and counts[last] == 0:
                last -= 1
            out[n_out] = state
            newest[n_out] = start + last if last >= 0 else -1
            n_out += 1


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
    kind, channel, at, arrived, until, sequence, value, price, nps, sentiment, theme = events
    state = np.empty(plan.offsets[END])
    for c in range(starts.size - 1):
        if moment_starts[c] == moment_starts[c + 1]:
            continue
        is_late = False
        for row in range(starts[c], starts[c + 1]):
            if arrived[row] > at[row] or until[row] < np.inf:
                is_late = True
        if is_late:
            _late_reads(state, plan, events, starts[c], starts[c + 1], moments, moment_starts[c : c + 2], out)
            continue
        reset(state, plan)
        row = starts[c]
        for m in range(moment_starts[c], moment_starts[c + 1]):
            while row < starts[c + 1] and at[row] < moments[m]:
                fold(
                    state,
                    plan,
                    kind[row],
                    channel[row],
                    at[row],
                    sequence[row],
                    value[row],
                    price[row],
                    nps[row],
                    sentiment[row],
                    theme[row],
                )
                row += 1
            read(state, plan, moments[m], out[m])


@numba.njit(cache=True)
def _late_reads(
    state: Floats,
    plan: Plan,
    events: Events,
    start: int,
    end: int,
    moments: Floats,
    span: Integers,
    out: Floats,
) -> None:
    """``reads_at`` for one customer with rows that were not known at once, or not for ever."""
    n = end - start
    # Each row begins to count after it has occurred and arrived, and may cease to.
    changes = np.concatenate((np.maximum(events.at[start:end], events.arrived[start:end]), events.until[start:end]))
    order = np.argsort(changes, kind="mergesort")
    counts = np.zeros(n, dtype=np.int64)
    kept = np.empty((n // CHECKPOINT + 1, state.size))
    done = np.zeros(2, dtype=np.int64)
    i = 0
    last = -1
    for m in range(span[0], span[1]):
        first = n
        while i < 2 * n and changes[order[i]] < moments[m]:
            row = order[i] % n
            if order[i] < n:
                counts[row] = 1 if moments[m] <= events.until[start + row] else 0
            else:
                counts[row] = 0
            first = min(first, row)
            last = max(last, row)
            i += 1
        _refold(state, plan, events, start, counts, first, last, kept, done)
        read(state, plan, moments[m], out[m])


@numba.njit(cache=True)
def latest_known(
    first: Integers, last: Integers, known_at: Floats, until: Floats, values: Floats, moments: Floats, out: Floats
) -> None:
    """For each moment the last of some updates that was known strictly before it and still believed; NaN for none.

    Args:
        first: ``(n_moments,)`` the first update of the moment's customer.
        last: ``(n_moments,)`` one past the last.
        known_at: ``(n_updates,)`` when each was known, in event order within a customer.
        until: ``(n_updates,)`` until when it was believed.
        values: ``(n_updates,)`` what was told.
        moments: ``(n_moments,)`` microseconds since the epoch.
        out: ``(n_moments,)`` written in place.
    """
    for m in range(moments.size):
        out[m] = np.nan
        for i in range(last[m] - 1, first[m] - 1, -1):
            if known_at[i] < moments[m] <= until[i]:
                out[m] = values[i]
                break


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
    kind, channel, at, _, _, sequence, value, price, nps, sentiment, theme = events
    p = plan.offsets[PROGRESS]
    state = np.empty(plan.offsets[END])
    for c in range(starts.size - 1):
        reset(state, plan)
        for row in range(starts[c], starts[c + 1]):
            entries = state[p + N_ENTRIES]
            progress = state[p + N_PROGRESS]
            loops = state[p + N_LOOPS]
            was_open = status_at(state, plan, at[row]) == OPEN
            fold(
                state,
                plan,
                kind[row],
                channel[row],
                at[row],
                sequence[row],
                value[row],
                price[row],
                nps[row],
                sentiment[row],
                theme[row],
            )
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
