"""Every feature and every state slot, declared once: name, type, unit, meaning, missing rule and source.

``feature_set`` is a pure function of taxonomy and journey: a new kind, channel, stage or attribute in the configuration
gets its slots and features without code. Training, serving, the feature store and the docs all read this one list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from features import kernel
from features.events import JourneyEvent
from features.journeys import Journey
from features.kernel import Floats, Integers, Plan
from features.taxonomy import Attribute, Kind, Role, Taxonomy

STATE_FORMAT: Final = 1
"""Raised when the meaning of a slot changes; part of every schema version."""

Missing = Literal["never NaN", "NaN until it happened", "NaN while no journey is open", "NaN where unknown"]

_ROLE_NUMBER: Final[dict[Role, int]] = {
    "activity": kernel.ACTIVITY,
    "call": kernel.CALL,
    "contact": kernel.CONTACT,
    "response": kernel.RESPONSE,
    "feedback": kernel.FEEDBACK,
    "offer_shown": kernel.OFFER_SHOWN,
    "offer_accepted": kernel.OFFER_ACCEPTED,
    "offer_rejected": kernel.OFFER_REJECTED,
    "operation": kernel.OPERATION,
    "outcome": kernel.OUTCOME,
    "override": kernel.OVERRIDE,
    "profile": kernel.PROFILE,
    "consent": kernel.CONSENT,
}


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature that the models see.

    Attributes:
        name: its name everywhere.
        unit: ``hours``, ``count``, ``index``, ``flag``, ``ratio``, ``score``, ``money``, or an attribute's own unit.
        meaning: one line.
        missing: what NaN means.
        source: ``state`` (the kernel) or ``profile`` (the customer's attributes).
    """

    name: str
    unit: str
    meaning: str
    missing: Missing
    source: Literal["state", "profile"] = "state"


@dataclass(frozen=True, slots=True)
class StateField:
    """A named run of slots in the state vector; the feature store keeps each as one array."""

    name: str
    slots: tuple[str, ...]


_ALWAYS: Final = "never NaN"
_UNTIL: Final = "NaN until it happened"
_CLOSED: Final = "NaN while no journey is open"

_FIXED: Final[tuple[tuple[str, str, str, Missing], ...]] = (
    ("hours_since_event", "hours", "since the last event of any kind", _UNTIL),
    ("hours_since_first_event", "hours", "since the first event ever", _UNTIL),
    ("hours_since_customer_event", "hours", "since the customer last did something", _UNTIL),
    ("journey_status", "index", "0 never entered, 1 open, 2 goal reached, 3 left, 4 abandoned by silence", _ALWAYS),
    ("stage_index", "index", "furthest stage of the current or last instance, from 0", _UNTIL),
    ("hours_since_progress", "hours", "in the stage without progress", _CLOSED),
    ("dwell_over_stall_after", "ratio", "time in the stage over its stall_after", _CLOSED),
    ("stalled_now", "flag", "1 where the stage's stall_after has passed", _CLOSED),
    ("hours_in_journey", "hours", "since the open journey was entered", _CLOSED),
    ("journey_entries", "count", "instances entered so far", _ALWAYS),
    ("progress_count", "count", "times progress was made in this instance", _ALWAYS),
    (
        "progress_per_day",
        "ratio",
        "progress per day in the journey, days at least 1/24",
        _CLOSED,
    ),
    ("loops", "count", "returns to a stage already passed, in this instance", _ALWAYS),
    ("loops_since_progress", "count", "such returns since the last progress", _ALWAYS),
    ("events_total", "count", "events of any kind", _ALWAYS),
    ("events_since_progress", "count", "the customer's own events since the last progress", _ALWAYS),
    ("calls_since_progress", "count", "calls since the last progress", _ALWAYS),
    ("contacts_since_progress", "count", "contacts from us since the last progress", _ALWAYS),
    ("customer_events_1d", "count", "the customer's own events in 1 day; saturates at 64", _ALWAYS),
    ("customer_events_7d", "count", "the customer's own events in 7 days; saturates at 64", _ALWAYS),
    ("customer_events_30d", "count", "the customer's own events in 30 days; saturates at 64", _ALWAYS),
    ("calls_7d", "count", "calls in 7 days; saturates at 16", _ALWAYS),
    ("contacts_7d", "count", "contacts from us in 7 days; saturates at 16", _ALWAYS),
    ("contacts_30d", "count", "contacts from us in 30 days; saturates at 16", _ALWAYS),
    ("customer_events_decayed_1d", "count", "the customer's own events, half-life 1 day", _ALWAYS),
    ("customer_events_decayed_7d", "count", "the customer's own events, half-life 7 days", _ALWAYS),
    ("contacts_decayed_7d", "count", "contacts from us, half-life 7 days", _ALWAYS),
    ("channel_switches", "count", "changes of channel between the customer's own events", _ALWAYS),
    ("digital_to_offline_switches", "count", "such changes from a digital to an offline channel", _ALWAYS),
    ("last_channel_digital", "flag", "1 where the customer was last on a digital channel", _UNTIL),
    ("hours_since_contact", "hours", "since we last contacted the customer", _UNTIL),
    ("hours_since_response", "hours", "since the customer last responded", _UNTIL),
    ("responses_per_contact", "ratio", "responses over contacts", _UNTIL),
    ("offers_shown", "count", "offers shown", _ALWAYS),
    ("offers_accepted", "count", "offers accepted", _ALWAYS),
    ("offers_rejected", "count", "offers rejected", _ALWAYS),
    ("nps_last", "score", "last likelihood to recommend, 0 to 10", _UNTIL),
    ("sentiment_last", "score", "sentiment of the last feedback, -1 to 1", _UNTIL),
    ("waiting_on_us_hours", "hours", "of the wait on us that is going on, 0 where there is none", _ALWAYS),
    ("waited_on_us_hours", "hours", "waited on us in all, the present wait included", _ALWAYS),
    ("value_last", "money", "last money value seen", _UNTIL),
    ("value_total", "money", "sum of money values seen", _ALWAYS),
)

