"""One call of a tracking SDK as it came in: its fields, its time by our clock, and its properties by name.

The calls are those of the Segment specification, which RudderStack and others share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, get_args

from features.errors import InvalidInput, Problem, path_step
from features.events import (
    HOLDING_PREFIX,
    LARGEST_INTEGER,
    MAX_ID_CHARACTERS,
    MICROSECONDS_PER_DAY,
    dump_timestamp,
    fact_problem,
    parse_timestamp,
    shown,
)
from features.taxonomy import ALIAS, LINKED, Attribute, Fact

CallType = Literal["track", "identify", "page", "screen", "group", "alias"]
CALL_TYPES: Final[tuple[CallType, ...]] = get_args(CallType)

DropReason = Literal["sender_wish", "unknown_event", "nothing_declared", "not_declared", "does_not_fit", "not_allowed"]
"""Why something is not kept: its sender said so; no kind is called so; nothing of the call is declared; a property or
trait is not declared; its value is not of the declared type; the key may not say it."""

DESTINATION: Final = "Headway"
"""The name by which a sender switches us off in ``integrations``."""

LINK_SUFFIX: Final = "/link"
LONGEST_MESSAGE_ID: Final = MAX_ID_CHARACTERS - len(LINK_SUFFIX)

Document: TypeAlias = dict[str, Any]
Rules: TypeAlias = Mapping[str, Sequence[str]]
_NO_RULES: Final[Rules] = {}

_LATEST_CLOCK_US: Final = 2_500_000 * MICROSECONDS_PER_DAY
"""No clock is set to after the year 8814, and every time until then plus a correction can be written down."""

_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_MOBILE_CONTEXT: Final = ("device", "app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a batch says of all its calls, and a call may say otherwise.

    Attributes:
        sent_at: when it was sent, by the sender's clock.
        context: what the calls were made in.
        integrations: which destinations they are for.
        call_type: what all of them are, where their address says so.
    """

    sent_at: object = None
    context: Mapping[str, object] = field(default_factory=dict)
    integrations: Mapping[str, object] = field(default_factory=dict)
    call_type: CallType | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Something of a call that is not kept.

    Attributes:
        path: where it stands in the call, as a dotted path; empty for the call itself.
        reason: why.
    """

    path: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Meant:
    """One thing that a call means.

    Attributes:
        document: as the wire format has it: of an event, or of an exposure or outcome.
        places: where the fields of the document stand in the call, both as dotted paths.
        others: where those stand that ``places`` does not name: ``properties`` or ``traits``.
    """

    document: Document
    places: Mapping[str, str]
    others: str = "properties"

    def renamed(self, problems: Iterable[Problem], path: str) -> tuple[Problem, ...]:
        """Problems of the document as problems of the call at ``path``."""
        renamed = []
        for problem in problems:
            name = problem.path.partition(".")[2]
            place = self.places.get(name, f"{self.others}.{name.removeprefix('facts.')}")
            renamed.append(replace(problem, path=inside(path, place)))
        return tuple(renamed)


def snake_case(name: str) -> str:
    """A name as kinds, facts and attributes are written.

    >>> snake_case("Card Activated"), snake_case("cardActivated"), snake_case("NPSScore")
    ('card_activated', 'card_activated', 'nps_score')
    """
    return _BOUNDARY.sub("_", name).strip("_").lower()


def inside(path: str, place: str) -> str:
    """A place inside something at ``path``, as one dotted path.

    >>> inside("batch[3]", "userId"), inside("", "userId"), inside("batch[3]", "")
    ('batch[3].userId', 'userId', 'batch[3]')
    """
    return f"{path}.{place}" if path and place else path or place


def derived_id(call: Mapping[str, object]) -> str:
    """An id for a call that has none: the same content has the same, whenever it is sent.

    >>> derived_id({"event": "Paid"}) == derived_id({"event": "Paid", "sentAt": "2026-03-01T09:30:00Z"})
    True
    """
    content = {name: value for name, value in call.items() if name != "sentAt"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return "call-" + hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


class TrackedCall:
    """Reads the fields that all calls have, noting every problem instead of stopping at the first.

    Attributes:
        type: what it is; None where that was noted as bad.
        context: what it was made in.
        correction: microseconds that the sender's clock is behind ours; 0 where nobody knows.
        drops: what of it is not kept.
    """

    def __init__(self, document: Mapping[str, Any], envelope: Envelope, path: str, received_at: int) -> None:
        self._document = document
        self._path = path
        self._problems: list[Problem] = []
        self.drops: list[Drop] = []
        self.context = {**envelope.context, **self.mapping("context")}
        self._integrations = {**envelope.integrations, **self.mapping("integrations")}
        self.type: CallType | None = envelope.call_type or self._type()
        self._message_id = self._id_of_message()
        self._timestamp = "timestamp" if document.get("originalTimestamp") is None else "originalTimestamp"
        told = document.get(self._timestamp)
        self._occurred_at = dump_timestamp(received_at) if told is None else told
        self.correction = 0 if told is None else self._correction(envelope, received_at)

    @classmethod
    def of(cls, document: object, envelope: Envelope, *, path: str, received_at: int) -> TrackedCall:
        """The call that a decoded document is.

        Raises:
            InvalidInput: it is no object.
        """
        if not isinstance(document, dict):
            raise InvalidInput("the call is not an object", [Problem(path, shown(document), "a JSON object")])
        return cls(document, envelope, path, received_at)

    @property
    def is_for_us(self) -> bool:
        """Whether the sender wants us to have it: ``integrations`` names us, or all of them, or nobody."""
        told = self._integrations.get(DESTINATION, self._integrations.get("All", self._integrations.get("all")))
        return told is not False

    @property
    def surface(self) -> Literal["web", "app"] | None:
        """Whether the call came out of a browser or a mobile app; None where nobody knows."""
        told = self._document.get("channel")
        if told in ("web", "browser") or isinstance(self.context.get("page"), dict):
            return "web"
        if told == "mobile" or (told is None and any(isinstance(self.context.get(n), dict) for n in _MOBILE_CONTEXT)):
            return "app"
        return None

    def refuse(self) -> None:
        """Raise what was noted, if anything.

        Raises:
            InvalidInput: with every problem.
        """
        if self._problems:
            raise InvalidInput("the call is not valid", self._problems)

    def add(self, name: str, value: object, expected: str) -> None:
        """Note a bad field, once; the value None stands for a missing one."""
        problem = Problem(inside(self._path, name), "" if value is None else shown(value), expected)
        if problem not in self._problems:
            self._problems.append(problem)

    def value(self, name: str) -> object:
        """A field as it came; None where it is missing."""
        return self._document.get(name)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that is an object; empty where it is missing or was noted as bad."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, dict):
            self.add(name, value, "an object")
        return value if isinstance(value, dict) else {}

    def required_text(self, name: str) -> str:
        """A field that is a text; empty where it was noted as bad."""
        value = self._document.get(name)
        if not isinstance(value, str) or not value:
            self.add(name, value, "text: the field is required")
            return ""
        return value

    def identifier(self, name: str) -> str | None:
        """A field that is an id; whole numbers are ids too, and an empty text is none."""
        value = self._document.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER:
            return str(value)
        if not isinstance(value, str):
            self.add(name, value, "an id: text, or an integer within 2^53")
            return None
        return value

    def required_identifier(self, name: str) -> str:
        """A field that is an id; empty where it was noted as bad."""
        value = self.identifier(name)
        if value is None and self._document.get(name) in (None, ""):
            self.add(name, None, "an id: the field is required")
        return value or ""

    def customer(self) -> tuple[str, str]:
        """Who the call is about, and the field that says so: the user, or else whoever is not known yet."""
        for name in ("userId", "anonymousId"):
            if (value := self.identifier(name)) is not None:
                return value, name
        if all(self._document.get(name) in (None, "") for name in ("userId", "anonymousId")):
            self.add("userId", None, "an id here or in anonymousId: one of them is required")
        return "", "userId"

    def event(
        self,
        document: Document,
        customer: tuple[str, str],
        places: Mapping[str, str],
        *,
        suffix: str = "",
        others: str = "properties",
    ) -> Meant:
        """An event of a customer, with what all events have."""
        customer_id, place = customer
        common = {
            "event_id": self._message_id + suffix,
            "customer_id": customer_id,
            "occurred_at": self._occurred_at,
        }
        return Meant({**common, **document}, {**self._places, "customer_id": place, **places}, others)

    def link(self, alias: str, place: str, customer: tuple[str, str]) -> Meant:
        """The event that says that an alias, which stands at ``place``, is the customer."""
        document: Document = {"kind": LINKED, "facts": {ALIAS: alias}}
        return self.event(document, customer, {f"facts.{ALIAS}": place}, suffix=LINK_SUFFIX)

    def returned(self, document: Document, places: Mapping[str, str]) -> Meant:
        """An exposure or outcome, at the time that it happened by our clock."""
        return Meant({**document, "occurred_at": self._corrected()}, {**self._places, **places})

    @property
    def _places(self) -> dict[str, str]:
        return {"event_id": "messageId", "occurred_at": self._timestamp}

    def _corrected(self) -> object:
        if self.correction == 0:
            return self._occurred_at
        return dump_timestamp(max(0, parse_timestamp(str(self._occurred_at)) + self.correction))

    def _type(self) -> CallType | None:
        told = self._document.get("type")
        found = next((one for one in CALL_TYPES if one == told), None)
        if found is None:
            self.add("type", told, f"one of {', '.join(CALL_TYPES)}")
        return found

    def _id_of_message(self) -> str:
        found = self.identifier("messageId")
        if found is None:
            return derived_id(self._document)
        if len(found) > LONGEST_MESSAGE_ID:
            self.add("messageId", found, f"text of 1 to {LONGEST_MESSAGE_ID} characters")
        return found

    def _correction(self, envelope: Envelope, received_at: int) -> int:
        """How far the sender's clock is behind ours: what it said when it sent the call, and when that came."""
        own = self._document.get("sentAt")
        told = envelope.sent_at if own is None else own
        if told is None or _moment(self._occurred_at) is None:
            return 0  # a time that cannot be read is refused with the event
        sent_at = _moment(told)
        if sent_at is None:
            self.drops.append(Drop("sentAt", "does_not_fit"))
            return 0
        return received_at - sent_at


