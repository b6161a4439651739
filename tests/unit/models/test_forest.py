"""The flat forest: LightGBM's rules of missing values and categories, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.errors import BundleError
from models.forest import (
    Forest,
    check_forest,
    forest_arrays,
    forest_from_arrays,
    forest_from_text,
    raw_scores,
    raw_scores_block,
)
from tests.boosters import booster, stump, tree

NUMERIC_NONE, NUMERIC_ZERO, NUMERIC_NAN, DEFAULT_LEFT, CATEGORICAL = 0, 4, 8, 2, 1


def score(forest: Forest, *x: float) -> float:
    """The only member's score."""
    return float(raw_scores(forest, np.array(x))[0])


@pytest.mark.parametrize(
    ("decision", "x", "expected"),
    [
        (NUMERIC_NONE, 0.5, 1.0),
        (NUMERIC_NONE, 0.6, 2.0),
        (NUMERIC_NONE, np.nan, 1.0),
        (NUMERIC_NONE, np.inf, 2.0),
        (NUMERIC_NAN, np.nan, 2.0),
        (NUMERIC_NAN | DEFAULT_LEFT, np.nan, 1.0),
        (NUMERIC_NAN, 0.0, 1.0),
        (NUMERIC_ZERO, 0.0, 2.0),
        (NUMERIC_ZERO, 1e-36, 2.0),
        (NUMERIC_ZERO, np.nan, 2.0),
        (NUMERIC_ZERO | DEFAULT_LEFT, 0.0, 1.0),
        (NUMERIC_ZERO, 0.4, 1.0),
    ],
)
def test_a_numeric_split_follows_its_missing_type(decision: int, x: float, expected: float) -> None:
    """At or below the threshold goes left; NaN and zero go where the missing type and the default say."""
    forest = forest_from_text([booster(stump(0, 0.5, 1.0, 2.0, decision=decision), n_features=1)])
    assert expected == score(forest, x)


@pytest.mark.parametrize(
    ("x", "expected"),
    [(1.0, 1.0), (33.0, 1.0), (33.9, 1.0), (2.0, 2.0), (64.0, 2.0), (-1.0, 2.0), (np.nan, 2.0), (1e300, 2.0)],
)
def test_a_categorical_split_looks_the_code_up_in_its_set(x: float, expected: float) -> None:
    """Codes in the set go left; other codes, negative, unknown and huge ones go right."""
    block = tree(
        feature=[0],
        threshold=[0],
        decision=[CATEGORICAL],
        left=[-1],
        right=[-2],
        leaves=[1.0, 2.0],
        sets=[[1 << 1, 1 << 1]],
    )
    assert expected == score(forest_from_text([booster(block, n_features=1)]), x)


def test_category_sets_of_later_trees_are_their_own() -> None:
    """Each tree counts its sets from 0; in the forest every set keeps its tree."""
    first, second = (
        tree(
            feature=[0],
            threshold=[0],
            decision=[CATEGORICAL],
            left=[-1],
            right=[-2],
            leaves=[size, 0.0],
            sets=[[1 << code]],
        )
        for size, code in ((1.0, 3), (10.0, 5))
    )
    forest = forest_from_text([booster(first, second, n_features=1), booster(second, n_features=1)])
    assert raw_scores_block(forest, np.array([[3.0], [5.0]])).tolist() == [[1.0, 0.0], [10.0, 10.0]]


def test_members_are_scored_side_by_side_and_their_trees_are_added() -> None:
    """Every booster is one column, the sum of its trees; a tree of one leaf adds its constant."""
    texts = [
        booster(stump(0, 0.0, 1.0, 2.0), tree(leaves=[0.5]), n_features=2),
        booster(n_features=2),
        booster(stump(1, 0.0, 4.0, 8.0), n_features=2),
    ]
    assert raw_scores_block(forest_from_text(texts), np.array([[-1.0, 1.0], [1.0, -1.0]])).tolist() == [
        [1.5, 0.0, 8.0],
        [2.5, 0.0, 4.0],
    ]


def test_one_row_scores_as_it_does_in_a_block() -> None:
    """A block longer than the rows walked together gives bit for bit what single rows give."""
    forest = forest_from_text([booster(*[stump(0, cut / 7, cut / 3, cut / 9) for cut in range(7)], n_features=1)])
    x = np.linspace(-1, 2, 300)[:, None]
    assert np.array_equal(raw_scores_block(forest, x), np.stack([raw_scores(forest, row) for row in x]))


