"""Every feature and every state slot, declared once: name, type, unit, meaning, missing rule and source.

``feature_set`` is a pure function of taxonomy and journey: a new kind, channel, stage or attribute in the configuration
gets its slots and features without code. Training, serving, the feature store and the docs all read this one list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np

from features import kernel
from features.durations import dump_duration
from features.events import JourneyEvent
from features.journeys import Journey
from features.kernel import Floats, Integers, Plan
from features.taxonomy import NPS, SENTIMENT, THEME, Attribute, Kind, Role, Taxonomy
from features.time_zones import offsets_of_zone

STATE_FORMAT: Final = 1
"""Raised when the meaning of a slot changes; part of every schema version."""

Missing = Literal["never NaN", "NaN until it happened", "NaN while no journey is open", "NaN where unknown"]
Source = Literal["state", "profile", "request"]
Dtype = Literal["number", "integer", "boolean", "category"]

_DTYPES: Final[Mapping[str, Dtype]] = {"count": "integer", "hour": "integer", "flag": "boolean", "index": "category"}

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
        unit: ``hours``, ``count``, ``index``, ``flag``, ``ratio``, ``score``, ``money``, ``price``, ``hour`` (of the
            day), or an attribute's own unit.
        meaning: one line.
        missing: what NaN means.
        source: ``state`` (the kernel), ``profile`` (the customer's attributes) or ``request`` (what the caller says of
            the moment).
    """

    name: str
    unit: str
    meaning: str
    missing: Missing
    source: Source = "state"

    @property
    def dtype(self) -> Dtype:
        """What its numbers are; in the vector all are float64."""
        return _DTYPES.get(self.unit, "number")


@dataclass(frozen=True, slots=True)
class StateField:
    """A named run of slots in the state vector; the feature store keeps each as one array."""

    name: str
    slots: tuple[str, ...]


_ALWAYS: Final = "never NaN"
_UNTIL: Final = "NaN until it happened"
_CLOSED: Final = "NaN while no journey is open"

_Row: TypeAlias = tuple[str, str, str, Missing]
_WINDOWS: Final = tuple(dump_duration(int(window)) for window in kernel.WINDOWS_US)
_SATURATES: Final = f"exact while no more than {kernel.RECENT} events of all kinds fall into it"


def _window_rows(name: str, what: str) -> tuple[_Row, ...]:
    return tuple((f"{name}_{window}", "count", f"{what} in {window}, {_SATURATES}", _ALWAYS) for window in _WINDOWS)


