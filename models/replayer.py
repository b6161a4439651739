"""Replays over a home: finds the configuration and the bundle that a record names, and makes the decision again.

What cannot be made again says why: ``imported``, ``configuration_missing``, ``configuration_unreadable``,
``features_changed``, ``bundle_missing``, ``bundle_damaged``, ``prices_missing``, ``record_damaged``, or
``other_journeys`` where a change was checked with others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Final

from features.errors import BundleError, CannotReplay, ConfigurationError, Refused, StoreCorrupted, UnknownObject
from features.schema import FeatureSet
from features.yaml_files import content_version
from models.actions import Catalogue
from models.bundle import load_bundle
from models.configuration import Configuration
from models.configuration_history import ConfigurationHistory
from models.deciding_bundle import Part, named_bundle, refuse_another
from models.decision import DecisionRecord
from models.deliberation import Rulebook, slate_filling
from models.policy import Arm, Policy
from models.price_files import PriceLists
from models.prices import PriceList
from models.registry import Registry, model_name
from models.replay import Replay, inputs_of, replayed
from models.rulebooks import feature_sets_of, rulebooks_of
from models.scoring import Scorer
from models.slots import Filling

_CACHED_BUNDLES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WhatIf:
    """What is to be different from how it was; nothing where nothing is given.

    Attributes:
        policy: instead of the recorded one.
        catalogue: likewise.
        bundle: version of the journey's registered model, likewise.
        as_champion: whatever the arm was.
        checked_with: versions of ``taxonomy`` and ``journeys`` that policy and catalogue were checked with.
    """

    policy: Policy | None = None
    catalogue: Catalogue | None = None
    bundle: int | None = None
    as_champion: bool = False
    checked_with: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes_something(self) -> bool:
        """Whether anything is different."""
        return self.policy is not None or self.catalogue is not None or self.bundle is not None or self.as_champion


AS_RECORDED: Final = WhatIf()


class Scorers:
    """Scorers of registered bundles, loaded once; safe to call from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._scorers: OrderedDict[tuple[str, tuple[str, ...]], Scorer] = OrderedDict()
        self._guard = Lock()

    def of_record(self, record: DecisionRecord, feature_names: tuple[str, ...]) -> tuple[Scorer | None, Scorer | None]:
        """The scorers of the champion and of the challenger that were asked; None for one that was not there.

        Raises:
            CannotReplay: a bundle is not here, or is not the one that decided.
        """
        if "challenger" not in record.versions:
            return self._named(record, "bundle", feature_names), None
        deciding = "challenger" if record.arm == "challenger" else "champion"
        champion, challenger = (
            self._named(record, part, feature_names, decided=part == deciding) for part in ("champion", "challenger")
        )
        return champion, challenger

    def _named(
        self, record: DecisionRecord, part: Part, feature_names: tuple[str, ...], *, decided: bool = True
    ) -> Scorer | None:
        if part not in record.versions:
            return None
        try:
            directory = named_bundle(record, part, self._registry)
            scorer = self._scorer(str(directory), feature_names)
            if decided:
                refuse_another(scorer.bundle, record, directory)
        except BundleError as error:
            raise CannotReplay("bundle_damaged", str(error)) from error
        except Refused as error:
            raise CannotReplay("bundle_missing", str(error)) from error
        return scorer

    def of_version(self, journey_id: str, version: int, feature_names: tuple[str, ...]) -> Scorer:
        """The scorer of one version of a journey's registered model.

        Raises:
            CannotReplay: it is not here, or made for other features.
        """
        try:
            directory = self._registry.path(model_name(journey_id), version)
            return self._scorer(str(directory), feature_names)
        except BundleError as error:
            raise CannotReplay("bundle_damaged", str(error)) from error
        except UnknownObject as error:
            raise CannotReplay("bundle_missing", str(error)) from error

    def _scorer(self, directory: str, feature_names: tuple[str, ...]) -> Scorer:
        key = (directory, feature_names)
        with self._guard:
            if (known := self._scorers.get(key)) is not None:
                self._scorers.move_to_end(key)
                return known
        scorer = Scorer(load_bundle(Path(directory), feature_names))
        with self._guard:
            self._scorers[key] = scorer
            if len(self._scorers) > _CACHED_BUNDLES:
                self._scorers.popitem(last=False)
        return scorer


