"""Other ways to decide, valued on a log: what each decision had before it, and whose the errors are."""

from __future__ import annotations

import numpy as np
import pytest

from models.baseline_policies import Arbitrated
from models.experiment_statistics import Looks, always_valid_multiplier
from models.logged_choices import LoggedChoices, policy_scores
from models.off_policy_log import Guard
from training.experiment_policies import clustered_mean, compared_policies

N = 3_000
EASY = Guard(smallest_ess=20, smallest_ess_share=0.0)


def logged(seed: int) -> tuple[LoggedChoices, Arbitrated]:
    """Two options at random: the first answers .5 against .3, the second .2; both are worth 10 and cost 1.

    The first is what the policy prefers. The second is likelier to be answered, as far as anybody knows.
    """
    rng = np.random.default_rng(seed)
    taken = rng.integers(0, 3, N)
    truth = np.array([0.3, 0.5, 0.2])
    response = (rng.random(N) < truth[taken]).astype(np.float64)
    choices = LoggedChoices(
        taken=taken.astype(np.int64),
        logged=np.full((N, 3), 1 / 3),
        predicted=np.tile([0.0, 0.45, 0.6], (N, 1)),
        control=np.full((N, 1), 0.3),
        response=response[:, None],
        value=np.full((N, 3), 10.0),
        incentive=np.zeros((N, 3)),
        cost=np.tile([0.0, 1.0, 1.0], (N, 1)),
        aim=np.zeros(3, dtype=np.int64),
        binary=np.array([True]),
        people=np.repeat(np.arange(N // 3), 3),
    )
    arbitrated = Arbitrated(
        eligible=np.ones((N, 3), dtype=np.bool_),
        response=np.tile([np.nan, 0.45, 0.6], (N, 1)),
        net_value=np.tile([0.0, 0.5, -1.0], (N, 1)),
        context_weight_pct=np.zeros((N, 3)),
        lever_pct=np.zeros((N, 3)),
        mandatory=np.zeros(3, dtype=np.bool_),
        order=np.array([2, 1, 0], dtype=np.int64),
    )
    return choices, arbitrated


def test_a_planted_difference_is_found() -> None:
    """The first option earns 10 (.5 - .3) - 1, the second 10 (.2 - .3) - 1: 3 apart, whatever was predicted."""
    choices, arbitrated = logged(1)

    found = {one.id: one for one in compared_policies(choices, arbitrated, guard=EASY, looks=Looks(), seed=1)}

    for name in ("policy_response_ranking", "policy_rules_only"):
        value = found[name].value
        assert value.low is not None
        assert value.high is not None
        assert value.always_low is not None
        assert value.always_low < value.low < 3.0 < value.high
        assert value.always_low > 1.0
    assert found["policy_without_levers"].value.estimate == 0.0
    assert {one.decisions for one in found.values()} == {N}


def test_what_the_log_cannot_tell_is_refused() -> None:
    """With the reason and the side it comes from, and no number."""
    choices, arbitrated = logged(2)

    (first, *_) = compared_policies(choices, arbitrated, guard=Guard(smallest_ess=N), looks=Looks(), seed=1)

    assert first.value.estimate is None
    assert first.refused[0].startswith("the policy: ")
    assert "effective decisions, expected at least 3000" in first.refused[0]


def test_nothing_is_said_of_an_empty_log() -> None:
    """Not 0."""
    choices, arbitrated = logged(3)
    none = np.zeros(N, dtype=np.bool_)

    found = compared_policies(choices.of(none), arbitrated.of(none), guard=EASY, looks=Looks(), seed=1)

    assert all(one.value.estimate is None and one.refused for one in found)


def test_decisions_of_one_person_are_no_independent_evidence() -> None:
    """Three copies of each person's term tell as much as one; by hand of three people."""
    terms = np.array([1.0, 2.0, 6.0])

    once, thrice = clustered_mean(terms, np.arange(3)), clustered_mean(np.repeat(terms, 3), np.repeat(np.arange(3), 3))

    assert (once.n, once.mean) == (3, 3.0)
    assert once.variance == pytest.approx(3 / 2 * (4 + 1 + 9) / 9)
    assert (thrice.n, thrice.mean, thrice.variance) == (3, 3.0, pytest.approx(once.variance))


def test_the_difference_is_that_of_the_scores() -> None:
    """Paired: both policies on the same decisions."""
    choices, arbitrated = logged(4)
    first, second = (np.eye(3)[np.full(N, option)] for option in (1, 2))

    found = {one.id: one for one in compared_policies(choices, arbitrated, guard=EASY, looks=Looks(), seed=1)}

    expected = float((policy_scores(choices, first) - policy_scores(choices, second)).mean())
    assert found["policy_response_ranking"].value.estimate == pytest.approx(expected)


def test_looking_often_is_counted_in_decisions() -> None:
    """The same customers come back for ever: their number would say that nothing is looked at any more."""
    choices, arbitrated = logged(5)
    looks = Looks()

    found = compared_policies(choices, arbitrated, guard=EASY, looks=looks, seed=1)

    value = next(one.value for one in found if one.id == "policy_response_ranking")
    assert value.always_high is not None
    assert value.high is not None
    assert value.estimate is not None
    wider = (value.always_high - value.estimate) / (value.high - value.estimate)
    assert wider == pytest.approx(always_valid_multiplier(N, looks) / looks.z)
