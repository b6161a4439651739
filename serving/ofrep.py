"""Placements as feature flags: what an OpenFeature client asks becomes one decision, and that its answer.

A flag is a placement. Whoever evaluates it has the customer in front of them, so the decision is inbound; it activates
nothing, and is the send of its flags: until it expires, the same source that evaluates them again is answered by it,
and nothing changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import UnsetType

from features.errors import InvalidInput, Problem, UnknownObject, path_step
from features.events import shown
from models.actions import NO_ACTION, Catalogue, Condition, Rule, channel_of_placement
from models.configuration import Configuration
from models.policy import Criterion
from serving.ofrep_shapes import BulkEvaluation, FlagEvaluation, FlagValue, ShownTreatment, ValueType
from serving.problems import MalformedBody
from serving.requests import REQUIRED, Fields
from serving.schemas import MAX_PLACEMENTS

OWN: Final = "headway_"
"""Properties of a context that start so are words to us, and never facts."""

TARGETING_KEY: Final = "targetingKey"
_WORDS: Final = ("headway_value", "headway_journey_id", "headway_channel")
_CHANNEL: Final = "context.headway_channel"
_SEND: Final = "ofrep"
_LONGEST_KEY: Final = 128
"""With the longest source and the rest of the name of a send it is still an id."""

_FACT: Final = "context:"


class TargetingKeyMissing(InvalidInput):
    """The context does not say which customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What flags are evaluated for.

    Attributes:
        customer_id: the targeting key.
        value_type: what the values are to be.
        channel: of all flags, only those of this one.
        facts: of the moment.
    """

    customer_id: str
    value_type: ValueType
    journey_id: str | None
    channel: str | None
    facts: Mapping[str, Any]

    def request(self, placements: Sequence[str], *, send: str) -> dict[str, Any]:
        """The request for a decision that evaluates some flags.

        Args:
            placements: the flags.
            send: the send that the decision is: the same for the same flags.
        """
        return {
            "customer_id": self.customer_id,
            "direction": "inbound",
            "placements": list(placements),
            "send_id": send,
            "journey_id": self.journey_id,
            "context": dict(self.facts),
            "max_actions": 1,
            "activate": False,
        }


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of a configuration.

    Attributes:
        channels: of the configuration.
        keys: the placements that treatments of the catalogue name, in order.
        facts: the properties of a context that are facts of the moment.
    """

    catalogue: Catalogue
    channels: tuple[str, ...]
    keys: tuple[str, ...]
    facts: frozenset[str]

    @classmethod
    def of(cls, configuration: Configuration) -> Flags:
        """Those of a configuration."""
        catalogue, policy = configuration.catalogue, configuration.policy
        rules = [*policy.rules, *(rule for action in catalogue.actions for rule in action.rules)]
        criteria = policy.lead_qualification.criteria if policy.lead_qualification is not None else ()
        asking: list[Rule | Criterion] = [*rules, *criteria]
        conditions: Iterable[Condition] = (one for each in asking for one in each.all_of)
        asked = {one.field.removeprefix(_FACT) for one in conditions if one.field.startswith(_FACT)}
        named = {placement for one in catalogue.treatment_by_id.values() for placement in one.placements}
        taxonomy = configuration.taxonomy
        return cls(catalogue, tuple(taxonomy.channels), tuple(sorted(named)), frozenset(asked | set(taxonomy.context)))

    def require(self, key: str) -> None:
        """Pass where a key is a flag: a place that some treatment of the catalogue fits.

        Raises:
            UnknownObject: it is none.
        """
        is_one = len(key) <= _LONGEST_KEY and channel_of_placement(key) not in ("", key) and not key.endswith("/")
        if not (is_one and any(one.fits(key) for one in self.catalogue.treatment_by_id.values())):
            raise UnknownObject(
                f"no flag {shown(key)}; expected a placement, channel/name, that a treatment of the catalogue fits"
            )

    def of_channel(self, channel: str | None) -> tuple[str, ...]:
        """All flags, or those of a channel.

        Raises:
            InvalidInput: there is no such channel, or there are more flags than one decision can fill.
        """
        if channel is not None and channel not in self.channels:
            expected = f"a channel of the configuration: {', '.join(self.channels)}"
            raise InvalidInput("the context is not valid", [Problem(_CHANNEL, shown(channel), expected)])
        chosen = tuple(key for key in self.keys if channel is None or channel_of_placement(key) == channel)
        if len(chosen) > MAX_PLACEMENTS:
            expected = f"a channel with at most {MAX_PLACEMENTS} placements"
            problem = Problem(_CHANNEL, "" if channel is None else shown(channel), expected)
            raise InvalidInput(f"the catalogue names {len(chosen)} placements here", [problem])
        return chosen


