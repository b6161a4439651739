"""MLflow's aliases follow the local ones. Another local registry stands for MLflow's: both keep the same promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from features.home import Home
from models.bundle import MANIFEST
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from tests.boosters import small_bundle
from training.tracked_aliases import aliases_followed, follow, version_tags, wanted_aliases, warn_of

NAME = "nba-card"
AT = 1_700_000_000_000_000


@pytest.fixture
def local(tmp_path: Path) -> LocalRegistry:
    """Two versions of one model; 1 is the champion, 2 the challenger."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(2):
        registry.register(tmp_path / "made", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    return registry


@pytest.fixture
def other(local: LocalRegistry, tmp_path: Path) -> LocalRegistry:
    """The same versions under other numbers: 1 is of something that is gone, 2 and 3 are the local 1 and 2."""
    registry = LocalRegistry(tmp_path / "other")
    registry.register(tmp_path / "made", NAME, {"local_version": "1", "manifest_sha256": "0" * 64})
    for version in (1, 2):
        registry.register(tmp_path / "made", NAME, version_tags(local.path(NAME, version), version))
    return registry


def aliases(registry: LocalRegistry) -> tuple[int | None, int | None]:
    """On which versions champion and challenger are."""
    return registry.alias(NAME, CHAMPION), registry.alias(NAME, CHALLENGER)


def test_aliases_are_put_on_the_same_bundles(local: LocalRegistry, other: LocalRegistry) -> None:
    """Found by number and digest, whatever their numbers there are; a second time changes nothing."""
    wanted = wanted_aliases(local, [NAME])

    assert follow(other, wanted) == []
    assert aliases(other) == (2, 3)
    before = (other.root / "champion.json").read_bytes()
    assert follow(other, wanted) == []
    assert (other.root / "champion.json").read_bytes() == before


def test_an_alias_that_is_gone_here_goes_there(local: LocalRegistry, other: LocalRegistry) -> None:
    """As after a promotion."""
    follow(other, wanted_aliases(local, [NAME]))
    local.set_alias(NAME, CHAMPION, 2, at=AT)
    local.remove_alias(NAME, CHALLENGER)

    assert follow(other, wanted_aliases(local, [NAME])) == []
    assert aliases(other) == (3, None)


class Older(LocalRegistry):
    """A registry of bundles that lie elsewhere, registered before there was a digest among their tags."""

    def __init__(self, folders: dict[int, Path]) -> None:
        super().__init__(Path("nowhere"))
        self._folders = folders
        self.moved: list[tuple[str, int]] = []

    def versions(self, name: str) -> tuple[int, ...]:
        """As ``Registry.versions``."""
        return tuple(self._folders)

    def tags(self, name: str, version: int) -> dict[str, str]:
        """As ``Registry.tags``."""
        return {"local_version": self._folders[version].name}

    def path(self, name: str, version: int) -> Path:
        """As ``Registry.path``."""
        return self._folders[version]

    def set_alias(self, name: str, alias: str, version: int, *, at: int) -> None:
        """As ``Registry.set_alias``."""
        self.moved.append((alias, version))


def test_versions_without_a_digest_are_found_by_their_folder(local: LocalRegistry, tmp_path: Path) -> None:
    """A version of the same number in another home is another."""
    older = Older({1: tmp_path / "elsewhere" / NAME / "2", 2: local.root.absolute() / NAME / "1"})

    problems = follow(older, wanted_aliases(local, [NAME]))

    assert older.moved == [(CHAMPION, 2)]
    assert [one.partition(";")[0] for one in problems] == [f"MLflow knows no version of {NAME} that is version 2 here"]


def test_one_that_fails_does_not_keep_the_others(local: LocalRegistry, other: LocalRegistry) -> None:
    """What could not be done is told."""
    wanted = wanted_aliases(local, [NAME])

    class Failing(LocalRegistry):
        def set_alias(self, name: str, alias: str, version: int, *, at: int) -> None:
            """As MLflow where its database is locked."""
            if alias == CHAMPION:
                raise RuntimeError("database is locked\nand more")
            super().set_alias(name, alias, version, at=at)

    failing = Failing(other.root)

    assert follow(failing, wanted) == [
        f"MLflow's alias champion of {NAME} was not moved: RuntimeError: database is locked"
    ]
    assert aliases(other) == (None, 3)


def test_what_is_about_to_move_counts(local: LocalRegistry) -> None:
    """Training records its run before it moves the local alias."""
    wanted = wanted_aliases(local, [NAME], moving={(NAME, CHALLENGER): 1}, at=7)
    on: dict[str, Any] = {one["alias"]: one["on"] for one in wanted}
    assert (on[CHAMPION]["version"], on[CHALLENGER]["version"], on[CHALLENGER]["at"]) == (1, 1, 7)


def test_a_damaged_alias_file_moves_nothing(local: LocalRegistry, other: LocalRegistry) -> None:
    """It does not say that there is none."""
    follow(other, wanted_aliases(local, [NAME]))
    (local.root / "champion.json").write_text("{")
    local.remove_alias(NAME, CHALLENGER)

    follow(other, wanted_aliases(local, [NAME]))

    assert aliases(other) == (2, None)


def test_an_alias_on_a_bundle_that_is_gone_is_told(local: LocalRegistry, other: LocalRegistry) -> None:
    """It is the same as none there."""
    (local.path(NAME, 1) / MANIFEST).unlink()
    problems = follow(other, wanted_aliases(local, [NAME]))
    assert [one.partition(" that is")[0] for one in problems] == [f"MLflow knows no version of {NAME}"]


def test_a_home_without_mlflow_is_left_alone(tmp_path: Path) -> None:
    """No database is made for an alias."""
    home = Home(tmp_path / "home").create()
    assert aliases_followed(home, [NAME]) == []
    assert not home.mlflow_db.exists()


def test_a_database_that_cannot_be_read_is_told_and_raises_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The local alias was moved already; the next one heals it."""
    home = Home(tmp_path / "home").create()
    home.mlflow_db.write_bytes(b"this is no database" * 100)

    problems = aliases_followed(home, [NAME])
    warn_of(problems)

    assert len(problems) == 1
    assert "MLflow could not record" in problems[0]
    assert "warning: MLflow could not record" in capsys.readouterr().err
