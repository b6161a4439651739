"""LightGBM trees as flat arrays: parsed from model text, bound-checked, evaluated by jitted code.

Many boosters lie in one forest; each is one *member*, and one call gives the raw score of every member. The first
members may be *timed*: they also split on a period, which is no feature of the customer, and give one score for each;
one walk down a tree serves all periods. Nothing here imports LightGBM: serving must not, and a damaged LightGBM text
aborts the process that parses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.errors import BundleError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]

# LightGBM's decision_type byte (include/LightGBM/tree.h): bit 0 categorical, bit 1 default left, bits 2-3 missing type.
CATEGORICAL: Final = 1
DEFAULT_LEFT: Final = 2
MISSING_ZERO: Final = 1
MISSING_NAN: Final = 2
_MISSING_LARGEST: Final = MISSING_NAN
_ZERO: Final = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold, a float there: what lies within it of zero is zero."""
_INT_END: Final = 2147483648.0
"""Categories are cast to a 32-bit integer; beyond it the cast gives a negative number, which goes right."""
_MOST_PERIODS: Final = 64
ROWS_PER_BLOCK: Final = 128
"""Rows that walk one tree before the next tree: their features and the tree stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """All trees of all members, node by node. Immutable once built; a child below zero is ``~leaf``.

    Attributes:
        n_features: length of the vectors that it scores.
        n_timed: how many members, the first ones, are timed. They see the number of the period as feature
            ``n_features``, which no other member may split on.
        n_periods: how many periods there are; 0 where no member is timed.
        member_start: ``(n_members + 1,)`` index of each member's first tree.
        root: ``(n_trees,)`` first node of each tree, or ``~leaf`` for a tree of one leaf.
        node_start: ``(n_trees + 1,)`` each tree's nodes.
        leaf_start: ``(n_trees + 1,)`` each tree's leaves.
        feature: ``(n_nodes,)`` index of the feature that splits.
        threshold: ``(n_nodes,)`` largest value that goes left; for a categorical split the index of its set.
        decision: ``(n_nodes,)`` LightGBM's decision type.
        left: ``(n_nodes,)`` child of the rows that pass.
        right: ``(n_nodes,)`` child of the others.
        value: ``(n_leaves,)`` raw score, shrinkage included.
        set_start: ``(n_sets + 1,)`` each categorical set's first word.
        set_bits: ``(n_words,)`` the categories that go left, 32 a word.
    """

    n_features: int
    n_timed: int
    n_periods: int
    member_start: IntArray
    root: IntArray
    node_start: IntArray
    leaf_start: IntArray
    feature: IntArray
    threshold: FloatArray
    decision: NDArray[np.uint8]
    left: IntArray
    right: IntArray
    value: FloatArray
    set_start: IntArray
    set_bits: NDArray[np.uint32]

    @property
    def n_members(self) -> int:
        """Number of boosters."""
        return len(self.member_start) - 1

    @property
    def n_scores(self) -> int:
        """Number of raw scores of a row: one for each period of each timed member, then one for each other member."""
        return self.n_timed * self.n_periods + self.n_members - self.n_timed

    @property
    def n_trees(self) -> int:
        """Number of trees over all members."""
        return len(self.root)


_DTYPES: Final[dict[str, Any]] = {
    "member_start": np.int32,
    "root": np.int32,
    "node_start": np.int32,
    "leaf_start": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "decision": np.uint8,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
    "set_start": np.int32,
    "set_bits": np.uint32,
}


def raw_scores(forest: Forest, x: FloatArray) -> FloatArray:
    """The raw scores of every member for one customer.

    Args:
        forest: a checked forest.
        x: ``(n_features,)``; NaN means unknown.

    Returns:
        ``(n_scores,)``, equal to ``Booster.predict(raw_score=True)``.
    """
    only: FloatArray = raw_scores_block(forest, x.reshape(1, -1))[0]
    return only


def raw_scores_block(forest: Forest, x: FloatArray) -> FloatArray:
    """The raw scores of every member for many customers.

    Args:
        forest: a checked forest.
        x: ``(n_rows, n_features)``; NaN means unknown.

    Returns:
        ``(n_rows, n_scores)``, as ``score_names`` orders them; each row is exactly what ``raw_scores`` gives for it.

    Raises:
        ValueError: ``x`` does not have the forest's number of features; the jitted code would read beyond it.
    """
    if x.ndim != 2 or x.shape[1] != forest.n_features:
        raise ValueError(f"got rows of shape {x.shape}, expected (n_rows, {forest.n_features})")
    out = np.zeros((x.shape[0], forest.n_scores))
    _walk(
        np.ascontiguousarray(x, dtype=np.float64),
        forest.n_timed,
        forest.n_periods,
        forest.member_start,
        forest.root,
        forest.feature,
        forest.threshold,
        forest.decision,
        forest.left,
        forest.right,
        forest.value,
        forest.set_start,
        forest.set_bits,
        out,
    )
    return out


def score_name(member: str, period: int) -> str:
    """The name of a timed member's raw score in a period."""
    return f"{member}@{period}"


