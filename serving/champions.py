"""The bundles that serve: read from the local disk, replaced while requests run, never by a damaged one.

Where a service starts and its champion cannot be used, the one before it by the promotion log decides, and says so: the
bundle in answers and records is ``name@champion_fallback/version``, and every one of them is logged as an error.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from features.errors import BundleError, StoreUnavailable
from features.home import Home
from features.schema import FeatureSet
from models.actions import Catalogue
from models.bundle import check_horizon, load_bundle
from models.configuration import Configuration
from models.promotion_log import champions_before, promotions_file, read_promotions
from models.registry import CHALLENGER, CHAMPION, Pointer, model_name, read_champions
from models.scoring import Scorer
from serving.recording import ServedModel
from serving.telemetry import log_event

FALLBACK: Final = "champion_fallback"
"""The alias that answers name where a champion before decides, because the present one cannot be used."""

LONGEST_PAUSE: Final = 60
"""What could not be loaded is tried again 1, 2, 4, ... looks later, and in the end at every 60th."""


class Champions:
    """The champion of every journey, or its challenger.

    Args:
        alias_file: says which bundle the alias is on under each name; need not exist yet.
        feature_names: the model vector of every journey, as this service computes it.
        horizons: of every journey, microseconds: what answers say a stall propensity refers to.
        catalogue: the actions, whose declared priors stand in where a bundle has no estimate.
        alias: as answers name it.
    """

    def __init__(
        self,
        alias_file: Path,
        *,
        feature_names: Mapping[str, tuple[str, ...]],
        horizons: Mapping[str, int],
        catalogue: Catalogue,
        alias: str = CHAMPION,
    ) -> None:
        self._file = alias_file
        self._alias = alias
        self._horizons = horizons
        self._feature_names = feature_names
        self._priors = catalogue.priors
        self._served: dict[str, ServedModel | None] = dict.fromkeys(feature_names)
        self._loaded: dict[str, Pointer] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looking = threading.Lock()
        self._failures = self._pause = 0
        self._said: set[tuple[object, ...]] = set()

    def served_model(self, journey_id: str) -> ServedModel | None:
        """The model that decides for a journey now; None where there is none."""
        return self._served.get(journey_id)

    def labels(self) -> dict[str, str | None]:
        """Label of the bundle that decides for each journey."""
        return {journey_id: None if model is None else model.label for journey_id, model in self._served.items()}

    def refresh(self) -> None:
        """Load what was promoted since the last time. A bundle that cannot be used leaves the one before in place.

        It is tried again later, since what is wrong may pass: rarely, and without saying the same again.
        """
        with self._looking:
            stamp = self._file_stamp()
            if stamp != self._stamp:
                self._failures = 0
                self._said.clear()
            elif not self._failures:
                return
            else:
                self._pause -= 1
                if self._pause > 0:
                    return
            self._failures = 0 if self._is_taken_up() else self._failures + 1
            self._pause = min(2 ** min(self._failures - 1, 10), LONGEST_PAUSE) if self._failures else 0
            self._stamp = stamp

    def _is_taken_up(self) -> bool:
        """Whether everything that the alias is on decides now."""
        try:
            pointers = read_champions(self._file)
        except BundleError as error:
            self._say("aliases_refused", error, alias=self._alias)
            for journey_id in self._feature_names:
                self._fall_back(journey_id, refused=None)
            return False
        is_all = True
        for journey_id in self._feature_names:
            pointer = pointers.get(model_name(journey_id))
            if pointer is None:
                self._released(journey_id)
                continue
            if pointer == self._loaded.get(journey_id):
                continue
            if not self._load(journey_id, pointer, self._alias):
                self._fall_back(journey_id, refused=pointer)
                is_all = False
        return is_all

    def _say(self, event: str, error: Exception, **facts: object) -> None:
        """Log an error, once for as long as the alias file stays as it is."""
        told = (event, str(error), *facts.items())
        if told not in self._said:
            self._said.add(told)
            log_event(event, level=logging.ERROR, error=None, reason=str(error), **facts)

    def _released(self, journey_id: str) -> None:
        """Where a challenger's alias was taken away, its share falls to the champion, and answers say so.

        A champion whose alias is gone goes on deciding: somebody has to.
        """
        if self._alias == CHAMPION or self._served[journey_id] is None:
            return
        released = self._loaded.pop(journey_id)
        self._served[journey_id] = None
        log_event("bundle_released", alias=self._alias, journey_id=journey_id, version=released.version)

    def _fall_back(self, journey_id: str, *, refused: Pointer | None) -> None:
        """Where no model decides, take the newest champion of the promotion log that can be used."""
        if self._alias != CHAMPION or self._served[journey_id] is not None:
            return
        folder, name = self._file.parent, model_name(journey_id)
        try:
            entries = read_promotions(promotions_file(folder))
        except StoreUnavailable as error:
            self._say("promotions_unreadable", error)
            return
        for pointer in champions_before(entries, folder, name):
            is_refused = refused is not None and pointer.version == refused.version
            if not is_refused and self._load(journey_id, pointer, FALLBACK):
                log_event(
                    "champion_fallback",
                    level=logging.ERROR,
                    journey_id=journey_id,
                    version=pointer.version,
                    refused=None if refused is None else refused.version,
                )
                return

    def _load(self, journey_id: str, pointer: Pointer, alias: str) -> bool:
        """Whether a bundle decides for a journey from now on."""
        try:
            bundle = load_bundle(pointer.path, self._feature_names[journey_id], manifest_sha256=pointer.manifest_sha256)
            check_horizon(bundle, self._horizons[journey_id])
        except BundleError as error:
            self._say("bundle_refused", error, alias=alias, journey_id=journey_id, version=pointer.version)
            return False
        self._served[journey_id] = ServedModel(
            scorer=Scorer(bundle, self._priors), label=f"{pointer.name}@{alias}/{pointer.version}"
        )
        if alias == self._alias:  # a fallback gives way to what the alias is on, be it the same version
            self._loaded[journey_id] = pointer
        log_event("bundle_loaded", alias=alias, journey_id=journey_id, version=pointer.version)
        return True

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._file)
        except FileNotFoundError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size)


def served_bundles(
    home: Home, configuration: Configuration, feature_sets: Mapping[str, FeatureSet]
) -> tuple[Champions, Champions]:
    """What decides for the champion's arm, and for the challenger's."""
    champions, challengers = (
        Champions(
            file,
            feature_names={journey_id: one.names for journey_id, one in feature_sets.items()},
            horizons={journey.id: journey.horizon for journey in configuration.journeys.journeys},
            catalogue=configuration.catalogue,
            alias=alias,
        )
        for alias, file in ((CHAMPION, home.champion_file), (CHALLENGER, home.challenger_file))
    )
    return champions, challengers
