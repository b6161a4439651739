"""The file that workers watch, and the directory it points into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.errors import BundleError, HomeLocked, UnknownObject
from features.home import lock_file
from models.bundle import load_bundle
from models.registry import LocalRegistry, read_champion, read_champions
from tests.boosters import FEATURES, small_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """A registry that holds one bundle."""
    small_bundle(tmp_path / "made")
    registry = LocalRegistry(tmp_path / "bundles")
    registry.register(tmp_path / "made", NAME, {})
    return registry


def test_the_champion_file_points_at_a_bundle_and_its_digest(registry: LocalRegistry) -> None:
    """All that a worker needs to load it and know that it is the right one."""
    registry.set_alias(NAME, "champion", 1, at=AT)
    pointer = read_champion(registry.root / "champion.json", NAME)
    assert pointer is not None
    assert (pointer.name, pointer.version, pointer.set_at) == (NAME, 1, AT)
    assert load_bundle(pointer.path, FEATURES, manifest_sha256=pointer.manifest_sha256).lineage.name == NAME


def test_the_champion_files_format_is_frozen(registry: LocalRegistry) -> None:
    """Paths are relative, so that a home can be moved."""
    registry.set_alias(NAME, "champion", 1, at=AT)
    digest = load_bundle(registry.path(NAME, 1), FEATURES).manifest_sha256
    assert json.loads((registry.root / "champion.json").read_bytes()) == {
        "format": 1,
        "bundles": {
            NAME: {
                "version": 1,
                "path": f"{NAME}/1",
                "manifest_sha256": digest,
                "set_at": "2023-11-14T22:13:20.000000Z",
            }
        },
    }


def test_before_any_promotion_nothing_serves(tmp_path: Path) -> None:
    """A missing file is an answer."""
    assert read_champions(tmp_path / "champion.json") == {}
    assert read_champion(tmp_path / "champion.json", NAME) is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"format": 2, "bundles": {}}', b'{"format": 1, "bundles": {"nba-card": {}}}']
)
def test_a_damaged_champion_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """With what to do."""
    (tmp_path / "champion.json").write_bytes(data)
    with pytest.raises(BundleError, match="promote a version again"):
        read_champions(tmp_path / "champion.json")


def test_two_promotions_at_once_are_not_mixed(registry: LocalRegistry) -> None:
    """The second writer is refused while the first one works."""
    with lock_file(registry.root / "champion.json"), pytest.raises(HomeLocked):
        registry.set_alias(NAME, "champion", 1, at=AT)


def test_a_registered_bundle_is_a_copy(registry: LocalRegistry, tmp_path: Path) -> None:
    """What happens to the original does not reach it."""
    (tmp_path / "made" / "forest.npz").write_bytes(b"")
    assert load_bundle(registry.path(NAME, 1), FEATURES).lineage.name == NAME


def test_nothing_is_left_of_a_registration_that_failed(registry: LocalRegistry, tmp_path: Path) -> None:
    """The damaged bundle takes no folder."""
    (tmp_path / "made" / "forest.npz").write_bytes(b"")
    with pytest.raises(BundleError):
        registry.register(tmp_path / "made", NAME, {})
    assert [entry.name for entry in (registry.root / NAME).iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", ".new"])
def test_a_name_that_is_no_plain_folder_is_refused(registry: LocalRegistry, name: str) -> None:
    """No name leaves the directory."""
    with pytest.raises(UnknownObject, match="expected lower case letters"):
        registry.versions(name)