def _moment(told: object) -> int | None:
    """Microseconds since the epoch of a timestamp that a clock can have shown; None for anything else."""
    try:
        at = parse_timestamp(told) if isinstance(told, str) else -1
    except (ValueError, OverflowError):
        return None
    return at if 0 <= at <= _LATEST_CLOCK_US else None


@dataclass(frozen=True, slots=True)
class _Given:
    """One property: its name as sent and its value."""

    name: str
    value: Any
    is_listed: bool


class Properties:
    """The properties or traits of a call, found by their names in snake case; knows which of them were used.

    Attributes:
        places: where what was taken stands in the call.
    """

    def __init__(self, given: Mapping[str, _Given]) -> None:
        self._given = given
        self._by_name: dict[str, str] = {}
        self._by_snake: dict[str, str] = {}
        for place, one in given.items():
            self._by_name.setdefault(one.name, place)
            self._by_snake.setdefault(snake_case(one.name), place)
        self._used: set[str] = set()
        self.places: dict[str, str] = {}

    @classmethod
    def of(cls, call: TrackedCall, name: str, *, beside: Sequence[str] = (), context: str | None = None) -> Properties:
        """The properties of a call; a null is none.

        Args:
            call: the call.
            name: the field that holds them.
            beside: fields of the call itself that count as properties, before those inside.
            context: the field of the context that holds more of them.
        """
        given: dict[str, _Given] = {}
        for field_name in beside:
            if isinstance(value := call.value(field_name), str) and value:
                given[field_name] = _Given(field_name, value, is_listed=False)
        inner = [(name, call.mapping(name))]
        if context is not None and isinstance(more := call.context.get(context), dict):
            inner.append((f"context.{context}", more))
        for place, values in inner:
            for key, value in values.items():
                if value is not None:
                    given[f"{place}.{path_step(key)}"] = _Given(key, value, is_listed=True)
        return cls(given)

    def find(self, name: str, rules: Rules = _NO_RULES) -> str | None:
        """The place of what gives a fact: of the first of its other names that is there, or of its own.

        Args:
            name: of the fact.
            rules: by fact, other names of properties that give it.
        """
        for each in (*rules.get(name, ()), name):
            place = self._by_name.get(each) or self._by_snake.get(snake_case(each))
            if place is not None:
                return place
        return None

    def use(self, place: str) -> Any:
        """The value at a place, which then counts as used."""
        self._used.add(snake_case(self._given[place].name))
        return self._given[place].value

    def take(self, names: Iterable[str], rules: Rules = _NO_RULES) -> Document:
        """Those of some names that are there, by name, as ``find`` finds them."""
        taken: Document = {}
        for name in names:
            if (place := self.find(name, rules)) is not None:
                taken[name] = self.use(place)
                self.places[name] = place
        return taken

    def facts(self, allowed: Mapping[str, Fact | Attribute], rules: Rules) -> tuple[Document, tuple[Drop, ...]]:
        """The facts among them, and those whose values do not fit.

        A value that does not fit a required fact is left in: the event is refused for it.

        Args:
            allowed: what is declared, by name.
            rules: as for ``find``.
        """
        facts: Document = {}
        drops: list[Drop] = []
        for name, fact in allowed.items():
            place = self.find(name, rules)
            if place is None:
                continue
            value = self.use(place)
            is_required = isinstance(fact, Fact) and fact.required
            if fact_problem(name, value, fact) is not None and not is_required:
                drops.append(Drop(place, "does_not_fit"))
                continue
            facts[name] = value
            self.places[f"facts.{name}"] = place
        return facts, tuple(drops)

    def holdings(self) -> Document:
        """The holdings among them: flags whose names say so."""
        found: Document = {}
        for place, one in self._given.items():
            if one.name.startswith(HOLDING_PREFIX) and isinstance(one.value, bool):
                found[one.name] = self.use(place)
                self.places[f"facts.{path_step(one.name)}"] = place
        return found

    def unused(self) -> tuple[Drop, ...]:
        """Those that nothing was made of."""
        return tuple(
            Drop(place, "not_declared")
            for place, one in self._given.items()
            if one.is_listed and snake_case(one.name) not in self._used
        )
