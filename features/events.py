"""Journey events: what happened, to whom, when, and when we learned of it; and the versioned wire format.

Identity is ``(source, event_id)``. Order inside a customer: ``occurred_at``, ``sequence``, ``source``, ``event_id``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec

from features.errors import InvalidInput, Problem, path_step
from features.taxonomy import ALIAS, IDENTITY_KINDS, VALID_FROM, VALID_UNTIL, Attribute, Fact, Taxonomy

FactValue: TypeAlias = str | float | bool

WIRE_VERSION: Final = 1
MICROSECONDS_PER_DAY: Final = 86_400_000_000
LARGEST_INTEGER: Final = 2**53
"""Integers beyond it are not exact in a double, and in many a caller's JSON."""

MAX_ID_CHARACTERS: Final = 200
MAX_TEXT_CHARACTERS: Final = 10_000
MAX_FACT_CHARACTERS: Final = 2_000
FUTURE_SKEW_US: Final = 5 * 60 * 1_000_000
"""How far a sender's clock may run ahead of ours."""

CONSENT_STATES: Final = ("granted", "withdrawn", "objected")
HOLDING_PREFIX: Final = "holding:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = ("event_id", "customer_id", "kind", "occurred_at", "channel", "sequence", "facts", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyEvent:
    """One event, validated against the taxonomy.

    Attributes:
        source: who sent it, from the caller's key or the import; never from the body.
        occurred_at: microseconds since the epoch, UTC.
        arrived_at: when we learned of it, likewise; for imported history the same unless the mapping says otherwise.
        sequence: order among equal times as given by the sender, else its position in the file or batch.
        day: days since the epoch of the timestamp as sent: the partition of the log.
        facts: the facts that its kind allows.
        text: raw feedback text; it stays in the event log.
    """

    source: str
    event_id: str
    customer_id: str
    kind: str
    occurred_at: int
    arrived_at: int
    sequence: int
    day: int
    channel: str | None = None
    facts: Mapping[str, FactValue] = field(default_factory=dict)
    text: str | None = None

    @property
    def order(self) -> tuple[int, int, str, str]:
        """The key that orders the events of one customer."""
        return (self.occurred_at, self.sequence, self.source, self.event_id)


def microseconds(moment: datetime) -> int:
    """Microseconds since the epoch of an aware moment, exactly.

    Raises:
        ValueError: the moment has no offset.
    """
    if moment.tzinfo is None:
        raise ValueError(f"naive timestamp {moment.isoformat()}")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(at: int) -> datetime:
    """The aware UTC moment of ``at`` microseconds since the epoch.

    >>> moment_of(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=at)


def parse_timestamp(text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 timestamp with an offset.

    >>> parse_timestamp("1970-01-01T01:00:00.000001+01:00")
    1

    Raises:
        ValueError: it is no timestamp, or has no offset.
    """
    return microseconds(datetime.fromisoformat(text))


def dump_timestamp(at: int) -> str:
    """ISO 8601 text in UTC with microseconds.

    >>> dump_timestamp(1)
    '1970-01-01T00:00:00.000001Z'
    """
    return moment_of(at).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


def dump_timestamp_or_none(at: int | None) -> str | None:
    """``dump_timestamp`` of a moment that may be unknown."""
    return None if at is None else dump_timestamp(at)


def day_of(at: int) -> int:
    """Days since the epoch, UTC."""
    return at // MICROSECONDS_PER_DAY