def score_names(members: Sequence[str], n_timed: int, n_periods: int) -> tuple[str, ...]:
    """The names of a forest's raw scores: ``<member>@<period>`` for the timed members, then the others' own names.

    >>> score_names(("progress", "control"), 1, 2)
    ('progress@0', 'progress@1', 'control')
    """
    timed = [score_name(member, period) for member in members[:n_timed] for period in range(n_periods)]
    return (*timed, *members[n_timed:])


@njit(cache=True, nogil=True)
def _goes_left(v: float, kind: int, threshold: float, set_start: IntArray, set_bits: NDArray[np.uint32]) -> bool:
    """LightGBM's NumericalDecision and CategoricalDecision."""
    if kind & CATEGORICAL:
        if not (v > -1.0 and v < _INT_END):
            return False
        category, which = int(v), int(threshold)
        word = set_start[which] + (category >> 5)
        if word >= set_start[which + 1]:
            return False
        return bool((set_bits[word] >> np.uint32(category & 31)) & np.uint32(1) != 0)
    missing = kind >> 2
    unknown = np.isnan(v)
    if unknown and missing != MISSING_NAN:
        v, unknown = 0.0, False
    if unknown or (missing == MISSING_ZERO and v >= -_ZERO and v <= _ZERO):
        return (kind & DEFAULT_LEFT) != 0
    return v <= threshold


def _walk_rows(
    x: FloatArray,
    n_timed: int,
    n_periods: int,
    member_start: IntArray,
    root: IntArray,
    feature: IntArray,
    threshold: FloatArray,
    decision: NDArray[np.uint8],
    left: IntArray,
    right: IntArray,
    value: FloatArray,
    set_start: IntArray,
    set_bits: NDArray[np.uint32],
    out: FloatArray,
) -> None:
    """Add every tree's leaf to ``out``, in LightGBM's order of addition."""
    n_rows, n_features = x.shape
    # Branches that some periods still have to take: a split on the period parts those before from those after.
    waiting = np.empty((n_periods + 1, 3), dtype=np.int64)
    for first in range(0, n_rows, ROWS_PER_BLOCK):
        last = min(first + ROWS_PER_BLOCK, n_rows)
        for member in range(n_timed):
            column = member * n_periods
            for tree in range(member_start[member], member_start[member + 1]):
                for row in range(first, last):
                    waiting[0, 0], waiting[0, 1], waiting[0, 2] = root[tree], 0, n_periods
                    n_waiting = 1
                    while n_waiting:
                        n_waiting -= 1
                        node, start, end = waiting[n_waiting]
                        while node >= 0:
                            if feature[node] == n_features:
                                middle = int(min(max(np.floor(threshold[node]) + 1.0, start), end))
                                if middle == start:
                                    node = right[node]
                                elif middle == end:
                                    node = left[node]
                                else:
                                    waiting[n_waiting, 0] = right[node]
                                    waiting[n_waiting, 1], waiting[n_waiting, 2] = middle, end
                                    n_waiting += 1
                                    node, end = left[node], middle
                            elif _goes_left(
                                x[row, feature[node]], decision[node], threshold[node], set_start, set_bits
                            ):
                                node = left[node]
                            else:
                                node = right[node]
                        for period in range(start, end):
                            out[row, column + period] += value[~node]
        column = n_timed * n_periods - n_timed
        for member in range(n_timed, member_start.shape[0] - 1):
            for tree in range(member_start[member], member_start[member + 1]):
                for row in range(first, last):
                    node = root[tree]
                    while node >= 0:
                        if _goes_left(x[row, feature[node]], decision[node], threshold[node], set_start, set_bits):
                            node = left[node]
                        else:
                            node = right[node]
                    out[row, column + member] += value[~node]


_walk = njit(cache=True, nogil=True)(_walk_rows)


PERIOD: Final = "period"
"""What timed boosters call the number of the period."""
_COLUMN: Final = "feature_"


