"""Small bundles for tests, made by hand: model texts as LightGBM writes them, without LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundle import Bundle, Lineage, write_bundle
from models.forest import forest_from_text, raw_scores_block
from models.heads import FittedHeads, Head, control_head, effect_head
from models.monotone import MonotoneMap

FEATURES = ("dwell_hours", "n_contacts", "channel_code")


def tree(
    *,
    feature: Sequence[int] = (),
    threshold: Sequence[float] = (),
    decision: Sequence[int] = (),
    left: Sequence[int] = (),
    right: Sequence[int] = (),
    leaves: Sequence[float],
    sets: Sequence[Sequence[int]] = (),
) -> dict[str, str]:
    """One tree as the lines of its block; ``sets`` are the words of its category sets."""
    block = {
        "num_leaves": str(len(leaves)),
        "num_cat": str(len(sets)),
        "split_feature": _words(feature),
        "threshold": _words(threshold),
        "decision_type": _words(decision),
        "left_child": _words(left),
        "right_child": _words(right),
        "leaf_value": _words(leaves),
    }
    if sets:
        block["cat_boundaries"] = _words([0, *np.cumsum([len(words) for words in sets]).tolist()])
        block["cat_threshold"] = _words([word for words in sets for word in words])
    return {**block, "is_linear": "0", "shrinkage": "1"}


def stump(feature: int, threshold: float, left: float, right: float, *, decision: int = 2) -> dict[str, str]:
    """One split: ``left`` at or below the threshold, ``right`` above; unknown counts as zero by default."""
    return tree(
        feature=[feature], threshold=[threshold], decision=[decision], left=[-1], right=[-2], leaves=[left, right]
    )


def booster(*trees: dict[str, str], n_features: int = len(FEATURES)) -> str:
    """The text of a booster of these trees."""
    header = f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx={n_features - 1}\n"
    blocks = [
        f"\nTree={place}\n" + "\n".join(f"{key}={value}" for key, value in block.items()) + "\n"
        for place, block in enumerate(trees)
    ]
    return header + "".join(blocks) + "\nend of trees\n"


def fitted_heads() -> FittedHeads:
    """Stall, abandon, one control and three effects: a model of two members, a mean, and one clipped at 1."""
    large = effect_head("visit", "large_offer")
    email = effect_head("visit", "email")
    return FittedHeads(
        heads=(
            Head(name="stall", members=("stall",), link="logistic", calibration=MonotoneMap("platt", 2.0, 0.5)),
            Head(name="abandon", link="logistic", mean=-2.0),
            Head(name=control_head("visit"), members=("control",), link="logistic"),
            Head(
                name=email,
                members=(f"{email}#0", f"{email}#1"),
                mean=0.02,
                mean_se=0.01,
                weight=0.5,
                spread="jackknife",
                facts={"n_treated": 400, "randomised": True},
            ),
            Head(name=effect_head("visit", "call"), mean=0.03, mean_se=0.004, spread="jackknife", sigma_floor=0.005),
            Head(name=large, mean=0.99, mean_se=0.1, spread="jackknife"),
        ),
        boosters={
            "stall": booster(stump(0, 24.0, -1.0, 1.0), stump(1, 0.5, 0.25, -0.25)),
            "control": booster(stump(1, 1.5, -1.0, 0.0)),
            f"{email}#0": booster(stump(0, 24.0, 0.0, 0.10)),
            f"{email}#1": booster(stump(0, 24.0, 0.02, 0.06)),
        },
    )


ROWS = np.array([[1.0, 0.0, 2.0], [48.0, 3.0, np.nan], [np.nan, np.nan, 0.0]])


def lineage() -> Lineage:
    """Where the small bundle comes from."""
    return Lineage(
        name="nba-card",
        journey_id="card",
        created_at=1_700_000_000_000_000,
        feature_names=FEATURES,
        features_version="nba_v1",
        configuration={"taxonomy": "t1", "journeys": "j1", "actions": "a1", "policy": "p1"},
        training={"fingerprint": "f1", "watermark": 12, "n_rows": 400, "cut_off": "2023-11-01T00:00:00+00:00"},
        metrics={"stall": {"auc": 0.75, "slope": float("nan")}},
    )


def small_bundle(directory: Path) -> Bundle:
    """The small bundle, written and loaded."""
    fitted = fitted_heads()
    raw = raw_scores_block(forest_from_text(list(fitted.boosters.values())), ROWS)
    return write_bundle(directory, lineage=lineage(), fitted=[fitted], golden_rows=ROWS, golden_raw=raw)


def _words(numbers: Sequence[float]) -> str:
    return " ".join(repr(number) for number in numbers)
