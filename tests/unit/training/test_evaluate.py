"""What is said of held-out decisions: nothing of an order that is not there, and of every outcome that was judged."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from training.compared import Compared
from training.dataset import DecisionFrame
from training.evaluate import uplift_metrics
from training.fit import UpliftTest
from training.params import load_params

N = 400


def decisions() -> DecisionFrame:
    """A fair coin between ``good`` and no action; ``paid`` is likelier under ``good``, and the file is in its order."""
    arm = np.tile([0, 1], N // 2)
    paid = (np.arange(N) % 10 < 3 + 3 * arm).astype(np.float64)
    return DecisionFrame(
        customer_ids=np.array([f"c{i}" for i in range(N)]),
        people=np.array([f"c{i}" for i in range(N)]),
        at=np.zeros(N, dtype=np.int64),
        arm=arm,
        arm_ids=("no_action", "good"),
        selection_probability=np.full(N, 0.5),
        arm_probabilities=np.full((N, 2), 0.5),
        response={"paid": paid, "rare": paid},
        recorded=np.ones(N, dtype=np.bool_),
        x=np.zeros((N, 1)),
    )


def judged(uplift: float | np.ndarray[Any, Any], *outcomes: str) -> UpliftTest:
    """Predictions of held-out decisions on some outcomes."""
    effects = np.zeros((N, 2))
    effects[:, 1] = uplift
    return UpliftTest(
        rows=np.arange(N),
        control={name: np.full(N, 0.3) for name in outcomes},
        uplift={name: effects for name in outcomes},
        how="hash",
    )


def compared(uplift: float | np.ndarray[Any, Any]) -> Compared:
    """``good`` on ``paid``."""
    frame = decisions()
    return Compared(frame, judged(uplift, "paid"), frame.arm_probabilities, "paid", 1)


def test_one_prediction_for_everybody_ranks_nobody() -> None:
    """Its Qini is exactly 0; an area by the file's order, or a slope by rounding, would be an invention."""
    found = compared(0.1 + 0.2).measures(seed=1, resamples=20)

    assert found.pop("qini_sklift") == (0.0, 0.0, 0.0)
    assert found.pop("mean_effect").estimate == pytest.approx(0.2)
    assert set(found) == {"auuc", "uplift_at_10", "uplift_at_30", "autoc", "calibration_slope"}
    assert np.isnan([*found.values()]).all()


def test_predictions_that_differ_are_judged() -> None:
    """By their order and their size."""
    found = compared(np.linspace(0.1, 0.5, N)).measures(seed=1, resamples=20)

    assert np.isfinite([*found.values()]).all()
    assert all(low <= high for _, low, high in found.values())


def test_predicted_effects_are_shown_beside_what_was_found() -> None:
    """By tenths of the predictions, each with an interval; the effect is the same 0.2 in all of them."""
    found = compared(np.linspace(0.1, 0.5, N)).effect_table(seed=1, resamples=100)

    assert [row["n"] for row in found] == [N / 10] * 10
    assert [row["predicted"] for row in found] == pytest.approx(np.linspace(0.12, 0.48, 10), abs=1e-3)
    assert all(row["low"] <= 0.2 <= row["high"] for row in found)


def test_what_was_not_done_cannot_be_judged() -> None:
    """Unknown, not 0."""
    frame = replace(decisions(), arm=np.zeros(N, dtype=np.int64))
    alone = Compared(frame, judged(0.3, "paid"), frame.arm_probabilities, "paid", 1)

    assert np.isnan([*alone.measures(seed=1, resamples=20).values(), [alone.random_qini(seed=1)] * 3]).all()


def test_an_outcome_that_only_some_splits_could_fit_is_judged_on_those() -> None:
    """Which splits these are does not matter."""
    frame, arms = decisions(), {"paid": ("good",), "rare": ("good",)}
    both, one = judged(0.3, "paid", "rare"), judged(0.3, "paid")

    for tests in ((both, one), (one, both)):
        found = uplift_metrics(tests, arms, frame, load_params())
        assert (found["paid"]["good"]["n_treated"], found["rare"]["good"]["n_treated"]) == (N // 2, N // 2)


def test_an_outcome_that_no_split_could_fit_is_left_out() -> None:
    """There is nothing to say."""
    found = uplift_metrics((judged(0.3, "paid"),), {"paid": ("good",), "rare": ("good",)}, decisions(), load_params())

    assert list(found) == ["paid"]