def column_name(place: int) -> str:
    """What boosters call a feature of the model vector, by its place there: the names of the vector are not theirs.

    >>> column_name(12)
    'feature_12'
    """
    return f"{_COLUMN}{place}"


def forest_from_text(
    texts: Sequence[str], n_features: int | None = None, *, n_timed: int = 0, n_periods: int = 0
) -> Forest:
    """The forest of many boosters, one member each, in the order given.

    A booster that was trained on some of the features says which: it calls them ``column_name``.

    Args:
        texts: what ``Booster.model_to_string()`` gives.
        n_features: length of the model vector; taken from the first text if None.
        n_timed: how many of the boosters, the first ones, are timed.
        n_periods: how many periods there are.

    Raises:
        BundleError: a text that is not a LightGBM model, has several scores a row, linear leaves or averaged output,
            was trained on another number of features, or breaks a bound of ``check_forest``.
    """
    builder = _Builder()
    for text in texts:
        builder.add_booster(text, n_features)
    if n_features is None:
        n_features = builder.widths[0] if builder.widths else 0
    if wrong := [width for width in builder.widths if width != n_features]:
        raise BundleError(
            f"a booster trained on {wrong[0]} features, expected {n_features}; train it on the feature list"
        )
    forest = builder.forest(n_features, n_timed, n_periods)
    check_forest(forest)
    return forest


def booster_columns(names: Sequence[str], n_features: int) -> list[int] | None:
    """Where a booster's features lie in the model vector, the period behind its end; None where it names none.

    Raises:
        BundleError: a name is no column of the vector.
    """
    if not all(name == PERIOD or name.startswith(_COLUMN) for name in names):
        return None
    places = [n_features if name == PERIOD else _place(name) for name in names]
    if wrong := [name for name, place in zip(names, places, strict=True) if not 0 <= place <= n_features]:
        raise BundleError(f"a booster trained on {wrong[0]!r:.100}, expected columns of {n_features} features")
    if len(set(places)) != len(places) or (n_features in places) != (PERIOD in names):
        raise BundleError(f"a booster trained on columns {list(names)!r:.200}, expected each once")
    return places


def _place(name: str) -> int:
    digits = name.removeprefix(_COLUMN)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1


class _Builder:
    """Collects trees and shifts their indices to where they stand in the forest."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in _DTYPES}
        for name in ("member_start", "node_start", "leaf_start", "set_start"):
            self._columns[name].append(0)

    def add_booster(self, text: str, n_features: int | None) -> None:
        header, *trees = _blocks(text)
        if header.get("num_tree_per_iteration") != "1":
            found = header.get("num_tree_per_iteration")
            raise BundleError(f"num_tree_per_iteration={found} in a LightGBM text, expected 1: one score a row")
        if "average_output" in header:
            raise BundleError("average_output in a LightGBM text, expected boosted trees (not boosting=rf)")
        width = _whole(header, "max_feature_idx") + 1
        names = header.get("feature_names", "").split()
        places = booster_columns(names, n_features) if n_features is not None and names else None
        if places is not None and len(places) != width:
            raise BundleError(f"{len(places)} feature names in a LightGBM text, expected {width}; the text is damaged")
        self.widths.append(width if places is None or n_features is None else n_features)
        for tree in trees:
            self._add_tree(tree, places)
        self._columns["member_start"].append(len(self._columns["root"]))

    def _add_tree(self, tree: Mapping[str, str], places: Sequence[int] | None) -> None:
        columns = self._columns
        n_leaves = _whole(tree, "num_leaves")
        if tree.get("is_linear", "0") != "0":
            raise BundleError("linear leaves in a LightGBM text, expected constant ones (linear_tree=false)")
        first_node, first_leaf, first_set = (
            len(columns["feature"]),
            len(columns["value"]),
            len(columns["set_start"]) - 1,
        )
        n_nodes = n_leaves - 1
        columns["root"].append(first_node if n_nodes else ~first_leaf)
        columns["value"] += _numbers(tree, "leaf_value", n_leaves, float)
        if n_nodes:
            split = _numbers(tree, "split_feature", n_nodes, int)
            if places is not None and not all(0 <= one < len(places) for one in split):
                raise BundleError("a feature is out of bounds in a LightGBM text; the text is damaged")
            columns["feature"] += split if places is None else [places[one] for one in split]
            decision = _numbers(tree, "decision_type", n_nodes, int)
            columns["decision"] += [kind & 0xFF for kind in decision]
            threshold = _numbers(tree, "threshold", n_nodes, float)
            columns["threshold"] += [
                first_set + bound if kind & CATEGORICAL else bound
                for kind, bound in zip(decision, threshold, strict=True)
            ]
            for side, key in (("left", "left_child"), ("right", "right_child")):
                children = _numbers(tree, key, n_nodes, int)
                columns[side] += [first_node + child if child >= 0 else ~(first_leaf + ~child) for child in children]
            self._add_sets(tree)
        columns["node_start"].append(len(columns["feature"]))
        columns["leaf_start"].append(len(columns["value"]))

    def _add_sets(self, tree: Mapping[str, str]) -> None:
        n_sets = _whole(tree, "num_cat")
        if not n_sets:
            return
        first_word = len(self._columns["set_bits"])
        bounds = _numbers(tree, "cat_boundaries", n_sets + 1, int)
        self._columns["set_start"] += [first_word + bound for bound in bounds[1:]]
        self._columns["set_bits"] += _numbers(tree, "cat_threshold", bounds[-1], int)

    def forest(self, n_features: int, n_timed: int, n_periods: int) -> Forest:
        try:
            arrays = {name: np.array(self._columns[name], dtype=dtype) for name, dtype in _DTYPES.items()}
        except (OverflowError, ValueError) as error:
            raise BundleError(f"a number out of range in a LightGBM text: {error}; the text is damaged") from error
        return Forest(n_features, n_timed, n_periods, **arrays)


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The header, then each tree, as key to value; what follows the trees is left out."""
    body, end, _ = text.partition("\nend of trees")
    if not end or not body.startswith("tree\n"):
        raise BundleError("not a whole LightGBM model text: expected it to start with 'tree' and hold 'end of trees'")
    for block in body.split("\nTree="):
        yield dict(_pair(line) for line in block.splitlines())


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key, value


