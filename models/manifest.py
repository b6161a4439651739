"""The manifest of a bundle: where it comes from, and the SHA-256 of every part. No part is read here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from features.errors import BundleError
from features.events import dump_timestamp, parse_timestamp

FORMAT: Final = 2
READABLE: Final = (1, 2)
"""Format 1 had no periods: its heads ``stall`` and ``abandon`` speak of the journey's horizon only."""
_MANIFEST_KEYS: Final = {
    "format",
    "name",
    "journey_id",
    "created_at",
    "feature_names",
    "features_version",
    "configuration",
    "training",
    "heads",
    "metrics",
    "parts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a bundle comes from: what the manifest says of it besides its parts.

    Attributes:
        name: of the registered model, ``nba-<journey_id>``.
        created_at: microseconds since the epoch.
        feature_names: the model vector, in order.
        features_version: version of the feature set.
        configuration: versions of ``taxonomy``, ``journeys``, ``actions`` and ``policy``.
        training: JSON values: fingerprint and watermark of the snapshot, ``n_rows``, ``cut_off``, parameters, seed.
        metrics: JSON values; here and in ``training`` NaN (unknown) is written, and comes back, as null.
    """

    name: str
    journey_id: str
    created_at: int
    feature_names: tuple[str, ...]
    features_version: str
    configuration: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def manifest_document(lineage: Lineage, heads: Sequence[str], parts: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest of a bundle with these heads and parts."""
    return {
        "format": FORMAT,
        "name": lineage.name,
        "journey_id": lineage.journey_id,
        "created_at": dump_timestamp(lineage.created_at),
        "feature_names": list(lineage.feature_names),
        "features_version": lineage.features_version,
        "configuration": dict(lineage.configuration),
        "training": _null_for_nan(lineage.training),
        "heads": list(heads),
        "metrics": _null_for_nan(lineage.metrics),
        "parts": {
            path: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for path, data in parts.items()
        },
    }


def lineage_of_manifest(manifest: Mapping[str, Any]) -> Lineage:
    """What a manifest says of its bundle.

    Raises:
        BundleError: the format is none that can be read, or a key is missing, unknown or of another type.
    """
    if manifest.get("format") not in READABLE or type(manifest["format"]) is not int:
        raise BundleError(f"bundle format {manifest.get('format')!r:.50}, expected one of {READABLE}: train again")
    if set(manifest) != _MANIFEST_KEYS:
        raise BundleError(f"manifest keys {sorted(manifest)!r:.300}, expected {sorted(_MANIFEST_KEYS)}")
    for key, kind in (("feature_names", list), ("heads", list), ("parts", dict)):
        if not isinstance(manifest[key], kind):
            raise BundleError(f"manifest {key} is {manifest[key]!r:.100}, expected a {kind.__name__}")
    for key in ("configuration", "training", "metrics"):
        if not isinstance(manifest[key], dict):
            raise BundleError(f"manifest {key} is {manifest[key]!r:.100}, expected an object")
    try:
        return Lineage(
            name=str(manifest["name"]),
            journey_id=str(manifest["journey_id"]),
            created_at=parse_timestamp(manifest["created_at"]),
            feature_names=tuple(map(str, manifest["feature_names"])),
            features_version=str(manifest["features_version"]),
            configuration=manifest["configuration"],
            training=manifest["training"],
            metrics=manifest["metrics"],
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"manifest created_at: {error}; expected a timestamp with offset") from error


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _null_for_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