def parse_event(
    document: object,
    *,
    taxonomy: Taxonomy,
    source: str,
    arrived_at: int,
    position: int,
    path: str = "event",
    correction: int = 0,
) -> JourneyEvent:
    """The event that one decoded JSON document of the wire format means.

    Args:
        document: the decoded document.
        taxonomy: the vocabulary it must keep to.
        source: who sent it.
        arrived_at: when, in microseconds since the epoch; events later than this plus five minutes are refused.
        position: its position in the batch, which orders equal times where the sender gave no ``sequence``.
        path: where the document stands, for messages.
        correction: microseconds that the sender's clock is behind ours: the event occurred so much later than it says.
            Its day stays that of the timestamp as sent.

    Raises:
        InvalidInput: with every bad field, its value and what was expected.
    """
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} is not an event", [_problem(path, document, "a JSON object")])
    reader = _Reader(document, path)
    for key in document:
        if key not in _KEYS:
            reader.add(path_step(str(key)), document[key], f"one of {', '.join(_KEYS)}")
    event_id = reader.identifier("event_id")
    customer_id = reader.identifier("customer_id")
    kind_name = reader.identifier("kind")
    kind = taxonomy.known_kinds.get(kind_name)
    if kind_name and kind is None:
        reader.add("kind", kind_name, f"a kind of the taxonomy: {', '.join(taxonomy.known_kinds)}")
    sent_at = reader.timestamp("occurred_at", latest=arrived_at + FUTURE_SKEW_US - correction, earliest=-correction)
    channel = reader.optional_identifier("channel")
    if channel is not None and channel not in taxonomy.channels:
        reader.add("channel", channel, f"a channel of the taxonomy: {', '.join(taxonomy.channels)}")
    elif channel is not None and kind is not None and kind.channels and channel not in kind.channels:
        reader.add("channel", channel, f"a channel of {kind_name}: {', '.join(kind.channels)}")
    sequence = reader.integer("sequence", default=position)
    text = reader.text("text", MAX_TEXT_CHARACTERS)
    facts = reader.facts(kind_name, taxonomy) if kind is not None else {}
    if kind_name in IDENTITY_KINDS:
        reader.check_identity(customer_id, facts)
    if reader.problems:
        raise InvalidInput(f"{path} is not a valid event", reader.problems)
    return JourneyEvent(
        source=source,
        event_id=event_id,
        customer_id=customer_id,
        kind=kind_name,
        channel=channel,
        occurred_at=sent_at + correction,
        arrived_at=arrived_at,
        sequence=sequence,
        day=day_of(sent_at),
        facts=facts,
        text=text,
    )


def dump_event(event: JourneyEvent) -> bytes:
    """Canonical bytes of an event, version 1: JSON with sorted keys. The format is frozen by a golden file."""
    return _ENCODER.encode(
        {
            "v": WIRE_VERSION,
            "source": event.source,
            "event_id": event.event_id,
            "customer_id": event.customer_id,
            "kind": event.kind,
            "channel": event.channel,
            "occurred_at": dump_timestamp(event.occurred_at),
            "arrived_at": dump_timestamp(event.arrived_at),
            "sequence": event.sequence,
            "day": event.day,
            "facts": dict(event.facts),
            "text": event.text,
        }
    )


def load_event(data: bytes) -> JourneyEvent:
    """The event that ``dump_event`` wrote.

    Raises:
        ValueError: the bytes are of another version.
    """
    fields = msgspec.json.decode(data)
    if fields.pop("v", None) != WIRE_VERSION:
        raise ValueError(f"event of another wire version than {WIRE_VERSION}")
    for name in ("occurred_at", "arrived_at"):
        fields[name] = parse_timestamp(fields[name])
    return JourneyEvent(**fields)


def dump_facts(facts: Mapping[str, FactValue]) -> bytes:
    """Canonical JSON of an event's facts: sorted keys."""
    return _ENCODER.encode(dict(facts))


def load_facts(data: bytes) -> dict[str, FactValue]:
    """The facts that ``dump_facts`` wrote."""
    facts: dict[str, FactValue] = msgspec.json.decode(data)
    return facts


_ENCODER = msgspec.json.Encoder(order="deterministic")


PERSONAL: Final = "(a personal value)"
"""Stands in messages for what they do not repeat."""


