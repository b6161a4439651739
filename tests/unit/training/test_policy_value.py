"""The value of a policy on held-out decisions, in money over doing nothing."""

from typing import Any

import numpy as np
import pytest

from features.journeys import Journey
from models.actions import Catalogue
from models.policy import Policy
from tests.histories import journey
from training.dataset import DecisionFrame
from training.fit import UpliftTest
from training.policy_value import PolicyValue, policy_value

N = 6_000
JOURNEY: Journey = journey()
CATALOGUE = Catalogue.model_validate(
    {
        "version": 1,
        "actions": [
            {
                "id": action_id,
                "title": action_id,
                "kind": "nudge",
                "issue": "grow",
                "group": "cards",
                "journey": "application",
                "outcome": "paid",
                "treatments": [{"id": f"{action_id}_web", "channel": "web", "contact_cost": 0.5}],
            }
            for action_id in ("good", "bad")
        ],
    }
)
POLICY = Policy.model_validate(
    {
        "version": 1,
        "experiment": {"id": "e1", "salt": "s", "no_contact_holdout": 0.1, "random_eligible": 0.1},
        "exploration": {"epsilon": 0.1, "temperature": 1.0},
        "decision_ttl": "1d",
    }
)
RESPONSE = (0.2, 0.5, 0.1)
"""Under no action, ``good`` and ``bad``; a yes is worth 10, a contact costs 0.5."""


def decisions(*, logged: bool = True, **changes: Any) -> DecisionFrame:
    """Uniformly random decisions with those responses."""
    rng = np.random.default_rng(3)
    arm = rng.integers(0, 3, N)
    y = (rng.random(N) < np.array(RESPONSE)[arm]).astype(np.float64)
    chance = 1 / 3 if logged else np.nan
    fields: dict[str, Any] = {
        "customer_ids": np.array([f"c{i}" for i in range(N)]),
        "people": np.array([f"c{i}" for i in range(N)]),
        "at": np.arange(N, dtype=np.int64),
        "arm": arm,
        "arm_ids": ("no_action", "good", "bad"),
        "selection_probability": np.full(N, chance),
        "arm_probabilities": np.full((N, 3), chance),
        "response": {"paid": y},
        "recorded": np.ones(N, dtype=np.bool_),
        "x": np.zeros((N, 1)),
    }
    return DecisionFrame(**{**fields, **changes})


def judged(frame: DecisionFrame, uplift: tuple[float, float, float]) -> PolicyValue | None:
    """The value of a policy that believes in this uplift."""
    test = UpliftTest(
        rows=np.arange(N),
        control={"paid": np.full(N, 0.2)},
        uplift={"paid": np.tile(np.array(uplift), (N, 1))},
        how="time",
    )
    return policy_value(frame, test, journey=JOURNEY, catalogue=CATALOGUE, policy=POLICY, seed=1, resamples=50)


def test_the_value_is_the_uplift_in_money_less_the_cost() -> None:
    """``10 * (0.5 - 0.2) - 0.5``, and the interval holds it."""
    found = judged(decisions(), (0.0, 0.3, -0.1))
    assert found is not None
    assert found.value == pytest.approx(2.5, abs=0.4)
    assert found.interval[0] < 2.5 < found.interval[1]


def test_random_is_the_mean_over_what_could_be_chosen() -> None:
    """No action is worth 0, ``good`` 2.5 and ``bad`` -1.5."""
    found = judged(decisions(), (0.0, 0.3, -0.1))
    assert found is not None
    assert found.random == pytest.approx(1 / 3, abs=0.3)


def test_a_policy_that_believes_in_nothing_earns_nothing() -> None:
    """Where no action seems worth its cost none is taken, and that is worth exactly 0."""
    found = judged(decisions(), (0.0, 0.01, -0.1))
    assert found is not None
    assert (found.value, found.best_single) == (0.0, 0.0)


def test_wrong_beliefs_are_found_out() -> None:
    """The value comes from what happened, not from what was believed."""
    found = judged(decisions(), (0.0, -0.1, 0.6))
    assert found is not None
    assert found.value == pytest.approx(-1.5, abs=0.4)


def test_the_effective_sample_size_counts_decisions_made_alike() -> None:
    """With uniform probabilities it is their number."""
    frame = decisions()
    found = judged(frame, (0.0, 0.3, -0.1))
    assert found is not None
    assert found.ess == pytest.approx(float((frame.arm == 1).sum()))


def test_an_action_that_could_not_be_chosen_is_not_chosen() -> None:
    """Rules that forbade it when it was decided forbid it to the judged policy too."""
    table = np.full((N, 3), 0.5)
    table[:, 1] = 0.0
    arm = np.where(np.arange(N) % 2 == 0, 0, 2)
    frame = decisions(arm_probabilities=table, arm=arm, selection_probability=np.full(N, 0.5))
    found = judged(frame, (0.0, 0.3, -0.1))
    assert found is not None
    assert found.value == 0.0


def test_nothing_is_said_without_logged_probabilities() -> None:
    """An observational log cannot value a policy."""
    assert judged(decisions(logged=False), (0.0, 0.3, -0.1)) is None
