"""The forest's two layouts give one score, to the last bit, whatever the trees and whatever is known of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.forest import Forest, forest_from_text, raw_scores_block
from models.forest_blocks import SMALLEST_BLOCK, BlockForest
from tests.boosters import booster, stump, tree

N_FEATURES = 4
PLAIN = (0, 2, 8, 10)
"""Decision types of numbers: missing none or NaN, default right or left."""
OTHER = (1, 4, 6)
"""Categories, and zero as missing."""
VALUES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-36, 0.5, -0.5, 1.0, 2.0, 33.0])


def grown(rng: np.random.Generator, n_leaves: int, kinds: tuple[int, ...], *, is_timed: bool = False) -> dict[str, str]:
    """A tree grown leaf by leaf, numbered as LightGBM numbers it; a timed one also splits on the period."""
    left, right, decision, threshold = [], [], [], []
    sets: list[list[int]] = []
    for node in range(n_leaves - 1):
        split = int(rng.integers(node + 1))
        for side in (left, right):
            for parent, child in enumerate(side):
                if child == ~split:
                    side[parent] = node
        left.append(~split)
        right.append(~(node + 1))
        kind = int(rng.choice(kinds))
        decision.append(kind)
        threshold.append(float(len(sets)) if kind & 1 else float(rng.choice([-0.5, 0.0, 0.5, 1.0])))
        if kind & 1:
            sets.append([int(rng.integers(1, 16)), 2])
    return tree(
        feature=rng.integers(N_FEATURES + is_timed, size=n_leaves - 1).tolist(),
        threshold=threshold,
        decision=decision,
        left=left,
        right=right,
        leaves=rng.normal(size=n_leaves).tolist(),
        sets=sets,
    )


def forest(rng: np.random.Generator) -> Forest:
    """Members of several trees of any depth; some are timed, some hold splits that only the plain walk knows."""
    n_timed, n_periods = int(rng.integers(0, 3)), int(rng.integers(1, 5))
    texts = []
    for _ in range(n_timed):
        sizes = rng.integers(1, 9, size=int(rng.integers(0, 4))).tolist()
        text = booster(*(grown(rng, size, (0,), is_timed=True) for size in sizes), n_features=N_FEATURES + 1)
        names = " ".join(f"feature_{place}" for place in range(N_FEATURES))
        wide = f"max_feature_idx={N_FEATURES}\n"
        texts.append(text.replace(wide, f"{wide}feature_names={names} period\n"))
    for _ in range(int(rng.integers(1, 5))):
        kinds = PLAIN if rng.random() < 0.6 else (*PLAIN, *OTHER)
        sizes = rng.integers(1, 9, size=int(rng.integers(0, 5))).tolist()
        texts.append(booster(*(grown(rng, size, kinds) for size in sizes), n_features=N_FEATURES))
    return forest_from_text(texts, N_FEATURES, n_timed=n_timed, n_periods=n_periods if n_timed else 0)


@given(seed=st.integers(0, 10**6), n_rows=st.integers(0, 300))
@settings(deadline=None)
def test_blocks_score_as_rows_do(seed: int, n_rows: int) -> None:
    """Blocks that are not full, short ones, empty ones; unknown, infinite and zero values."""
    rng = np.random.default_rng(seed)
    scored = forest(rng)
    x = rng.choice(VALUES, size=(n_rows, N_FEATURES))

    assert np.array_equal(BlockForest(scored).raw_scores(x), raw_scores_block(scored, x))


def test_rows_of_another_length_are_refused() -> None:
    """The jitted code would read beyond them."""
    scored = forest_from_text([booster(stump(0, 0.0, 1.0, 2.0), n_features=N_FEATURES)])

    with pytest.raises(ValueError, match=rf"expected \(n_rows, {N_FEATURES}\)"):
        BlockForest(scored).raw_scores(np.zeros((SMALLEST_BLOCK, N_FEATURES + 1)))


def test_rows_need_not_be_contiguous() -> None:
    """A slice of a larger table scores as its copy does."""
    scored = forest(np.random.default_rng(1))
    table = np.random.default_rng(2).normal(size=(40, 2 * N_FEATURES))

    found = BlockForest(scored).raw_scores(table[:, ::2])

    assert np.array_equal(found, raw_scores_block(scored, np.ascontiguousarray(table[:, ::2])))
