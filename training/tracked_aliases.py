"""MLflow's aliases follow the local registry's, which are the truth: workers read those, and MLflow is for people.

A version of the local registry is found in MLflow by the digest of its manifest and by its number there, which training
wrote as tags; versions that were registered before there was a digest are found by the number and the bundle's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from features.errors import BundleError, StoreError
from features.home import Home
from models.bundle import MANIFEST
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, Registry, read_champions

LOCAL_VERSION: Final = "local_version"
DIGEST: Final = "manifest_sha256"
ALIASES: Final = (CHAMPION, CHALLENGER)


def version_tags(bundle: Path, version: int) -> dict[str, str]:
    """Tags by which a version of the local registry is found in another one.

    Args:
        bundle: its folder.
        version: its number in the local registry.
    """
    return {LOCAL_VERSION: str(version), DIGEST: sha256((bundle / MANIFEST).read_bytes()).hexdigest()}


def wanted_aliases(
    local: LocalRegistry,
    names: Iterable[str],
    *,
    moving: Mapping[tuple[str, str], int] | None = None,
    at: int = 0,
) -> list[dict[str, Any]]:
    """Where the local registry's aliases are, as JSON values: for each name and alias a version, or that there is none.

    An alias file that is damaged says nothing, and MLflow's alias stays where it is.

    Args:
        local: the registry.
        names: of registered models.
        moving: by name and alias, versions that aliases are about to be put on.
        at: when these will have been, microseconds since the epoch.
    """
    wanted, moving = [], moving or {}
    for alias in ALIASES:
        try:
            pointers = read_champions(local.root / f"{alias}.json")
        except BundleError:
            continue
        for name in names:
            pointer = pointers.get(name)
            on = None if pointer is None else _placed(local, name, pointer.version, pointer.set_at)
            if (name, alias) in moving:
                on = _placed(local, name, moving[name, alias], at)
            wanted.append({"name": name, "alias": alias, "on": on})
    return wanted


def _placed(local: LocalRegistry, name: str, version: int, at: int) -> dict[str, Any]:
    folder = local.root / name / str(version)
    try:
        digest = sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        digest = ""
    return {"version": version, "manifest_sha256": digest, "path": str(folder.absolute()), "at": at}


def follow(registry: Registry, wanted: Sequence[Mapping[str, Any]]) -> list[str]:
    """Put another registry's aliases on the versions that the local ones are on.

    Args:
        registry: MLflow's.
        wanted: from ``wanted_aliases``.

    Returns:
        What could not be done and why, for people; the rest was done.
    """
    problems = []
    for one in wanted:
        name, alias, on = one["name"], one["alias"], one["on"]
        try:
            if on is None:
                registry.remove_alias(name, alias)
                continue
            version = _same_version(registry, name, on)
            if version is None:
                problems.append(
                    f"MLflow knows no version of {name} that is version {on['version']} here; its alias {alias} stays "
                    f"where it is"
                )
            elif registry.alias(name, alias) != version:
                registry.set_alias(name, alias, version, at=on["at"])
        except Exception as error:
            # MLflow raises what its database and its libraries do; the aliases that serve are moved already.
            problems.append(f"MLflow's alias {alias} of {name} was not moved: {_first_line(error)}")
    return problems


def _same_version(registry: Registry, name: str, on: Mapping[str, Any]) -> int | None:
    for version in reversed(registry.versions(name)):
        tags = registry.tags(name, version)
        if tags.get(LOCAL_VERSION) != str(on["version"]):
            continue
        if tags.get(DIGEST) == on["manifest_sha256"]:
            return version
        if DIGEST not in tags and str(registry.path(name, version)) == on["path"]:
            return version
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}"


def aliases_followed(home: Home, names: Sequence[str]) -> list[str]:
    """Move MLflow's aliases after the local ones, in a process of its own; some seconds.

    Nothing happens in a home without MLflow's database. Never raises for MLflow's sake: the local aliases are moved,
    and the next training or promotion moves MLflow's again.

    Args:
        home: of the installation.
        names: registered models.

    Returns:
        What kept them from following, for people; empty where they stand as they should.
    """
    from training.tracking import TrackingProcess

    if not home.mlflow_db.exists():
        return []
    try:
        with TrackingProcess(home) as tracking:
            _, problems = tracking.record([], wanted_aliases(LocalRegistry(home.bundles), names))
    except (StoreError, OSError, ValueError) as error:
        problems = [str(error)]
    return problems


def warn_of(problems: Sequence[str]) -> None:
    """Say on standard error that MLflow's aliases lag behind, and when that ends."""
    for problem in problems:
        print(
            f"warning: {problem}. What serves is not touched by that; the next `headway train`, `promote` or "
            f"`rollback` moves MLflow's aliases again",
            file=sys.stderr,
        )