def test_a_row_of_another_length_is_refused() -> None:
    """The jitted code would read beyond a short row: it is never called with one."""
    with pytest.raises(ValueError, match=r"\(1, 2\), expected \(n_rows, 1\)"):
        raw_scores(forest_from_text([booster(stump(0, 0.0, 1.0, 2.0), n_features=1)]), np.zeros(2))


def test_arrays_give_the_forest_back() -> None:
    """Saving and loading loses nothing."""
    forest = forest_from_text([booster(stump(0, 0.25, 1.0, 2.0), n_features=1)])
    again = forest_from_arrays(forest_arrays(forest))
    assert {name: array.tolist() for name, array in forest_arrays(forest).items()} == {
        name: array.tolist() for name, array in forest_arrays(again).items()
    }


GOOD = booster(stump(0, 0.5, 1.0, 2.0), n_features=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a whole LightGBM model text"),
        (GOOD.replace("end of trees", ""), "not a whole LightGBM model text"),
        (GOOD.replace("num_tree_per_iteration=1", "num_tree_per_iteration=3"), "num_tree_per_iteration=3"),
        (GOOD.replace("max_feature_idx=0", "max_feature_idx=0\naverage_output"), "average_output"),
        (GOOD.replace("is_linear=0", "is_linear=1"), "linear leaves"),
        (
            GOOD.replace("leaf_value=1.0 2.0", "leaf_value=1.0"),
            "1 numbers of leaf_value in a LightGBM text, expected 2",
        ),
        (GOOD.replace("leaf_value=1.0 2.0", "leaf_value=1.0 x"), "could not convert"),
        (GOOD.replace("leaf_value=1.0 2.0", "leaf_value=1.0 inf"), "a leaf is not a finite number"),
        (GOOD.replace("threshold=0.5", "threshold=nan"), "a threshold is not a number"),
        (GOOD.replace("split_feature=0", "split_feature=1"), "a feature is out of bounds"),
        (GOOD.replace("split_feature=0", "split_feature=99999999999"), "out of range"),
        (GOOD.replace("left_child=-1", "left_child=0"), "a child does not come after its parent"),
        (GOOD.replace("left_child=-1", "left_child=7"), "a child lies outside its tree"),
        (GOOD.replace("left_child=-1", "left_child=-9"), "a leaf lies outside its tree"),
        (GOOD.replace("decision_type=2", "decision_type=12"), "a missing type is unknown"),
        (GOOD.replace("decision_type=2", "decision_type=1"), "a category set is out of bounds"),
    ],
)
def test_a_damaged_text_is_refused(text: str, message: str) -> None:
    """Whatever cannot be walked inside its bounds is a BundleError that says which bound."""
    with pytest.raises(BundleError, match=message):
        forest_from_text([text])


def test_boosters_on_different_features_do_not_mix() -> None:
    """A booster of another width is refused, with both widths."""
    with pytest.raises(BundleError, match="trained on 2 features, expected 1"):
        forest_from_text([GOOD, booster(stump(1, 0.5, 1.0, 2.0), n_features=2)])


def test_a_child_in_the_next_tree_is_refused() -> None:
    """Trees do not run into one another, even where the index exists in the forest."""
    forest = forest_from_text([GOOD, GOOD])
    with pytest.raises(BundleError, match="a child lies outside its tree"):
        check_forest(replace(forest, left=np.array([1, -3], dtype=np.int32)))


@pytest.mark.parametrize("name", ["member_start", "set_start"])
def test_starts_that_rise_only_by_wrapping_around_are_refused(name: str) -> None:
    """A step from the largest number to the smallest is a fall, also where its difference overflows to 1."""
    forest = forest_from_text([GOOD])
    end = int(getattr(forest, name)[-1])
    forged = np.array([0, 2**31 - 1, -(2**31), -1, end], dtype=np.int32)
    with pytest.raises(BundleError, match=f"{name} does not rise from 0 to {end}"):
        forest_from_arrays({**forest_arrays(forest), name: forged})