# The rows of each part stand in the order in which the function of the kernel writes them.
_TIMES_READ: Final[tuple[_Row, ...]] = (
    ("hours_since_event", "hours", "since the last event of any kind", _UNTIL),
    ("hours_since_first_event", "hours", "since the first event ever", _UNTIL),
    ("hours_since_customer_event", "hours", "since the customer last did something", _UNTIL),
    ("customer_gap_hours", "hours", "mean time between the customer's own events", _UNTIL),
    ("silence_over_gap", "ratio", "the present silence of the customer over that mean", _UNTIL),
    ("waiting_on_us_hours", "hours", "of the wait on us that is going on, 0 where there is none", _ALWAYS),
    ("waited_on_us_hours", "hours", "waited on us in all, the present wait included", _ALWAYS),
    ("local_hour", "hour", "of the day at the moment, in the installation's time zone", _ALWAYS),
    ("local_weekday", "index", "at the moment, in the installation's time zone; 0 is Monday", _ALWAYS),
    (
        "preferred_local_hour",
        "hour",
        "of the day with most of the customer's own events, the earliest of equals",
        _UNTIL,
    ),
    ("preferred_local_hour_share", "ratio", "of the customer's own events that fell into that hour", _UNTIL),
    ("local_hour_match", "ratio", "of the customer's own events within an hour of the moment's local hour", _UNTIL),
    ("customer_events_total", "count", "the customer's own events", _ALWAYS),
)
_JOURNEY_READ: Final[tuple[_Row, ...]] = (
    ("journey_status", "index", "0 never entered, 1 open, 2 goal reached, 3 left, 4 abandoned by silence", _ALWAYS),
    ("stage_index", "index", "furthest stage of the current or last instance, from 0", _UNTIL),
    ("hours_since_progress", "hours", "in the stage without progress", _CLOSED),
    ("dwell_over_stall_after", "ratio", "time in the stage over its stall_after", _CLOSED),
    ("stalled_now", "flag", "1 where the stage's stall_after has passed", _CLOSED),
    ("hours_in_journey", "hours", "since the open journey was entered", _CLOSED),
    ("journey_entries", "count", "instances entered so far", _ALWAYS),
    ("progress_count", "count", "times progress was made in this instance", _ALWAYS),
    ("progress_per_day", "ratio", "progress per day in the journey, days at least 1/24", _CLOSED),
    ("stage_share", "ratio", "of the way to the goal: furthest stage over the number of stages", _UNTIL),
    ("loops", "count", "returns to a stage that was entered already, in this instance", _ALWAYS),
    ("loops_since_progress", "count", "such returns since the last progress", _ALWAYS),
    ("revisits", "count", "returns to an earlier stage than the furthest, in this instance", _ALWAYS),
    ("revisits_since_progress", "count", "such returns since the last progress", _ALWAYS),
    ("distinct_steps", "count", "kinds of things that the customer did since the journey was entered", _CLOSED),
    ("distinct_steps_since_progress", "count", "such kinds since the last progress", _CLOSED),
    ("events_total", "count", "events of any kind", _ALWAYS),
    ("events_since_progress", "count", "the customer's own events since the last progress", _ALWAYS),
    ("calls_since_progress", "count", "calls since the last progress", _ALWAYS),
    ("repeated_calls_since_progress", "count", "calls since the last progress beyond the first", _ALWAYS),
    ("contacts_since_progress", "count", "contacts from us since the last progress", _ALWAYS),
    ("channel_switches_since_progress", "count", "changes of channel since the last progress", _ALWAYS),
)
_WINDOWS_READ: Final[tuple[_Row, ...]] = (
    *_window_rows("customer_events", "the customer's own events"),
    *_window_rows("calls", "calls"),
    *_window_rows("contacts", "contacts from us"),
    *_window_rows("responses", "responses of the customer"),
    ("customer_events_decayed_1d", "count", "the customer's own events, half-life 1 day", _ALWAYS),
    ("customer_events_decayed_7d", "count", "the customer's own events, half-life 7 days", _ALWAYS),
    ("contacts_decayed_7d", "count", "contacts from us, half-life 7 days", _ALWAYS),
    ("calls_decayed_7d", "count", "calls, half-life 7 days", _ALWAYS),
)
_CHANNELS_READ: Final[tuple[_Row, ...]] = (
    ("channel_switches", "count", "changes of channel between the customer's own events", _ALWAYS),
    ("digital_to_offline_switches", "count", "such changes from a digital to an offline channel", _ALWAYS),
    ("last_channel_digital", "flag", "1 where the customer was last on a digital channel", _UNTIL),
    ("last_channel", "index", "of the channel that the customer was last on, in the taxonomy's order", _UNTIL),
    ("channels_used", "count", "channels that the customer ever used", _ALWAYS),
    ("preferred_channel", "index", "of the channel with most of the customer's own events, half-life 30 days", _UNTIL),
    ("preferred_channel_share", "ratio", "of those events that were on it", _UNTIL),
    ("offline_share", "ratio", "of those events that were on channels that are not digital", _UNTIL),
    ("on_preferred_channel", "flag", "1 where the customer was last on the preferred channel", _UNTIL),
)
_CONTACTS_READ: Final[tuple[_Row, ...]] = (
    ("hours_since_contact", "hours", "since we last contacted the customer", _UNTIL),
    ("hours_since_response", "hours", "since the customer last responded", _UNTIL),
    ("responses_per_contact", "ratio", "responses over contacts", _UNTIL),
    ("unanswered_contacts", "count", "contacts since the last response", _ALWAYS),
    ("response_took_hours", "hours", "from the contact before the last response to that response", _UNTIL),
)
_OFFERS_READ: Final[tuple[_Row, ...]] = (
    ("offers_shown", "count", "offers shown", _ALWAYS),
    ("offers_accepted", "count", "offers accepted", _ALWAYS),
    ("offers_rejected", "count", "offers rejected", _ALWAYS),
    ("hours_since_offer", "hours", "since the last offer was shown", _UNTIL),
    ("acceptances_per_offer", "ratio", "offers accepted over offers shown", _UNTIL),
)
_FEEDBACK_READ: Final[tuple[_Row, ...]] = (
    ("hours_since_feedback", "hours", "since the last feedback", _UNTIL),
    ("nps_last", "score", "last likelihood to recommend, 0 to 10", _UNTIL),
    ("nps_band_last", "index", "of that: 0 detractor (to 6), 1 passive, 2 promoter (from 9)", _UNTIL),
    ("nps_mean", "score", "mean likelihood to recommend", _UNTIL),
    ("sentiment_last", "score", "sentiment of the last feedback that had one, -1 to 1", _UNTIL),
    ("sentiment_mean", "score", "mean sentiment", _UNTIL),
    ("sentiment_lowest", "score", "lowest sentiment", _UNTIL),
)
_MONEY_READ: Final[tuple[_Row, ...]] = (
    ("value_last", "money", "last money value seen", _UNTIL),
    ("value_total", "money", "sum of money values seen", _ALWAYS),
    ("value_mean", "money", "mean of money values seen", _UNTIL),
    ("value_highest", "money", "highest money value seen", _UNTIL),
    ("price_last", "price", "last price named to the customer", _UNTIL),
    ("price_change", "price", "that price minus the first one named", _UNTIL),
    ("price_over_lowest", "price", "that price minus the lowest one named", _UNTIL),
)
_PARTS: Final = (
    (_TIMES_READ, kernel.N_READ_TIMES),
    (_JOURNEY_READ, kernel.N_READ_JOURNEY),
    (_WINDOWS_READ, kernel.N_READ_WINDOWS),
    (_CHANNELS_READ, kernel.N_READ_CHANNELS),
    (_CONTACTS_READ, kernel.N_READ_CONTACTS),
    (_OFFERS_READ, kernel.N_READ_OFFERS),
    (_FEEDBACK_READ, kernel.N_READ_FEEDBACK),
    (_MONEY_READ, kernel.N_READ_MONEY),
)
for _rows, _n_read in _PARTS:
    if len(_rows) != _n_read:  # what the kernel writes past its part would be read as the features of the next
        raise RuntimeError(f"{_rows[0][0]} and what follows: {len(_rows)} rows, but the kernel writes {_n_read}")
