"""Where a customer stands in each journey now: the same reading of the same features that decisions are made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from features.events import MICROSECONDS_PER_DAY, dump_timestamp
from features.identity import Person
from features.journeys import Journey
from features.schema import FeatureSet
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from models.situation import situation_of
from models.unknown_numbers import if_finite
from serving.customer_views import Standing
from serving.observe import Observer
from serving.recording import MODEL_MISSING, ServedModel

_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stood:
    """A customer as of a moment, over all journeys.

    Attributes:
        person: who it is.
        profile: attributes, holdings and consents.
        features: of the first journey, by name; what does not depend on a journey is the same in all.
        standings: in the order of declaration.
        is_known: any event of the customer is known.
        degraded: what was missing, or had to be done the slow way.
    """

    person: Person
    profile: ProfileRow
    features: Mapping[str, float]
    standings: tuple[Standing, ...]
    is_known: bool
    degraded: tuple[str, ...]


class StandingReader:
    """Reads where customers stand.

    Args:
        observer: reads customers.
        taxonomy: which attributes are personal.
        journeys: the declared journeys by id; there is one at least.
        feature_sets: of each.
        served_model: the champion of a journey at this moment; None where there is none.
    """

    def __init__(
        self,
        *,
        observer: Observer,
        taxonomy: Taxonomy,
        journeys: Mapping[str, Journey],
        feature_sets: Mapping[str, FeatureSet],
        served_model: Callable[[str], ServedModel | None],
    ) -> None:
        self._observer = observer
        self._taxonomy = taxonomy
        self._journeys = journeys
        self._feature_sets = feature_sets
        self._served_model = served_model

    @property
    def journey_ids(self) -> tuple[str, ...]:
        """The declared journeys."""
        return tuple(self._journeys)

    def stood(self, customer_id: str, *, at: int) -> Stood:
        """A customer at a moment.

        Args:
            customer_id: any id of theirs.
            at: from ``Moments.question``.

        Raises:
            StoreUnavailable: the event log does not answer.
        """
        standings: list[Standing] = []
        features: dict[str, float] = {}
        degraded: dict[str, None] = {}
        for journey in self._journeys.values():
            feature_set = self._feature_sets[journey.id]
            observed = self._observer.observe(customer_id, journey.id, at=at)
            served = self._served_model(journey.id)
            situation = situation_of(
                journey,
                feature_set,
                observed.vector,
                attributes=self._taxonomy.without_personal(observed.profile.attributes),
                holdings=observed.profile.holdings,
                context={},
                channel=None,
            )
            features = features or dict(situation.features)
            is_open = situation.status == "open"
            stall = served.scorer.customer(observed.vector).stall() if served is not None and is_open else None
            dwell = situation.features.get(f"hours_since_stage_{situation.stage}", math.nan)
            standings.append(
                Standing(
                    journey_id=journey.id,
                    status=situation.status,
                    stage=situation.stage,
                    state=situation.state,
                    stall_state=situation.stall_state,
                    since=None if math.isnan(dwell) else dump_timestamp(at - round(dwell * _HOUR_US)),
                    dwell_hours=if_finite(dwell),
                    stall_propensity=None if stall is None else if_finite(stall.stall_propensity),
                    horizon_days=journey.horizon / MICROSECONDS_PER_DAY,
                    abandon_probability=None if stall is None else if_finite(stall.abandon_probability),
                    expected_days_to_progress=None if stall is None else if_finite(stall.expected_days_to_progress),
                    benign_wait=None
                    if stall is None or situation.stall_state is None
                    else if_finite(stall.benign_wait),
                )
            )
            degraded.update(dict.fromkeys(observed.degraded))
            if served is None:
                degraded[MODEL_MISSING] = None
        return Stood(
            person=observed.person,
            profile=observed.profile,
            features=features,
            standings=tuple(standings),
            is_known=observed.is_known,
            degraded=tuple(degraded),
        )