def shown(value: object) -> str:
    """A value as it appears in a message: short, and never more than it needs to be recognised."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _problem(path: str, value: object, expected: str) -> Problem:
    return Problem(path=path, value=shown(value), expected=expected)


def fact_problem(name: str, value: object, fact: Fact | Attribute) -> str | None:
    """What was expected of a fact or attribute, or None where the value fits."""
    if fact.dtype == "boolean":
        return None if isinstance(value, bool) else "true or false"
    if fact.dtype == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a number" + (f" in {fact.unit}" if fact.unit else "")
        if not math.isfinite(value) or (isinstance(value, int) and abs(value) > LARGEST_INTEGER):
            return "a finite number, integers within 2^53"
        return None
    if not isinstance(value, str) or len(value) > MAX_FACT_CHARACTERS or not _is_storable(value):
        return f"text of at most {MAX_FACT_CHARACTERS} characters without NUL or lone surrogates"
    if isinstance(fact, Attribute) and fact.dtype == "category" and value not in fact.values:
        return f"one of {', '.join(fact.values)}"
    return None


def _is_storable(text: str) -> bool:
    """PostgreSQL refuses NUL, and half a surrogate pair, which some JSON parsers let through, has no UTF-8."""
    if "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


class _Reader:
    """Reads fields of one document, noting every problem instead of stopping at the first."""

    def __init__(self, document: dict[Any, Any], path: str) -> None:
        self._document = document
        self._path = path
        self.problems: list[Problem] = []

    def add(self, key: str, value: object, expected: str) -> None:
        self.problems.append(_problem(f"{self._path}.{key}", value, expected))

    def identifier(self, key: str) -> str:
        value = self._document.get(key)
        if value is None:
            self.problems.append(Problem(f"{self._path}.{key}", "", "a value: the field is required"))
            return ""
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS or not _is_storable(value):
            self.add(key, value, f"text of 1 to {MAX_ID_CHARACTERS} characters without NUL or lone surrogates")
            return ""
        return value

    def optional_identifier(self, key: str) -> str | None:
        return self.identifier(key) or None if self._document.get(key) is not None else None

    def timestamp(self, key: str, *, latest: int, earliest: int) -> int:
        text = self.identifier(key)
        if not text:
            return 0
        try:
            at = parse_timestamp(text)
        except (ValueError, OverflowError):
            self.add(key, text, "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z")
            return 0
        if at > latest:
            self.add(key, text, f"a time not after {dump_timestamp(latest)}")
        if at < max(0, earliest):
            expected = f"a time not before {dump_timestamp(earliest)}" if earliest > 0 else "a time not before 1970"
            self.add(key, text, expected)
        return at

    def integer(self, key: str, *, default: int) -> int:
        value = self._document.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_INTEGER:
            self.add(key, value, "an integer within 2^53")
            return default
        return value

    def text(self, key: str, limit: int) -> str | None:
        value = self._document.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > limit or not _is_storable(value):
            expected = f"text of at most {limit} characters without NUL or lone surrogates"
            self.problems.append(Problem(f"{self._path}.{key}", PERSONAL, expected))
            return None
        return value

    def facts(self, kind_name: str, taxonomy: Taxonomy) -> dict[str, FactValue]:
        given = self._document.get("facts")
        allowed = allowed_facts(kind_name, taxonomy)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            self.add("facts", given, "an object")
            return {}
        facts: dict[str, FactValue] = {}
        for name, value in given.items():
            fact = allowed.get(name)
            if fact is None and kind_name == "profile_updated" and name.startswith(HOLDING_PREFIX):
                fact = _HOLDING
            if fact is None:
                self.add(f"facts.{path_step(name)}", value, f"a fact of {kind_name}: {', '.join(allowed) or 'none'}")
                continue
            expected = fact_problem(name, value, fact)
            if expected is not None:
                self.problems.append(
                    Problem(f"{self._path}.facts.{path_step(name)}", PERSONAL if fact.pii else shown(value), expected)
                )
                continue
            facts[name] = float(value) if fact.dtype == "number" else value
        if kind_name == "consent_changed" and facts.get("state", "granted") not in CONSENT_STATES:
            self.add("facts.state", facts["state"], f"one of {', '.join(CONSENT_STATES)}")
        for name, fact in allowed.items():
            if isinstance(fact, Fact) and fact.required and name not in given:
                self.problems.append(Problem(f"{self._path}.facts.{name}", "", "a value: the fact is required"))
        return facts

    def check_identity(self, customer_id: str, facts: Mapping[str, FactValue]) -> None:
        alias = facts.get(ALIAS)
        if isinstance(alias, str) and not 0 < len(alias) <= MAX_ID_CHARACTERS:
            self.add(f"facts.{ALIAS}", alias, f"text of 1 to {MAX_ID_CHARACTERS} characters")
        elif alias is not None and alias == customer_id:
            self.add(f"facts.{ALIAS}", alias, "another id than customer_id: nobody is an alias of themselves")
        for name in (VALID_FROM, VALID_UNTIL):
            if isinstance(given := facts.get(name), str):
                self._check_timestamp(f"facts.{name}", given)

    def _check_timestamp(self, key: str, text: str) -> None:
        try:
            parse_timestamp(text)
        except (ValueError, OverflowError):
            self.add(key, text, "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z")


_HOLDING = Fact(dtype="boolean")


def allowed_facts(kind_name: str, taxonomy: Taxonomy) -> Mapping[str, Fact | Attribute]:
    """The facts that an event of a kind may carry; for ``profile_updated``, the declared attributes."""
    if kind_name == "profile_updated":
        return taxonomy.attributes
    return taxonomy.known_kinds[kind_name].facts