_FIXED: Final = tuple(row for rows, _ in _PARTS for row in rows)

_TIMES = (
    *("last_event_at", "last_sequence", "first_event_at", "entered_at", "last_progress_at", "closed_at"),
    *("first_customer_at", "last_customer_at", "last_contact_at", "last_response_at", "last_feedback_at"),
    *("last_offer_at", "waiting_since_at", "waited_us", "response_took_us"),
)
_PROGRESS = (
    *("status", "stage_index", "entries", "progress", "loops", "loops_since_progress", "revisits"),
    *("revisits_since_progress", "events_since_progress", "calls_since_progress", "contacts_since_progress"),
    *("channel_switches_since_progress", "events"),
)
_KIND_BLOCKS = ("count", "last_at", "decayed")
_CHANNEL_BLOCKS = ("count", "decayed", "last_at", "own_decayed", "own_at", "contacts", "responses")
_FLOW = (
    *("last_channel", "switches", "digital_to_offline", "own", "contacts", "responses", "unanswered"),
    *("offers_shown", "offers_accepted", "offers_rejected", "feedback", "nps_last", "nps_sum", "nps_n"),
    *("sentiment_last", "sentiment_sum", "sentiment_n", "sentiment_lowest"),
    *("value_last", "value_total", "value_n", "value_highest", "price_first", "price_last", "price_lowest"),
)
_DECAYED = ("customer_1d", "customer_7d", "contacts_7d", "calls_7d")


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
        context: the request's own facts among the features, by name.
        theme_index: number of each theme of feedback.
        value_facts: the fact that is a kind's money value, where it has one.
        price_facts: the fact that is a price named to the customer, likewise.
    """

    journey_id: str
    specs: tuple[FeatureSpec, ...]
    fields: tuple[StateField, ...]
    plan: Plan
    kind_index: Mapping[str, int]
    channel_index: Mapping[str, int]
    attributes: Mapping[str, Attribute]
    context: Mapping[str, Attribute]
    theme_index: Mapping[str, int]
    value_facts: Mapping[str, str]
    price_facts: Mapping[str, str]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in the order of the model's vector."""
        return tuple(spec.name for spec in self.specs)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where in the model's vector each feature is, by name."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def n_state_features(self) -> int:
        """How many of the features the kernel reads from the state; attributes and the request's own facts follow."""
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
        for name, attribute in (*self.attributes.items(), *self.context.items()):
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

    def encode(self, event: JourneyEvent) -> tuple[int, int, float, float, float, float, float, float, int]:
        """An event as ``kernel.fold`` takes it: kind, channel, at, sequence, value, price, nps, sentiment, theme."""
        facts = event.facts
        return (
            self.kind_index[event.kind],
            -1 if event.channel is None else self.channel_index[event.channel],
            float(event.occurred_at),
            float(event.sequence),
            _number(facts.get(self.value_facts.get(event.kind, ""))),
            _number(facts.get(self.price_facts.get(event.kind, ""))),
            _number(facts.get(NPS)),
            _number(facts.get(SENTIMENT)),
            self.theme_index.get(str(facts.get(THEME)), -1),
        )

    def fold(self, state: Floats, event: JourneyEvent) -> None:
        """Fold one event into ``state``, in place."""
        kernel.fold(state, self.plan, *self.encode(event))

    def vector(
        self,
        state: Floats,
        attributes: Mapping[str, object],
        at: int,
        context: Mapping[str, object] = MappingProxyType({}),
    ) -> Floats:
        """The model's vector as of ``at``: ``(n_features,)``, NaN where unknown.

        Args:
            state: the state vector.
            attributes: the customer's, as far as they are known.
            at: the moment, microseconds since the epoch.
            context: the request's own facts; none where there is no request.
        """
        out = np.empty(len(self.specs))
        kernel.read(state, self.plan, float(at), out[: self.n_state_features])
        i = self.n_state_features
        for declared, known in ((self.attributes, attributes), (self.context, context)):
            for name, attribute in declared.items():
                out[i] = attribute_number(known.get(name), attribute)
                i += 1
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
    channels = taxonomy.channels
    fields = _state_fields(taxonomy, journey)
    by_kind = [_kind_specs(name, kind) for name, kind in kinds.items()]
    by_channel = [_channel_specs(name, is_outbound=channel.outbound) for name, channel in channels.items()]
    fixed = (*(FeatureSpec(*row) for row in _FIXED), *_stage_specs(journey))
    specs = (
        *fixed,
        *(spec for block in (*by_kind, *by_channel) for spec in block),
        *(
            FeatureSpec(f"theme_{name}", "count", f"feedback about: {one.title}", _ALWAYS)
            for name, one in taxonomy.themes.items()
        ),
        *(_attribute_spec("attribute", name, one, "profile") for name, one in taxonomy.feature_attributes.items()),
        *(_attribute_spec("context", name, one, "request") for name, one in taxonomy.feature_context.items()),
    )
    read_at = np.cumsum([len(fixed), *map(len, (*by_kind, *by_channel))])
    return FeatureSet(
        journey_id=journey.id,
        specs=specs,
        fields=fields,
        plan=_plan(taxonomy, journey, fields, read_at.tolist()),
        kind_index={name: i for i, name in enumerate(kinds)},
        channel_index={name: i for i, name in enumerate(channels)},
        attributes=taxonomy.feature_attributes,
        context=taxonomy.feature_context,
        theme_index={name: i for i, name in enumerate(taxonomy.themes)},
        value_facts={name: kind.value_fact for name, kind in kinds.items() if kind.value_fact},
        price_facts={name: kind.price_fact for name, kind in kinds.items() if kind.price_fact},
    )


