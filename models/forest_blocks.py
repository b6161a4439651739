"""The forest laid out for many rows: the scores of ``raw_scores_block`` to the last bit, about four times faster.

One row waits at every node for a comparison that the processor cannot guess. Here 128 rows step down a tree together,
without a branch: the rows are turned so that a feature of all of them lies side by side, and leaves lead to
themselves, so that every row takes as many steps as the tree is deep. A timed tree is walked once for each run of
periods that it does not tell apart. What does not fit that (splits on categories, zero as missing) is left to the plain
walk.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.forest import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    MISSING_ZERO,
    ROWS_PER_BLOCK,
    Forest,
    raw_scores_block,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
Unsigned = NDArray[np.uint32]
"""Indices that are never below zero, which the compiler then does not ask: half of the time."""

SMALLEST_BLOCK: Final = 16
"""Fewer rows than this are not worth turning."""


class BlockForest:
    """A checked forest in another layout: nodes and leaves in one array, a leaf being a node that leads to itself.

    Args:
        forest: not changed, and kept.
    """

    def __init__(self, forest: Forest) -> None:
        n_nodes, n_leaves = len(forest.feature), len(forest.value)
        self._forest = forest
        # The period comes last: it is no feature of the customer, and turned rows have a place of their own for it.
        self._used = np.unique(forest.feature[forest.feature < forest.n_features])
        missing = forest.decision >> 2
        unknown_left = np.where(missing == MISSING_NAN, (forest.decision & DEFAULT_LEFT) != 0, forest.threshold >= 0)
        leaves = np.arange(n_nodes, n_nodes + n_leaves)
        self._feature = np.r_[np.searchsorted(self._used, forest.feature), np.zeros(n_leaves)].astype(np.uint32)
        self._threshold = np.r_[forest.threshold, np.zeros(n_leaves)]
        self._unknown_left = np.r_[unknown_left, np.zeros(n_leaves, dtype=np.bool_)]
        sides = [np.r_[_below(side, n_nodes), leaves] for side in (forest.right, forest.left)]
        self._child = np.stack(sides, axis=1).astype(np.uint32)
        self._value = np.r_[np.zeros(n_nodes), forest.value]
        self._root = _below(forest.root, n_nodes).astype(np.uint32)
        self._depth = _depths(forest, self._child)
        is_other = ((forest.decision & CATEGORICAL) != 0) | (missing == MISSING_ZERO)
        in_tree = np.r_[0, np.cumsum(is_other)][forest.node_start]
        others = in_tree[forest.member_start[1:]] > in_tree[forest.member_start[:-1]]
        others[: forest.n_timed] = others[: forest.n_timed].any()
        self._is_plain: NDArray[np.bool_] = ~others
        self._run_start, self._runs = _runs(forest)
        # Members in order, and the timed ones' first columns: each of them has one score for every period.
        self._column = np.arange(forest.n_members) + forest.n_timed * (forest.n_periods - 1)

    def raw_scores(self, x: FloatArray) -> FloatArray:
        """What ``raw_scores_block`` gives for the same rows.

        Args:
            x: ``(n_rows, n_features)``; NaN means unknown.

        Raises:
            ValueError: ``x`` does not have the forest's number of features.
        """
        forest = self._forest
        if x.ndim != 2 or x.shape[1] != forest.n_features or x.shape[0] < SMALLEST_BLOCK:
            return raw_scores_block(forest, x)
        out = np.zeros((x.shape[0], forest.n_scores))
        _descend(
            np.ascontiguousarray(x, dtype=np.float64),
            self._used,
            self._is_plain,
            self._column,
            forest.n_timed,
            forest.n_periods,
            self._run_start,
            self._runs,
            forest.member_start,
            self._root,
            self._depth,
            self._feature,
            self._threshold,
            self._unknown_left,
            self._child,
            self._value,
            out,
        )
        n_timed = forest.n_timed
        if not self._is_plain[:n_timed].all():
            timed = replace(forest, member_start=forest.member_start[: n_timed + 1])
            out[:, : timed.n_scores] = raw_scores_block(timed, x)
        for member in n_timed + np.flatnonzero(~self._is_plain[n_timed:]):
            alone = replace(forest, n_timed=0, n_periods=0, member_start=forest.member_start[member : member + 2])
            out[:, self._column[member]] = raw_scores_block(alone, x)[:, 0]
        return out


def _below(side: IntArray, n_nodes: int) -> NDArray[np.int64]:
    """Children with leaves after all nodes, in place of below zero."""
    wide = side.astype(np.int64)
    return np.where(wide >= 0, wide, n_nodes + ~wide)


def _depths(forest: Forest, child: Unsigned) -> IntArray:
    """``(n_trees,)`` steps from the root to the deepest leaf."""
    n_nodes = len(forest.feature)
    depth = np.zeros(len(child), dtype=np.int32)
    nodes = forest.root[forest.root >= 0].astype(np.int64)
    steps = 0
    while len(nodes):
        steps += 1
        below = child[nodes].ravel().astype(np.int64)
        depth[below] = steps
        nodes = below[below < n_nodes]
    if not len(forest.root):
        return np.empty(0, dtype=np.int32)
    return np.maximum.reduceat(depth[n_nodes:], forest.leaf_start[:-1]).astype(np.int32)


def _runs(forest: Forest) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of periods that a timed tree does not tell apart, by their first period.

    Returns:
        ``(n_timed_trees + 1,)`` each tree's first run, and the runs' first periods.
    """
    n_trees = int(forest.member_start[forest.n_timed])
    found = []
    for tree in range(n_trees):
        nodes = slice(forest.node_start[tree], forest.node_start[tree + 1])
        cuts = forest.threshold[nodes][forest.feature[nodes] == forest.n_features]
        later = np.floor(cuts) + 1
        found.append(np.unique(np.r_[0, later[(later > 0) & (later < forest.n_periods)]]).astype(np.int64))
    start = np.cumsum([0, *(len(runs) for runs in found)], dtype=np.int64)
    return start, np.concatenate(found) if found else np.empty(0, dtype=np.int64)