class Replayer:
    """Makes recorded decisions again, as they were or under one change; caches what they share.

    Args:
        history: the configurations that decided.
        scorers: of the bundles that decided.
        prices: that were charged.
        what_if: what is to be different.
    """

    def __init__(
        self, history: ConfigurationHistory, scorers: Scorers, prices: PriceLists, what_if: WhatIf = AS_RECORDED
    ) -> None:
        self._history = history
        self._scorers = scorers
        self._prices = prices
        self._what_if = what_if
        self._rulebooks: dict[tuple[str, ...], Rulebook] = {}
        self._feature_sets: dict[tuple[str, str], dict[str, FeatureSet]] = {}

    def replay(self, record: DecisionRecord) -> Replay:
        """A decision made again.

        Raises:
            CannotReplay: what it was made with is not here.
            StoreError: a kept file cannot be read.
        """
        rulebook, scorer, challenger, arm = self._made_with(record)
        try:
            return replayed(record, rulebook, scorer, challenger, arm=arm, prices=self._charged(record))
        except (LookupError, ValueError, StoreCorrupted) as error:
            raise _damaged(record, error) from error

    def filling(self, record: DecisionRecord) -> Filling:
        """What the slots of a decision were filled with: how likely what may follow what. It decides once more.

        Raises:
            CannotReplay: what it was made with is not here.
            StoreError: a kept file cannot be read.
        """
        rulebook, scorer, challenger, arm = self._made_with(record)
        try:
            inputs = inputs_of(record, rulebook, arm=arm, prices=self._charged(record))
            return slate_filling(inputs, rulebook, scorer, challenger)
        except (LookupError, ValueError, StoreCorrupted) as error:
            raise _damaged(record, error) from error

    def _made_with(self, record: DecisionRecord) -> tuple[Rulebook, Scorer | None, Scorer | None, Arm | None]:
        """The rulebook, the scorers of champion and challenger, and the arm if it is to be another."""
        rulebook = self.rulebook(record)
        names = rulebook.feature_set.names
        what_if = self._what_if
        arm: Arm | None = "champion" if what_if.as_champion else None
        if what_if.bundle is not None:
            return rulebook, self._scorers.of_version(record.journey_id, what_if.bundle, names), None, arm
        return rulebook, *self._scorers.of_record(record, names), arm

    def _charged(self, record: DecisionRecord) -> PriceList | None:
        version = record.versions.get("prices")
        if version is None:
            return None
        try:
            return self._prices.of(version)
        except (UnknownObject, StoreCorrupted) as error:
            raise CannotReplay("prices_missing", str(error)) from error

    def rulebook(self, record: DecisionRecord) -> Rulebook:
        """The rulebook that a decision is made again by.

        Raises:
            CannotReplay: a file that it was made under is not kept, or this release reads other features from it.
            StoreError: a kept file cannot be read.
        """
        if record.mode == "imported" or not record.request:
            raise CannotReplay("imported", f"decision {record.decision_id} was imported, expected one made here")
        key = (
            record.journey_id,
            *(record.versions.get(one, "") for one in ("taxonomy", "journeys", "actions", "policy")),
        )
        rulebook = self._rulebooks.get(key)
        if rulebook is None:
            rulebook = self._rulebooks[key] = self._found(record)
        version, names = rulebook.feature_set.version, rulebook.feature_set.names
        if record.versions.get("features") != version or len(record.vector) != len(names):
            raise CannotReplay(
                "features_changed",
                f"decision {record.decision_id} was made with {len(record.vector)} features of version "
                f"{record.versions.get('features')}, and this release reads {len(names)} of {version} from its "
                f"configuration: replay it with the release that made it ({record.versions.get('service')})",
            )
        return rulebook

    def _found(self, record: DecisionRecord) -> Rulebook:
        try:
            configuration = self._history.configuration_of(record.versions)
        except UnknownObject as error:
            raise CannotReplay("configuration_missing", str(error)) from error
        except ConfigurationError as error:
            raise CannotReplay("configuration_unreadable", str(error)) from error
        self._refuse_other_journeys(record, configuration)
        sets = (configuration.versions["taxonomy"], configuration.versions["journeys"])
        if sets not in self._feature_sets:
            self._feature_sets[sets] = feature_sets_of(configuration)
        rulebook = rulebooks_of(configuration, self._feature_sets[sets]).get(record.journey_id)
        if rulebook is None:
            raise CannotReplay(
                "configuration_missing",
                f"decision {record.decision_id} is of {record.journey_id}, expected a journey of its configuration",
            )
        return self._changed(rulebook)

    def _refuse_other_journeys(self, record: DecisionRecord, configuration: Configuration) -> None:
        for part, version in self._what_if.checked_with.items():
            if configuration.versions[part] != version:
                raise CannotReplay(
                    "other_journeys",
                    f"decision {record.decision_id} was made under {part}.yaml of version "
                    f"{configuration.versions[part]}, expected {version}, with which the change was checked",
                )

    def _changed(self, rulebook: Rulebook) -> Rulebook:
        what_if, versions = self._what_if, dict(rulebook.versions)
        if what_if.policy is not None:
            versions["policy"] = content_version(what_if.policy)
        if what_if.catalogue is not None:
            versions["actions"] = content_version(what_if.catalogue)
        if what_if.bundle is not None:
            versions["bundle"] = f"{model_name(rulebook.journey.id)}@what_if/{what_if.bundle}"
        # The recorded policy's version goes on seeding the draws: another seed alone would change every tenth choice.
        return replace(
            rulebook,
            policy=what_if.policy or rulebook.policy,
            catalogue=what_if.catalogue or rulebook.catalogue,
            versions=versions,
        )


