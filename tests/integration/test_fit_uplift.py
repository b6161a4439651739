"""The uplift estimator against worlds whose effects are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.boosting import Boosting
from models.forest import forest_from_text, raw_scores_block
from models.heads import head_table, head_values
from models.uplift import FittedUplift, UpliftParams, fit_uplift

PARAMS = UpliftParams(
    response=Boosting(rounds=40, patience=8, num_leaves=6, min_rows=40, learning_rate=0.15),
    effect=Boosting(rounds=60, patience=12, min_rows=50, learning_rate=0.1),
)
ARMS = ("no_action", "email", "call")


class World(NamedTuple):
    """A randomised table: email helps where the second feature is positive and harms elsewhere; call helps all."""

    x: np.ndarray
    arm: np.ndarray
    y: np.ndarray
    table: np.ndarray
    effects: np.ndarray

    @property
    def taken(self) -> np.ndarray:
        """Probability of the arm taken."""
        return self.table[np.arange(len(self.arm)), self.arm]


def world(n: int, seed: int, *, confounded: bool = False) -> World:
    """Binary outcomes; with ``confounded`` those who would respond anyway get the e-mail more often."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    p0 = 1 / (1 + np.exp(1 - 0.8 * x[:, 0]))
    effects = np.stack([np.zeros(n), np.where(x[:, 1] > 0, 0.2, -0.05), np.full(n, 0.08)], axis=1)
    responses = np.clip(p0[:, None] + effects, 0, 1)
    table = np.tile([0.3, 0.4, 0.3], (n, 1))
    if confounded:
        table[x[:, 0] > 0] = [0.15, 0.7, 0.15]
    arm = (rng.random(n)[:, None] > np.cumsum(table, axis=1)).sum(axis=1)
    y = (rng.random(n) < responses[np.arange(n), arm]).astype(np.float64)
    return World(x, arm, y, table, responses - p0[:, None])


def fitted(of: World, **changes: Any) -> FittedUplift:
    """An uplift fit of a world, with its probabilities unless others are given."""
    asked = {
        "outcome_id": "visit",
        "arm_ids": ARMS,
        "binary": True,
        "arm_probabilities": of.table,
        "params": PARAMS,
        "seed": 3,
    }
    if "selection_probability" not in changes:
        asked["selection_probability"] = of.taken
    return fit_uplift(of.x, of.arm, of.y, **{**asked, **changes})