class FlagDesk:
    """Puts evaluations into requests for decisions, and their answers into evaluations.

    Args:
        configuration: the one in force.
    """

    def __init__(self, configuration: Callable[[], Configuration]) -> None:
        self._configuration = configuration
        self._known: tuple[Configuration, Flags] | None = None

    @property
    def flags(self) -> Flags:
        """The flags of the configuration in force."""
        configuration, known = self._configuration(), self._known
        if known is None or known[0] is not configuration:
            known = self._known = (configuration, Flags.of(configuration))
        return known[1]

    def evaluated(self, answer: bytes, keys: Iterable[str], value_type: ValueType) -> tuple[FlagEvaluation, ...]:
        """What the answer of a decision says of some flags.

        Nothing is to be shown where the decision chose nothing, nor what the catalogue has no more.
        """
        told = _ANSWER.decode(answer)
        by_place = {one.placement: one for one in told.selected}
        return tuple(self._flag(key, by_place.get(key), told, value_type) for key in keys)

    def _flag(self, key: str, chosen: _Selected | None, told: _Answer, value_type: ValueType) -> FlagEvaluation:
        metadata = {"decision_id": told.decision_id, "expires_at": told.expires_at}
        action = None if chosen is None else self.flags.catalogue.by_id.get(chosen.action_id)
        if chosen is None or action is None:
            return FlagEvaluation(key=key, variant=NO_ACTION, metadata=metadata)
        treatment = ShownTreatment(
            action_id=chosen.action_id,
            treatment_id=chosen.treatment_id,
            placement=key,
            decision_id=told.decision_id,
            expires_at=told.expires_at,
            disclosures=action.disclosures,
        )
        values: dict[ValueType, FlagValue] = {"object": treatment, "string": chosen.treatment_id, "boolean": True}
        return FlagEvaluation(key=key, variant=chosen.treatment_id, metadata=metadata, value=values[value_type])


def send_of(source: str, flags: str | None) -> str:
    """The send that a source's evaluations of one flag are, or those of all flags of a channel, or of all.

    Each source has its own: a site and an app that evaluate in turns would else decide anew each time.

    >>> send_of("shop", "web/home_banner"), send_of("shop", "web"), send_of("shop", None)
    ('ofrep/shop/web/home_banner', 'ofrep/shop/web', 'ofrep/shop')
    """
    return "/".join((_SEND, source) if flags is None else (_SEND, source, flags))


def parse_evaluation(document: object, facts: frozenset[str]) -> Evaluation:
    """What a decoded body evaluates flags for.

    Args:
        document: the body.
        facts: the properties of a context that are facts of the moment; others say nothing.

    Raises:
        MalformedBody: it is no object.
        TargetingKeyMissing: it does not say which customer.
        InvalidInput: with every bad property.
    """
    if not isinstance(document, dict):
        raise MalformedBody(f"the body is {shown(document)}; expected an object with a context")
    context = document.get("context")
    if context is None:
        context = {}
    if not isinstance(context, dict):
        raise InvalidInput("the context is not valid", [Problem("context", shown(context), "an object")])
    if context.get(TARGETING_KEY) in (None, ""):
        raise TargetingKeyMissing(
            "the context does not say which customer", [Problem(f"context.{TARGETING_KEY}", "", REQUIRED)]
        )
    fields = Fields(context, "context.")
    for name in context:
        if name.startswith(OWN) and name not in _WORDS:
            fields.add(path_step(name), context[name], f"one of {', '.join(_WORDS)}, or a name that starts otherwise")
    evaluation = Evaluation(
        customer_id=fields.required_text(TARGETING_KEY),
        value_type=cast(ValueType, fields.choice("headway_value", get_args(ValueType), "object")),
        journey_id=fields.text("headway_journey_id"),
        channel=fields.text("headway_channel"),
        facts={name: value for name, value in context.items() if name in facts},
    )
    fields.refuse("the context is not valid")
    return evaluation


def bulk_bytes(flags: Sequence[FlagEvaluation]) -> bytes:
    """All evaluations as JSON."""
    return msgspec.json.encode(BulkEvaluation(flags=tuple(flags)))


def tag_of(flags: Iterable[FlagEvaluation]) -> str:
    """The entity tag of evaluations: it changes if and only if what is to be shown does, or the decision to show it.

    A weak one: another decision to show nothing has other metadata, and the same tag.
    """
    said = msgspec.json.encode([_weighty(one) for one in flags])
    return f'W/"{hashlib.blake2b(said, digest_size=12).hexdigest()}"'


def _weighty(flag: FlagEvaluation) -> tuple[object, ...]:
    return (flag.key,) if isinstance(flag.value, UnsetType) else (flag.key, flag.value, flag.metadata)


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether an ``If-None-Match`` header names a tag, compared weakly as RFC 9110, section 13.1.2 has it.

    >>> is_known('W/"a"', '"b", "a"'), is_known('W/"a"', "a"), is_known('W/"a"', "*"), is_known('W/"a"', None)
    (True, True, True, False)
    """
    named = set(_opaque(if_none_match or ""))
    return "*" in named or not named.isdisjoint(_opaque(tag))


def _opaque(tags: str) -> Iterator[str]:
    for tag in tags.split(","):
        if text := tag.strip().removeprefix("W/").strip('"'):
            yield text


class _Selected(msgspec.Struct, frozen=True):
    action_id: str
    treatment_id: str
    placement: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    decision_id: str
    expires_at: str
    selected: tuple[_Selected, ...]


_ANSWER: Final = msgspec.json.Decoder(_Answer)
