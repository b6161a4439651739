"""The model artefact: one folder of text and arrays that is written, verified and loaded as one; never a pickle.

``manifest.json`` names every other part with its SHA-256; parts are verified before any parser sees them. The manifest
itself is verified by whoever points at the bundle and keeps its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.durable_files import sync_folder, write_durably
from features.errors import BundleError
from models.curves import HazardColumns, curve, hazard_columns
from models.forest import Forest, forest_arrays, forest_from_arrays, forest_from_text, raw_scores_block, score_names
from models.hazards import DAY_US, Periods, periods_from_json
from models.heads import (
    ABANDON,
    PROGRESS,
    STALL,
    WAIT_ABANDON,
    WAIT_PROGRESS,
    FittedHeads,
    Head,
    HeadTable,
    effect_head,
    head_from_json,
    head_table,
    head_values,
)
from models.manifest import Lineage, lineage_of_manifest, manifest_document

FloatArray = NDArray[np.float64]

MANIFEST: Final = "manifest.json"
HEADS: Final = "heads.json"
FOREST: Final = "forest.npz"
GOLDEN: Final = "golden.npz"
GOLDEN_KEYS: Final[dict[int, tuple[str, ...]]] = {
    1: ("rows", "raw", "values", "sigmas"),
    2: ("rows", "raw", "values", "sigmas", "incidence"),
}
"""What the golden rows prove, by format."""
TOLERANCE: Final = 1e-9
"""How far a recomputed golden score may lie from LightGBM's: sums of some hundred leaves agree to 1e-14."""


_EFFECTS: Final = effect_head("", "").rstrip(":") + ":"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle, ready to score.

    Attributes:
        lineage: where it comes from.
        forest: the members.
        heads: what they mean.
        table: the heads as arrays.
        manifest_sha256: names the exact bytes of all of it.
        hazards: of progress and abandonment, among the heads; None where it has none.
        waiting: likewise of stalled customers whom nobody contacts.
        parts: version of each part that it has, ``stall`` and ``uplift``, as answers and records name it.
    """

    lineage: Lineage
    forest: Forest
    heads: tuple[Head, ...]
    table: HeadTable
    manifest_sha256: str
    hazards: HazardColumns | None = None
    waiting: HazardColumns | None = None
    parts: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Name the parts, once for all decisions."""
        names = [head.name for head in self.heads]
        has_stall = self.hazards is not None or STALL in names
        has_uplift = any(name.startswith(_EFFECTS) for name in names)
        found = [part for part, is_there in (("stall", has_stall), ("uplift", has_uplift)) if is_there]
        object.__setattr__(self, "parts", dict.fromkeys(found, self.version))

    @property
    def version(self) -> str:
        """The first twelve digits of its digest."""
        return self.manifest_sha256[:12]


