"""The list of registered models: complete, newest first, and never an exception for what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.bundle import MANIFEST
from models.model_list import headline_metrics, registered_models
from models.promotion_log import promotions_file
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from tests.boosters import FEATURES, small_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """Three versions of one model; 1 is the champion, 3 the challenger."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(3):
        registry.register(tmp_path / "made", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    registry.set_alias(NAME, CHALLENGER, 3, at=AT)
    return registry


def only(registry: LocalRegistry) -> dict[str, Any]:
    """The one model there is, as JSON has it."""
    (found,) = json.loads(json.dumps(registered_models(registry.root), allow_nan=False))
    return dict(found)


def test_nothing_registered_is_an_empty_list(tmp_path: Path) -> None:
    """Also where the folder is not there yet."""
    assert registered_models(tmp_path / "none") == []


def test_versions_come_newest_first_with_their_aliases(registry: LocalRegistry) -> None:
    """And with where each comes from."""
    found = only(registry)
    assert (found["name"], found["journey_id"], found["problems"]) == (NAME, "card", [])
    assert [(one["version"], one["aliases"]) for one in found["versions"]] == [
        (3, ["challenger"]),
        (2, []),
        (1, ["champion"]),
    ]
    newest = found["versions"][0]
    assert (newest["damaged"], newest["n_features"]) == (None, len(FEATURES))
    assert found["aliases"]["champion"] == {"version": 1, "set_at": "2023-11-14T22:13:20.000000Z", "is_intact": True}
    assert newest["trained_at"].endswith("Z")


def test_promotions_come_newest_first_with_their_evidence(registry: LocalRegistry) -> None:
    """One line a move: what became of it, on what evidence."""
    promoter = Promoter(registry)
    promoter.promote(NAME, 3, at=AT + 1, by="ann", reason="it earns more", evidence={"difference": 1.5})
    promoter.refused(NAME, 2, at=AT + 2, by="ann", evidence={"promotes": False})
    promoter.rollback(NAME, at=AT + 3, by="bob", reason="complaints")

    found = only(registry)

    assert [(one["kind"], one["step"], one["by"]) for one in found["promotions"]] == [
        ("rollback", "done", "bob"),
        ("promote", "refused", "ann"),
        ("promote", "done", "ann"),
    ]
    assert found["promotions"][2]["evidence"] == {"difference": 1.5}
    assert {alias: one["version"] for alias, one in found["aliases"].items()} == {"champion": 1}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff", b'{"format": 99}'])
def test_a_damaged_version_is_listed_as_damaged(registry: LocalRegistry, damage: bytes) -> None:
    """The others are listed as ever, and the alias on it says that it is not what it was put on."""
    (registry.path(NAME, 1) / MANIFEST).write_bytes(damage)

    found = only(registry)

    assert [one["damaged"] is not None for one in found["versions"]] == [False, False, True]
    assert "manifest.json cannot be read" in found["versions"][2]["damaged"]
    assert found["versions"][2]["metrics"] is None
    assert (found["aliases"]["champion"]["is_intact"], found["aliases"]["challenger"]["is_intact"]) == (False, True)


def test_a_version_without_a_manifest_is_damaged(registry: LocalRegistry) -> None:
    """Its folder is there, so it is not left out."""
    (registry.path(NAME, 2) / MANIFEST).unlink()
    assert [one["damaged"] is None for one in only(registry)["versions"]] == [True, False, True]


def test_damaged_aliases_and_a_cut_off_log_are_told(registry: LocalRegistry) -> None:
    """What could be read besides is there."""
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    with promotions_file(registry.root).open("ab") as log:
        log.write(b'{"format": 1, "num')
    (registry.root / "champion.json").write_text("{")

    found = only(registry)

    assert list(found["aliases"]) == ["challenger"]
    assert len(found["problems"]) == 1
    assert "champion.json is damaged" in found["problems"][0]
    assert [one["step"] for one in found["promotions"]] == ["done"]


def test_what_is_no_model_is_passed_over(registry: LocalRegistry) -> None:
    """A candidate of a training has no version, and files are no models."""
    (registry.root / "candidate" / NAME).mkdir(parents=True)
    (registry.root / "notes.txt").write_text("x")
    (registry.root / "Odd Name" / "1").mkdir(parents=True)
    assert [one["name"] for one in registered_models(registry.root)] == [NAME]


def test_unknown_numbers_are_left_out_of_the_headline() -> None:
    """None is "cannot be known"."""
    assert headline_metrics({"stall": {"auc": 0.7, "ece": None}, "policy": {"value": None}, "uplift": {}}) == {
        "stall": {"auc": 0.7}
    }
    assert headline_metrics({"stall": None}) == {}
