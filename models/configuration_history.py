"""Every configuration that ever decided, kept in the home file by file, so that its decisions can be made again.

A file is found by the version that records name: its name. Its bytes are never changed, and what a later release would
hash them to does not matter.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Final, TypeVar

from pydantic import BaseModel

from features.durable_files import replace_durably
from features.errors import ConfigurationError, StoreUnavailable, UnknownObject
from features.home import Home
from features.journeys import Journeys
from features.taxonomy import Taxonomy
from features.yaml_files import read_yaml
from models.actions import Catalogue
from models.configuration import Configuration, load_configuration
from models.decision import DecisionRecord
from models.policy import Policy

PARTS: Final[Mapping[str, type[BaseModel]]] = {
    "taxonomy": Taxonomy,
    "journeys": Journeys,
    "actions": Catalogue,
    "policy": Policy,
}
"""The four files by the names that records give their versions."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_VERSION: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CACHED: Final = 32


def keep_configuration(home: Home, configuration: Configuration) -> None:
    """Keep the files of a configuration, durably. What is kept already stays as it is.

    Raises:
        StoreUnavailable: the home cannot be written.
    """
    for part in PARTS:
        keep_part(home, part, configuration.versions[part], configuration.texts[part])


def keep_part(home: Home, part: str, version: str, text: str) -> None:
    """Keep one file under its version.

    Raises:
        StoreUnavailable: the home cannot be written.
    """
    path = home.kept_configuration(part, version)
    if path.exists():
        return
    try:
        replace_durably(path, text.encode())
    except OSError as error:
        raise StoreUnavailable(
            f"cannot keep {part}.yaml of version {version} in {path}: {error.strerror}; expected a folder to write to"
        ) from error


def deciding_configuration(record: DecisionRecord, home: Home, env: Mapping[str, str]) -> Configuration:
    """The configuration that a decision was made under; the present one for decisions from before any was kept.

    Raises:
        ConfigurationError: it, or the present one, cannot be read.
    """
    try:
        return ConfigurationHistory(home).configuration_of(record.versions)
    except UnknownObject:
        return load_configuration(home, env)


class ConfigurationHistory:
    """Finds configurations again.

    Args:
        home: where they are kept.
        current: one that is known though the home may not keep it yet, as before the first start of this release.
    """

    def __init__(self, home: Home, current: Configuration | None = None) -> None:
        self._home = home
        self._current = current
        self._parts: dict[tuple[str, str], BaseModel] = {}
        self._found: OrderedDict[tuple[str, ...], Configuration] = OrderedDict()
        self._guard = Lock()

    def configuration_of(self, versions: Mapping[str, str]) -> Configuration:
        """The configuration that a record names; its versions are the record's own words.

        Raises:
            UnknownObject: a version is not kept.
            ConfigurationError: a kept file is none that this release can read.
        """
        key = tuple(versions.get(part, "") for part in PARTS)
        with self._guard:
            if (known := self._found.get(key)) is not None:
                self._found.move_to_end(key)
                return known
        named = dict(zip(PARTS, key, strict=True))
        texts = {part: self.text(part, version) for part, version in named.items()}
        values = {part: self._part(part, version, texts[part]) for part, version in named.items()}
        found = Configuration(
            taxonomy=_typed(values["taxonomy"], Taxonomy),
            journeys=_typed(values["journeys"], Journeys),
            catalogue=_typed(values["actions"], Catalogue),
            policy=_typed(values["policy"], Policy),
            versions=named,
            origin=str(self._home.configurations),
            texts=texts,
        )
        with self._guard:
            self._found[key] = found
            if len(self._found) > _CACHED:
                self._found.popitem(last=False)
        return found

    def text(self, part: str, version: str) -> str:
        """One kept file as it was written.

        Raises:
            UnknownObject: it is not kept.
            StoreUnavailable: it cannot be read.
        """
        if _VERSION.fullmatch(version):
            path = self._home.kept_configuration(part, version)
            try:
                return path.read_text(encoding="utf-8")
            except FileNotFoundError:
                current = self._current
                if current is not None and current.versions.get(part) == version:
                    return current.texts[part]
            except (OSError, UnicodeDecodeError) as error:
                raise StoreUnavailable(f"cannot read {path}: {error}; expected a kept file") from error
        raise UnknownObject(
            f"{part}.yaml of version {version or 'none'} is not kept in {self._home.configurations}; expected every "
            f"version that decided: put the file there as {part}/{version or '<version>'}.yaml"
        )

    def kept(self, part: str) -> tuple[str, ...]:
        """Versions of one file that are kept, sorted by name."""
        folder = self._home.configurations / part
        return tuple(sorted(path.stem for path in folder.glob("*.yaml"))) if folder.is_dir() else ()

    def part(self, part: str, version: str) -> BaseModel:
        """One kept file, read.

        Raises:
            UnknownObject: it is not kept.
            ConfigurationError: it is none that this release can read.
        """
        return self._part(part, version, self.text(part, version))

    def _part(self, part: str, version: str, text: str) -> BaseModel:
        # The same object for the same file: what is derived from it is derived once.
        if (known := self._parts.get((part, version))) is not None:
            return known
        file = str(self._home.kept_configuration(part, version))
        loaded = read_yaml(PARTS[part], text, file=file)
        if loaded.value is None:
            raise ConfigurationError(
                f"{file} was valid when it was kept, and is not for this release:", loaded.problems
            )
        return self._parts.setdefault((part, version), loaded.value)


def _typed(value: BaseModel, model: type[ModelT]) -> ModelT:
    if not isinstance(value, model):
        raise TypeError(f"{type(value).__name__} in place of {model.__name__}")
    return value
