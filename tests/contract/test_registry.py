"""What every registry promises, whether it is a directory or MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features.errors import BundleError, UnknownObject
from models.bundle import load_bundle
from models.registry import LocalRegistry, Registry
from tests.boosters import FEATURES, small_bundle

# MLflow 3.17 uses what SQLAlchemy 2.1 and other libraries of its own have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NAME = "nba-card"
AT = 1_700_000_000_000_000


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, copying one does not."""
    from models.mlflow_registry import MlflowRegistry

    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowRegistry(database).versions("none")
    return database


@pytest.fixture(params=["local", "mlflow"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry of each kind."""
    if request.param == "local":
        yield LocalRegistry(tmp_path / "bundles")
        return
    from models.mlflow_registry import MlflowRegistry

    template: Path = request.getfixturevalue("template_database")
    yield MlflowRegistry(Path(shutil.copy(template, tmp_path / "mlflow.db")))


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A bundle to register."""
    small_bundle(tmp_path / "made")
    return tmp_path / "made"


def test_versions_count_up_from_one(registry: Registry, bundle_dir: Path) -> None:
    """Each registration is a new version."""
    assert registry.versions(NAME) == ()
    assert [registry.register(bundle_dir, NAME, {}), registry.register(bundle_dir, NAME, {})] == [1, 2]
    assert registry.versions(NAME) == (1, 2)


def test_a_registered_bundle_loads(registry: Registry, bundle_dir: Path) -> None:
    """From the path that the registry gives."""
    digest = load_bundle(bundle_dir, FEATURES).manifest_sha256
    version = registry.register(bundle_dir, NAME, {})
    assert load_bundle(registry.path(NAME, version), FEATURES).manifest_sha256 == digest


def test_tags_come_back(registry: Registry, bundle_dir: Path) -> None:
    """And an alias adds none."""
    version = registry.register(bundle_dir, NAME, {"snapshot": "s1"})
    registry.set_alias(NAME, "champion", version, at=AT)
    assert registry.tags(NAME, version) == {"snapshot": "s1"}


def test_an_alias_is_on_one_version(registry: Registry, bundle_dir: Path) -> None:
    """Setting it again moves it."""
    first, second = registry.register(bundle_dir, NAME, {}), registry.register(bundle_dir, NAME, {})
    registry.set_alias(NAME, "champion", first, at=AT)
    registry.set_alias(NAME, "champion", second, at=AT + 1)
    assert registry.alias(NAME, "champion") == second


def test_aliases_do_not_touch_each_other(registry: Registry, bundle_dir: Path) -> None:
    """A challenger may stand beside the champion."""
    first, second = registry.register(bundle_dir, NAME, {}), registry.register(bundle_dir, NAME, {})
    registry.set_alias(NAME, "champion", first, at=AT)
    registry.set_alias(NAME, "challenger", second, at=AT)
    assert (registry.alias(NAME, "champion"), registry.alias(NAME, "challenger")) == (first, second)


def test_an_alias_that_was_never_set_is_none(registry: Registry, bundle_dir: Path) -> None:
    """For a known and for an unknown name."""
    registry.register(bundle_dir, NAME, {})
    assert registry.alias(NAME, "champion") is None
    assert registry.alias("nba-other", "champion") is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.path(NAME, 7),
        lambda registry: registry.tags(NAME, 7),
        lambda registry: registry.set_alias(NAME, "champion", 7, at=AT),
    ],
)
def test_an_unknown_version_is_refused(registry: Registry, bundle_dir: Path, ask: Callable[[Registry], object]) -> None:
    """Naming those that exist."""
    registry.register(bundle_dir, NAME, {})
    with pytest.raises(UnknownObject, match=r"no version 7, expected one of \[1\]"):
        ask(registry)


def test_a_damaged_bundle_is_not_registered(registry: Registry, bundle_dir: Path) -> None:
    """And takes no version."""
    (bundle_dir / "forest.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"forest\.npz"):
        registry.register(bundle_dir, NAME, {})
    assert registry.versions(NAME) == ()


def test_a_bundle_is_registered_under_its_own_name_only(registry: Registry, bundle_dir: Path) -> None:
    """Its manifest says which."""
    with pytest.raises(BundleError, match="a bundle of nba-card, expected nba-other"):
        registry.register(bundle_dir, "nba-other", {})


def test_an_alias_can_be_taken_away(registry: Registry, bundle_dir: Path) -> None:
    """The other alias and the version's tags stay; taking away what is not there changes nothing."""
    version = registry.register(bundle_dir, NAME, {"snapshot": "s1"})
    registry.set_alias(NAME, "champion", version, at=AT)
    registry.set_alias(NAME, "challenger", version, at=AT)

    registry.remove_alias(NAME, "challenger")
    registry.remove_alias(NAME, "challenger")
    registry.remove_alias("nba-other", "champion")

    assert (registry.alias(NAME, "champion"), registry.alias(NAME, "challenger")) == (version, None)
    assert registry.tags(NAME, version) == {"snapshot": "s1"}
