"""Bundles: whole or not at all, verified before parsed, and only for the features they were made for."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import BundleError
from models.bundle import booster_text, load_bundle, member_texts, write_bundle
from models.forest import forest_from_text, raw_scores_block
from models.heads import FittedHeads, Head
from models.scoring import Scorer
from tests.boosters import FEATURES, ROWS, fitted_heads, lineage, small_bundle


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A written bundle."""
    small_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def edit_manifest(directory: Path, **changes: Any) -> None:
    """Change keys of the manifest."""
    file = directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))


def replace_part(directory: Path, path: str, data: bytes) -> None:
    """Change a part and its promise, as somebody who can write the folder would."""
    (directory / path).write_bytes(data)
    parts = json.loads((directory / "manifest.json").read_bytes())["parts"]
    edit_manifest(directory, parts={**parts, path: {"sha256": sha256(data).hexdigest(), "bytes": len(data)}})


def test_a_bundle_comes_back_as_it_was_written(directory: Path) -> None:
    """Lineage, heads and scores; an unknown metric comes back as null."""
    bundle = load_bundle(directory, FEATURES)
    fitted = fitted_heads()
    assert bundle.heads == fitted.heads
    assert bundle.lineage == replace(lineage(), metrics={"stall": {"auc": 0.75, "slope": None}})
    assert np.array_equal(
        raw_scores_block(bundle.forest, ROWS),
        raw_scores_block(forest_from_text(list(fitted.boosters.values())), ROWS),
    )


def test_the_digest_names_the_manifest(directory: Path) -> None:
    """The digest that the bundle gives is the one that a pointer keeps."""
    digest = load_bundle(directory, FEATURES).manifest_sha256
    assert load_bundle(directory, FEATURES, manifest_sha256=digest).manifest_sha256 == digest
    edit_manifest(directory, metrics={})
    with pytest.raises(BundleError, match=f"expected {digest}"):
        load_bundle(directory, FEATURES, manifest_sha256=digest)


def test_an_existing_folder_is_never_written_over(directory: Path) -> None:
    """A bundle is never changed."""
    with pytest.raises(BundleError, match="exists, expected a new folder"):
        small_bundle(directory)


def test_a_forest_that_disagrees_with_lightgbm_is_not_written(tmp_path: Path) -> None:
    """Nothing is left behind either."""
    fitted = fitted_heads()
    raw = np.zeros((len(ROWS), len(member_texts([fitted])[0])))
    with pytest.raises(BundleError, match="raw scored again differ by 1,"):
        write_bundle(tmp_path / "b", lineage=lineage(), fitted=[fitted], golden_rows=ROWS, golden_raw=raw)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [FEATURES[:2], (*FEATURES, "age"), tuple(reversed(FEATURES)), ("age", *FEATURES[1:])])
def test_another_feature_list_is_refused(directory: Path, names: tuple[str, ...]) -> None:
    """Reordered features would be silently scored wrong."""
    with pytest.raises(BundleError, match=r"only in the bundle: .*train again with this configuration"):
        load_bundle(directory, names)


@pytest.mark.parametrize("path", ["manifest.json", "forest.npz", "heads.json", "golden.npz", "boosters/0002.txt"])
def test_a_missing_part_is_refused(directory: Path, path: str) -> None:
    """By name."""
    (directory / path).unlink()
    with pytest.raises(BundleError, match=f"cannot read .*{path}"):
        load_bundle(directory, FEATURES)


def test_a_changed_part_is_refused_before_it_is_parsed(directory: Path) -> None:
    """Even where the text would still parse."""
    file = directory / "heads.json"
    file.write_bytes(file.read_bytes().replace(b'"weight": 0.5', b'"weight": 0.6'))
    with pytest.raises(BundleError, match="restore the bundle"):
        load_bundle(directory, FEATURES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, r"bundle format 3, expected one of \(1, 2\)"),
        ({"format": True}, "bundle format True"),
        ({"format": 1}, "expected"),
        ({"extra": 1}, "manifest keys"),
        ({"created_at": "2023-01-01T00:00:00"}, "created_at"),
        ({"created_at": 5}, "created_at"),
        ({"heads": ["stall"]}, "expected those of the manifest"),
        ({"heads": None}, "manifest heads"),
        ({"parts": {}}, "manifest parts"),
        ({"parts": []}, "manifest parts"),
        ({"metrics": 1}, "manifest metrics"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(directory: Path, changes: dict[str, Any], message: str) -> None:
    """Each with what was expected."""
    edit_manifest(directory, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(directory, FEATURES)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "boosters/../../x.txt", "boosters/x.txt", "model.pkl"])
def test_a_part_outside_the_bundle_is_refused(directory: Path, path: str) -> None:
    """A manifest cannot make the loader read another file."""
    parts = json.loads((directory / "manifest.json").read_bytes())["parts"]
    edit_manifest(directory, parts={**parts, path: {"sha256": "0", "bytes": 0}})
    with pytest.raises(BundleError, match="manifest names the part"):
        load_bundle(directory, FEATURES)


@pytest.mark.parametrize("path", ["forest.npz", "golden.npz"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_promised_bytes_that_are_no_arrays_are_refused(directory: Path, path: str, data: bytes) -> None:
    """Among them a pickle: it is not executed."""
    replace_part(directory, path, data)
    with pytest.raises(BundleError, match=path):
        load_bundle(directory, FEATURES)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"members": [], "heads": []}', b"[" * 100_000])
def test_promised_bytes_that_are_no_heads_are_refused(directory: Path, data: bytes) -> None:
    """Deeply nested ones too."""
    replace_part(directory, "heads.json", data)
    with pytest.raises(BundleError, match=r"heads\.json"):
        load_bundle(directory, FEATURES)


def test_a_head_that_scores_otherwise_than_when_written_is_refused(directory: Path) -> None:
    """The golden rows prove the heads as well as the forest."""
    data = (directory / "heads.json").read_bytes()
    replace_part(directory, "heads.json", data.replace(b'"weight": 0.5', b'"weight": 0.6'))
    with pytest.raises(BundleError, match="values scored again differ"):
        load_bundle(directory, FEATURES)


def test_a_boosters_text_is_kept_for_audit(directory: Path) -> None:
    """As LightGBM wrote it."""
    assert booster_text(directory, "control") == fitted_heads().boosters["control"]


def test_an_unknown_member_has_no_text(directory: Path) -> None:
    """The message names it."""
    with pytest.raises(BundleError, match="no member 'other'"):
        booster_text(directory, "other")


def test_a_bundle_of_constants_needs_no_booster(tmp_path: Path) -> None:
    """Where there was too little to model, the base rates are still served."""
    fitted = FittedHeads(heads=(Head(name="stall", link="logistic", mean=0.0),), boosters={})
    bundle = write_bundle(
        tmp_path / "b", lineage=lineage(), fitted=[fitted], golden_rows=ROWS, golden_raw=np.empty((len(ROWS), 0))
    )
    assert Scorer(bundle).stall(ROWS[0]).stall_propensity == 0.5