def _damaged(record: DecisionRecord, error: Exception) -> CannotReplay:
    message = f"decision {record.decision_id} holds what no decision is made from: {error!r:.200}"
    return CannotReplay("record_damaged", message)


DAMAGED: Final = ("bundle_damaged", "record_damaged")
"""Reasons that mean that something is not what was written."""


@dataclass(slots=True)
class Tally:
    """What came out of many replays, counted as they come in.

    Attributes:
        decisions: that were made again.
        identical: of them, with the same bytes.
        changed: of them, with another treatment in slot 1.
        skipped: that could not be made again, by reason.
        moves: how often slot 1 went from one action to another.
        dropped_before: candidates dropped by stage of the funnel, as recorded.
        dropped_after: the same, as they came out again.
        value_difference: sum over the decisions, in money.
    """

    decisions: int = 0
    identical: int = 0
    changed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped_before: Counter[str] = field(default_factory=Counter)
    dropped_after: Counter[str] = field(default_factory=Counter)
    value_difference: float = 0.0

    def add(self, replay: Replay) -> None:
        """Count one replay."""
        self.decisions += 1
        self.identical += replay.identical
        self.changed += replay.changes_choice
        before, after = replay.recorded.first.action_id, replay.record.first.action_id
        if before != after:
            self.moves[before, after] += 1
        self.dropped_before.update(one.dropped for one in replay.recorded.candidates if one.dropped)
        self.dropped_after.update(one.dropped for one in replay.record.candidates if one.dropped)
        self.value_difference += replay.value_difference

    @property
    def is_clean(self) -> bool:
        """Whether all came out identical that could be made again, and nothing was found damaged."""
        return self.identical == self.decisions and not any(self.skipped[reason] for reason in DAMAGED)

    def skip(self, error: CannotReplay) -> None:
        """Count one that could not be made again."""
        self.skipped[error.reason] += 1