def _whole(block: Mapping[str, str], key: str) -> int:
    return int(_numbers(block, key, 1, int)[0])


def _numbers(block: Mapping[str, str], key: str, count: int, kind: type[int] | type[float]) -> list[Any]:
    words = block.get(key, "").split()
    if len(words) != count:
        raise BundleError(f"{len(words)} numbers of {key} in a LightGBM text, expected {count}; the text is damaged")
    try:
        return [kind(word) for word in words]
    except ValueError as error:
        raise BundleError(f"{key} in a LightGBM text: {error}; the text is damaged") from error


def check_forest(forest: Forest) -> None:
    """Prove that walking the forest reads inside its arrays and ends.

    Raises:
        BundleError: the first bound that does not hold.
    """
    n_trees, n_nodes, n_leaves = len(forest.root), len(forest.feature), len(forest.value)
    n_sets = len(forest.set_start) - 1
    _require(forest.n_features >= 0, "the number of features is negative")
    _require(0 <= forest.n_timed <= forest.n_members, "more members are timed than there are")
    _require(
        (0 < forest.n_periods <= _MOST_PERIODS) if forest.n_timed else forest.n_periods == 0,
        f"the number of periods is not 1 to {_MOST_PERIODS} for timed members, or not 0 without any",
    )
    for name in ("threshold", "decision", "left", "right"):
        _require(len(getattr(forest, name)) == n_nodes, f"{name} has another length than feature")
    for name, end in (("node_start", n_nodes), ("leaf_start", n_leaves)):
        _require(len(getattr(forest, name)) == n_trees + 1, f"{name} has another length than the trees")
        _require_steps(getattr(forest, name), end, name)
    _require_steps(forest.member_start, n_trees, "member_start")
    _require_steps(forest.set_start, len(forest.set_bits), "set_start")
    _require(bool(np.isfinite(forest.value).all()), "a leaf is not a finite number")
    timed = forest.node_start[forest.member_start[forest.n_timed]]
    bound = np.where(np.arange(n_nodes) < timed, forest.n_features + 1, forest.n_features)
    _require(bool(((forest.feature >= 0) & (forest.feature < bound)).all()), "a feature is out of bounds")
    _require(bool((forest.decision >> 2 <= _MISSING_LARGEST).all()), "a missing type is unknown")
    categorical = (forest.decision & CATEGORICAL) != 0
    sets = forest.threshold[categorical]
    _require(bool(((sets >= 0) & (sets < n_sets) & (sets == np.floor(sets))).all()), "a category set is out of bounds")
    _require(not np.isnan(forest.threshold).any(), "a threshold is not a number")
    # Periods run from 0 and are never unknown; another kind of split on them would be walked otherwise than meant.
    on_period = forest.feature == forest.n_features
    _require(not categorical[on_period].any(), "a period is split as a category")
    _require(not (forest.decision[on_period] >> 2 == MISSING_ZERO).any(), "period 0 is taken for unknown")
    _require(bool(np.isfinite(forest.threshold[on_period]).all()), "a period is split nowhere")
    _check_children(forest)


