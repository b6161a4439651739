"""What holds of every measure of a ranking: order counts, a weight is a repeated row, ties do not follow the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.effect_metrics import EffectRanking, effect_slope, effect_table, random_targeting_value, targeting_value
from models.metrics import bootstrap_interval, bootstrap_intervals
from models.uplift_metrics import UpliftRanking, random_baseline

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], float]

BY_OUTCOME: dict[str, Measure] = {
    "qini_sklift": lambda y, s, t, w: UpliftRanking(y, s, t).qini_sklift(w),
    "auuc_sklift": lambda y, s, t, w: UpliftRanking(y, s, t).auuc_sklift(w),
    "qini_causalml": lambda y, s, t, w: UpliftRanking(y, s, t).qini_causalml(w),
    "auuc_causalml": lambda y, s, t, w: UpliftRanking(y, s, t).auuc_causalml(w),
    "uplift_at_10": lambda y, s, t, w: UpliftRanking(y, s, t).uplift_at(0.1, w),
    "uplift_at_30": lambda y, s, t, w: UpliftRanking(y, s, t).uplift_at(0.3, w),
}
# Doubly robust scores of a fair coin without any model: 2 y (2 t - 1).
BY_SCORE: dict[str, Measure] = {
    "autoc": lambda y, s, t, w: EffectRanking(2 * y * (2 * t - 1), s).autoc(w),
    "rate_qini": lambda y, s, t, w: EffectRanking(2 * y * (2 * t - 1), s).rate_qini(w),
}
OF_ORDER = {**BY_OUTCOME, **BY_SCORE}
BY_SIZE: dict[str, Measure] = {
    "effect_slope": lambda y, s, t, w: effect_slope(2 * y * (2 * t - 1), s, w),
    "targeting_value": lambda y, s, t, w: targeting_value(2 * y * (2 * t - 1), s, w),
    "random_targeting_value": lambda y, s, t, w: random_targeting_value(2 * y * (2 * t - 1), s, w),
}
ALL = {**OF_ORDER, **BY_SIZE}
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=40
)


def columns(rows: list[tuple[int, int, int, int]]) -> list[np.ndarray]:
    """Outcome, arm, score and count of each row."""
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def alike(one: float, other: float) -> bool:
    """Equal up to the rounding of sums taken in another order."""
    return one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", OF_ORDER)
@given(rows=ROWS, scale=st.floats(0.1, 10))
@settings(deadline=None)
def test_a_rising_map_of_the_score_changes_nothing(
    name: str, rows: list[tuple[int, int, int, int]], scale: float
) -> None:
    """Order alone counts."""
    y, treated, score, _ = columns(rows)
    assert alike(OF_ORDER[name](y, score, treated, None), OF_ORDER[name](y, np.exp(score * scale / 10), treated, None))


@pytest.mark.parametrize("name", ALL)
@given(rows=ROWS, seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_order_of_rows_does_not_matter(name: str, rows: list[tuple[int, int, int, int]], seed: int) -> None:
    """Ties, of which there are many here, are not broken by where a row stands in the file."""
    y, treated, score, _ = columns(rows)
    moved = np.random.default_rng(seed).permutation(len(y))
    assert alike(ALL[name](y, score, treated, None), ALL[name](y[moved], score[moved], treated[moved], None))


@pytest.mark.parametrize("name", ALL)
@given(rows=ROWS)
@settings(deadline=None)
def test_a_weight_is_a_repeated_row(name: str, rows: list[tuple[int, int, int, int]]) -> None:
    """So a bootstrap resample by weights is the measure of the resampled table."""
    y, treated, score, weight = columns(rows)
    again = np.repeat(np.arange(len(y)), weight.astype(int))
    assert alike(ALL[name](y, score, treated, weight), ALL[name](y[again], score[again], treated[again], None))


@pytest.mark.parametrize("name", ["qini_sklift", "auuc_sklift", *BY_SIZE])
@given(rows=ROWS)
@settings(deadline=None)
def test_a_table_twice_is_the_table(name: str, rows: list[tuple[int, int, int, int]]) -> None:
    """These are of shares alone; means over ranks 0..n or 1..n, as causalml's and the RATE, change with n."""
    y, treated, score, _ = columns(rows)
    assert alike(ALL[name](y, score, treated, None), ALL[name](y, score, treated, np.full(len(y), 2.0)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qini_sklift", 0.0),
        ("auuc_sklift", 0.0),
        ("qini_causalml", 0.0),
        ("auuc_causalml", 0.5),
        ("autoc", 0.0),
        ("rate_qini", 0.0),
    ],
)
def test_a_random_ranking_gives_the_baseline(name: str, expected: float) -> None:
    """Within four standard errors of its own draws, and so does one score for everybody."""
    y, treated, _ = world(4_000)
    mean, sd = random_baseline(lambda score: OF_ORDER[name](y, score, treated, None), len(y), seed=3, n_draws=40)

    assert mean == pytest.approx(expected, abs=4 * sd / 40**0.5 + 1e-3)
    assert OF_ORDER[name](y, np.zeros(len(y)), treated, None) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["uplift_at_10", "uplift_at_30"])
def test_the_baseline_of_the_best_is_the_mean_effect(name: str) -> None:
    """A random tenth is like everybody."""
    y, treated, _ = world(4_000)
    mean, sd = random_baseline(lambda score: OF_ORDER[name](y, score, treated, None), len(y), seed=4, n_draws=40)

    assert mean == pytest.approx(y[treated == 1].mean() - y[treated == 0].mean(), abs=4 * sd / 40**0.5 + 1e-3)


