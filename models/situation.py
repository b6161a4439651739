"""Where a customer stands at the moment of a decision: the one thing that rules, states and reasons are read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from features.journeys import ACTIVE, Journey
from features.kernel import Floats
from features.schema import FeatureSet
from models.actions import Direction
from models.unknown_numbers import if_finite

Value: TypeAlias = str | float | bool
JourneyStatus = Literal["never", "open", "reached", "exited", "abandoned"]

_PLAIN: Final = {
    "stage": "stage",
    "state": "state",
    "stall_state": "stall_state",
    "journey_status": "status",
    "channel": "channel",
    "direction": "direction",
    "stall_propensity": "stall_propensity",
    "abandon_probability": "abandon_probability",
    "lead_class": "lead_class",
}
"""The attribute that each plain field of a rule reads; a closed set."""

_STATUSES: Final[tuple[JourneyStatus, ...]] = ("never", "open", "reached", "exited", "abandoned")


class NamedNumbers(Mapping[str, float]):
    """The numbers of a vector by name, each looked up when it is asked for: rules ask for a few of hundreds."""

    __slots__ = ("_places", "_vector")

    def __init__(self, places: Mapping[str, int], vector: Floats) -> None:
        if len(places) != len(vector):
            raise ValueError(f"a vector of {len(vector)} numbers for {len(places)} names, expected as many")
        self._places = places
        self._vector = vector

    def __getitem__(self, name: str) -> float:
        return self._vector.item(self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """One customer in one journey at one moment.

    Attributes:
        features: the model's vector by name; NaN means unknown.
        status: of the journey.
        stage: the stage, or the goal; None where the journey was never entered.
        stall_state: the stage's name for being stuck; None while not stalled.
        state: how the customer is stuck, ``ACTIVE`` where no declared state holds, None while no journey is open.
        stall_propensity: NaN where unknown.
        abandon_probability: likewise.
        holdings: products held, None where the profile is unknown.
        context: the request's own facts.
        channel: of the request; None where it names none.
        direction: we reach out, or the customer is here.
        consents: newest state by consent.
        lead_class: how good a lead the customer is; None where the policy declares no criteria.
    """

    features: Mapping[str, float]
    status: JourneyStatus
    stage: str | None
    stall_state: str | None
    state: str | None
    stall_propensity: float = math.nan
    abandon_probability: float = math.nan
    attributes: Mapping[str, Value] = {}
    holdings: frozenset[str] | None = None
    context: Mapping[str, Value] = {}
    channel: str | None = None
    direction: Direction = "outbound"
    consents: Mapping[str, str] = {}
    lead_class: str | None = None

    def value(self, reference: str) -> Value | None:
        """What a rule's ``field`` refers to; None where it is unknown.

        Raises:
            KeyError: the reference is none that rules may use.
        """
        return _reader(reference)(self)


@lru_cache(maxsize=4096)
def _reader(reference: str) -> Callable[[Situation], Value | None]:
    """How to look up what a reference names; rules ask for the same few again and again."""
    scope, _, name = reference.partition(":")
    if scope == "feature":
        return lambda situation: if_finite(situation.features[name])
    if scope == "attribute":
        return lambda situation: situation.attributes.get(name)
    if scope == "context":
        return lambda situation: situation.context.get(name)
    if scope == "holding":
        return lambda situation: None if situation.holdings is None else name in situation.holdings
    if scope == "consent":
        return lambda situation: situation.consents.get(name)
    plain = attrgetter(_PLAIN[reference])

    def read(situation: Situation) -> Value | None:
        found: Value | None = plain(situation)
        return if_finite(found) if isinstance(found, float) else found

    return read


def situation_of(
    journey: Journey,
    feature_set: FeatureSet,
    vector: Floats,
    *,
    attributes: Mapping[str, Value],
    holdings: frozenset[str] | None,
    context: Mapping[str, Value],
    channel: str | None,
    direction: Direction = "outbound",
    consents: Mapping[str, str] = MappingProxyType({}),
    stall_propensity: float = math.nan,
) -> Situation:
    """The situation that a feature vector means in a journey.

    Args:
        journey: the declared journey.
        feature_set: names of the vector.
        vector: ``(n_features,)``.
        attributes: what is known of the customer.
        holdings: products held, None where unknown.
        context: the request's own facts.
        channel: the channel of the request.
        direction: of the request.
        consents: newest state by consent.
        stall_propensity: as scored; NaN where it was not.
    """
    features = NamedNumbers(feature_set.places, vector)
    status = _STATUSES[int(features["journey_status"])]
    stage_index = features["stage_index"]
    steps = (*journey.stage_ids, journey.goal.id)
    stalled = features["stalled_now"] == 1.0
    return Situation(
        features=features,
        status=status,
        stage=None if math.isnan(stage_index) else steps[int(stage_index)],
        stall_state=journey.stages[int(stage_index)].stall_state if stalled else None,
        state=_state(journey, features) if status == "open" else None,
        stall_propensity=stall_propensity,
        attributes=attributes,
        holdings=holdings,
        context=context,
        channel=channel,
        direction=direction,
        consents=consents,
    )


def _state(journey: Journey, features: Mapping[str, float]) -> str:
    for rule in journey.states:
        number = features[rule.feature]
        high_enough = rule.at_least is None or number >= rule.at_least
        low_enough = rule.at_most is None or number <= rule.at_most
        if not math.isnan(number) and high_enough and low_enough:
            return rule.state
    return ACTIVE
