"""What every estimator promises, whatever it estimates: one list of checks, one line for each estimator.

Features are told by their place. Reordered columns give the same model where every tree may use every feature, as here;
where a tree draws among them (``feature_fraction`` below 1) they give another draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.boosting import Boosting
from models.forest import raw_scores_block
from models.hazards import Course, Periods
from models.heads import FittedHeads, head_values
from models.scoring import scorer_of
from models.stall import Happened, Slice, StallParams, fit_forecast, fit_stall, fit_waiting
from models.uplift import UpliftParams, fit_uplift

Floats = np.ndarray
CODE = 4
SMALL = Boosting(rounds=30, patience=8, num_leaves=6, min_rows=40, learning_rate=0.15)
LATER = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What any estimator can be fitted on.

    Attributes:
        x: ``(n, 5)``, some unknown; the last column is a code.
        arm: ``(n,)`` 0, 1 or 2, drawn evenly.
        y: ``(n,)`` 0 or 1.
    """

    x: Floats
    arm: Floats
    y: Floats

    def copy(self) -> Rows:
        """The same numbers elsewhere in memory."""
        return Rows(self.x.copy(), self.arm.copy(), self.y.copy())


def rows(n: int = 6_000, seed: int = 0) -> Rows:
    """Outcomes that follow the first column, and the second where arm 1 was taken."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[:, CODE] = rng.integers(0, 4, n)
    arm = rng.integers(0, 3, n)
    p = 0.25 + 0.15 * (x[:, 0] > 0) + 0.2 * ((arm == 1) & (x[:, 1] > 0)) + 0.1 * (x[:, CODE] == 2)
    y = (rng.random(n) < p).astype(np.float64)
    x[rng.random(n) < 0.1, 2] = np.nan
    return Rows(x, arm, y)


def _uplift(binary: bool) -> Callable[[Rows, int, int], FittedHeads]:  # one of two estimators
    def fit(data: Rows, seed: int, code: int) -> FittedHeads:
        return fit_uplift(
            data.x,
            data.arm,
            data.y if binary else 20 * data.y + np.sin(np.arange(len(data.y))),
            outcome_id="y",
            arm_ids=("no_action", "a", "b"),
            binary=binary,
            selection_probability=np.full(len(data.y), 1 / 3),
            arm_probabilities=np.full((len(data.y), 3), 1 / 3),
            params=UpliftParams(response=SMALL, effect=SMALL, categorical=(code,)),
            seed=seed,
        ).fitted

    return fit


def _slices(data: Rows) -> tuple[Slice, Slice]:
    """Progress where the outcome is 1, soon or later; abandonment where it is 0 after arm 2; the rest stays open."""
    when = np.where(np.arange(len(data.y)) % 3 == 0, 7.0, 3.0)
    course = Course(
        progress=np.where(data.y > 0, when, np.inf),
        abandon=np.where((data.y == 0) & (data.arm == 2), when, np.inf),
        observed=np.full(len(data.y), 20.0),
    )
    parts = np.split(np.arange(len(data.y)), [max(0, len(data.y) - LATER)])
    first, later = (Slice(data.x, part, Course(*(one[part] for one in course)), part) for part in parts)
    return first, later


def _stall(data: Rows, seed: int, code: int) -> FittedHeads:
    params = StallParams(boosting=SMALL, categorical=(code,))
    return fit_stall(*_slices(data), periods=Periods((5, 10, 15), 1), params=params, seed=seed)


def _waiting(data: Rows, seed: int, code: int) -> FittedHeads:
    params = StallParams(boosting=SMALL, categorical=(code,))
    return fit_waiting(*_slices(data), periods=Periods((5, 10, 15), 1), params=params, seed=seed)


def _forecast(data: Rows, seed: int, code: int) -> FittedHeads:
    parts = [Happened(part.rows, data.y[part.rows], part.rows) for part in _slices(data)]
    params = StallParams(boosting=SMALL, categorical=(code,))
    return fit_forecast(data.x, *parts, outcome_id="y", params=params, seed=seed)


ESTIMATORS: dict[str, Callable[[Rows, int, int], FittedHeads]] = {
    "uplift": _uplift(binary=True),
    "uplift_amount": _uplift(binary=False),
    "stall": _stall,
    "waiting": _waiting,
    "forecast": _forecast,
}


def predicted(fitted: FittedHeads, x: Floats) -> Floats:
    """Values and deviations of every head, ``(n, 2, n_heads)``."""
    bundle = scorer_of([fitted], x.shape[1]).bundle
    return np.stack(head_values(bundle.table, raw_scores_block(bundle.forest, x)), axis=1)


@pytest.fixture(scope="module", params=ESTIMATORS)
def name(request: pytest.FixtureRequest) -> str:
    """Each estimator in turn."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def fitted(name: str) -> FittedHeads:
    """The estimator on the plain rows."""
    return ESTIMATORS[name](rows(), 3, CODE)


