"""Every feature of the kernel computed from the list of events alone, slowly and obviously: what the kernel must equal.

No code is shared with ``features.kernel``: each feature is a sentence about the events before a moment, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from features.events import JourneyEvent
from features.journeys import Journey
from features.taxonomy import Taxonomy

HOUR = 3_600_000_000
DAY = 24 * HOUR
NAN = math.nan
WINDOWS = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
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
    revisits: int = 0
    revisits_since: int = 0
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

    @property
    def now(self) -> datetime:
        """The moment on the installation's clock."""
        return self.local(self.at)

    def local(self, at: int) -> datetime:
        """A moment on the installation's clock."""
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(
            ZoneInfo(self.taxonomy.time_zone)
        )

    @cached_property
    def recent(self) -> set[tuple[str, str]]:
        """What window counts can see."""
        return {(event.source, event.event_id) for event in self.events[-128:]}

    def of_role(self, *roles: str) -> list[JourneyEvent]:
        """The events of some roles."""
        return [event for event in self.events if self.taxonomy.all_kinds[event.kind].role in roles]

    def hours_since(self, events: Sequence[JourneyEvent]) -> float:
        """Hours since the last of these; NaN where there is none."""
        return (self.at - events[-1].occurred_at) / HOUR if events else NAN

    def within(self, events: Sequence[JourneyEvent], window: int) -> float:
        """How many of these in the window, as far as they are recent."""
        inside = [event for event in events if self.at - window <= event.occurred_at < self.at]
        return float(sum((event.source, event.event_id) in self.recent for event in inside))

    def windows(self, name: str, events: Sequence[JourneyEvent]) -> dict[str, float]:
        """The same for every window."""
        return {f"{name}_{window}": self.within(events, length) for window, length in WINDOWS.items()}

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
    parts = (_times, _counts, _journey, _channels, _contacts_and_offers, _feedback, _money, _by_kind, _by_channel)
    return {name: number for part in parts for name, number in part(past).items()}


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
            instance.revisits_since = 0
            instance.status = "reached" if stage == goal else "open"
            moved = True
        elif stage >= 0 or kind in past.journey.entry:
            instance.loops += 1
            instance.loops_since += 1
            if 0 <= stage < instance.stage:
                instance.revisits += 1
                instance.revisits_since += 1
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


def _times(past: Past) -> dict[str, float]:
    own = past.of_role(*OWN_ROLES)
    gap = (own[-1].occurred_at - own[0].occurred_at) / (len(own) - 1) if len(own) > 1 else NAN
    waiting, waited = _waits(past)
    hours = [past.local(event.occurred_at).hour for event in own]
    favourite = max(range(24), key=lambda hour: (hours.count(hour), -hour)) if hours else None
    near = {(past.now.hour + step) % 24 for step in (-1, 0, 1)}
    return {
        "hours_since_event": past.hours_since(past.events),
        "hours_since_first_event": past.hours_since(past.events[:1]),
        "hours_since_customer_event": past.hours_since(own),
        "customer_gap_hours": gap / HOUR,
        "silence_over_gap": (past.at - own[-1].occurred_at) / gap if gap > 0 else NAN,
        "waiting_on_us_hours": waiting / HOUR,
        "waited_on_us_hours": waited / HOUR,
        "local_hour": float(past.now.hour),
        "local_weekday": float(past.now.weekday()),
        "preferred_local_hour": NAN if favourite is None else float(favourite),
        "preferred_local_hour_share": NAN if favourite is None else hours.count(favourite) / len(hours),
        "local_hour_match": sum(hour in near for hour in hours) / len(hours) if hours else NAN,
        "customer_events_total": float(len(own)),
    }


