"""The configuration in force: one snapshot that each request takes once, replaced as a whole while requests run.

Policy and catalogue may be replaced, by whoever writes the files or over HTTP. Feature sets and stores hang on taxonomy
and journeys: those only change with a restart.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel

from features.durable_files import replace_durably
from features.editor_schemas import with_schema
from features.errors import (
    ConfigurationError,
    HeadwayError,
    HomeLocked,
    InvalidInput,
    Problem,
    Refused,
    StoreCorrupted,
    StoreError,
    StoreUnavailable,
    UnknownObject,
)
from features.events import shown
from features.home import Home, lock_file
from features.schema import FeatureSet
from features.yaml_files import content_version, dump_yaml, read_yaml
from models.actions import Catalogue
from models.configuration import (
    CONFIG_VARIABLE,
    FILES,
    Configuration,
    configuration_in,
    has_configuration,
    install_texts,
    load_configuration,
)
from models.configuration_history import ConfigurationHistory, keep_configuration
from models.deliberation import Rulebook
from models.policy import Policy
from models.rulebooks import rulebooks_of
from serving.problems import ConfigurationFixed, PreconditionFailed, PreconditionRequired
from serving.telemetry import log_event

Part = Literal["actions", "policy"]
"""What may be replaced while the service runs."""

_MODELS: Final[Mapping[Part, type[BaseModel]]] = {"actions": Catalogue, "policy": Policy}
_FIXED: Final = ("taxonomy", "journeys")
_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What holds at one moment; never changed, only replaced.

    Attributes:
        rulebooks: by journey.
        since: from when on it has decided here, microseconds since the epoch.
    """

    configuration: Configuration
    rulebooks: Mapping[str, Rulebook]
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file of a configuration.

    Attributes:
        content: as JSON values.
        origin: where it was read.
        since: from when on it has decided here, microseconds since the epoch; None for an earlier one.
    """

    version: str
    content: Any
    origin: str
    since: int | None


class Configurations:
    """The configuration in force, its history, and how it is replaced.

    Args:
        configuration: what holds at the start; kept in the history before anything is decided by it.
        feature_sets: of its journeys.
        home: the installation.
        env: the environment: it says whose the configuration is.
        clock: now, microseconds since the epoch.
        tell_refused: told whether what lies in the files is refused, whenever that may have changed.
    """

    def __init__(
        self,
        *,
        configuration: Configuration,
        feature_sets: Mapping[str, FeatureSet],
        home: Home,
        env: Mapping[str, str],
        clock: Callable[[], int],
        tell_refused: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._tell_refused = tell_refused
        self._feature_sets = feature_sets
        self._home, self._env, self._clock = home, env, clock
        self._changing = threading.Lock()
        # Nothing yet: files that changed while the stores were opened are found by the first looks.
        self._loaded: _Stamp | None = None
        self._seen: _Stamp | None = None
        self._refused: str | None = None
        self._in_force = self._made(configuration)
        self.history = ConfigurationHistory(home, configuration)
        keep_configuration(home, configuration)
        self._refuse(None)

    @property
    def in_force(self) -> InForce:
        """What holds now; a request takes it once."""
        return self._in_force

    def rulebooks(self) -> Mapping[str, Rulebook]:
        """The rulebooks that hold now."""
        return self._in_force.rulebooks

    @property
    def refused(self) -> str | None:
        """Why what lies in the files now is not in force; None where it is."""
        return self._refused

    def refresh(self) -> None:
        """Take over what the files say now, if it may be. What may not leaves the last good one in place.

        Files that changed since the last look are left for the next one: they may be being written.
        """
        with self._changing:
            stamp = self._stamp()
            settled, self._seen = stamp == self._seen, stamp
            if stamp == self._loaded or not settled:
                return
            try:
                configuration = load_configuration(self._home, self._env)
                self._refuse_restart(configuration)
                self._take(configuration)
            except HeadwayError as error:
                if str(error) != self._refused:
                    log_event("configuration_refused", level=logging.ERROR, reason=str(error))
                self._refuse(str(error))
                if isinstance(error, StoreError):
                    return  # the history could not be written: the next look tries again
            self._loaded = stamp

    def document(self, part: Part, version: str | None = None) -> Document:
        """One file, as it holds now or as it was kept.

        Raises:
            UnknownObject: that version is not kept.
            StoreError: what is kept cannot be read.
        """
        in_force = self._in_force
        configuration = in_force.configuration
        if version is None or version == configuration.versions[part]:
            model = configuration.catalogue if part == "actions" else configuration.policy
            return Document(
                version=configuration.versions[part],
                content=_content(model),
                origin=configuration.origin,
                since=in_force.since,
            )
        kept = self.kept(part, version)
        return Document(version=version, content=_content(kept), origin=str(self._home.configurations), since=None)

    def kept(self, part: Part, version: str) -> BaseModel:
        """One file as it was kept.

        Raises:
            UnknownObject: that version is not kept.
            StoreError: it cannot be read, or not by this release.
        """
        try:
            return self.history.part(part, version)
        except ConfigurationError as error:
            raise StoreCorrupted(str(error)) from error
        except UnknownObject as error:  # whose words are an operator's: they name folders
            raise UnknownObject(f"no {part} of version {shown(version)}; expected one that decided here") from error

    def checked(self, documents: Mapping[Part, object]) -> Configuration:
        """The configuration in force with some of its files replaced.

        Args:
            documents: the new content, as JSON values.

        Raises:
            ConfigurationError: with every problem of the new content and of what the other files say of it.
        """
        return checked_documents(self._in_force.configuration, documents)

    def put(self, part: Part, content: object, *, if_match: str | None, source: str) -> Document:
        """Replace one file, durably and before it decides; the same content again changes nothing.

        Args:
            part: which.
            content: the whole of it, as JSON values.
            if_match: the version that was read, which must still be in force.
            source: who replaces it, from the caller's key.

        Raises:
            PreconditionRequired: no version was named.
            PreconditionFailed: another version is in force.
            ConfigurationFixed: the configuration is the deployment's.
            InvalidInput: with every problem.
            StoreUnavailable: it could not be written; what was in force stays.
        """
        if if_match is None:
            raise PreconditionRequired(f"no If-Match; expected the ETag of the {part} that the change was made to")
        if folder := self._env.get(CONFIG_VARIABLE):
            raise ConfigurationFixed(
                f"the configuration is in {folder}, which {CONFIG_VARIABLE} names and the deployment owns; expected "
                f"one in the home: change it there, it is taken over within seconds"
            )
        with self._changing, self._alone(part):
            before = self._in_force.configuration
            try:
                wanted = checked_documents(before, {part: content})
            except ConfigurationError as error:
                raise InvalidInput(f"the {part} cannot be put in force", of_body(error, {part: ""})) from error
            old, new = before.versions[part], wanted.versions[part]
            if new != old and if_match != f'"{old}"':
                raise PreconditionFailed(
                    f'If-Match is {shown(if_match)}, expected "{old}", which is in force: read it again'
                )
            if new != old and self._refused is None:
                self._refuse_overwriting(part, old)
            # What is in force already is written all the same where the file holds something that was refused.
            if new != old or self._refused is not None:
                keep_configuration(self._home, wanted)
                self._write(part, wanted)
                # Not read back: what else was changed in the files is the next look's business.
                self._take(replace(wanted, origin=str(self._home.config)))
                log_event("configuration_put", source=source, file=part, old_version=old, new_version=new)
            return self.document(part)

    @contextmanager
    def _alone(self, part: Part) -> Iterator[None]:
        """No other process replaces a file meanwhile: what it wrote is seen by who looks at the file."""
        try:
            lock = lock_file(self._home.state / "configuration")
        except HomeLocked as error:
            raise PreconditionFailed(
                f"another process is replacing a file now, expected the {part} to stay: read it again in some seconds"
            ) from error
        with lock:
            yield

    def _refuse_overwriting(self, part: Part, version: str) -> None:
        """Refuse where the file was changed and nobody has looked at it yet: that change would be lost unseen."""
        folder = self._home.config
        if not has_configuration(folder):
            return
        file = folder / f"{part}.yaml"
        try:
            found = read_yaml(_MODELS[part], file.read_text(encoding="utf-8"), file=str(file)).value
        except (OSError, UnicodeDecodeError):
            found = None
        if found is None or content_version(found) != version:
            raise PreconditionFailed(
                f"the file of the {part} was changed since version {version}, expected it to be in force: read it "
                f"again in some seconds, when what it says now is taken over or refused"
            )

    def _made(self, configuration: Configuration) -> InForce:
        rulebooks = rulebooks_of(configuration, self._feature_sets)
        return InForce(configuration=configuration, rulebooks=rulebooks, since=self._clock())

    def _take(self, configuration: Configuration) -> None:
        before = self._in_force.configuration
        if configuration.versions == before.versions:
            self._refuse(None)
            return
        keep_configuration(self._home, configuration)
        self._refuse(None)
        self._in_force = self._made(configuration)
        versions = configuration.versions
        log_event("configuration_swapped", actions_version=versions["actions"], policy_version=versions["policy"])

    def _refuse(self, reason: str | None) -> None:
        self._refused = reason
        self._tell_refused(reason is not None)

    def _refuse_restart(self, configuration: Configuration) -> None:
        before = self._in_force.configuration.versions
        changed = [part for part in _FIXED if configuration.versions[part] != before[part]]
        if changed:
            problems = [
                Problem(f"{part}.yaml", configuration.versions[part], f"version {before[part]} until a restart")
                for part in changed
            ]
            raise ConfigurationError(
                "Feature sets and stores hang on these files: restart the service to take them over:", problems
            )

    def _write(self, part: Part, wanted: Configuration) -> None:
        name, folder = f"{part}.yaml", self._home.config
        try:
            if has_configuration(folder):
                replace_durably(folder / name, _led(wanted.texts[part], folder, name).encode())
            else:
                install_texts(self._home, {f"{one}.yaml": text for one, text in wanted.texts.items()})
        except (OSError, Refused) as error:
            raise StoreUnavailable(f"cannot write {folder / name}: {error}; expected a writable file") from error

    def _stamp(self) -> _Stamp:
        folder = Path(self._env.get(CONFIG_VARIABLE) or self._home.config)
        return tuple(_file_stamp(folder / name) for name in FILES)


def of_body(error: ConfigurationError, places: Mapping[Part, str]) -> list[Problem]:
    """Problems of configuration files as problems of the body that they were sent in.

    Args:
        error: with every problem.
        places: where in the body each file stands, as a dotted path; empty for the body itself.
    """
    found = []
    for problem in error.problems:
        part = Path(problem.file or "").stem
        inside = "" if problem.path in (".", "the file") else problem.path
        if part in places:
            place = places[part]  # type: ignore[index]  # it is one of the keys
            joined = ".".join(one for one in (place, inside) if one) if not inside.startswith("[") else place + inside
            found.append(Problem(joined, problem.value, problem.expected))
        else:
            expected = f"content that fits {Path(problem.file or '').name}, where {inside or 'the file'} then has "
            found.append(Problem(next(iter(places.values()), ""), "", f"{expected}{problem.value}: {problem.expected}"))
    return found


def checked_documents(before: Configuration, documents: Mapping[Part, object]) -> Configuration:
    """A configuration with some of its files replaced, checked as at a start of the service.

    Raises:
        ConfigurationError: with every problem.
    """
    texts = dict(before.texts)
    for part, content in documents.items():
        texts[part] = dump_yaml(content)
    return configuration_in({f"{part}.yaml": text for part, text in texts.items()}, origin=before.origin)


def _content(model: Any) -> Any:
    """A file as JSON values, without what has its default: what a person would have written."""
    return model.model_dump(mode="json", exclude_defaults=True)


def _led(text: str, folder: Path, name: str) -> str:
    schema = f"schemas/{name.removesuffix('.yaml')}.json"
    return with_schema(text, schema) if (folder / schema).is_file() else text


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino, status.st_size)