def test_a_node_with_two_parents_is_refused() -> None:
    """Branches that meet again are no tree; laying out a chain of them would take twice the memory at each step."""
    chain = tree(
        feature=[0, 0, 0],
        threshold=[0.0, 1.0, 2.0],
        decision=[2, 2, 2],
        left=[1, 2, -1],
        right=[1, 2, -2],
        leaves=[1.0, 2.0, 3.0, 4.0],
    )
    with pytest.raises(BundleError, match="a node or a leaf has two parents"):
        forest_from_text([booster(chain, n_features=1)])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("value", np.zeros(2, dtype=np.float32)),
        ("value", np.zeros((1, 2))),
        ("n_features", np.array([1])),
        ("member_start", np.array([0, 2], dtype=np.int32)),
        ("root", np.array([1], dtype=np.int32)),
        ("set_start", np.array([0, 4], dtype=np.int32)),
    ],
)
def test_arrays_of_another_type_shape_or_bound_are_refused(name: str, array: np.ndarray) -> None:
    """No array reaches the jitted code unproven."""
    arrays = forest_arrays(forest_from_text([GOOD]))
    with pytest.raises(BundleError):
        forest_from_arrays({**arrays, name: array})


def test_a_missing_array_is_refused() -> None:
    """All arrays are needed."""
    arrays = forest_arrays(forest_from_text([GOOD]))
    del arrays["value"]
    with pytest.raises(BundleError, match="expected"):
        forest_from_arrays(arrays)


def timed_text(*trees: dict[str, str], names: str = "feature_0 period") -> str:
    """A booster that splits on the period as its second column."""
    text = booster(*trees, n_features=2)
    return text.replace("max_feature_idx=1\n", f"max_feature_idx=1\nfeature_names={names}\n")


def test_a_split_on_the_period_parts_the_periods() -> None:
    """Periods up to the threshold go left; one that lies before or behind all of them sends all one way."""
    for threshold, expected in ((0.5, [1.0, 2.0, 2.0]), (1.5, [1.0, 1.0, 2.0]), (-1.0, [2.0] * 3), (1e300, [1.0] * 3)):
        forest = forest_from_text([timed_text(stump(1, threshold, 1.0, 2.0))], 1, n_timed=1, n_periods=3)
        assert raw_scores(forest, np.array([np.nan])).tolist() == expected


@pytest.mark.parametrize(
    ("text", "n_timed", "n_periods", "message"),
    [
        (timed_text(stump(1, 0.5, 1.0, 2.0)), 0, 0, "a feature is out of bounds"),
        (timed_text(stump(1, 0.5, 1.0, 2.0)), 1, 0, "the number of periods"),
        (timed_text(stump(1, 0.5, 1.0, 2.0)), 1, 65, "the number of periods"),
        (timed_text(stump(1, 0.5, 1.0, 2.0)), 2, 3, "more members are timed"),
        (timed_text(stump(1, 0.5, 1.0, 2.0, decision=6)), 1, 3, "period 0 is taken for unknown"),
        (timed_text(stump(1, float("inf"), 1.0, 2.0)), 1, 3, "a period is split nowhere"),
        (timed_text(stump(0, 0.5, 1.0, 2.0), names="feature_1 period"), 1, 3, "trained on"),
        (timed_text(stump(0, 0.5, 1.0, 2.0), names="feature_0 feature_0"), 1, 3, "expected each once"),
        (timed_text(stump(0, 0.5, 1.0, 2.0), names="feature_0"), 1, 3, "expected 2"),
        (timed_text(stump(0, 0.5, 1.0, 2.0), names="feature_x period"), 1, 3, "trained on 'feature_x'"),
        (timed_text(stump(5, 0.5, 1.0, 2.0)), 1, 3, "a feature is out of bounds in a LightGBM text"),
    ],
)
def test_a_timed_text_that_does_not_fit_is_refused(text: str, n_timed: int, n_periods: int, message: str) -> None:
    """Each with the bound that does not hold."""
    with pytest.raises(BundleError, match=message):
        forest_from_text([text], 1, n_timed=n_timed, n_periods=n_periods)


def test_a_booster_of_some_features_is_placed_by_their_names() -> None:
    """Its second column is the fourth of the vector."""
    text = booster(stump(1, 0.5, 1.0, 2.0), n_features=2)
    named = text.replace("max_feature_idx=1\n", "max_feature_idx=1\nfeature_names=feature_0 feature_3\n")
    forest = forest_from_text([named], 5)
    assert raw_scores(forest, np.array([9.0, 9, 9, 0, 9])).tolist() == [1.0]
    assert raw_scores(forest, np.array([0.0, 0, 0, 9, 0])).tolist() == [2.0]