_TIMES = (
    *("last_event_at", "last_sequence", "first_event_at", "entered_at", "last_progress_at", "closed_at"),
    *("last_customer_at", "last_contact_at", "last_response_at", "last_feedback_at", "waiting_since_at", "waited_us"),
)
_PROGRESS = (
    *("status", "stage_index", "entries", "progress", "loops", "loops_since_progress"),
    *("events_since_progress", "calls_since_progress", "contacts_since_progress", "events"),
)
_FLOW = (
    *("last_channel", "switches", "digital_to_offline", "contacts", "responses", "offers_shown", "offers_accepted"),
    *("offers_rejected", "nps_last", "sentiment_last", "value_last", "value_total"),
)
_DECAYED = ("customer_1d", "customer_7d", "contacts_7d")


@dataclass(frozen=True)
class FeatureSet:
    """The features and the state of one journey.

    Attributes:
        journey_id: the journey.
        specs: every feature, in the order of the model's vector.
        fields: every field of the state vector, in order.
        plan: the same for the kernel.
        kind_index: number of each kind.
        channel_index: number of each channel.
        attributes: the attributes among the features, by name.
    """

    journey_id: str
    specs: tuple[FeatureSpec, ...]
    fields: tuple[StateField, ...]
    plan: Plan
    kind_index: Mapping[str, int]
    channel_index: Mapping[str, int]
    attributes: Mapping[str, Attribute]
    value_facts: Mapping[str, str]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in the order of the model's vector."""
        return tuple(spec.name for spec in self.specs)

    @cached_property
    def n_state_features(self) -> int:
        """How many of the features the kernel reads from the state; attributes follow."""
        return kernel.n_features(self.plan)

    @cached_property
    def version(self) -> str:
        """Content hash over every name, slot and table: equal versions mean interchangeable states and vectors."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(f"state-format-{STATE_FORMAT}|{self.journey_id}".encode())
        for spec in self.specs:
            digest.update(f"|{spec.name}".encode())
        for state_field in self.fields:
            digest.update(f"|{state_field.name}:{','.join(state_field.slots)}".encode())
        for name, attribute in self.attributes.items():
            digest.update(f"|{name}:{attribute.dtype}:{','.join(attribute.values)}".encode())
        for table in self.plan:
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()

    def split(self, state: Floats) -> dict[str, Floats]:
        """The fields of a state vector, as views."""
        offsets = self.plan.offsets
        return {f.name: state[offsets[i] : offsets[i + 1]] for i, f in enumerate(self.fields)}

    def join(self, fields: Mapping[str, Floats]) -> Floats:
        """The state vector of its fields.

        Raises:
            ValueError: a field has another length than this feature set gives it.
        """
        parts = [np.asarray(fields[f.name], dtype=np.float64) for f in self.fields]
        for part, state_field in zip(parts, self.fields, strict=True):
            if part.size != len(state_field.slots):
                raise ValueError(f"field {state_field.name}: {part.size} slots, expected {len(state_field.slots)}")
        return np.concatenate(parts)

    def encode(self, event: JourneyEvent) -> tuple[int, int, float, float, float, float, float]:
        """An event as ``kernel.fold`` takes it: kind, channel, at, sequence, value, nps, sentiment."""
        facts = event.facts
        value_fact = self.value_facts.get(event.kind)
        return (
            self.kind_index[event.kind],
            -1 if event.channel is None else self.channel_index[event.channel],
            float(event.occurred_at),
            float(event.sequence),
            _number(facts.get(value_fact)) if value_fact else np.nan,
            _number(facts.get("nps")),
            _number(facts.get("sentiment")),
        )

    def fold(self, state: Floats, event: JourneyEvent) -> None:
        """Fold one event into ``state``, in place."""
        kernel.fold(state, self.plan, *self.encode(event))

    def vector(self, state: Floats, attributes: Mapping[str, object], at: int) -> Floats:
        """The model's vector as of ``at``: ``(n_features,)``, NaN where unknown."""
        out = np.empty(len(self.specs))
        kernel.read(state, self.plan, float(at), out[: self.n_state_features])
        for i, (name, attribute) in enumerate(self.attributes.items(), start=self.n_state_features):
            out[i] = attribute_number(attributes.get(name), attribute)
        return out


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def attribute_number(value: object, attribute: Attribute) -> float:
    """An attribute as the models see it: a number, 0 or 1, or the position of a category; NaN where unknown."""
    if value is None:
        return float("nan")
    if attribute.dtype == "category":
        return float(attribute.values.index(str(value))) if value in attribute.values else float("nan")
    if attribute.dtype in ("number", "boolean") and isinstance(value, int | float):
        return float(value)
    return float("nan")