def write_bundle(
    directory: Path, *, lineage: Lineage, fitted: Sequence[FittedHeads], golden_rows: FloatArray, golden_raw: FloatArray
) -> Bundle:
    """The bundle, written to ``directory`` whole or not at all, and loaded from there again.

    Args:
        directory: must not exist; its parent is made.
        lineage: what the manifest says of it.
        fitted: what the fits gave; members lie in the forest in this order.
        golden_rows: ``(n, n_features)`` rows to prove the bundle with at every load; NaN means unknown.
        golden_raw: ``(n, n_scores)`` LightGBM's own raw scores of them, from ``lightgbm_raw_scores`` of the members in
            the order of ``member_texts``.

    Raises:
        BundleError: the directory exists, the parts do not fit together, or the forest does not score the golden rows
            as LightGBM does.
    """
    if directory.exists():
        raise BundleError(
            f"{directory} exists, expected a new folder: a bundle is never changed, register a new version"
        )
    texts, periods, n_timed = member_texts(fitted)
    unwritten = compiled(fitted, lineage)
    heads = unwritten.heads
    rows = np.ascontiguousarray(golden_rows, dtype=np.float64)
    values, sigmas = head_values(unwritten.table, raw_scores_block(unwritten.forest, rows))
    boosters = {name: f"boosters/{place:04d}.txt" for place, name in enumerate(texts)}
    parts = {
        FOREST: _npz(forest_arrays(unwritten.forest)),
        GOLDEN: _npz(
            {
                "rows": rows,
                "raw": golden_raw,
                "values": values,
                "sigmas": sigmas,
                "incidence": _incidence(unwritten, values),
            }
        ),
        HEADS: _json(
            {
                "members": boosters,
                "n_timed": n_timed,
                "periods": None if periods is None else periods.to_json(),
                "heads": [head.to_json() for head in heads],
                "incidence": [head.to_json() for part in fitted for head in part.incidence],
            }
        ),
        **{boosters[name]: text.encode() for name, text in texts.items()},
    }
    manifest = _json(manifest_document(lineage, [head.name for head in heads], parts))
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for path, data in {**parts, MANIFEST: manifest}.items():
            write_durably(staging / path, data)
        bundle = load_bundle(staging, lineage.feature_names)
        staging.chmod(0o755)
        staging.rename(directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_folder(directory.parent)
    return bundle


def member_texts(fitted: Sequence[FittedHeads]) -> tuple[dict[str, str], Periods | None, int]:
    """The members that a bundle of these fits has, in its order: their texts, their periods, how many are timed.

    Timed members come first.

    Raises:
        BundleError: two parts cut the time into different periods.
    """
    cuts = {part.periods for part in fitted if part.periods is not None}
    if len(cuts) > 1:
        raise BundleError(f"parts with the periods {sorted(cuts, key=repr)!r:.200}, expected the same in all")
    timed: dict[str, str] = {}
    others: dict[str, str] = {}
    for part in fitted:
        names = list(part.boosters)
        timed.update({name: part.boosters[name] for name in names[: part.n_timed]})
        others.update({name: part.boosters[name] for name in names[part.n_timed :]})
    return {**timed, **others}, next(iter(cuts), None), len(timed)


def compiled(fitted: Sequence[FittedHeads], lineage: Lineage) -> Bundle:
    """The bundle of these fits as it would be, were it written: without a digest.

    Raises:
        BundleError: the parts do not fit together.
    """
    texts, periods, n_timed = member_texts(fitted)
    n_periods = len(periods) if periods is not None and n_timed else 0
    forest = forest_from_text(list(texts.values()), len(lineage.feature_names), n_timed=n_timed, n_periods=n_periods)
    heads, incidence = (tuple(head for part in fitted for head in getattr(part, of)) for of in ("heads", "incidence"))
    return _assembled(lineage, forest, list(texts), heads, periods, incidence, "")


def _assembled(
    lineage: Lineage,
    forest: Forest,
    members: Sequence[str],
    heads: tuple[Head, ...],
    periods: Periods | None,
    incidence: Sequence[Head],
    digest: str,
) -> Bundle:
    table = head_table(heads, score_names(members, forest.n_timed, forest.n_periods))
    hazards, waiting = (
        hazard_columns(table.names, periods, incidence, causes)
        for causes in ((PROGRESS, ABANDON), (WAIT_PROGRESS, WAIT_ABANDON))
    )
    return Bundle(lineage, forest, heads, table, digest, hazards, waiting)


def _incidence(bundle: Bundle, values: FloatArray) -> FloatArray:
    """``(n, m)`` every calibrated incidence that the heads' values lead to."""
    parts = [np.empty((len(values), 0))]
    for columns in (bundle.hazards, bundle.waiting):
        if columns is not None:
            parts += curve(values, columns).incidence
    return np.concatenate(parts, axis=1)


def load_bundle(directory: Path, feature_names: Sequence[str] | None, *, manifest_sha256: str | None = None) -> Bundle:
    """The bundle in ``directory``, once everything about it is proven.

    Every part's SHA-256 is compared before it is parsed, the forest is bound-checked, and the golden rows are scored
    again.

    Args:
        directory: as ``write_bundle`` left it.
        feature_names: the model vector that the caller computes, in order; None to take the bundle's own, where it is
            only looked at and nothing is scored.
        manifest_sha256: digest that the caller was promised, if any.

    Raises:
        BundleError: whatever is wrong with it.
    """
    data = _read(directory, MANIFEST)
    digest = hashlib.sha256(data).hexdigest()
    if manifest_sha256 is not None and digest != manifest_sha256:
        raise BundleError(
            f"{directory / MANIFEST} has SHA-256 {digest}, expected {manifest_sha256}: restore the bundle"
        )
    manifest = _parsed(data, MANIFEST)
    lineage = lineage_of_manifest(manifest)
    if feature_names is not None and lineage.feature_names != tuple(feature_names):
        raise BundleError(_feature_difference(lineage.feature_names, tuple(feature_names)))
    parts = _verified_parts(directory, manifest["parts"])
    arrays, document = _arrays(parts[FOREST], FOREST), _parsed(parts[HEADS], HEADS)
    if manifest["format"] == 1:
        arrays |= {"n_timed": np.array(0), "n_periods": np.array(0)}
        document |= {"n_timed": 0, "periods": None, "incidence": []}
    forest = forest_from_arrays(arrays)
    members, periods, heads, incidence = _heads(document)
    found = (forest.n_features, forest.n_members, forest.n_timed, forest.n_periods)
    n_timed = document["n_timed"]
    expected = (len(lineage.feature_names), len(members), n_timed, len(periods) if periods and n_timed else 0)
    if found != expected:
        raise BundleError(
            f"a forest of {found[0]} features, {found[1]} members, {found[2]} of them timed, and {found[3]} periods, "
            f"expected {', '.join(map(str, expected))}"
        )
    if [head.name for head in heads] != manifest["heads"]:
        raise BundleError(f"heads {[head.name for head in heads]!r:.200}, expected those of the manifest")
    bundle = _assembled(lineage, forest, members, heads, periods, incidence, digest)
    _prove(bundle, _arrays(parts[GOLDEN], GOLDEN), GOLDEN_KEYS[manifest["format"]])
    return bundle


def booster_text(directory: Path, member: str) -> str:
    """LightGBM's text of one member, for audit and explanations; verified, and never parsed by serving.

    Raises:
        BundleError: there is no such member, or a part is damaged.
    """
    texts = booster_texts(directory)
    if member not in texts:
        raise BundleError(f"{directory} has no member {member!r}, expected one that {HEADS} lists")
    return texts[member]


def booster_texts(directory: Path) -> dict[str, str]:
    """LightGBM's text of every member, by name, likewise.

    Raises:
        BundleError: a part is damaged, or missing.
    """
    parts = _verified_parts(directory, _parsed(_read(directory, MANIFEST), MANIFEST)["parts"])
    members: dict[str, str] = _parsed(parts[HEADS], HEADS)["members"]
    if unknown := [name for name, path in members.items() if path not in parts]:
        raise BundleError(f"{directory} has no text of the member {unknown[0]!r}, expected all that {HEADS} lists")
    return {name: parts[path].decode() for name, path in members.items()}


def golden_rows(directory: Path) -> FloatArray:
    """``(n, n_features)`` the rows that a bundle is proven with, likewise.

    Raises:
        BundleError: a part is damaged.
    """
    parts = _verified_parts(directory, _parsed(_read(directory, MANIFEST), MANIFEST)["parts"])
    rows: FloatArray = _arrays(parts[GOLDEN], GOLDEN)["rows"]
    return rows


def _verified_parts(directory: Path, listed: object) -> dict[str, bytes]:
    """The bytes of every part, each as the manifest promises it."""
    if not isinstance(listed, dict) or not {FOREST, HEADS, GOLDEN} <= set(listed):
        raise BundleError(f"manifest parts {listed!r:.200}, expected at least {FOREST}, {HEADS} and {GOLDEN}")
    parts = {}
    for path, promise in listed.items():
        if path not in (FOREST, HEADS, GOLDEN) and not _is_booster(path):
            raise BundleError(f"manifest names the part {path!r:.200}, expected boosters/<number>.txt")
        data = _read(directory, path)
        found = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        if found != promise:
            raise BundleError(f"{directory / path} is {found}, expected {promise!r:.200}: restore the bundle")
        parts[path] = data
    return parts


def _is_booster(path: str) -> bool:
    folder, _, name = path.partition("/")
    stem, _, suffix = name.partition(".")
    return folder == "boosters" and stem.isascii() and stem.isdigit() and suffix == "txt"


def _heads(document: dict[str, Any]) -> tuple[list[str], Periods | None, tuple[Head, ...], tuple[Head, ...]]:
    members, heads, incidence = document.get("members"), document.get("heads"), document.get("incidence")
    expected = {"members", "n_timed", "periods", "heads", "incidence"}
    lists = isinstance(heads, list) and isinstance(incidence, list)
    if set(document) != expected or not isinstance(members, dict) or not lists:
        raise BundleError(f"{HEADS} holds {sorted(document)!r:.200}, expected {sorted(expected)}")
    periods = None if document["periods"] is None else periods_from_json(document["periods"])
    read = [tuple(head_from_json(head) for head in document[key]) for key in ("heads", "incidence")]
    return list(members), periods, read[0], read[1]


def _prove(bundle: Bundle, golden: Mapping[str, NDArray[Any]], keys: Sequence[str]) -> None:
    """Score the golden rows again and compare with LightGBM's scores and with the values at writing.

    Raises:
        BundleError: a shape or a score differs.
    """
    rows, width = golden.get("rows"), bundle.forest.n_features
    if set(golden) != set(keys) or rows is None or rows.ndim != 2 or rows.shape[1] != width:
        raise BundleError(f"{GOLDEN} holds {sorted(golden)}, expected {sorted(keys)}, rows of {width} features")
    if any(array.dtype != np.float64 for array in golden.values()):
        raise BundleError(f"{GOLDEN} holds other numbers than 64-bit floats; the file is damaged")
    raw = raw_scores_block(bundle.forest, rows)
    values, sigmas = head_values(bundle.table, raw)
    every = {"raw": raw, "values": values, "sigmas": sigmas, "incidence": _incidence(bundle, values)}
    for name, computed in ((name, every[name]) for name in keys if name != "rows"):
        expected = golden[name]
        if expected.shape != computed.shape:
            raise BundleError(f"{GOLDEN}: {name} has shape {expected.shape}, expected {computed.shape}")
        if not np.allclose(computed, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            worst = float(np.nanmax(np.abs(computed - expected)))
            raise BundleError(
                f"{GOLDEN}: {name} scored again differ by {worst:.3g}, expected at most {TOLERANCE}: the forest does "
                f"not score as the boosters did; train again"
            )


def _feature_difference(bundled: tuple[str, ...], expected: tuple[str, ...]) -> str:
    unknown = [name for name in bundled if name not in expected][:5]
    missing = [name for name in expected if name not in bundled][:5]
    return (
        f"a bundle for {len(bundled)} features, expected the {len(expected)} of this configuration in the same order "
        f"(only in the bundle: {unknown}; only here: {missing}): train again with this configuration"
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not JSON: {error}; restore the bundle") from error
    if not isinstance(document, dict):
        raise BundleError(f"{name} holds {document!r:.100}, expected an object")
    return document


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # what the zip and array readers raise on damaged bytes is no closed list
        raise BundleError(f"{name} is not an archive of arrays: {error}; restore the bundle") from error


def _read(directory: Path, path: str) -> bytes:
    try:
        return (directory / path).read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {directory / path}: {error.strerror}; expected a whole bundle") from error


def check_horizon(bundle: Bundle, horizon_us: int) -> None:
    """Refuse a stall propensity that refers to another time than answers say: a wrong number, silently.

    Raises:
        BundleError: it does.
    """
    if bundle.hazards is not None and bundle.hazards.periods.horizon_us != horizon_us:
        trained, asked = (us / DAY_US for us in (bundle.hazards.periods.horizon_us, horizon_us))
        raise BundleError(
            f"a stall model of a horizon of {trained:g} days, expected the journey's {asked:g} days: train again with "
            f"this configuration"
        )
