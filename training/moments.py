"""The moments at which a customer in a journey is looked at, and what became of the journey within the horizon.

A row after each event that became known, and at idle checkpoints after the last one while nothing newer did. Labels say
what really happened; features, which other modules read, say what was known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features import kernel
from features.history import EventTable, transitions
from features.kernel import Floats, Integers
from features.schema import FeatureSet

Booleans = NDArray[np.bool_]

HOUR_US: Final = 3_600_000_000
_NONE: Final = -1


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments of open journeys whose horizon was fully observed, by customer and then by time.

    Attributes:
        customer: ``(n,)`` index into the table's customers.
        at: ``(n,)`` microseconds since the epoch.
        stage: ``(n,)`` index of the stage that the journey was in.
        progressed: ``(n,)`` a later stage or the goal was entered in ``(at, at + horizon]``.
        abandoned: ``(n,)`` the journey ended in that time without the goal and without progress before: by an exit, or
            by a silence longer than ``abandon_after``.
    """

    customer: Integers
    at: Integers
    stage: Integers
    progressed: Booleans
    abandoned: Booleans

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.at)

    def where(self, chosen: Booleans) -> Moments:
        """Only the chosen moments."""
        return Moments(
            self.customer[chosen],
            self.at[chosen],
            self.stage[chosen],
            self.progressed[chosen],
            self.abandoned[chosen],
        )


def settled(table: EventTable) -> tuple[EventTable, Floats]:
    """Each customer's own course, once, and until when it could be observed; the customers and their order stay.

    A customer's course is what is believed of it now. An id whose events all turned out to be another's keeps what was
    last believed of it, and could be observed until then.

    Returns:
        The events, and ``(n_customers,)`` microseconds since the epoch, ``inf`` where nothing was taken away.
    """
    until = table.events.until
    if np.isinf(until).all():
        return table, np.full(len(table.customers), np.inf)
    last = np.maximum.reduceat(until, table.starts[:-1])
    return table.where(until == last[table.customer_of_row]), last


def labelled_moments(
    table: EventTable,
    feature_set: FeatureSet,
    *,
    idle_us: Sequence[int],
    horizon_us: int,
    observed_until: int,
) -> Moments:
    """The moments of every customer of a table, with what followed.

    Args:
        table: the events.
        feature_set: of the journey.
        idle_us: how long after the last known event a silent customer is looked at, microseconds, ascending.
        horizon_us: how far the label looks.
        observed_until: end of observation, microseconds since the epoch; a moment whose horizon ends later is censored
            and left out, whatever has been seen of it by then. So is one whose horizon reaches beyond the time at which
            the customer turned out to be another.
    """
    table, ended = settled(table)
    codes, stages = transitions(table, feature_set)
    is_own = [kernel.is_own_role(role) for role in feature_set.plan.kinds[:, kernel.ROLE]]
    is_customer = np.array(is_own, dtype=np.bool_)[table.events.kind]
    at = table.events.at
    next_change, silent_at = _what_follows(
        table.starts, at, codes, stages, is_customer, float(feature_set.plan.abandon_after[0])
    )
    offsets = np.array([1, *idle_us], dtype=np.float64)  # an event counts from the next microsecond on
    size = table.n_events * len(offsets)
    columns = np.empty((5, size))
    n = _walk(
        table.starts,
        at,
        table.known_at,
        codes,
        stages,
        next_change,
        silent_at,
        offsets,
        float(horizon_us),
        np.minimum(ended, float(observed_until)),
        columns,
    )
    customer, moment, stage, progressed, abandoned = columns[:, :n]
    return Moments(
        customer.astype(np.int64), moment.astype(np.int64), stage.astype(np.int64), progressed == 1, abandoned == 1
    )


@njit(cache=True)
def _what_follows(
    starts: Integers,
    at: Floats,
    codes: Integers,
    stages: Integers,
    is_customer: Booleans,
    abandon_after: float,
) -> tuple[Integers, Floats]:
    """For each event: the row of the next change of the journey (-1: none), and when silence would end the journey.

    The silence counts from the customer's own last event, or from the entry; it ends the journey at the first gap
    longer than ``abandon_after``.
    """
    n = at.size
    next_change = np.full(n, _NONE)
    silent_at = np.full(n, np.nan)
    last_customer = np.empty(n)
    for c in range(starts.size - 1):
        last = np.nan
        for row in range(starts[c], starts[c + 1]):
            if is_customer[row] or codes[row] == kernel.ENTERED:
                last = at[row]
            last_customer[row] = last
        change, own = _NONE, _NONE
        for row in range(starts[c + 1] - 1, starts[c] - 1, -1):
            next_change[row] = change
            if own != _NONE and at[own] - last_customer[row] <= abandon_after:
                silent_at[row] = silent_at[own]
            else:
                silent_at[row] = last_customer[row] + abandon_after
            if kernel.ENTERED <= codes[row] <= kernel.LEFT:
                change = row
            if is_customer[row]:
                own = row
            if codes[row] == kernel.ENTERED:
                own = _NONE
    return next_change, silent_at


@njit(cache=True)
def _walk(
    starts: Integers,
    at: Floats,
    known_at: Floats,
    codes: Integers,
    stages: Integers,
    next_change: Integers,
    silent_at: Floats,
    offsets: Floats,
    horizon: float,
    observed_until: Floats,
    out: Floats,
) -> int:
    """Write the moments into ``out`` ``(5, n)``: customer, at, stage, progressed, abandoned; how many there are."""
    n = 0
    for c in range(starts.size - 1):
        known = np.sort(known_at[starts[c] : starts[c + 1]])
        row = starts[c] - 1
        for k in range(known.size):
            newer = known[k + 1] if k + 1 < known.size else np.inf
            if newer == known[k]:
                continue
            for offset in offsets:
                t = known[k] + offset
                if t > newer or t + horizon > observed_until[c]:
                    break
                while row + 1 < starts[c + 1] and at[row + 1] <= t:
                    row += 1
                if row < starts[c] or stages[row] < 0 or t > silent_at[row]:
                    continue
                change = next_change[row]
                code = codes[change] if change != _NONE else kernel.NOTHING
                in_time = change != _NONE and at[change] <= t + horizon
                goes_on = code == kernel.PROGRESSED or code == kernel.GOAL_REACHED
                # A journey that progressed or was left next did not end by silence before that.
                by_silence = not goes_on and code != kernel.LEFT and silent_at[row] < t + horizon
                out[0, n] = c
                out[1, n] = t
                out[2, n] = stages[row]
                out[3, n] = 1.0 if goes_on and in_time else 0.0
                out[4, n] = 1.0 if (code == kernel.LEFT and in_time) or by_silence else 0.0
                n += 1
    return n