def predicted(fit: FittedUplift, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every head's values."""
    forest = forest_from_text(list(fit.fitted.boosters.values()), x.shape[1])
    table = head_table(fit.fitted.heads, list(fit.fitted.boosters))
    return dict(zip(table.names, head_values(table, raw_scores_block(forest, x))[0].T, strict=True))


@pytest.fixture(scope="module")
def randomised() -> FittedUplift:
    """A fit of 9,000 randomised rows."""
    return fitted(world(9000, 0))


def test_an_effect_that_differs_is_found(randomised: FittedUplift) -> None:
    """Nearer to each customer's true effect than the mean effect is, by half."""
    later = world(4000, 1)
    truth = later.effects[:, 1]
    error = np.sqrt(np.mean((predicted(randomised, later.x)["effect:visit:email"] - truth) ** 2))
    assert error < 0.5 * truth.std()


def test_mean_effects_are_right_within_their_errors(randomised: FittedUplift) -> None:
    """Three standard errors, which themselves are as small as 9,000 rows allow."""
    truth = world(9000, 0).effects
    for number, arm in enumerate(randomised.arms, start=1):
        assert arm.mean_effect == pytest.approx(truth[:, number].mean(), abs=3 * arm.mean_se)
        assert 0.005 < arm.mean_se < 0.02


def test_a_constant_effect_does_no_worse_than_its_mean(randomised: FittedUplift) -> None:
    """What is predicted for the call stays close to the arm's mean."""
    spread = predicted(randomised, world(4000, 1).x)["effect:visit:call"].std()
    assert spread < 0.02


def test_the_control_model_knows_who_responds_anyway(randomised: FittedUplift) -> None:
    """The response under no action, for everyone."""
    later = world(4000, 1)
    p0 = 1 / (1 + np.exp(1 - 0.8 * later.x[:, 0]))
    assert np.sqrt(np.mean((predicted(randomised, later.x)["control:visit"] - p0) ** 2)) < 0.5 * p0.std()


def test_the_same_seed_gives_the_same_fit(randomised: FittedUplift) -> None:
    """To the last character of the boosters."""
    assert fitted(world(9000, 0)) == randomised


def test_logged_probabilities_undo_confounding() -> None:
    """The plain difference of means is wrong by more than .05; the estimate is not."""
    of = world(9000, 4, confounded=True)
    naive = of.y[of.arm == 1].mean() - of.y[of.arm == 0].mean()
    email = fitted(of).arms[0]
    overlap = of.table[:, 1] * of.table[:, 0] / (of.table[:, 1] + of.table[:, 0]) ** 2 * (1 - of.table[:, 2])
    truth = np.average(of.effects[:, 1], weights=overlap)
    assert abs(naive - truth) > 0.05
    assert email.mean_effect == pytest.approx(truth, abs=3 * email.mean_se)
    assert (email.randomised, email.share_clipped) == (True, 0.0)


def test_without_a_table_the_probability_of_the_arm_taken_is_enough() -> None:
    """The mean over everybody is right."""
    of = world(9000, 5, confounded=True)
    email = fitted(of, arm_probabilities=None).arms[0]
    assert email.mean_effect == pytest.approx(of.effects[:, 1].mean(), abs=3 * email.mean_se)


def test_a_table_that_lacks_logged_rows_is_left_aside() -> None:
    """Rows that logged only the arm taken are not thrown away."""
    of = world(3000, 16)
    holes = np.where(np.arange(3000)[:, None] % 2 == 0, of.table, np.nan)
    assert fitted(of, arm_probabilities=holes).arms == fitted(of, arm_probabilities=None).arms


def test_unlogged_probabilities_are_estimated_and_say_so() -> None:
    """The estimate comes close, and nothing claims that it was an experiment."""
    of = world(9000, 6, confounded=True)
    unknown = np.full(len(of.y), np.nan)
    fit = fitted(of, selection_probability=unknown, arm_probabilities=None)
    assert fit.arms[0].mean_effect == pytest.approx(of.effects[:, 1].mean(), abs=0.04)
    assert not fit.randomised
    assert fit.fitted.head("effect:visit:email").facts["randomised"] is False


def test_estimated_probabilities_are_clipped_and_counted() -> None:
    """An arm that some customers never get has estimates below the bound."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(4000, 2))
    arm = (rng.random(4000) < 1 / (1 + np.exp(-6 * x[:, 0]))).astype(np.int64)
    fit = fit_uplift(
        x,
        arm,
        (rng.random(4000) < 0.3).astype(np.float64),
        outcome_id="visit",
        arm_ids=ARMS[:2],
        binary=True,
        selection_probability=np.full(4000, np.nan),
        params=PARAMS,
        seed=3,
    )
    assert 0 < fit.arms[0].share_clipped < 0.2


def test_rows_that_could_not_get_an_arm_are_not_compared_for_it() -> None:
    """Where the email was not eligible its probability is 0, and no row counts."""
    of = world(3000, 8)
    ineligible = of.x[:, 3] > 0
    arm = np.where(ineligible & (of.arm == 1), 0, of.arm)
    table = np.where(ineligible[:, None], [0.7, 0.0, 0.3], of.table)
    fit = fitted(of._replace(arm=arm, table=table))
    assert fit.arms[0].n_control == int(((arm == 0) & ~ineligible).sum())


@pytest.mark.parametrize(
    ("n_treated", "choice", "has_head"), [(0, "absent", False), (12, "too_few", False), (120, "mean", True)]
)
def test_an_arm_with_few_rows_falls_back_and_says_so(n_treated: int, choice: str, has_head: bool) -> None:
    """No row: nothing; a dozen: nothing that could be trusted; a hundred: the arm's mean without a model."""
    of = world(3000, 9)
    keep = np.flatnonzero((of.arm != 2) | (np.cumsum(of.arm == 2) <= n_treated))
    fit = fitted(World(of.x[keep], of.arm[keep], of.y[keep], of.table[keep], of.effects[keep]))
    call = fit.arms[1]
    names = {head.name: head for head in fit.fitted.heads}
    assert (call.n_treated, call.choice, call.weight) == (n_treated, choice, 0.0)
    assert ("effect:visit:call" in names) == has_head
    assert np.isnan(call.mean_effect) != has_head


def test_a_continuous_outcome_keeps_its_unit() -> None:
    """Effects of some ten units come back as such, and the control head is linear."""
    of = world(6000, 10)
    spend = 50 + 10 * of.x[:, 0] + np.array([0.0, 12.0, 4.0])[of.arm] + np.random.default_rng(11).normal(size=6000)
    fit = fitted(of._replace(y=spend), binary=False)
    assert fit.fitted.head("control:visit").link == "identity"
    assert [arm.mean_effect for arm in fit.arms] == pytest.approx([12.0, 4.0], abs=0.3)
    assert predicted(fit, of.x)["control:visit"].mean() == pytest.approx(50.0, abs=1.0)


def test_a_customers_rows_stay_in_one_fold() -> None:
    """Copies of a customer do not make the estimate look surer."""
    of = world(1500, 12)
    once = fitted(of)
    twice = fitted(World(*(np.concatenate([part, part]) for part in of)), groups=np.concatenate([np.arange(1500)] * 2))
    assert twice.arms[0].mean_se == pytest.approx(once.arms[0].mean_se, rel=0.1)


def test_an_outcome_that_never_happens_has_no_effects() -> None:
    """Constants, not a failure: a young programme has no conversions yet."""
    of = world(1500, 13)
    fit = fitted(of._replace(y=np.zeros(1500)))
    assert [arm.mean_effect for arm in fit.arms] == pytest.approx([0.0, 0.0], abs=0.01)
    assert predicted(fit, of.x)["control:visit"].max() < 0.01


def test_more_rows_shrink_less() -> None:
    """The weight is n / (n + n0)."""
    fit = fitted(world(9000, 0), params=replace(PARAMS, shrink_rows=1000.0))
    email = fit.arms[0]
    assert email.weight == pytest.approx(email.n_treated / (email.n_treated + 1000.0))
    assert fit.fitted.head("effect:visit:email").weight == email.weight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": np.ones(90, dtype=np.int64)}, "none of 90 decisions is no_action"),
        ({"arm": np.repeat([0, 9], 45)}, "arms from 0 to 9, expected 0 to 2"),
        ({"y": np.full(90, np.nan)}, "90 outcomes are not numbers"),
        ({"y": np.zeros(89)}, "89 outcomes"),
    ],
)
def test_rows_that_do_not_fit_are_refused(changes: dict[str, np.ndarray], message: str) -> None:
    """Each with what was expected."""
    of = world(90, 14)
    with pytest.raises(NotEnoughData, match=message):
        fitted(of._replace(**changes), selection_probability=np.full(90, 0.3))


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5])
def test_an_impossible_probability_is_refused(probability: float) -> None:
    """Only NaN means that none was logged."""
    with pytest.raises(NotEnoughData, match=r"outside \(0, 1\]"):
        fitted(world(90, 15), selection_probability=np.full(90, probability))


