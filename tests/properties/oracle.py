"""Every feature of the kernel computed from the list of events alone, slowly and obviously: what the kernel must equal.

No code is shared with ``features.kernel``: each feature is a sentence about the events before a moment, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from features.events import JourneyEvent
from features.journeys import Journey
from features.taxonomy import Taxonomy

HOUR = 3_600_000_000
DAY = 24 * HOUR
NAN = math.nan
OWN_ROLES = ("activity", "call", "response", "feedback", "offer_accepted", "offer_rejected")
"""Roles of what the customer did."""


@dataclass
class Instance:
    """One way through a journey."""

    entered_at: int
    stage: int
    stage_entered: dict[int, int]
    progressed_at: int
    progress: int = 0
    loops: int = 0
    loops_since: int = 0
    status: str = "open"


@dataclass
class Past:
    """The events of one customer before a moment, in order."""

    events: list[JourneyEvent]
    at: int
    taxonomy: Taxonomy
    journey: Journey
    entries: int = 0
    last: Instance | None = None
    since_progress: list[JourneyEvent] = field(default_factory=list)

    def of_role(self, *roles: str) -> list[JourneyEvent]:
        """The events of some roles."""
        return [event for event in self.events if self.taxonomy.all_kinds[event.kind].role in roles]

    def hours_since(self, events: Sequence[JourneyEvent]) -> float:
        """Hours since the last of these; NaN where there is none."""
        return (self.at - events[-1].occurred_at) / HOUR if events else NAN

    def within(self, events: Sequence[JourneyEvent], window: int, most: int) -> float:
        """How many of these in the window, at most ``most``."""
        return float(min(most, sum(self.at - window <= event.occurred_at < self.at for event in events)))

    def decayed(self, events: Sequence[JourneyEvent], half_life: int) -> float:
        """Each of these counts a half after a half-life."""
        return math.fsum(0.5 ** ((self.at - event.occurred_at) / half_life) for event in events)


def expected_features(
    events: Sequence[JourneyEvent], at: int, taxonomy: Taxonomy, journey: Journey
) -> dict[str, float]:
    """Every kernel feature by name, from what occurred strictly before ``at``."""
    past = Past(
        sorted((event for event in events if event.occurred_at < at), key=lambda event: event.order),
        at,
        taxonomy,
        journey,
    )
    _walk(past)
    return {**_times_and_counts(past), **_journey(past), **_flow(past), **_by_kind(past)}


def _walk(past: Past) -> None:
    """Follow the journey event by event."""
    stage_of = {kind: i for i, stage in enumerate(past.journey.stages) for kind in stage.enter}
    goal = len(past.journey.stages)
    stage_of.update(dict.fromkeys(past.journey.goal.enter, goal))
    exits = {kind for kinds in past.journey.exits.values() for kind in kinds}
    for i, event in enumerate(past.events):
        now, kind = event.occurred_at, event.kind
        stage = stage_of.get(kind, -1)
        instance = past.last
        if instance is not None and _is_abandoned(past, past.events[:i], now):
            instance.status = "abandoned"
        moved = False
        if instance is None or instance.status != "open":
            if kind in past.journey.entry:
                first = stage if 0 <= stage < goal else 0
                past.last = Instance(now, first, {first: now}, now)
                past.entries += 1
                moved = True
        elif kind in exits:
            instance.status = "left"
        elif stage > instance.stage:
            instance.stage = stage
            instance.stage_entered[stage] = now
            instance.progressed_at = now
            instance.progress += 1
            instance.loops_since = 0
            instance.status = "reached" if stage == goal else "open"
            moved = True
        elif stage >= 0 or kind in past.journey.entry:
            instance.loops += 1
            instance.loops_since += 1
        if moved:
            past.since_progress = []
        past.since_progress.append(event)


def _is_abandoned(past: Past, before: Sequence[JourneyEvent], now: int) -> bool:
    """Whether an open journey has been silent for longer than allowed."""
    instance = past.last
    if instance is None or instance.status != "open":
        return False
    own = [event.occurred_at for event in before if past.taxonomy.all_kinds[event.kind].role in OWN_ROLES]
    return now - max([instance.entered_at, *own]) > past.journey.abandon_after


def _times_and_counts(past: Past) -> dict[str, float]:
    own, contacts, calls = past.of_role(*OWN_ROLES), past.of_role("contact"), past.of_role("call")
    since = Past(past.since_progress, past.at, past.taxonomy, past.journey)
    return {
        "hours_since_event": past.hours_since(past.events),
        "hours_since_first_event": past.hours_since(past.events[:1]),
        "hours_since_customer_event": past.hours_since(own),
        "events_total": float(len(past.events)),
        "events_since_progress": float(len(since.of_role(*OWN_ROLES))),
        "calls_since_progress": float(len(since.of_role("call"))),
        "contacts_since_progress": float(len(since.of_role("contact"))),
        "customer_events_1d": past.within(own, DAY, 64),
        "customer_events_7d": past.within(own, 7 * DAY, 64),
        "customer_events_30d": past.within(own, 30 * DAY, 64),
        "calls_7d": past.within(calls, 7 * DAY, 16),
        "contacts_7d": past.within(contacts, 7 * DAY, 16),
        "contacts_30d": past.within(contacts, 30 * DAY, 16),
        "customer_events_decayed_1d": past.decayed(own, DAY),
        "customer_events_decayed_7d": past.decayed(own, 7 * DAY),
        "contacts_decayed_7d": past.decayed(contacts, 7 * DAY),
    }


def _journey(past: Past) -> dict[str, float]:
    instance = past.last
    status = "never" if instance is None else instance.status
    if _is_abandoned(past, past.events, past.at):
        status = "abandoned"
    stages = {
        f"hours_since_stage_{stage.id}": (past.at - instance.stage_entered[i]) / HOUR
        if instance is not None and i in instance.stage_entered
        else NAN
        for i, stage in enumerate(past.journey.stages)
    }
    open_only = (
        _open_journey(past, instance) if instance is not None and status == "open" else dict.fromkeys(_OPEN, NAN)
    )
    return {
        **stages,
        **open_only,
        "journey_status": float(("never", "open", "reached", "left", "abandoned").index(status)),
        "stage_index": NAN if instance is None else float(instance.stage),
        "journey_entries": float(past.entries),
        "progress_count": 0.0 if instance is None else float(instance.progress),
        "loops": 0.0 if instance is None else float(instance.loops),
        "loops_since_progress": 0.0 if instance is None else float(instance.loops_since),
    }


_OPEN = ("hours_since_progress", "dwell_over_stall_after", "stalled_now", "hours_in_journey", "progress_per_day")


def _open_journey(past: Past, instance: Instance) -> dict[str, float]:
    dwell = past.at - instance.progressed_at
    allowed = past.journey.stages[instance.stage].stall_after
    days = max((past.at - instance.entered_at) / DAY, 1 / 24)
    return {
        "hours_since_progress": dwell / HOUR,
        "dwell_over_stall_after": dwell / allowed,
        "stalled_now": float(dwell >= allowed),
        "hours_in_journey": (past.at - instance.entered_at) / HOUR,
        "progress_per_day": instance.progress / days,
    }


def _flow(past: Past) -> dict[str, float]:
    own_channels = [event.channel for event in past.of_role(*OWN_ROLES) if event.channel is not None]
    is_digital = [past.taxonomy.channels[channel].digital for channel in own_channels]
    switches = [i for i in range(1, len(own_channels)) if own_channels[i] != own_channels[i - 1]]
    contacts, responses = past.of_role("contact"), past.of_role("response")
    feedback = past.of_role("feedback")
    values = [number for event in past.events for number in _value(event, past.taxonomy)]
    waiting, waited = _waits(past)
    return {
        "channel_switches": float(len(switches)),
        "digital_to_offline_switches": float(sum(is_digital[i - 1] and not is_digital[i] for i in switches)),
        "last_channel_digital": float(is_digital[-1]) if is_digital else NAN,
        "hours_since_contact": past.hours_since(contacts),
        "hours_since_response": past.hours_since(responses),
        "responses_per_contact": len(responses) / len(contacts) if contacts else NAN,
        "offers_shown": float(len(past.of_role("offer_shown"))),
        "offers_accepted": float(len(past.of_role("offer_accepted"))),
        "offers_rejected": float(len(past.of_role("offer_rejected"))),
        "nps_last": _last_fact(feedback, "nps"),
        "sentiment_last": _last_fact(feedback, "sentiment"),
        "waiting_on_us_hours": waiting / HOUR,
        "waited_on_us_hours": waited / HOUR,
        "value_last": values[-1] if values else NAN,
        "value_total": math.fsum(values),
    }


def _value(event: JourneyEvent, taxonomy: Taxonomy) -> list[float]:
    fact = taxonomy.all_kinds[event.kind].value_fact
    return [float(event.facts[fact])] if fact is not None and fact in event.facts else []


def _last_fact(events: Sequence[JourneyEvent], name: str) -> float:
    told = [float(event.facts[name]) for event in events if name in event.facts]
    return told[-1] if told else NAN


def _waits(past: Past) -> tuple[int, int]:
    """The wait that is going on, and all waiting, in microseconds."""
    since: int | None = None
    waited = 0
    for event in past.events:
        waiting = past.taxonomy.all_kinds[event.kind].waiting
        if waiting == "starts" and since is None:
            since = event.occurred_at
        elif waiting == "ends" and since is not None:
            waited += event.occurred_at - since
            since = None
    going_on = 0 if since is None else past.at - since
    return going_on, waited + going_on


def _by_kind(past: Past) -> dict[str, float]:
    def each(
        names: Mapping[str, object], matches: Callable[[JourneyEvent, str], bool]
    ) -> dict[str, list[JourneyEvent]]:
        return {name: [event for event in past.events if matches(event, name)] for name in names}

    kinds = each(past.taxonomy.all_kinds, lambda event, name: event.kind == name)
    channels = each(past.taxonomy.channels, lambda event, name: event.channel == name)
    return {
        **{f"count_{name}": float(len(events)) for name, events in kinds.items()},
        **{f"hours_since_{name}": past.hours_since(events) for name, events in kinds.items()},
        **{f"events_on_{name}": float(len(events)) for name, events in channels.items()},
    }
