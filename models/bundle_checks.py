"""Checks of the bundles that decide: whole, of this configuration, and scoring as they did when they were written.

Importing this imports jitted code: set numba's cache folder first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from features.check_findings import Finding, failed, passed, warned
from features.errors import BundleError
from models.bundle import check_horizon, load_bundle
from models.registry import CHALLENGER, CHAMPION, Pointer, model_name, read_champions

_RESTORE: Final = "restore its folder from a backup, or run `headway rollback` or `headway train`"


def bundle_findings(
    champion_file: Path, challenger_file: Path, feature_names: Mapping[str, Sequence[str]], horizons: Mapping[str, int]
) -> Iterator[Finding]:
    """A finding for every journey's champion, and for every challenger there is.

    Args:
        champion_file: which bundle serves.
        challenger_file: which bundle decides for the challenger's arm.
        feature_names: the model vector of each journey.
        horizons: of each journey, microseconds.
    """
    for alias, file in ((CHAMPION, champion_file), (CHALLENGER, challenger_file)):
        try:
            pointers = read_champions(file)
        except BundleError as error:
            yield failed(
                f"{alias}s",
                str(error),
                expected=f"which bundle is the {alias} of each journey",
                remedy="run `headway promote` or `headway rollback`, which write it anew from the promotion log",
            )
            continue
        for journey_id, names in feature_names.items():
            pointer = pointers.get(model_name(journey_id))
            if pointer is not None:
                yield bundle(f"{alias} of {journey_id}", pointer, names, horizons[journey_id])
            elif alias == CHAMPION:
                yield warned(
                    f"{alias} of {journey_id}",
                    "no bundle decides for this journey: its answers say `model_missing`",
                    expected="a trained bundle",
                    remedy="run `headway train`",
                )


def bundle(name: str, pointer: Pointer, feature_names: Sequence[str], horizon_us: int) -> Finding:
    """Whether one bundle is what it was when it was registered: every part's SHA-256, and its golden rows again."""
    try:
        found = load_bundle(pointer.path, feature_names, manifest_sha256=pointer.manifest_sha256)
        check_horizon(found, horizon_us)
    except BundleError as error:
        return failed(name, str(error), expected="the whole bundle, made for this configuration", remedy=_RESTORE)
    return passed(name, f"version {pointer.version} ({found.version}): parts verified, golden rows scored")
