"""Small bundles for tests, made by hand: model texts as LightGBM writes them, without LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundle import Bundle, compiled, write_bundle
from models.forest import raw_scores_block
from models.hazards import DAY_US, Periods
from models.heads import (
    ABANDON,
    PROGRESS,
    WAIT_ABANDON,
    WAIT_PROGRESS,
    FittedHeads,
    Head,
    control_head,
    effect_head,
    hazard_head,
    incidence_head,
)
from models.manifest import Lineage
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


PERIODS = Periods((DAY_US, 7 * DAY_US, 14 * DAY_US), 1)


def timed_heads() -> FittedHeads:
    """Hazards of progress, which falls with the dwell and after the first day, and a constant one of abandonment."""
    progress = booster(stump(0, 24.0, 0.0, -1.5), stump(3, 0.5, 0.5, -0.5), n_features=4)
    named = progress.replace(
        "max_feature_idx=3\n", "max_feature_idx=3\nfeature_names=feature_0 feature_1 feature_2 period\n"
    )
    return FittedHeads(
        heads=(
            *(
                Head(name=hazard_head("progress", k), members=(f"progress@{k}",), link="logistic")
                for k in range(len(PERIODS))
            ),
            *(Head(name=hazard_head("abandon", k), link="logistic", mean=-3.0) for k in range(len(PERIODS))),
        ),
        boosters={"progress": named},
        periods=PERIODS,
        n_timed=1,
        incidence=(
            *(
                Head(
                    name=incidence_head("progress", k),
                    members=(f"progress@{k}",),
                    calibration=MonotoneMap("platt", 0.9, 0.1),
                )
                for k in range(len(PERIODS))
            ),
            *(Head(name=incidence_head("abandon", k), members=(f"abandon@{k}",)) for k in range(len(PERIODS))),
        ),
    )


def constant_waits() -> FittedHeads:
    """A quarter progresses within the day, contacted or not, and a quarter leaves: without a tree, on any features."""
    causes = (PROGRESS, ABANDON, WAIT_PROGRESS, WAIT_ABANDON)
    return FittedHeads(
        heads=tuple(Head(name=hazard_head(cause, 0), mean=0.25) for cause in causes),
        boosters={},
        periods=Periods((DAY_US,), 0),
        incidence=tuple(Head(name=incidence_head(cause, 0), members=(f"{cause}@0",)) for cause in causes),
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
    """The small bundle, written and loaded: its stall is that of format 1, without hazards."""
    return written(directory, [fitted_heads()])


def timed_bundle(directory: Path) -> Bundle:
    """Likewise with hazards in place of ``stall`` and ``abandon``."""
    effects = fitted_heads()
    boosters = {name: text for name, text in effects.boosters.items() if name != "stall"}
    return written(directory, [FittedHeads(effects.heads[2:], boosters), timed_heads()])


def written(directory: Path, fitted: Sequence[FittedHeads]) -> Bundle:
    """A bundle of fits, proven by its own scores."""
    raw = raw_scores_block(compiled(fitted, lineage()).forest, ROWS)
    return write_bundle(directory, lineage=lineage(), fitted=fitted, golden_rows=ROWS, golden_raw=raw)


def _words(numbers: Sequence[float]) -> str:
    return " ".join(repr(number) for number in numbers)