def _counts(past: Past) -> dict[str, float]:
    own, contacts, calls = past.of_role(*OWN_ROLES), past.of_role("contact"), past.of_role("call")
    since = Past(past.since_progress, past.at, past.taxonomy, past.journey)
    on_channels = [event for event in own if event.channel is not None]
    n_since = sum(event.channel is not None for event in since.of_role(*OWN_ROLES))
    channels_since = [event.channel for event in on_channels[-n_since - 1 :]] if n_since else []
    calls_since = len(since.of_role("call"))
    return {
        "events_total": float(len(past.events)),
        "events_since_progress": float(len(since.of_role(*OWN_ROLES))),
        "calls_since_progress": float(calls_since),
        "repeated_calls_since_progress": float(max(0, calls_since - 1)),
        "contacts_since_progress": float(len(since.of_role("contact"))),
        "channel_switches_since_progress": float(sum(a != b for a, b in pairwise(channels_since))),
        **past.windows("customer_events", own),
        **past.windows("calls", calls),
        **past.windows("contacts", contacts),
        **past.windows("responses", past.of_role("response")),
        "customer_events_decayed_1d": past.decayed(own, DAY),
        "customer_events_decayed_7d": past.decayed(own, 7 * DAY),
        "contacts_decayed_7d": past.decayed(contacts, 7 * DAY),
        "calls_decayed_7d": past.decayed(calls, 7 * DAY),
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
    goal = len(past.journey.stages)
    steps = {**{i: stage.id for i, stage in enumerate(past.journey.stages)}, goal: past.journey.goal.id}
    took = {
        f"hours_to_{step}": (instance.stage_entered[i] - instance.entered_at) / HOUR
        if instance is not None and i in instance.stage_entered
        else NAN
        for i, step in steps.items()
        if i > 0
    }
    open_only = (
        _open_journey(past, instance) if instance is not None and status == "open" else dict.fromkeys(_OPEN, NAN)
    )
    return {
        **stages,
        **took,
        **open_only,
        "journey_status": float(("never", "open", "reached", "left", "abandoned").index(status)),
        "stage_index": NAN if instance is None else float(instance.stage),
        "journey_entries": float(past.entries),
        "progress_count": 0.0 if instance is None else float(instance.progress),
        "loops": 0.0 if instance is None else float(instance.loops),
        "loops_since_progress": 0.0 if instance is None else float(instance.loops_since),
        "revisits": 0.0 if instance is None else float(instance.revisits),
        "revisits_since_progress": 0.0 if instance is None else float(instance.revisits_since),
        "stage_share": NAN if instance is None else instance.stage / goal,
    }


_OPEN = (
    *("hours_since_progress", "dwell_over_stall_after", "stalled_now", "hours_in_journey", "progress_per_day"),
    *("distinct_steps", "distinct_steps_since_progress"),
)


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
        "distinct_steps": _steps_from(past, instance.entered_at),
        "distinct_steps_since_progress": _steps_from(past, instance.progressed_at),
    }


def _steps_from(past: Past, at: int) -> float:
    return float(len({event.kind for event in past.of_role(*OWN_ROLES) if event.occurred_at >= at}))


def _channels(past: Past) -> dict[str, float]:
    own = [event for event in past.of_role(*OWN_ROLES) if event.channel is not None]
    used = [str(event.channel) for event in own]
    is_digital = [past.taxonomy.channels[channel].digital for channel in used]
    switches = [i for i in range(1, len(used)) if used[i] != used[i - 1]]
    names = list(past.taxonomy.channels)
    weights = {name: past.decayed([event for event in own if event.channel == name], 30 * DAY) for name in names}
    total = math.fsum(weights.values())
    favourite = max(names, key=lambda name: (weights[name], -names.index(name)))
    offline = math.fsum(weight for name, weight in weights.items() if not past.taxonomy.channels[name].digital)
    return {
        "channel_switches": float(len(switches)),
        "digital_to_offline_switches": float(sum(is_digital[i - 1] and not is_digital[i] for i in switches)),
        "last_channel_digital": float(is_digital[-1]) if used else NAN,
        "last_channel": float(names.index(used[-1])) if used else NAN,
        "channels_used": float(len(set(used))),
        "preferred_channel": float(names.index(favourite)) if used else NAN,
        "preferred_channel_share": weights[favourite] / total if used else NAN,
        "offline_share": offline / total if used else NAN,
        "on_preferred_channel": float(used[-1] == favourite) if used else NAN,
    }