@njit(cache=True, nogil=True)
def _step_down(
    turned: FloatArray,
    at: Unsigned,
    n: int,
    root: int,
    depth: int,
    feature: Unsigned,
    threshold: FloatArray,
    unknown_left: NDArray[np.bool_],
    child: Unsigned,
) -> None:
    """Set ``at`` to the leaf of every row."""
    # All rows are at the root: its feature is read in a row, which the compiler turns into wide loads.
    place, cut, unknown, right, left = (
        feature[root],
        threshold[root],
        unknown_left[root],
        child[root, 0],
        child[root, 1],
    )
    for row in range(n):
        v = turned[place, row]
        at[row] = left if (v <= cut) | ((v != v) & unknown) else right
    for _ in range(1, depth):
        for row in range(n):
            node = at[row]
            v = turned[feature[node], row]
            goes_left = (v <= threshold[node]) | ((v != v) & unknown_left[node])
            at[row] = child[node, np.uint32(goes_left)]


def _descend_rows(
    x: FloatArray,
    used: IntArray,
    is_plain: NDArray[np.bool_],
    column: NDArray[np.int64],
    n_timed: int,
    n_periods: int,
    run_start: NDArray[np.int64],
    runs: NDArray[np.int64],
    member_start: IntArray,
    root: Unsigned,
    depth: IntArray,
    feature: Unsigned,
    threshold: FloatArray,
    unknown_left: NDArray[np.bool_],
    child: Unsigned,
    value: FloatArray,
    out: FloatArray,
) -> None:
    """Add every plain member's leaves to ``out``, in LightGBM's order of addition."""
    n_used = used.shape[0]
    turned = np.empty((n_used + 1, ROWS_PER_BLOCK))
    turned[n_used] = 0.0
    at = np.empty(ROWS_PER_BLOCK, dtype=np.uint32)
    total = np.empty((max(n_periods, 1), ROWS_PER_BLOCK))
    for first in range(0, x.shape[0], ROWS_PER_BLOCK):
        n = min(ROWS_PER_BLOCK, x.shape[0] - first)
        for place in range(n_used):
            for row in range(n):
                turned[place, row] = x[first + row, used[place]]
        for member in range(is_plain.shape[0]):
            if not is_plain[member]:
                continue
            total[:] = 0.0
            for tree in range(member_start[member], member_start[member + 1]):
                if member >= n_timed:
                    _step_down(turned, at, n, root[tree], depth[tree], feature, threshold, unknown_left, child)
                    for row in range(n):
                        total[0, row] += value[at[row]]
                    continue
                for run in range(run_start[tree], run_start[tree + 1]):
                    end = runs[run + 1] if run + 1 < run_start[tree + 1] else n_periods
                    turned[n_used] = runs[run]
                    _step_down(turned, at, n, root[tree], depth[tree], feature, threshold, unknown_left, child)
                    for period in range(runs[run], end):
                        for row in range(n):
                            total[period, row] += value[at[row]]
            if member >= n_timed:
                for row in range(n):
                    out[first + row, column[member]] = total[0, row]
            else:
                for row in range(n):
                    for period in range(n_periods):
                        out[first + row, member * n_periods + period] = total[period, row]


_descend = njit(cache=True, nogil=True)(_descend_rows)
