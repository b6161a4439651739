"""What a batch reads of a home: the model that decides, and the records; nothing is written."""

from __future__ import annotations

from contextlib import ExitStack, closing

from features.errors import UnknownObject
from features.home import Home
from models.bundle import check_horizon, load_bundle
from models.configuration import Configuration
from models.deliberation import Rulebook
from models.memory_records import MemoryRecordStore
from models.record_store import open_record_store
from models.records import RecordStore
from models.registry import CHAMPION, LocalRegistry, model_name, read_champion
from models.scoring import Scorer


def champion_of(home: Home, configuration: Configuration, rulebook: Rulebook) -> tuple[Scorer | None, str | None]:
    """The scorer of a journey's champion and its label; None and None where none was promoted.

    Raises:
        BundleError: the champion cannot be used.
    """
    journey_id = rulebook.journey.id
    pointer = read_champion(home.champion_file, model_name(journey_id))
    if pointer is None:
        return None, None
    bundle = load_bundle(pointer.path, rulebook.feature_set.names, manifest_sha256=pointer.manifest_sha256)
    check_horizon(bundle, configuration.journeys.by_id[journey_id].horizon)
    return Scorer(bundle, configuration.catalogue.priors), f"{pointer.name}@{CHAMPION}/{pointer.version}"


def scorer_of_label(home: Home, configuration: Configuration, rulebook: Rulebook, label: str | None) -> Scorer | None:
    """The scorer of a bundle by the label that answers have, ``name@alias/version``; None for none.

    Raises:
        UnknownObject: there is no such bundle.
        BundleError: it cannot be used.
    """
    if label is None:
        return None
    name, _, version = label.partition("@")[0], *label.rpartition("/")[1:]
    if name != model_name(rulebook.journey.id) or not version.isdecimal():
        raise UnknownObject(f"no bundle {label!r:.120}, expected one of the journey {rulebook.journey.id}")
    bundle = load_bundle(LocalRegistry(home.bundles).path(name, int(version)), rulebook.feature_set.names)
    check_horizon(bundle, rulebook.journey.horizon)
    return Scorer(bundle, configuration.catalogue.priors)


def opened_records(home: Home, stack: ExitStack) -> RecordStore:
    """The records of a home, to be read, closed with the stack; empty ones where nothing was ever decided."""
    if not home.has_records:
        return MemoryRecordStore()
    return stack.enter_context(closing(open_record_store(home, readonly=True)))