@pytest.mark.parametrize("name", OF_ORDER)
def test_the_true_effect_ranks_better_than_chance_and_its_opposite_worse(name: str) -> None:
    """By more than three standard deviations of random rankings."""
    y, treated, effect = world(8_000)
    mean, sd = random_baseline(lambda score: OF_ORDER[name](y, score, treated, None), len(y), seed=5)

    noise = 1e-6 * np.random.default_rng(6).normal(size=len(y))
    assert OF_ORDER[name](y, effect + noise, treated, None) > mean + 3 * sd
    assert OF_ORDER[name](y, -effect + noise, treated, None) < mean - 3 * sd


@given(rows=ROWS)
@settings(deadline=None)
def test_nothing_ranks_better_than_the_scores_themselves(rows: list[tuple[int, int, int, int]]) -> None:
    """The RATE of the doubly robust scores is the most that any order reaches."""
    y, treated, score, _ = columns(rows)
    truth = 2 * y * (2 * treated - 1)
    ours, best = EffectRanking(truth, score), EffectRanking(truth, truth)
    assert ours.autoc() <= best.autoc() + 1e-12
    assert ours.rate_qini() <= best.rate_qini() + 1e-12


def test_the_perfect_rankings_are_one() -> None:
    """As scikit-uplift defines them, for both of the perfect uplift curve's cases."""
    y, treated, _ = world(500)
    assert UpliftRanking(y, y * treated - y * (1 - treated), treated).qini_sklift() == pytest.approx(1.0)
    for ideal in (y, treated):
        by_outcome = ideal is y
        outcome = np.where(treated == 1, 1.0, y) if by_outcome else y  # all treated respond: more others respond
        score = 2.0 * (outcome == treated) + (outcome if by_outcome else treated)
        assert UpliftRanking(outcome, score, treated).auuc_sklift() == pytest.approx(1.0)


@given(rows=ROWS)
@settings(deadline=None)
def test_the_toc_is_the_mean_of_the_first_over_that_of_all(rows: list[tuple[int, int, int, int]]) -> None:
    """Row by row, and 0 where everybody is taken."""
    y, treated, score, _ = columns(rows)
    share, toc = EffectRanking(y - treated, score).toc()
    for q, found in zip(share, toc, strict=True):
        best = np.sort(score)[::-1][: round(q * len(y))]
        first = score >= best[-1]
        assert alike(found, (y - treated)[first].mean() - (y - treated).mean())
    assert share[-1] == 1.0
    assert toc[-1] == 0.0


@given(rows=ROWS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_intervals_by_weights_are_those_by_rows(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    """The same seed draws the same resamples, so that the two ways give one interval."""
    y, treated, score, customer = columns(rows)
    by_rows = bootstrap_interval(
        lambda drawn: UpliftRanking(y[drawn], score[drawn], treated[drawn]).qini_sklift(),
        len(y),
        clusters=customer,
        seed=seed,
        n_resamples=25,
    )
    ranking = UpliftRanking(y, score, treated)
    (by_weights,) = bootstrap_intervals(
        lambda weight: [ranking.qini_sklift(weight)], len(y), clusters=customer, seed=seed, n_resamples=25
    )
    for one, other in zip(by_rows, by_weights, strict=True):
        assert alike(one, other)


@given(rows=ROWS)
@settings(deadline=None)
def test_the_slope_without_weights_is_that_of_a_regression(rows: list[tuple[int, int, int, int]]) -> None:
    """Covariance over variance; NaN where the predictions do not differ."""
    y, treated, score, _ = columns(rows)
    together = np.cov(y - treated, score, bias=True)
    expected = together[0, 1] / together[1, 1] if np.ptp(score) else float("nan")
    assert alike(effect_slope(y - treated, score), expected)


@given(rows=ROWS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_table_of_effects_holds_every_row_once(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    """Its bins rise, their means add up to the whole, and the file's order does not matter."""
    y, _, score, _ = columns(rows)
    found = effect_table(y, score, clusters=None, seed=1, n_bins=4, n_resamples=2)
    moved = np.random.default_rng(seed).permutation(len(y))
    again = effect_table(y[moved], score[moved], clusters=None, seed=1, n_bins=4, n_resamples=2)

    assert len(found) <= 4
    assert sum(one.n for one in found) == len(y)
    assert alike(sum(one.n * one.effect.estimate for one in found), y.sum())
    assert alike(sum(one.n * one.predicted for one in found), score.sum())
    assert [one.predicted for one in found] == sorted(one.predicted for one in found)
    assert [one.n for one in found] == [one.n for one in again]


def test_what_cannot_be_judged_is_refused() -> None:
    """A NaN has no rank, and a missing row no outcome."""
    one, unknown = np.ones(2), np.array([1.0, np.nan])
    for bad in ((unknown, one, one), (one, unknown, one), (one, one, unknown)):
        with pytest.raises(ValueError, match=r"1 of 2 .* are NaN; leave out those rows"):
            UpliftRanking(*bad)
    with pytest.raises(ValueError, match="1 of 2 predictions are NaN"):
        EffectRanking(one, unknown)
    with pytest.raises(ValueError, match="expected as many"):
        UpliftRanking(one, np.ones(3), one)
    with pytest.raises(ValueError, match="2 scores and 1 predictions"):
        EffectRanking(one, one[:1])


def test_no_rows_are_worth_nothing_known() -> None:
    """NaN, not 0."""
    nothing = np.empty(0)
    assert [name for name, measure in ALL.items() if not np.isnan(measure(nothing, nothing, nothing, None))] == []


def world(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, arm by a fair coin, and the true effect, which half of the customers have."""
    rng = np.random.default_rng(0)
    treated = (rng.random(n) < 0.5).astype(np.float64)
    effect = 0.3 * (rng.random(n) < 0.5)
    y = (rng.random(n) < 0.2 + effect * treated).astype(np.float64)
    return y, treated, effect