def test_it_learns_something(fitted: FittedHeads) -> None:
    """Otherwise the checks below would check constants."""
    assert predicted(fitted, rows(500, 1).x)[:, 0].std(axis=0).max() > 0.01


def test_its_inputs_stay_as_they_are(name: str) -> None:
    """Nothing is sorted, filled or scaled in place."""
    given = rows()
    kept = given.copy()

    ESTIMATORS[name](given, 3, CODE)

    for part in ("x", "arm", "y"):
        np.testing.assert_array_equal(getattr(given, part), getattr(kept, part))


def test_the_same_seed_gives_the_same_model(name: str, fitted: FittedHeads) -> None:
    """To the last character."""
    assert ESTIMATORS[name](rows(), 3, CODE) == fitted


def test_the_order_of_columns_does_not_matter(name: str, fitted: FittedHeads) -> None:
    """Columns that are reordered for fitting and for scoring alike give the same predictions."""
    order = np.array([CODE, 2, 0, 3, 1])
    later = rows(500, 1).x
    reordered = ESTIMATORS[name](replace(rows(), x=rows().x[:, order]), 3, 0)

    np.testing.assert_allclose(predicted(reordered, later[:, order]), predicted(fitted, later), rtol=1e-9, atol=1e-12)


def test_one_row_is_scored_as_among_many(fitted: FittedHeads) -> None:
    """Bit for bit."""
    later = rows(50, 1).x
    one_by_one = np.concatenate([predicted(fitted, later[[row]]) for row in range(len(later))])

    np.testing.assert_array_equal(one_by_one, predicted(fitted, later))


@pytest.mark.parametrize("column", range(5))
def test_a_feature_that_became_unknown_still_gives_an_answer(fitted: FittedHeads, column: int) -> None:
    """A finite one, for everybody."""
    later = rows(200, 1).x
    later[:, column] = np.nan
    assert np.isfinite(predicted(fitted, later)[:, 0]).all()


def test_nothing_known_still_gives_an_answer(fitted: FittedHeads) -> None:
    """The same one for everybody."""
    values = predicted(fitted, np.full((3, 5), np.nan))[:, 0]
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values, np.repeat(values[:1], 3, axis=0))


@pytest.mark.parametrize("code", [99.0, -1.0, 2.5])
def test_an_unseen_code_gives_an_answer(fitted: FittedHeads, code: float) -> None:
    """Also one that could be no code."""
    later = rows(200, 1).x
    later[:, CODE] = code
    assert np.isfinite(predicted(fitted, later)[:, 0]).all()


def test_features_that_were_never_known_give_one_answer_for_all(name: str) -> None:
    """Base rates and means, and no failure."""
    blind = ESTIMATORS[name](replace(rows(), x=np.full((6_000, 5), np.nan)), 3, CODE)
    values = predicted(blind, rows(100, 1).x)[:, 0]
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, np.repeat(values[:1], 100, axis=0), atol=1e-12)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_one_outcome_for_all_is_answered_or_refused_clearly(name: str, outcome: float) -> None:
    """Finite numbers, or an error that says what was expected."""
    try:
        constant = ESTIMATORS[name](replace(rows(), y=np.full(6_000, outcome)), 3, CODE)
    except NotEnoughData as error:
        assert "expected" in str(error)  # noqa: PT017  # either ending is right
    else:
        assert np.isfinite(predicted(constant, rows(100, 1).x)[:, 0]).all()


def test_an_arm_that_nobody_got_is_no_trouble(name: str) -> None:
    """What can be estimated is."""
    given = rows()
    without = ESTIMATORS[name](replace(given, arm=np.where(given.arm == 2, 0, given.arm)), 3, CODE)
    assert np.isfinite(predicted(without, given.x[:100])[:, 0]).all()


@pytest.mark.parametrize("n", [0, 1])
def test_hardly_any_row_is_refused_clearly(name: str, n: int) -> None:
    """With the error that training understands, and not with one from the depths."""
    given = rows()
    with pytest.raises(NotEnoughData, match="expected"):
        ESTIMATORS[name](Rows(given.x[:n], np.ones(n, dtype=np.int64), given.y[:n]), 3, CODE)
