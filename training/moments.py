"""The moments at which a customer in a journey is looked at, and what became of the journey after each.

A row after each event that became known, and at idle checkpoints after the last one while nothing newer did. Labels say
what really happened, and until when it could be seen; features, which other modules read, say what was known.
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aftermath:
    """What followed on each moment, each ``(n,)`` in microseconds after it; ``inf`` where it was not seen to happen.

    At most one of progress and abandonment is finite: the first of the two is what became of the journey.

    Attributes:
        progress: until a later stage, or the goal, was entered.
        abandon: until the journey ended without the goal: by an exit, or by a silence longer than ``abandon_after``.
        contact: until the customer was contacted next, or was shown an offer.
        observed: until the observation ended; what is later is in none of the others.
    """

    progress: Floats
    abandon: Floats
    contact: Floats
    observed: Floats

    def progressed(self, horizon_us: float) -> Booleans:
        """``(n,)`` whether progress was made within ``(t, t + horizon]``."""
        return np.asarray(self.progress <= horizon_us, dtype=np.bool_)

    def abandoned(self, horizon_us: float) -> Booleans:
        """``(n,)`` whether the journey was abandoned within ``(t, t + horizon]``."""
        return np.asarray(self.abandon <= horizon_us, dtype=np.bool_)

    def is_known(self, horizon_us: float) -> Booleans:
        """``(n,)`` whether the horizon was fully observed; a moment where it was not is censored, and not a "no"."""
        return np.asarray(self.observed >= horizon_us, dtype=np.bool_)

    def where(self, chosen: Booleans | Integers) -> Aftermath:
        """Only the chosen moments."""
        return Aftermath(
            progress=self.progress[chosen],
            abandon=self.abandon[chosen],
            contact=self.contact[chosen],
            observed=self.observed[chosen],
        )

    def until(self, end: Floats) -> Aftermath:
        """The same as it could be seen ``end`` microseconds ``(n,)`` after each moment, or when it was observed."""
        observed = np.minimum(self.observed, end)
        seen = [np.where(after <= observed, after, np.inf) for after in (self.progress, self.abandon, self.contact)]
        return Aftermath(progress=seen[0], abandon=seen[1], contact=seen[2], observed=observed)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments of open journeys, by customer and then by time.

    Attributes:
        customer: ``(n,)`` index into the table's customers.
        at: ``(n,)`` microseconds since the epoch.
        stage: ``(n,)`` index of the stage that the journey was in.
        after: what followed.
    """

    customer: Integers
    at: Integers
    stage: Integers
    after: Aftermath

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.at)

    def where(self, chosen: Booleans) -> Moments:
        """Only the chosen moments."""
        return Moments(self.customer[chosen], self.at[chosen], self.stage[chosen], self.after.where(chosen))


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
    table: EventTable, feature_set: FeatureSet, *, idle_us: Sequence[int], observed_until: int
) -> Moments:
    """The moments of every customer of a table, with what followed.

    Args:
        table: the events.
        feature_set: of the journey.
        idle_us: how long after the last known event a silent customer is looked at, microseconds, ascending.
        observed_until: end of observation, microseconds since the epoch. A customer who turned out to be another is
            observed until then.
    """
    table, ended = settled(table)
    codes, stages = transitions(table, feature_set)
    roles = feature_set.plan.kinds[:, kernel.ROLE]
    is_customer = np.array([kernel.is_own_role(role) for role in roles], dtype=np.bool_)[table.events.kind]
    is_contact = np.isin(roles, (kernel.CONTACT, kernel.OFFER_SHOWN))[table.events.kind]
    at = table.events.at
    next_change, silent_at, contact_at = _what_follows(
        table.starts, at, codes, stages, is_customer, is_contact, float(feature_set.plan.abandon_after[0])
    )
    offsets = np.array([1, *idle_us], dtype=np.float64)  # an event counts from the next microsecond on
    columns = np.empty((7, table.n_events * len(offsets)))
    n = _walk(
        table.starts,
        at,
        table.known_at,
        codes,
        stages,
        next_change,
        silent_at,
        contact_at,
        offsets,
        np.minimum(ended, float(observed_until)),
        columns,
    )
    customer, moment, stage, progress, abandon, contact, observed = columns[:, :n]
    return Moments(
        customer.astype(np.int64),
        moment.astype(np.int64),
        stage.astype(np.int64),
        Aftermath(progress=progress, abandon=abandon, contact=contact, observed=observed),
    )


@njit(cache=True)
def _what_follows(
    starts: Integers,
    at: Floats,
    codes: Integers,
    stages: Integers,
    is_customer: Booleans,
    is_contact: Booleans,
    abandon_after: float,
) -> tuple[Integers, Floats, Floats]:
    """For each event: the row of the journey's next change (-1: none), when silence would end it, the next contact.

    The silence counts from the customer's own last event, or from the entry; it ends the journey at the first gap
    longer than ``abandon_after``.
    """
    n = at.size
    next_change = np.full(n, _NONE)
    silent_at = np.full(n, np.nan)
    contact_at = np.full(n, np.inf)
    last_customer = np.empty(n)
    for c in range(starts.size - 1):
        last = np.nan
        for row in range(starts[c], starts[c + 1]):
            if is_customer[row] or codes[row] == kernel.ENTERED:
                last = at[row]
            last_customer[row] = last
        change, own, contact = _NONE, _NONE, np.inf
        for row in range(starts[c + 1] - 1, starts[c] - 1, -1):
            next_change[row] = change
            contact_at[row] = contact
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
            if is_contact[row]:
                contact = at[row]
    return next_change, silent_at, contact_at


@njit(cache=True)
def _walk(
    starts: Integers,
    at: Floats,
    known_at: Floats,
    codes: Integers,
    stages: Integers,
    next_change: Integers,
    silent_at: Floats,
    contact_at: Floats,
    offsets: Floats,
    observed_until: Floats,
    out: Floats,
) -> int:
    """Write the moments into ``out`` ``(7, n)``: customer, at, stage, and ``Aftermath``; how many there are."""
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
                if t > newer or t >= observed_until[c]:
                    break
                while row + 1 < starts[c + 1] and at[row + 1] <= t:
                    row += 1
                if row < starts[c] or stages[row] < 0 or t > silent_at[row]:
                    continue
                change = next_change[row]
                code = codes[change] if change != _NONE else kernel.NOTHING
                progress, abandon = np.inf, np.inf
                if code == kernel.PROGRESSED or code == kernel.GOAL_REACHED:
                    progress = at[change] - t
                elif code == kernel.LEFT:
                    abandon = at[change] - t
                else:
                    # A journey that progressed or was left next did not end by silence before that. Silence must be
                    # longer than allowed: it ends the journey a microsecond after.
                    abandon = silent_at[row] + 1.0 - t
                observed = observed_until[c] - t
                out[0, n] = c
                out[1, n] = t
                out[2, n] = stages[row]
                out[3, n] = progress if progress <= observed else np.inf
                out[4, n] = abandon if abandon <= observed else np.inf
                out[5, n] = contact_at[row] - t if contact_at[row] - t <= observed else np.inf
                out[6, n] = observed
                n += 1
    return n
