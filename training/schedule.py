"""Whether a training is worth its time, with the reason: what ``headway train --if-needed`` asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Literal

from features.errors import BundleError
from features.home import Home
from features.schema import feature_set
from models.bundle import load_bundle
from models.configuration import Configuration
from models.manifest import Lineage
from models.promotions import had_its_turn
from models.record_store import open_record_store
from models.registry import LocalRegistry, model_name, read_champions
from training.params import Params, RetrainParams
from training.past_decisions import LEARNED_FROM
from training.pipeline import params_version
from training.snapshot import Snapshot, files_are_there, log_head, read_snapshot

Code = Literal[
    "first_training",
    "bundle_damaged",
    "snapshot_untrained",
    "untracked",
    "configuration_changed",
    "parameters_changed",
    "drift",
    "new_decisions",
    "new_events",
    "age",
    "few_new",
    "nothing_new",
]
IDLE: Final = ("few_new", "nothing_new")
"""Codes of reasons not to train."""
RETRAIN: Final = "retrain"
"""The verdict of a drift report that asks for a training."""
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a training is needed, or is not.

    Attributes:
        code: for machines.
        text: for people.
        new_events: since the snapshot that was trained on; None where there is none.
        new_decisions: that models learn from, since that snapshot; likewise.
        age_days: of that snapshot; likewise.
    """

    code: Code
    text: str
    new_events: int | None = None
    new_decisions: int | None = None
    age_days: float | None = None

    @property
    def is_needed(self) -> bool:
        """Whether to train."""
        return self.code not in IDLE


def reason_to_train(home: Home, configuration: Configuration, params: Params, *, at: int) -> Reason:
    """The first reason to train that holds, or why there is none.

    What makes the last bundles wrong comes before what makes them old. A verdict of drift counts once: a report that is
    older than the snapshot was answered by the training on it, and without a new row there is nothing to learn.

    Args:
        home: of the installation; nothing in it is changed, and a service may run.
        configuration: that holds for it.
        params: of the experiment.
        at: now, microseconds since the epoch.

    Raises:
        Refused: ``snapshot.json`` is damaged.
    """
    snapshot = read_snapshot(home)
    if snapshot is None or not files_are_there(home):
        return Reason(code="first_training", text="no snapshot was trained on yet, or its files are gone")
    changed = _what_changed(home, configuration, params, snapshot)
    return changed if changed is not None else _what_came(home, configuration, params.retrain, snapshot, at)


def _what_changed(home: Home, configuration: Configuration, params: Params, snapshot: Snapshot) -> Reason | None:
    try:
        lineages = dict(_newest_lineages(home, configuration))
        champions = read_champions(home.champion_file)
        untracked = _untracked(home, lineages)
    except BundleError as error:
        return Reason(code="bundle_damaged", text=f"what was trained last cannot be read: {error}")
    if not lineages or not champions:
        return Reason(code="first_training", text="no bundle is registered and promoted yet")
    for journey_id, lineage in lineages.items():
        differing = _differing(lineage, configuration, journey_id)
        if differing:
            text = f"{', '.join(differing)} changed since the bundle of {journey_id} was trained"
            return Reason(code="configuration_changed", text=text)
        if lineage.training.get("params_version") != params_version(params):
            return Reason(code="parameters_changed", text=f"params.yaml changed since the bundle of {journey_id}")
        if lineage.training.get("fingerprint") != snapshot.fingerprint:
            text = f"the newest bundle of {journey_id} was trained on another snapshot than the present one"
            return Reason(code="snapshot_untrained", text=text)
    if untracked:
        text = f"the newest bundle of {', '.join(untracked)} has no alias: its training could not be recorded"
        return Reason(code="untracked", text=text)
    return None


def _untracked(home: Home, journey_ids: Iterable[str]) -> list[str]:
    registry = LocalRegistry(home.bundles)
    names = {journey_id: model_name(journey_id) for journey_id in journey_ids}
    return [one for one, name in names.items() if not had_its_turn(registry, name, registry.versions(name)[-1])]


def _newest_lineages(home: Home, configuration: Configuration) -> Iterator[tuple[str, Lineage]]:
    """By journey, what the newest bundle was made from; a journey without one had too little to learn from."""
    registry = LocalRegistry(home.bundles)
    for journey in configuration.journeys.journeys:
        name = model_name(journey.id)
        versions = registry.versions(name)
        if versions:
            yield journey.id, load_bundle(registry.path(name, versions[-1]), None).lineage


def _differing(lineage: Lineage, configuration: Configuration, journey_id: str) -> list[str]:
    parts = {*lineage.configuration, *configuration.versions}
    found = sorted(part for part in parts if lineage.configuration.get(part) != configuration.versions.get(part))
    journey = configuration.journeys.by_id[journey_id]
    if lineage.features_version != feature_set(configuration.taxonomy, journey).version:
        found.append("the list of features")
    return found


def _what_came(home: Home, configuration: Configuration, wanted: RetrainParams, snapshot: Snapshot, at: int) -> Reason:
    events = max(0, log_head(home) - snapshot.watermark.log_head)
    decisions = _new_decisions(home, snapshot.watermark.last_decision_id)
    age = (at - snapshot.watermark.frozen_at) / _DAY_US
    found: Mapping[str, Any] = {"new_events": events, "new_decisions": decisions, "age_days": round(age, 2)}
    if not events and not decisions:
        return Reason(code="nothing_new", text="no new events, decisions, parameters or configuration", **found)
    drifted = _drifted(home, configuration)
    if drifted:
        return Reason(code="drift", text=f"the drift report of {', '.join(drifted)} says {RETRAIN}", **found)
    if decisions >= wanted.smallest_new_decisions:
        text = f"{decisions:,} new decisions, at least {wanted.smallest_new_decisions:,} are enough"
        return Reason(code="new_decisions", text=text, **found)
    share = events / max(snapshot.counts.get("events", 0), 1)
    if share >= wanted.smallest_new_share:
        text = f"{events:,} new events, {share:.1%} of those trained on; {wanted.smallest_new_share:.1%} are enough"
        return Reason(code="new_events", text=text, **found)
    if age >= wanted.largest_age_days:
        text = f"{events:,} events and {decisions:,} decisions came in the {age:.1f} days since the last snapshot"
        return Reason(code="age", text=f"{text}, at most {wanted.largest_age_days:g} days may pass", **found)
    return Reason(
        code="few_new",
        text=f"{events:,} new events ({share:.1%} of those trained on, {wanted.smallest_new_share:.1%} are enough) and "
        f"{decisions:,} new decisions ({wanted.smallest_new_decisions:,} are) in {age:.1f} days (of "
        f"{wanted.largest_age_days:g})",
        **found,
    )


def _new_decisions(home: Home, after: str) -> int:
    if not home.has_records:
        return 0
    with closing(open_record_store(home, readonly=True)) as store:
        return sum(record.mode in LEARNED_FROM for page in store.read(after=after) for record in page)


def _drifted(home: Home, configuration: Configuration) -> list[str]:
    """Journeys whose drift report asks for a training and is not older than the snapshot."""
    frozen = home.snapshot_file.stat().st_mtime_ns
    found = []
    for journey in configuration.journeys.journeys:
        file = home.reports / "drift" / f"{journey.id}.json"
        try:
            is_newer = file.stat().st_mtime_ns >= frozen
            document = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        if is_newer and isinstance(document, dict) and document.get("verdict") == RETRAIN:
            found.append(journey.id)
    return found
