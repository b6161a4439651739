"""Registered bundles: versions under a name, aliases on them, and the file that tells workers which one serves.

The local directory is one of the registry's two adapters. Workers read ``champion.json`` only, never a registry.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from features.durable_files import sync_folder, write_durably
from features.errors import BundleError, UnknownObject
from features.events import dump_timestamp, parse_timestamp
from features.home import lock_file
from models.bundle import MANIFEST, load_bundle

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
ALIAS_FORMAT: Final = 1
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
_TAGS: Final = "tags.json"


def model_name(journey_id: str) -> str:
    """The registered name of a journey's model."""
    return f"nba-{journey_id}"


class Registry(Protocol):
    """Versions of registered bundles, and aliases on them."""

    def register(self, bundle_dir: Path, name: str, tags: Mapping[str, str]) -> int:
        """The version under which a bundle is now known.

        Raises:
            BundleError: what lies there is not a whole bundle, or is another model's.
        """
        ...

    def set_alias(self, name: str, alias: str, version: int, *, at: int) -> None:
        """Put an alias on a version, taking it from any other.

        Raises:
            UnknownObject: there is no such version.
        """
        ...

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias from whatever it is on; nothing happens where it is on nothing."""
        ...

    def alias(self, name: str, alias: str) -> int | None:
        """The version that an alias is on, if any."""
        ...

    def path(self, name: str, version: int) -> Path:
        """The folder of a registered bundle.

        Raises:
            UnknownObject: there is no such version.
        """
        ...

    def versions(self, name: str) -> tuple[int, ...]:
        """All versions under a name, rising; none for an unknown name."""
        ...

    def tags(self, name: str, version: int) -> dict[str, str]:
        """What was said of a version when it was registered.

        Raises:
            UnknownObject: there is no such version.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which bundle an alias is on.

    Attributes:
        path: the bundle's folder.
        manifest_sha256: digest of its manifest, which names all its bytes.
        set_at: microseconds since the epoch.
    """

    name: str
    version: int
    path: Path
    manifest_sha256: str
    set_at: int


def read_champion(champion_file: Path, name: str) -> Pointer | None:
    """The bundle that serves under a name; None if none was promoted yet.

    Args:
        champion_file: ``bundles/champion.json``.
        name: of the registered model.

    Raises:
        BundleError: the file is damaged.
    """
    return read_champions(champion_file).get(name)


def read_champions(champion_file: Path) -> dict[str, Pointer]:
    """The bundle that serves under each name; empty if none was promoted yet.

    Raises:
        BundleError: the file is damaged.
    """
    try:
        data = champion_file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BundleError(f"cannot read {champion_file}: {error.strerror}; expected a readable file") from error
    try:
        document = json.loads(data)
        if document["format"] != ALIAS_FORMAT:
            raise ValueError(f"format {document['format']!r}, expected {ALIAS_FORMAT}")
        return {name: _pointer(champion_file.parent, name, entry) for name, entry in document["bundles"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{champion_file} is damaged: {error!r:.200}; promote a version again") from error


def _pointer(folder: Path, name: str, entry: Mapping[str, Any]) -> Pointer:
    return Pointer(
        name=name,
        version=int(entry["version"]),
        path=folder / str(entry["path"]),
        manifest_sha256=str(entry["manifest_sha256"]),
        set_at=parse_timestamp(entry["set_at"]),
    )


class LocalRegistry:
    """Bundles in a directory: ``<root>/<name>/<version>/``, and one file for each alias, ``<root>/<alias>.json``.

    Args:
        root: ``bundles`` of the home; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(self, bundle_dir: Path, name: str, tags: Mapping[str, str]) -> int:
        """As ``Registry.register``; the bundle is copied, and never changed afterwards."""
        checked_bundle(bundle_dir, name)
        folder = self.root / _checked(name)
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            for file in sorted(bundle_dir.rglob("*")):
                if file.is_file():
                    write_durably(staging / file.relative_to(bundle_dir), file.read_bytes())
            write_durably(staging / _TAGS, json.dumps(dict(tags), indent=1, sort_keys=True).encode())
            checked_bundle(staging, name)
            staging.chmod(0o755)
            version = self._placed(staging, name)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_folder(folder)
        return version

    def _placed(self, staging: Path, name: str) -> int:
        version = max(self.versions(name), default=0) + 1
        while True:
            try:
                staging.rename(self.root / name / str(version))
            except OSError:
                # Another process took this number: a rename onto a folder that is not empty is refused.
                if not (self.root / name / str(version)).exists():
                    raise
                version += 1
            else:
                return version

    def set_alias(self, name: str, alias: str, version: int, *, at: int) -> None:
        """As ``Registry.set_alias``; the alias's file is replaced in one step."""
        path = self.path(name, version)
        file = self.root / f"{_checked(alias)}.json"
        with lock_file(file):
            entries = {pointer.name: pointer for pointer in read_champions(file).values()}
            digest = sha256((path / MANIFEST).read_bytes()).hexdigest()
            entries[name] = Pointer(name=name, version=version, path=path, manifest_sha256=digest, set_at=at)
            self._replace(file, entries)

    def remove_alias(self, name: str, alias: str) -> None:
        """As ``Registry.remove_alias``; the aliases of other names stay."""
        file = self.root / f"{_checked(alias)}.json"
        if read_champion(file, name) is None:
            return
        with lock_file(file):
            entries = {pointer.name: pointer for pointer in read_champions(file).values() if pointer.name != name}
            self._replace(file, entries)

    def _replace(self, file: Path, entries: Mapping[str, Pointer]) -> None:
        document = {
            "format": ALIAS_FORMAT,
            "bundles": {
                name: {
                    "version": pointer.version,
                    "path": pointer.path.relative_to(self.root).as_posix(),
                    "manifest_sha256": pointer.manifest_sha256,
                    "set_at": dump_timestamp(pointer.set_at),
                }
                for name, pointer in sorted(entries.items())
            },
        }
        staging = file.with_name(f".{file.name}.new")  # the lock allows one writer, so one name will do
        write_durably(staging, (json.dumps(document, indent=1) + "\n").encode())
        staging.replace(file)
        sync_folder(self.root)

    def alias(self, name: str, alias: str) -> int | None:
        """As ``Registry.alias``."""
        pointer = read_champion(self.root / f"{_checked(alias)}.json", name)
        return pointer.version if pointer else None

    def path(self, name: str, version: int) -> Path:
        """As ``Registry.path``."""
        folder = self.root / _checked(name) / str(version)
        if not (folder / MANIFEST).is_file():
            raise _unknown(name, version, self.versions(name))
        return folder

    def versions(self, name: str) -> tuple[int, ...]:
        """As ``Registry.versions``."""
        folder = self.root / _checked(name)
        if not folder.is_dir():
            return ()
        return tuple(sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()))

    def tags(self, name: str, version: int) -> dict[str, str]:
        """As ``Registry.tags``."""
        found: dict[str, str] = json.loads((self.path(name, version) / _TAGS).read_bytes())
        return found


def checked_bundle(bundle_dir: Path, name: str) -> None:
    """Refuse to register what would not load.

    Raises:
        BundleError: it is damaged, or its manifest names another model.
    """
    found = load_bundle(bundle_dir, None).lineage.name
    if found != name:
        raise BundleError(f"{bundle_dir} is a bundle of {found}, expected {name}: register it under its own name")


def _unknown(name: str, version: int, known: tuple[int, ...]) -> UnknownObject:
    return UnknownObject(f"{name} has no version {version}, expected one of {list(known)}: train and register one")


def is_name(text: str) -> bool:
    """Whether a model can be registered under this name."""
    return _NAME.fullmatch(text) is not None


def _checked(name: str) -> str:
    if not is_name(name):
        raise UnknownObject(f"the name {name!r:.120}, expected lower case letters, digits, - and _")
    return name
