"""When one customer moved on in a journey, event by event. Of many customers at once: ``history.transitions``."""

from __future__ import annotations

from collections.abc import Iterable

from features import kernel
from features.events import JourneyEvent
from features.schema import FeatureSet


def progress_moments(feature_set: FeatureSet, events: Iterable[JourneyEvent]) -> list[int]:
    """Moments of the events that entered a later stage or reached the goal, as ``kernel.transitions`` has them.

    Args:
        feature_set: of the journey.
        events: all of a customer's, in the order of ``JourneyEvent.order``.
    """
    plan = feature_set.plan
    state = kernel.new_state(plan)
    at_journey = plan.offsets[kernel.PROGRESS]
    found = []
    for event in events:
        was_open = kernel.status_at(state, plan, float(event.occurred_at)) == kernel.OPEN
        entries, steps = state[at_journey + kernel.N_ENTRIES], state[at_journey + kernel.N_PROGRESS]
        feature_set.fold(state, event)
        is_entry = state[at_journey + kernel.N_ENTRIES] > entries
        status = int(state[at_journey + kernel.STATUS])
        moved_on = status == kernel.REACHED or (
            status != kernel.EXITED and state[at_journey + kernel.N_PROGRESS] > steps
        )
        if was_open and not is_entry and moved_on:
            found.append(event.occurred_at)
    return found
