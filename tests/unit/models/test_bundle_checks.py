"""Checks of bundles: a damaged one fails by name, and a journey without one is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from features.check_findings import Finding
from models.bundle_checks import bundle_findings
from models.hazards import DAY_US
from models.registry import LocalRegistry
from tests.boosters import FEATURES, timed_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """A registry whose one bundle is champion and challenger."""
    timed_bundle(tmp_path / "made")
    registry = LocalRegistry(tmp_path / "bundles")
    registry.register(tmp_path / "made", NAME, {})
    for alias in ("champion", "challenger"):
        registry.set_alias(NAME, alias, 1, at=AT)
    return registry


def findings(registry: LocalRegistry, names: Mapping[str, Sequence[str]], horizon_days: int = 7) -> list[Finding]:
    """What there is to say of the registry's bundles."""
    horizons = dict.fromkeys(names, horizon_days * DAY_US)
    files = (registry.root / f"{alias}.json" for alias in ("champion", "challenger"))
    return list(bundle_findings(*files, names, horizons))


def test_whole_bundles_are_well(registry: LocalRegistry) -> None:
    """Each alias is told by itself."""
    found = findings(registry, {"card": FEATURES})

    assert [(one.name, one.status) for one in found] == [("champion of card", "ok"), ("challenger of card", "ok")]
    assert found[0].found.startswith("version 1 (")


def test_a_truncated_bundle_fails(registry: LocalRegistry) -> None:
    """The part is named."""
    forest = registry.root / NAME / "1" / "forest.npz"
    forest.write_bytes(forest.read_bytes()[:-10])

    found = findings(registry, {"card": FEATURES})

    assert [one.status for one in found] == ["failed", "failed"]
    assert "forest.npz" in found[0].found


def test_another_manifest_fails(registry: LocalRegistry) -> None:
    """It must be the one that the alias was put on."""
    manifest = registry.root / NAME / "1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes())))

    assert {one.status for one in findings(registry, {"card": FEATURES})} == {"failed"}


def test_a_bundle_of_another_configuration_fails(registry: LocalRegistry) -> None:
    """Other features, or another horizon."""
    assert {one.status for one in findings(registry, {"card": FEATURES[:2]})} == {"failed"}
    assert {one.status for one in findings(registry, {"card": FEATURES}, horizon_days=30)} == {"failed"}


def test_a_journey_without_a_champion_is_told(registry: LocalRegistry) -> None:
    """It is served without a model; a journey without a challenger is no news."""
    (found,) = findings(registry, {"loan": FEATURES})

    assert (found.name, found.status, found.remedy) == ("champion of loan", "warning", "run `headway train`")


def test_a_damaged_alias_file_fails(registry: LocalRegistry) -> None:
    """The other alias is told all the same."""
    (registry.root / "champion.json").write_text("{")

    found = findings(registry, {"card": FEATURES})

    assert [(one.name, one.status) for one in found] == [("champions", "failed"), ("challenger of card", "ok")]
