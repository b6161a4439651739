"""Whatever is changed in a bundle's files, it is refused with a BundleError and never crashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import BundleError
from models.bundle import load_bundle
from models.forest import forest_from_text, raw_scores_block
from tests.boosters import FEATURES, ROWS, fitted_heads, timed_bundle

PARTS = ["forest.npz", "golden.npz", "heads.json", *(f"boosters/{place:04d}.txt" for place in range(4))]
ON_A_SHARED_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500, deadline=None
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle with hazards and effects, never changed."""
    directory = tmp_path_factory.mktemp("whole") / "bundle"
    timed_bundle(directory)
    return directory


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, int, bytes]:
    """A part, a place in it (taken modulo its length), and what is written there."""
    return (
        draw(st.sampled_from(PARTS)),
        draw(st.integers(0, 100_000)),
        draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"0", b"9", b"-", b"\n", b"e", b"]", b"{"]))
        ),
    )


def mutated(data: bytes, place: int, new: bytes) -> bytes:
    """The data with some bytes written over."""
    at = place % max(len(data), 1)
    return data[:at] + new + data[at + len(new) :]


@given(mutation=mutations())
@ON_A_SHARED_FOLDER
def test_a_changed_byte_is_refused(whole: Path, copy: Path, mutation: tuple[str, int, bytes]) -> None:
    """Nobody gets to parse a part that is not what the manifest promises."""
    path, place, new = mutation
    data = (whole / path).read_bytes()
    damaged = mutated(data, place, new)
    (copy / path).write_bytes(damaged)
    try:
        if damaged == data:
            assert load_bundle(copy, FEATURES).lineage.name == "nba-card"
        else:
            with pytest.raises(BundleError):
                load_bundle(copy, FEATURES)
    finally:
        (copy / path).write_bytes(data)


@given(mutation=mutations())
@ON_A_SHARED_FOLDER
def test_a_changed_byte_with_a_forged_digest_never_crashes(
    whole: Path, copy: Path, mutation: tuple[str, int, bytes]
) -> None:
    """Even where the digest was made to fit, a bundle loads whole or is refused: bounds and golden rows remain."""
    path, place, new = mutation
    damaged = mutated((whole / path).read_bytes(), place, new)
    manifest = json.loads((whole / "manifest.json").read_bytes())
    manifest["parts"][path] = {"sha256": hashlib.sha256(damaged).hexdigest(), "bytes": len(damaged)}
    (copy / path).write_bytes(damaged)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    try:
        with suppress(BundleError):
            bundle = load_bundle(copy, FEATURES)
            assert raw_scores_block(bundle.forest, ROWS).shape == (3, 6)
    finally:
        (copy / path).write_bytes((whole / path).read_bytes())


@given(place=st.integers(0, 100_000), new=st.binary(min_size=1, max_size=6), cut=st.booleans())
@ON_A_SHARED_FOLDER
def test_a_changed_manifest_is_refused_by_its_digest(
    whole: Path, copy: Path, place: int, new: bytes, cut: bool
) -> None:
    """Whoever points at a bundle keeps the manifest's digest; without it damage still never crashes."""
    data = (whole / "manifest.json").read_bytes()
    damaged = data[: place % len(data)] if cut else mutated(data, place, new)
    (copy / "manifest.json").write_bytes(damaged)
    if damaged != data:
        with pytest.raises(BundleError):
            load_bundle(copy, FEATURES, manifest_sha256=hashlib.sha256(data).hexdigest())
    with suppress(BundleError):
        assert load_bundle(copy, FEATURES).lineage.feature_names == FEATURES


@given(
    place=st.integers(0, 100_000), new=st.text("0123456789.-=eE \nabcTnif", min_size=1, max_size=5), cut=st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_text_is_refused_or_scores(place: int, new: str, cut: bool) -> None:
    """A truncated LightGBM text aborts LightGBM; here it is a BundleError."""
    text = next(iter(fitted_heads().boosters.values()))
    at = place % len(text)
    with suppress(BundleError):
        forest = forest_from_text([text[:at] if cut else text[:at] + new + text[at + len(new) :]], len(FEATURES))
        assert raw_scores_block(forest, ROWS).shape == (3, 1)