def _check_children(forest: Forest) -> None:
    nodes, leaves = np.diff(forest.node_start), np.diff(forest.leaf_start)
    _require(bool((leaves == nodes + 1).all()), "a tree does not have one leaf more than nodes")
    expected = np.where(nodes > 0, forest.node_start[:-1], ~forest.leaf_start[:-1])
    _require(bool((forest.root == expected).all()), "a root is not the first node of its tree")
    own = np.arange(len(forest.feature))
    node_end, leaf_first, leaf_end = (
        np.repeat(ends, nodes) for ends in (forest.node_start[1:], forest.leaf_start[:-1], forest.leaf_start[1:])
    )
    for side in (forest.left, forest.right):
        inner = side >= 0
        _require(bool((side[inner] > own[inner]).all()), "a child does not come after its parent")
        _require(bool((side[inner] < node_end[inner]).all()), "a child lies outside its tree")
        leaf = ~side[~inner]
        _require(bool(((leaf >= leaf_first[~inner]) & (leaf < leaf_end[~inner])).all()), "a leaf lies outside its tree")
    # As many children as there are nodes and leaves below the roots: each of them is then reached in one way.
    children = np.concatenate([forest.left, forest.right])
    _require(len(np.unique(children)) == len(children), "a node or a leaf has two parents")


def _require_steps(starts: IntArray, end: int, name: str) -> None:
    _require(
        len(starts) > 0 and starts[0] == 0 and starts[-1] == end and bool((starts[1:] >= starts[:-1]).all()),
        f"{name} does not rise from 0 to {end}",
    )


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise BundleError(f"a forest in which {what}; expected one made from LightGBM text: train again")


def forest_arrays(forest: Forest) -> dict[str, NDArray[Any]]:
    """The forest as named arrays, for ``np.savez``; ``forest_from_arrays`` is its inverse."""
    arrays: dict[str, NDArray[Any]] = {field.name: np.asarray(getattr(forest, field.name)) for field in fields(forest)}
    return arrays


def forest_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Forest:
    """The forest that ``forest_arrays`` described.

    Raises:
        BundleError: an array is missing, has another type or shape, or a bound of ``check_forest`` does not hold.
    """
    wholes = ("n_features", "n_timed", "n_periods")
    if set(arrays) != {*_DTYPES, *wholes}:
        raise BundleError(f"forest arrays {sorted(arrays)}, expected {sorted({*_DTYPES, *wholes})}")
    for name, dtype in _DTYPES.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise BundleError(
                f"forest array {name} is {arrays[name].dtype} of {arrays[name].ndim} dimensions, "
                f"expected {np.dtype(dtype)} of 1"
            )
    for name in wholes:
        if arrays[name].shape != () or arrays[name].dtype.kind != "i":
            raise BundleError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}, expected one integer")
    forest = Forest(
        int(arrays["n_features"]),
        int(arrays["n_timed"]),
        int(arrays["n_periods"]),
        **{name: np.ascontiguousarray(arrays[name]) for name in _DTYPES},
    )
    check_forest(forest)
    return forest


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Where some members split.

    Attributes:
        feature: ``(n_splits,)`` index of the feature.
        threshold: ``(n_splits,)`` largest value that goes left; NaN for a categorical split.
        categories: by feature, the categories that go left in some categorical split.
    """

    feature: IntArray
    threshold: FloatArray
    categories: Mapping[int, frozenset[int]]


def splits_of(forest: Forest, members: Sequence[int]) -> Splits:
    """Every split of some members, by their places in the forest."""
    ends = forest.node_start[forest.member_start]
    nodes = np.concatenate([np.arange(ends[member], ends[member + 1]) for member in members] or [np.empty(0, np.int64)])
    feature, threshold = forest.feature[nodes], forest.threshold[nodes].copy()
    is_categorical = (forest.decision[nodes] & CATEGORICAL) != 0
    categories: dict[int, frozenset[int]] = {}
    for index, which in zip(feature[is_categorical].tolist(), threshold[is_categorical].astype(int), strict=True):
        words = forest.set_bits[forest.set_start[which] : forest.set_start[which + 1]].tolist()
        listed = {32 * place + bit for place, word in enumerate(words) for bit in range(32) if word >> bit & 1}
        categories[index] = categories.get(index, frozenset()) | listed
    threshold[is_categorical] = np.nan
    return Splits(feature, threshold, categories)