def test_the_slope_is_measured_on_logged_rows_where_there_are_enough() -> None:
    """Half of the rows without a logged probability are fitted on, and judge nothing."""
    of = world(9000, 17)
    logged = np.where(np.arange(9000) % 2 == 0, of.taken, np.nan)
    holes = np.where(np.isnan(logged)[:, None], np.nan, of.table)
    email = fitted(of, selection_probability=logged, arm_probabilities=holes).arms[0]
    assert not email.randomised
    assert email.n_slope == int((~np.isnan(logged) & (of.arm != 2)).sum())


def test_poor_overlap_is_said_aloud() -> None:
    """An action that customers got once in two hundred times counts for few rows."""
    of = world(6000, 18)
    rare = of.x[:, 2] > 0
    table = np.where(rare[:, None], [0.004, 0.594, 0.402], of.table)
    rng = np.random.default_rng(19)
    arm = (rng.random(6000)[:, None] > np.cumsum(table, axis=1)).sum(axis=1)
    email = fitted(of._replace(arm=arm, table=table)).arms[0]
    assert email.overlap.smallest_probability == pytest.approx(0.004 / 0.598)
    assert any("poor overlap" in note and "rows count as" in note for note in email.notes)


def test_an_arm_that_is_compared_well_has_no_notes(randomised: FittedUplift) -> None:
    """Even where its mean turns out best."""
    assert [arm.notes for arm in randomised.arms] == [(), ()]


