"""Moments and labels equal those of a slow, obvious walk over one customer's events."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from features import kernel
from features.events import JourneyEvent
from features.history import transitions, whole_table
from tests.histories import FEATURES, TAXONOMY, arrow_events, random_history
from training.moments import HOUR_US, labelled_moments

ABANDON_US = 48 * HOUR_US
IDLE_US = [HOUR_US, 6 * HOUR_US, 30 * HOUR_US]
ENDS = (kernel.ENTERED, kernel.PROGRESSED, kernel.GOAL_REACHED, kernel.LEFT)
OURS = ("contact", "offer_shown", "operation", "outcome", "override", "profile", "consent")

Row = tuple[str, int, int, float, float, float]


def expected_rows(events: list[JourneyEvent], codes: list[int], stages: list[int], observed_until: int) -> list[Row]:
    """The moments of one customer, whose events are in order, from the definitions alone."""
    known = sorted({max(one.occurred_at, one.arrived_at) for one in events})
    moments = []
    for now, newer in zip(known, [*known[1:], None], strict=True):
        moments += [now + offset for offset in (1, *IDLE_US) if newer is None or now + offset <= newer]
    rows = []
    for at in moments:
        happened = [i for i, one in enumerate(events) if one.occurred_at <= at]
        if at >= observed_until or not happened or stages[happened[-1]] < 0:
            continue
        last = happened[-1]
        silent_at = silence(events, codes, last)
        if at > silent_at:
            continue
        change = next((i for i in range(last + 1, len(events)) if codes[i] in ENDS), None)
        code = None if change is None else codes[change]
        went_on = code in (kernel.PROGRESSED, kernel.GOAL_REACHED)
        until_change = math.inf if change is None else events[change].occurred_at - at
        progress = until_change if went_on else math.inf
        abandon = math.inf if went_on else until_change if code == kernel.LEFT else silent_at + 1 - at
        contacts = [
            one.occurred_at - at
            for one in events[last + 1 :]
            if TAXONOMY.all_kinds[one.kind].role in ("contact", "offer_shown")
        ]
        seen = [after if after <= observed_until - at else math.inf for after in (progress, abandon, *contacts[:1])]
        rows.append((events[0].customer_id, at, stages[last], seen[0], seen[1], (*seen[2:], math.inf)[0]))
    return rows


def silence(events: list[JourneyEvent], codes: list[int], last: int) -> int:
    """When silence ends the journey that is open after event ``last``, if nothing else does before."""
    entered = max(i for i in range(last + 1) if codes[i] == kernel.ENTERED)
    own = [i for i in range(len(events)) if TAXONOMY.all_kinds[events[i].kind].role not in OURS]
    heard_at = max([events[i].occurred_at for i in own if entered <= i <= last] + [events[entered].occurred_at])
    for i in own:
        if i > last:
            if codes[i] == kernel.ENTERED or events[i].occurred_at - heard_at > ABANDON_US:
                break
            heard_at = events[i].occurred_at
    return heard_at + ABANDON_US


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    minutes=st.sampled_from([2_000, 8_000, 30_000]),
    after_hours=st.sampled_from([-48, 0, 24, 200]),
)
def test_moments_equal_the_slow_walk(seed: int, minutes: int, after_hours: int) -> None:
    """Row for row, over random histories with ties, late events, loops, exits, silences and new entries."""
    events = random_history(seed, n_customers=3, n_events=50, minutes=minutes)
    observed_until = max(max(one.occurred_at, one.arrived_at) for one in events) + after_hours * HOUR_US
    table = whole_table(arrow_events(events), TAXONOMY)
    codes, stages = (array.tolist() for array in transitions(table, FEATURES))
    expected: list[Row] = []
    for c, customer_id in enumerate(table.customers.to_pylist()):
        start, end = int(table.starts[c]), int(table.starts[c + 1])
        own = sorted((one for one in events if one.customer_id == customer_id), key=lambda one: one.order)
        expected += expected_rows(own, codes[start:end], stages[start:end], observed_until)
    found = labelled_moments(table, FEATURES, idle_us=IDLE_US, observed_until=observed_until)
    customers = table.customers.to_pylist()
    columns = (found.customer, found.at, found.stage, found.after.progress, found.after.abandon, found.after.contact)
    rows = [(customers[c], *rest) for c, *rest in zip(*(x.tolist() for x in columns), strict=True)]
    assert found.after.observed.tolist() == [observed_until - at for at in found.at.tolist()]
    assert rows == expected