def _stage_specs(journey: Journey) -> tuple[FeatureSpec, ...]:
    steps = [*journey.stage_ids[1:], journey.goal.id] if journey.stages else []
    return (
        *(
            FeatureSpec(f"hours_since_stage_{stage.id}", "hours", f"since stage {stage.id} was entered", _UNTIL)
            for stage in journey.stages
        ),
        *(FeatureSpec(f"hours_to_{step}", "hours", f"from entering the journey to {step}", _UNTIL) for step in steps),
    )


def _kind_specs(name: str, kind: Kind) -> tuple[FeatureSpec, ...]:
    count = f"count_{name}"
    return (
        FeatureSpec(count, "count", f"times: {kind.title}", _ALWAYS),
        FeatureSpec(f"hours_since_{name}", "hours", f"since last: {kind.title}", _UNTIL),
        *(_windowed_specs(count, f"times: {kind.title}") if kind.is_windowed else ()),
    )


def _channel_specs(name: str, *, is_outbound: bool) -> tuple[FeatureSpec, ...]:
    events = f"events_on_{name}"
    reached = (
        FeatureSpec(f"contacts_on_{name}", "count", f"contacts from us over {name}", _ALWAYS),
        FeatureSpec(f"responses_on_{name}", "count", f"responses of the customer over {name}", _ALWAYS),
    )
    return (
        FeatureSpec(events, "count", f"events over {name}", _ALWAYS),
        *_windowed_specs(events, f"events over {name}"),
        *(reached if is_outbound else ()),
    )