@pytest.mark.parametrize(
    ("n_treated", "note"), [(12, "the catalogue's prior is served"), (120, "everybody is served the mean effect")]
)
def test_an_arm_with_few_rows_has_a_note(n_treated: int, note: str) -> None:
    """What serves in place of a model."""
    of = world(3000, 9)
    keep = np.flatnonzero((of.arm != 2) | (np.cumsum(of.arm == 2) <= n_treated))
    call = fitted(World(of.x[keep], of.arm[keep], of.y[keep], of.table[keep], of.effects[keep])).arms[1]
    assert [note in one for one in call.notes] == [True]


def test_equal_weights_are_none(randomised: FittedUplift) -> None:
    """Only ratios count: heads and boosters are the same to the last character."""
    assert fitted(world(9000, 0), weight=np.full(9000, 2.5)) == randomised


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("logged", [True, False])
def test_weights_undo_rows_that_were_thinned_by_their_outcome(binary: bool, logged: bool) -> None:
    """Of two in three noughts nothing is known: weighed by three, responses and effects are those of all."""
    of = world(12_000, 17)
    kept = np.flatnonzero((of.y == 1) | (np.random.default_rng(18).random(len(of.y)) < 1 / 3))
    thinned = World(of.x[kept], of.arm[kept], of.y[kept], of.table[kept], of.effects[kept])
    weight = np.where(thinned.y == 1, 1.0, 3.0)
    unknown = {} if logged else {"selection_probability": np.full(len(kept), np.nan), "arm_probabilities": None}

    fit = fitted(thinned, weight=weight, binary=binary, **unknown)

    for number, arm in enumerate(fit.arms, start=1):
        assert arm.mean_effect == pytest.approx(of.effects[:, number].mean(), abs=2 * arm.mean_se)
    later = world(4000, 1)
    found = predicted(fit, later.x)
    p0 = 1 / (1 + np.exp(1 - 0.8 * later.x[:, 0]))
    assert found["control:visit"].mean() == pytest.approx(p0.mean(), abs=0.02)
    assert found["effect:visit:email"].mean() == pytest.approx(later.effects[:, 1].mean(), abs=0.03)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_row_that_does_not_count_is_refused(wrong: float) -> None:
    """It is to be left out: a weight of 0 would still be counted among the rows."""
    of = world(300, 0)
    with pytest.raises(NotEnoughData, match="finite and above 0"):
        fitted(of, weight=np.r_[wrong, np.ones(299)])


def test_many_randomised_rows_are_served_as_they_are() -> None:
    """Of 60,000 evenly randomised rows hardly 1 % of what is served is belief."""
    fit = fitted(world(60_000, 21))
    for arm in fit.arms:
        assert arm.precision > 0.985
        assert fit.fitted.head(f"effect:visit:{arm.action_id}").mean == pytest.approx(arm.mean_effect, rel=0.015)


def test_a_few_rows_are_drawn_to_what_was_declared() -> None:
    """Some forty calls leave their effect in doubt: what is served is nearer to the catalogue's prior, and says so."""
    of, rng = world(2_000, 22), np.random.default_rng(22)
    table = np.tile([0.58, 0.4, 0.02], (2_000, 1))
    arm = rng.choice(3, size=2_000, p=table[0])
    base = 1 / (1 + np.exp(1 - 0.8 * of.x[:, 0]))
    y = (rng.random(2_000) < base + of.effects[np.arange(2_000), arm]).astype(np.float64)
    call = fitted(World(of.x, arm, y, table, of.effects), priors={"call": (0.3, 0.02)}).arms[1]
    assert 30 <= call.n_treated < 60
    assert call.precision < 0.9
    assert abs(call.served_mean - 0.3) < abs(call.mean_effect - 0.3)
    assert call.served_se < call.mean_se


def test_what_a_model_tells_of_customers_stays_when_its_mean_is_drawn() -> None:
    """Another prior moves everybody's effect alike."""
    of, later = world(9_000, 0), world(2_000, 1)
    low, high = (
        predicted(fitted(of, priors={"email": (mean, 0.005)}), later.x)["effect:visit:email"] for mean in (-0.2, 0.4)
    )
    moved = high - low
    assert moved.mean() > 0
    assert moved == pytest.approx(np.full(len(moved), moved.mean()), abs=1e-9)
