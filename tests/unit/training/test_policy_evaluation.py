"""When a log is too damaged to value anything on it."""

from __future__ import annotations

import numpy as np
import pytest

from models.logged_choices import LoggedChoices
from training.params import load_params
from training.policy_evaluation import log_refusals

PARAMS = load_params()


def decisions(n: int) -> LoggedChoices:
    """Of nothing in particular."""
    table = np.zeros((n, 1))
    return LoggedChoices(
        taken=np.zeros(n, dtype=np.int64),
        logged=np.ones((n, 1)),
        predicted=table,
        control=np.zeros((n, 0)),
        response=np.zeros((n, 0)),
        value=table,
        incentive=table,
        cost=table,
        aim=np.zeros(1, dtype=np.int64),
        binary=np.zeros(0, dtype=np.bool_),
        people=np.arange(n),
    )


@pytest.mark.parametrize(
    ("n", "skipped", "broken", "expected"),
    [
        (1_000, {}, 0, []),
        (0, {}, 0, ["no_decisions"]),
        (990, {"broken_probabilities": 10}, 10, []),
        (980, {"broken_probabilities": 20}, 20, ["broken_probabilities"]),
        (800, {"bundle_missing": 200}, 0, []),
        (790, {"bundle_missing": 210}, 0, ["not_replayable"]),
        (0, {"features_changed": 50}, 0, ["not_replayable"]),
    ],
)
def test_limits_of_what_may_be_left_out(n: int, skipped: dict[str, int], broken: int, expected: list[str]) -> None:
    """1 % of broken probabilities, and 20 % that cannot be made again; the limits are those of the gate."""
    found = log_refusals(decisions(n), skipped, broken, PARAMS)

    assert [one.code for one in found] == expected
    assert all(one.value != one.threshold for one in found)
