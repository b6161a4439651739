"""The bundle that a recorded decision was made with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

from features.errors import BundleError, Refused
from models.bundle import Bundle
from models.decision import DecisionRecord
from models.registry import Registry

Part = Literal["bundle", "champion", "challenger"]
"""Of a record's versions."""

_LABEL: Final = re.compile(r"(?P<name>[a-z0-9_-]+)@[a-z_]+/(?P<version>\d+)")


def deciding_bundle(record: DecisionRecord, registry: Registry) -> Path | None:
    """The folder of the bundle that a decision was made with; None where it was made without a model.

    Raises:
        Refused: it was imported, and nobody here knows what made it.
        UnknownObject: the bundle is not registered here.
    """
    if "bundle" not in record.versions and record.mode != "imported":
        return None
    return named_bundle(record, "bundle", registry)


def named_bundle(record: DecisionRecord, part: Part, registry: Registry) -> Path:
    """The folder of the bundle that a record names under a part of its versions.

    Where a challenger was asked, ``champion`` and ``challenger`` name both, and ``bundle`` the one that decided.

    Raises:
        Refused: it names none.
        UnknownObject: the bundle is not registered here.
    """
    label = _LABEL.fullmatch(record.versions.get(part, ""))
    if label is None:
        raise Refused(
            f"decision {record.decision_id} ({record.mode}) was made without a {part} of this home, expected one that "
            f"a bundle scored: there is nothing to take apart"
        )
    return registry.path(label["name"], int(label["version"]))


def refuse_another(bundle: Bundle, record: DecisionRecord, directory: Path) -> None:
    """Refuse a bundle that is not the one that decided.

    Raises:
        BundleError: its manifest is not the recorded one.
    """
    promised = {record.versions[part] for part in ("stall", "uplift") if part in record.versions}
    if other := [digest for digest in sorted(promised) if not bundle.manifest_sha256.startswith(digest)]:
        raise BundleError(
            f"{directory} has the manifest {bundle.version}, expected {other[0]}, which made decision "
            f"{record.decision_id}: restore the bundle"
        )
