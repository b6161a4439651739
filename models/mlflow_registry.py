"""The registry in MLflow, over its own database file; the bundle stays where it is and MLflow points at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from features.errors import UnknownObject
from models.registry import checked_bundle

_SET_AT = "alias_set_at."
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class MlflowRegistry:
    """MLflow's model registry as a ``Registry``.

    Args:
        database: MLflow's SQLite file; MLflow makes it when it is missing, which takes some seconds.
    """

    def __init__(self, database: Path) -> None:
        uri = f"sqlite:///{database.absolute()}"
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def register(self, bundle_dir: Path, name: str, tags: Mapping[str, str]) -> int:
        """As ``Registry.register``; the bundle is not copied: give the folder where it stays."""
        checked_bundle(bundle_dir, name)
        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            self._client.create_registered_model(name)
        made = self._client.create_model_version(name, source=str(bundle_dir.absolute()), tags=dict(tags))
        return int(made.version)

    def set_alias(self, name: str, alias: str, version: int, *, at: int) -> None:
        """As ``Registry.set_alias``; when it was set is kept as a tag of the version."""
        self._version(name, version)
        self._client.set_registered_model_alias(name, alias, str(version))
        self._client.set_model_version_tag(name, str(version), f"{_SET_AT}{alias}", str(at))

    def remove_alias(self, name: str, alias: str) -> None:
        """As ``Registry.remove_alias``."""
        found = self.alias(name, alias)
        if found is not None:
            self._client.delete_registered_model_alias(name, alias)
            self._client.delete_model_version_tag(name, str(found), f"{_SET_AT}{alias}")

    def alias(self, name: str, alias: str) -> int | None:
        """As ``Registry.alias``."""
        try:
            return int(self._client.get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            return None

    def path(self, name: str, version: int) -> Path:
        """As ``Registry.path``."""
        return Path(str(self._version(name, version).source))

    def versions(self, name: str) -> tuple[int, ...]:
        """As ``Registry.versions``."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return tuple(sorted(int(version.version) for version in found))

    def tags(self, name: str, version: int) -> dict[str, str]:
        """As ``Registry.tags``."""
        tags = self._version(name, version).tags
        return {key: value for key, value in tags.items() if not key.startswith(_SET_AT)}

    def _version(self, name: str, version: int) -> ModelVersion:
        try:
            return self._client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            raise UnknownObject(
                f"{name} has no version {version}, expected one of {list(self.versions(name))}: train and register one"
            ) from error