def feature_set(taxonomy: Taxonomy, journey: Journey) -> FeatureSet:
    """The features and the state layout of one journey under one taxonomy."""
    kinds = taxonomy.all_kinds
    channels = tuple(taxonomy.channels)
    fields = _state_fields(kinds, channels, journey)
    specs = (
        *(FeatureSpec(*row) for row in _FIXED),
        *(
            FeatureSpec(f"hours_since_stage_{stage.id}", "hours", f"since stage {stage.id} was entered", _UNTIL)
            for stage in journey.stages
        ),
        *(spec for name, kind in kinds.items() for spec in _kind_specs(name, kind)),
        *(FeatureSpec(f"events_on_{name}", "count", f"events over {name}", _ALWAYS) for name in channels),
        *(_attribute_spec(name, attribute) for name, attribute in taxonomy.feature_attributes.items()),
    )
    return FeatureSet(
        journey_id=journey.id,
        specs=specs,
        fields=fields,
        plan=_plan(taxonomy, journey, fields),
        kind_index={name: i for i, name in enumerate(kinds)},
        channel_index={name: i for i, name in enumerate(channels)},
        attributes=taxonomy.feature_attributes,
        value_facts={name: kind.value_fact for name, kind in kinds.items() if kind.value_fact},
    )


def _kind_specs(name: str, kind: Kind) -> tuple[FeatureSpec, FeatureSpec]:
    return (
        FeatureSpec(f"count_{name}", "count", f"times: {kind.title}", _ALWAYS),
        FeatureSpec(f"hours_since_{name}", "hours", f"since last: {kind.title}", _UNTIL),
    )


def _attribute_spec(name: str, attribute: Attribute) -> FeatureSpec:
    unit = attribute.unit or {"category": "index", "boolean": "flag"}.get(attribute.dtype, "number")
    return FeatureSpec(f"attribute_{name}", unit, attribute.meaning or name, "NaN where unknown", "profile")


def _state_fields(kinds: Mapping[str, Kind], channels: tuple[str, ...], journey: Journey) -> tuple[StateField, ...]:
    rings = (("customer", kernel.CUSTOMER_RING), ("contact", kernel.CONTACT_RING), ("call", kernel.CALL_RING))
    return (
        StateField("times", _TIMES),
        StateField("progress", _PROGRESS),
        StateField("stage_entered_at", (*journey.stage_ids, journey.goal.id)),
        StateField("kind_counts", tuple(kinds)),
        StateField("kind_last_at", tuple(kinds)),
        StateField("channel_counts", channels),
        StateField("flow", _FLOW),
        StateField("decayed_value", _DECAYED),
        StateField("decayed_at", _DECAYED),
        StateField("ring_at", tuple(f"{name}_{i}" for name, size in rings for i in range(size))),
        StateField("ring_n", tuple(name for name, _ in rings)),
    )


def _plan(taxonomy: Taxonomy, journey: Journey, fields: tuple[StateField, ...]) -> Plan:
    kinds = taxonomy.all_kinds
    stage_of = {name: i for i, stage in enumerate(journey.stages) for name in stage.enter}
    stage_of |= {name: len(journey.stages) for name in journey.goal.enter}
    exits = {name for names in journey.exits.values() for name in names}
    rows = [
        (
            _ROLE_NUMBER[kind.role],
            stage_of.get(name, -1),
            int(name in journey.entry),
            int(name in exits),
            {None: 0, "starts": 1, "ends": 2}[kind.waiting],
        )
        for name, kind in kinds.items()
    ]
    return Plan(
        offsets=_integers(np.cumsum([0, *(len(f.slots) for f in fields)])),
        kinds=_integers(rows),
        digital=_integers([int(channel.digital) for channel in taxonomy.channels.values()]),
        stall_after=np.array([stage.stall_after for stage in journey.stages], dtype=np.float64),
        abandon_after=np.array([journey.abandon_after], dtype=np.float64),
    )


def _integers(values: object) -> Integers:
    return np.asarray(values, dtype=np.int64)
