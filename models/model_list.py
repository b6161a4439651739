"""Every registered model with its versions, aliases and promotions, as JSON values: for people, and never for serving.

Reading tolerates everything: a bundle, an alias file or a log that cannot be read is listed as what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from features.errors import BundleError, StoreUnavailable
from features.events import dump_timestamp
from models.bundle import MANIFEST
from models.manifest import Lineage, lineage_of_manifest
from models.promotion_log import Entry, entry_document, promotions_file, read_promotions
from models.registry import CHALLENGER, CHAMPION, Pointer, is_name, read_champions

HEADLINES: Final = ("auc", "brier", "ece", "slope")
_ALIASES: Final = (CHAMPION, CHALLENGER)


def registered_models(root: Path) -> list[dict[str, Any]]:
    """Every registered model, by name.

    Nothing is written, and no part of a bundle but its manifest is read: a version that is listed here may still be
    refused when it is loaded.

    Args:
        root: the folder of bundles; need not exist.

    Returns:
        For each model

        - ``name``, and ``journey_id``, None where no version can be read;
        - ``aliases`` by name, each with ``version``, ``set_at`` and ``is_intact``: whether the version's manifest is
          the one that the alias was put on;
        - ``versions``, the newest first: ``version``, ``aliases``, ``damaged`` (why it cannot be read; None where it
          can), ``trained_at``, ``manifest_sha256``, ``fingerprint`` of the data, ``features_version``,
          ``n_features``, versions of the ``configuration``, ``training`` (watermark and counts), headline
          ``metrics``; all from ``trained_at`` on None where it is damaged;
        - ``promotions``, the newest first, as the promotion log has them: the last step of each move;
        - ``problems``: what could not be read besides.
    """
    aliases: dict[str, dict[str, Pointer]] = {}
    problems = []
    for alias in _ALIASES:
        try:
            aliases[alias] = read_champions(root / f"{alias}.json")
        except BundleError as error:
            problems.append(str(error))
    try:
        entries = read_promotions(promotions_file(root))
    except StoreUnavailable as error:
        entries = []
        problems.append(str(error))
    named = {name for pointers in aliases.values() for name in pointers} | {one.name for one in entries}
    return [
        _model(root, name, {alias: pointers.get(name) for alias, pointers in aliases.items()}, entries, problems)
        for name in sorted({*_folders(root), *filter(is_name, named)})
    ]


def _folders(root: Path) -> Iterator[str]:
    """Names under which some version is registered; the candidates of a training are in no version."""
    try:
        folders = [folder for folder in root.iterdir() if folder.is_dir() and is_name(folder.name)]
    except OSError:
        return
    for folder in folders:
        if _versions(folder):
            yield folder.name


def _versions(folder: Path) -> list[int]:
    try:
        return sorted((int(one.name) for one in folder.iterdir() if one.name.isdecimal()), reverse=True)
    except OSError:
        return []


def _model(
    root: Path,
    name: str,
    aliases: Mapping[str, Pointer | None],
    entries: Sequence[Entry],
    problems: Sequence[str],
) -> dict[str, Any]:
    placed = {alias: pointer for alias, pointer in aliases.items() if pointer is not None}
    on: dict[int, list[str]] = {}
    for alias, pointer in placed.items():
        on.setdefault(pointer.version, []).append(alias)
    versions = [_version(root / name / str(number), number, on.get(number, [])) for number in _versions(root / name)]
    digests = {one["version"]: one["manifest_sha256"] for one in versions}
    return {
        "name": name,
        "journey_id": next((one["journey_id"] for one in versions if one["journey_id"] is not None), None),
        "aliases": {
            alias: {
                "version": pointer.version,
                "set_at": dump_timestamp(pointer.set_at),
                "is_intact": digests.get(pointer.version) == pointer.manifest_sha256,
            }
            for alias, pointer in placed.items()
        },
        "versions": versions,
        "promotions": _promotions(entries, name),
        "problems": list(problems),
    }


def _version(folder: Path, number: int, aliases: Sequence[str]) -> dict[str, Any]:
    facts = dict.fromkeys(
        (
            *("journey_id", "trained_at", "manifest_sha256", "fingerprint", "features_version", "n_features"),
            *("configuration", "training", "metrics"),
        )
    )
    damaged = None
    try:
        data = (folder / MANIFEST).read_bytes()
        facts |= _facts(_lineage(data), sha256(data).hexdigest())
    except (OSError, BundleError) as error:
        damaged = f"{MANIFEST} cannot be read: {error}"
    return {"version": number, "damaged": damaged, "aliases": list(aliases), **facts}


def _lineage(data: bytes) -> Lineage:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{error!r:.200}, expected JSON") from error
    if not isinstance(document, dict):
        raise BundleError(f"{type(document).__name__}, expected an object")
    return lineage_of_manifest(document)


def _facts(lineage: Lineage, digest: str) -> dict[str, Any]:
    training = lineage.training
    return {
        "journey_id": lineage.journey_id,
        "trained_at": dump_timestamp(lineage.created_at),
        "manifest_sha256": digest,
        "fingerprint": training.get("fingerprint"),
        "features_version": lineage.features_version,
        "n_features": len(lineage.feature_names),
        "configuration": dict(lineage.configuration),
        "training": {
            name: training.get(name)
            for name in ("log_head", "last_decision_id", "observed_until", "n_moments", "n_decisions", "params_version")
        },
        "metrics": headline_metrics(lineage.metrics),
    }


def headline_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers that versions are compared by, of a manifest's metrics; those that are not there are left out."""
    stall, policy = (metrics.get(part) for part in ("stall", "policy"))
    found: dict[str, Any] = {}
    if isinstance(stall, Mapping):
        found["stall"] = {name: stall[name] for name in HEADLINES if stall.get(name) is not None}
    if isinstance(policy, Mapping):
        wanted = ("value", "interval", "best_single", "random", "ess")
        found["policy"] = {name: policy[name] for name in wanted if policy.get(name) is not None}
    return {part: numbers for part, numbers in found.items() if numbers}


def _promotions(entries: Sequence[Entry], name: str) -> list[dict[str, Any]]:
    """Moves of one model, the newest first; the evidence stands with what was intended, and is kept."""
    last: dict[int, dict[str, Any]] = {}
    for one in entries:
        if one.name != name:
            continue
        document = entry_document(one)
        earlier = last.get(one.number)
        if earlier is not None and not document["evidence"]:
            document["evidence"] = earlier["evidence"]
        last[one.number] = document
    return [last[number] for number in sorted(last, reverse=True)]
