"""Frames that a training left are used again where they would come out the same.

That is where rows, configuration, parameters and code are the same. Other parameters of the fit, or another policy,
call for no other frames.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

import features
import models
import training
from features.errors import Refused
from features.home import Home
from features.whole_files import whole_file
from models.configuration import Configuration
from training.dataset import Frames, read_frames
from training.params import Params
from training.snapshot import Snapshot

KEY_FILE: Final = "made-from.json"
FORMAT: Final = 1
_CONFIGURED_BY: Final = ("taxonomy", "journeys", "actions")
_PACKAGES: Final = ("duckdb", "numba", "numpy", "pyarrow")


def frames_key(configuration: Configuration, params: Params, snapshot: Snapshot) -> dict[str, Any]:
    """What frames are a function of, as JSON values.

    Args:
        configuration: that holds.
        params: of the experiment.
        snapshot: whose rows they are made of; its fingerprint is that of the rows that are there.
    """
    return {
        "format": FORMAT,
        "fingerprint": snapshot.fingerprint,
        "observed_until": snapshot.watermark.observed_until,
        "configuration": {part: configuration.versions[part] for part in _CONFIGURED_BY},
        "moments": params.moments.model_dump(mode="json"),
        "code": _code_digest(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def kept_frames(home: Home, configuration: Configuration, key: dict[str, Any]) -> dict[str, Frames] | None:
    """By journey, the frames that were kept under the same key; None where there are none that can be read."""
    try:
        if json.loads((home.frames / KEY_FILE).read_bytes()) != key:
            return None
        journeys = configuration.journeys.journeys
        return {journey.id: read_frames(journey.id, home.frames / journey.id) for journey in journeys}
    except (OSError, ValueError, KeyError, TypeError, Refused, pa.ArrowException):
        return None


def forget_key(home: Home) -> None:
    """Say nothing of the kept frames any more, before they change: if that is cut short, they are made again."""
    (home.frames / KEY_FILE).unlink(missing_ok=True)


def write_key(home: Home, key: dict[str, Any]) -> None:
    """Say what the frames were made from, once all of them are there."""
    with whole_file(home.frames / KEY_FILE) as partial:
        partial.write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")


def _code_digest() -> str:
    """Hash of every module that frames could depend on: no list of them can be forgotten to be kept."""
    digest = hashlib.blake2b(digest_size=12)
    for package in (features, models, training):
        folder = Path(package.__path__[0])
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.relative_to(folder.parent).as_posix().encode() + b"\0")
            digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return digest.hexdigest()
