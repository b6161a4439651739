"""The bundles that serve: read from the local disk, replaced while requests run, never by a damaged one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from features.errors import BundleError
from features.home import Home
from features.schema import FeatureSet
from models.actions import Catalogue
from models.bundle import check_horizon, load_bundle
from models.configuration import Configuration
from models.registry import CHALLENGER, CHAMPION, Pointer, model_name, read_champions
from models.scoring import Scorer
from serving.decide import ServedModel
from serving.telemetry import log_event


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

    def served_model(self, journey_id: str) -> ServedModel | None:
        """The model that decides for a journey now; None where there is none."""
        return self._served.get(journey_id)

    def labels(self) -> dict[str, str | None]:
        """Label of the bundle that decides for each journey."""
        return {journey_id: None if model is None else model.label for journey_id, model in self._served.items()}

    def refresh(self) -> None:
        """Load what was promoted since the last time. A bundle that cannot be used leaves the one before in place."""
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        try:
            pointers = read_champions(self._file)
        except BundleError as error:
            log_event("aliases_refused", level=logging.ERROR, alias=self._alias, error=error, reason=str(error))
            self._stamp = stamp
            return
        for journey_id in self._feature_names:
            pointer = pointers.get(model_name(journey_id))
            if pointer is not None and pointer != self._loaded.get(journey_id):
                self._load(journey_id, pointer)
        self._stamp = stamp

    def _load(self, journey_id: str, pointer: Pointer) -> None:
        try:
            bundle = load_bundle(pointer.path, self._feature_names[journey_id], manifest_sha256=pointer.manifest_sha256)
            check_horizon(bundle, self._horizons[journey_id])
        except BundleError as error:
            log_event(
                "bundle_refused",
                level=logging.ERROR,
                alias=self._alias,
                journey_id=journey_id,
                version=pointer.version,
                reason=str(error),
            )
            return
        self._served[journey_id] = ServedModel(
            scorer=Scorer(bundle, self._priors), label=f"{pointer.name}@{self._alias}/{pointer.version}"
        )
        self._loaded[journey_id] = pointer
        log_event("bundle_loaded", alias=self._alias, journey_id=journey_id, version=pointer.version)

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