def _contacts_and_offers(past: Past) -> dict[str, float]:
    contacts, responses, shown = past.of_role("contact"), past.of_role("response"), past.of_role("offer_shown")
    accepted = past.of_role("offer_accepted")
    last = past.events.index(responses[-1]) if responses else -1
    roles = [past.taxonomy.all_kinds[event.kind].role for event in past.events]
    contacts_before = [event for event, role in zip(past.events, roles, strict=True) if role == "contact"][
        : roles[: last + 1].count("contact")
    ]
    took = responses[-1].occurred_at - contacts_before[-1].occurred_at if contacts_before else NAN
    return {
        "hours_since_contact": past.hours_since(contacts),
        "hours_since_response": past.hours_since(responses),
        "responses_per_contact": len(responses) / len(contacts) if contacts else NAN,
        "unanswered_contacts": float(roles[last + 1 :].count("contact")),
        "response_took_hours": took / HOUR,
        "offers_shown": float(len(shown)),
        "offers_accepted": float(len(accepted)),
        "offers_rejected": float(len(past.of_role("offer_rejected"))),
        "hours_since_offer": past.hours_since(shown),
        "acceptances_per_offer": len(accepted) / len(shown) if shown else NAN,
    }


def _feedback(past: Past) -> dict[str, float]:
    feedback = past.of_role("feedback")
    nps, sentiment = _told(feedback, "nps"), _told(feedback, "sentiment")
    band = NAN if not nps else 0.0 if nps[-1] <= 6 else 2.0 if nps[-1] >= 9 else 1.0
    themes = [str(event.facts["theme"]) for event in feedback if "theme" in event.facts]
    return {
        "hours_since_feedback": past.hours_since(feedback),
        "nps_last": nps[-1] if nps else NAN,
        "nps_band_last": band,
        "nps_mean": math.fsum(nps) / len(nps) if nps else NAN,
        "sentiment_last": sentiment[-1] if sentiment else NAN,
        "sentiment_mean": math.fsum(sentiment) / len(sentiment) if sentiment else NAN,
        "sentiment_lowest": min(sentiment, default=NAN),
        **{f"theme_{name}": float(themes.count(name)) for name in past.taxonomy.themes},
    }


def _money(past: Past) -> dict[str, float]:
    kinds = past.taxonomy.all_kinds
    values = [number for event in past.events for number in _told([event], kinds[event.kind].value_fact)]
    prices = [number for event in past.events for number in _told([event], kinds[event.kind].price_fact)]
    return {
        "value_last": values[-1] if values else NAN,
        "value_total": math.fsum(values),
        "value_mean": math.fsum(values) / len(values) if values else NAN,
        "value_highest": max(values, default=NAN),
        "price_last": prices[-1] if prices else NAN,
        "price_change": prices[-1] - prices[0] if prices else NAN,
        "price_over_lowest": prices[-1] - min(prices) if prices else NAN,
    }


def _told(events: Sequence[JourneyEvent], fact: str | None) -> list[float]:
    return [float(event.facts[fact]) for event in events if fact is not None and fact in event.facts]


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
    features: dict[str, float] = {}
    for name, kind in past.taxonomy.all_kinds.items():
        events = [event for event in past.events if event.kind == name]
        features[f"count_{name}"] = float(len(events))
        features[f"hours_since_{name}"] = past.hours_since(events)
        if kind.windowed is None and kind.role not in (
            "operation",
            "outcome",
            "override",
            "profile",
            "consent",
            "identity",
        ):
            features |= past.windows(f"count_{name}", events)
            features[f"count_{name}_decayed_7d"] = past.decayed(events, 7 * DAY)
    return features


def _by_channel(past: Past) -> dict[str, float]:
    features: dict[str, float] = {}
    for name, channel in past.taxonomy.channels.items():
        events = [event for event in past.events if event.channel == name]
        features[f"events_on_{name}"] = float(len(events))
        features |= past.windows(f"events_on_{name}", events)
        features[f"events_on_{name}_decayed_7d"] = past.decayed(events, 7 * DAY)
        if channel.outbound:
            for role in ("contact", "response"):
                of_role = [event for event in past.of_role(role) if event.channel == name]
                features[f"{role}s_on_{name}"] = float(len(of_role))
    return features
