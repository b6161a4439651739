"""The configuration of an installation: four files into one typed, checked object; and how a home gets one.

Order: the folder that ``HEADWAY_CONFIG`` names, then the home's ``config``, then the built-in credit-card journey. The
first of them that there is holds all four files; they are never mixed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from features.durable_files import write_durably
from features.errors import ConfigurationError, Conflict, Problem, Refused
from features.home import HOME_VARIABLE, Home
from features.journeys import Journeys
from features.taxonomy import Taxonomy
from features.yaml_files import Loaded, YamlDocument, content_version, read_yaml
from models.actions import NO_ACTION, Catalogue
from models.configuration_checks import reference_problems
from models.policy import Policy

ModelT = TypeVar("ModelT", bound=BaseModel)

CONFIG_VARIABLE: Final = "HEADWAY_CONFIG"
FILES: Final = ("taxonomy.yaml", "journeys.yaml", "actions.yaml", "policy.yaml")
BUILT_IN: Final = "built-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One valid configuration.

    Attributes:
        versions: content hash of each file, by ``taxonomy``, ``journeys``, ``actions`` and ``policy``.
        origin: where it was read: a folder, or ``built-in``.
        texts: each file as it was read, by the same names.
    """

    taxonomy: Taxonomy
    journeys: Journeys
    catalogue: Catalogue
    policy: Policy
    versions: Mapping[str, str]
    origin: str
    texts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def version(self) -> str:
        """One hash over all four versions."""
        text = " ".join(f"{name}={self.versions[name]}" for name in sorted(self.versions))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def treatment_ids(self) -> frozenset[str]:
        """Every treatment of the catalogue, and ``no_action``."""
        treatments = (treatment.id for action in self.catalogue.actions for treatment in action.treatments)
        return frozenset({NO_ACTION, *treatments})


def load_configuration(home: Home, env: Mapping[str, str]) -> Configuration:
    """The configuration that holds for a home and an environment.

    Raises:
        ConfigurationError: with every problem of all four files.
    """
    if chosen := env.get(CONFIG_VARIABLE):
        folder = Path(chosen).absolute()
        if not folder.is_dir():
            problem = Problem(CONFIG_VARIABLE, chosen, f"a folder that holds {', '.join(FILES)}")
            raise ConfigurationError("The configuration cannot be found:", [problem])
        return read_configuration(folder, origin=str(folder))
    if has_configuration(home.config):
        return read_configuration(home.config, origin=str(home.config))
    return built_in_configuration()


def built_in_configuration() -> Configuration:
    """The configuration of the built-in credit-card journey."""
    return read_configuration(files("features") / "defaults", origin=BUILT_IN)


def has_configuration(folder: Traversable) -> bool:
    """Whether a folder holds any of the four files."""
    return any((folder / name).is_file() for name in FILES)


def read_configuration(folder: Traversable, *, origin: str) -> Configuration:
    """The configuration in a folder.

    Raises:
        ConfigurationError: with every problem of all four files: of each by itself, or else of what they say of
            each other.
    """
    texts, unreadable = {}, []
    for name in FILES:
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = Problem(".", str(error), "a readable file of UTF-8 text", f"{origin}/{name}")
            unreadable.append(problem)
    return _checked(texts, origin=origin, unreadable=unreadable)


def configuration_in(texts: Mapping[str, str], *, origin: str) -> Configuration:
    """The configuration in the texts of the four files, by their names.

    Raises:
        ConfigurationError: as ``read_configuration``.
    """
    return _checked(texts, origin=origin, unreadable=())


def _checked(texts: Mapping[str, str], *, origin: str, unreadable: Sequence[Problem]) -> Configuration:
    taxonomy = _read(Taxonomy, texts, "taxonomy.yaml", origin)
    journeys = _read(Journeys, texts, "journeys.yaml", origin)
    catalogue = _read(Catalogue, texts, "actions.yaml", origin)
    policy = _read(Policy, texts, "policy.yaml", origin)
    problems = [*unreadable, *taxonomy.problems, *journeys.problems, *catalogue.problems, *policy.problems]
    problems += reference_problems(taxonomy, journeys, catalogue, policy)
    if problems or taxonomy.value is None or journeys.value is None or catalogue.value is None or policy.value is None:
        raise ConfigurationError(f"The configuration {origin} is not valid:", problems)
    return Configuration(
        taxonomy=taxonomy.value,
        journeys=journeys.value,
        catalogue=catalogue.value,
        policy=policy.value,
        versions={
            "taxonomy": content_version(taxonomy.value),
            "journeys": content_version(journeys.value),
            "actions": content_version(catalogue.value),
            "policy": content_version(policy.value),
        },
        origin=origin,
        texts={name.removesuffix(".yaml"): texts[name] for name in FILES},
    )


def install_configuration(
    home: Home, folder: Traversable, env: Mapping[str, str], *, also: Sequence[str] = ()
) -> Configuration:
    """Make the configuration in ``folder`` the home's own, and give it. The same one again changes nothing.

    Each file gets a first line that leads editors to its schema, which is put beside it.

    Args:
        home: the home.
        folder: where the four files are.
        env: the environment.
        also: further files of the folder that belong to it.

    Raises:
        ConfigurationError: if it is not valid.
        Conflict: if the home has another one, or ``HEADWAY_CONFIG`` names another one.
    """
    wanted = read_configuration(folder, origin=str(folder))
    if env.get(CONFIG_VARIABLE) or has_configuration(home.config):
        current = load_configuration(home, env)
        if current.version == wanted.version:
            return current
        raise Conflict(
            f"the configuration {wanted.origin} (version {wanted.version}) differs from {current.origin} (version "
            f"{current.version}), which this home uses; expected the same one: set {HOME_VARIABLE} to another folder"
            + (f", or unset {CONFIG_VARIABLE}" if env.get(CONFIG_VARIABLE) else "")
        )
    from models.configuration_schemas import with_schemas  # mappings, which no server needs

    contents = {name: (folder / name).read_bytes() for name in (*FILES, *also)}
    _replace_folder(home.config, with_schemas(contents))
    return load_configuration(home, env)


def install_texts(home: Home, texts: Mapping[str, str]) -> None:
    """Give a home without a configuration of its own these four files, each led to its schema.

    Raises:
        Refused: the home's folder for it holds something else, or cannot be written.
    """
    from models.configuration_schemas import with_schemas  # mappings, which no server needs

    _replace_folder(home.config, with_schemas({name: text.encode() for name, text in texts.items()}))


def _replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put files into a folder that is empty or missing, all of them or none.

    Raises:
        Refused: if the folder holds something else, or cannot be written.
    """
    waiting = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(waiting, ignore_errors=True)
    waiting.mkdir(parents=True)
    for name, content in contents.items():
        write_durably(waiting / name, content)
    try:
        waiting.replace(folder)
    except OSError as error:
        shutil.rmtree(waiting, ignore_errors=True)
        raise Refused(
            f"cannot put the configuration into {folder}: {error.strerror}; expected an empty folder to write to: "
            f"move away what it holds, or set {HOME_VARIABLE} to another folder"
        ) from error


def _read(model: type[ModelT], texts: Mapping[str, str], name: str, origin: str) -> Loaded[ModelT]:
    file = f"{origin}/{name}"
    if name not in texts:  # it could not be read, which is told already
        return Loaded(YamlDocument(file, None, {}), None)
    return read_yaml(model, texts[name], file=file)