def _windowed_specs(name: str, what: str) -> tuple[FeatureSpec, ...]:
    decayed = FeatureSpec(f"{name}_decayed_7d", "count", f"{what}, half-life 7 days", _ALWAYS)
    return (*(FeatureSpec(*row) for row in _window_rows(name, what)), decayed)


def _attribute_spec(prefix: str, name: str, attribute: Attribute, source: Source) -> FeatureSpec:
    # What the models see of a category is its position, and of a boolean 0 or 1, whatever its values are measured in.
    unit = {"category": "index", "boolean": "flag"}.get(attribute.dtype) or attribute.unit or "number"
    return FeatureSpec(f"{prefix}_{name}", unit, attribute.meaning or name, "NaN where unknown", source)


def _state_fields(taxonomy: Taxonomy, journey: Journey) -> tuple[StateField, ...]:
    recent = range(kernel.RECENT)
    return (
        StateField("times", _TIMES),
        StateField("progress", _PROGRESS),
        StateField("stage_entered_at", (*journey.stage_ids, journey.goal.id)),
        StateField("kinds", _blocks(_KIND_BLOCKS, taxonomy.all_kinds)),
        StateField("channels", _blocks(_CHANNEL_BLOCKS, taxonomy.channels)),
        StateField("local_hours", tuple(f"hour_{hour}" for hour in range(kernel.N_HOURS))),
        StateField("themes", tuple(taxonomy.themes)),
        StateField("flow", _FLOW),
        StateField("decayed", _blocks(("value", "at"), _DECAYED)),
        StateField("recent", (*(f"at_{i}" for i in recent), *(f"code_{i}" for i in recent), "n")),
    )


def _blocks(blocks: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    return tuple(f"{block}:{name}" for block in blocks for name in names)


def _plan(taxonomy: Taxonomy, journey: Journey, fields: tuple[StateField, ...], read_at: Sequence[int]) -> Plan:
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
            int(kind.is_windowed),
            at,
        )
        for at, (name, kind) in zip(read_at, kinds.items(), strict=False)
    ]
    channels = [
        (int(channel.digital), int(channel.outbound), at)
        for at, channel in zip(read_at[len(kinds) :], taxonomy.channels.values(), strict=False)
    ]
    zone_from, zone_offset = offsets_of_zone(taxonomy.time_zone)
    return Plan(
        offsets=_integers(np.cumsum([0, *(len(f.slots) for f in fields)])),
        kinds=_integers(rows),
        channels=_integers(channels),
        stall_after=np.array([stage.stall_after for stage in journey.stages], dtype=np.float64),
        abandon_after=np.array([journey.abandon_after], dtype=np.float64),
        zone_from=np.array(zone_from, dtype=np.float64),
        zone_offset=np.array(zone_offset, dtype=np.float64),
    )


def _integers(values: object) -> Integers:
    return np.asarray(values, dtype=np.int64)
