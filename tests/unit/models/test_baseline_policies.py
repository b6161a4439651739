"""Simple policies to compare with: what each of them chooses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.baseline_policies import (
    Arbitrated,
    baseline_policies,
    best_single,
    by_priority_policy,
    no_action_policy,
    random_policy,
    response_ranking_policy,
    rules_only_policy,
    shuffled_model_policy,
    single_policy,
    without_levers_policy,
)

NAN = float("nan")
ROWS = [
    # eligible, net value, response; the third option has a lever of 200 %.
    ([1, 1, 1, 1], [0.0, 2.0, 1.0, -1.0], [NAN, 0.3, 0.2, 0.9]),
    ([1, 1, 0, 1], [0.0, -2.0, NAN, -1.0], [NAN, 0.6, NAN, 0.5]),
    ([1, 0, 0, 0], [0.0, NAN, NAN, NAN], [NAN, NAN, NAN, NAN]),
    ([1, 0, 1, 1], [0.0, NAN, 1.0, 1.0], [NAN, NAN, NAN, NAN]),
]


def arbitrated(**given: Any) -> Arbitrated:
    """Four decisions among three options and nothing; the catalogue names the options in the order 3, 1, 2."""
    lever = np.zeros((4, 4))
    lever[:, 2] = 200.0
    fields: dict[str, Any] = {
        "eligible": np.array([row[0] for row in ROWS], dtype=np.bool_),
        "net_value": np.array([row[1] for row in ROWS]),
        "response": np.array([row[2] for row in ROWS]),
        "context_weight_pct": np.zeros((4, 4)),
        "lever_pct": lever,
        "mandatory": np.zeros(4, dtype=np.bool_),
        "order": np.array([9, 1, 2, 0]),
    }
    return Arbitrated(**{**fields, **given})


def chosen(table: np.ndarray[Any, Any]) -> list[int]:
    """The option of each row, all of whose probability it has."""
    assert set(np.unique(table).tolist()) <= {0.0, 1.0}
    assert (table.sum(axis=1) == 1).all()
    return [int(one) for one in table.argmax(axis=1)]


def test_nothing_is_done_to_nobody() -> None:
    """Whatever is eligible."""
    assert chosen(no_action_policy(arbitrated())) == [0, 0, 0, 0]


def test_chance_is_even_among_what_is_eligible() -> None:
    """Nothing among it."""
    expected = [[1 / 4] * 4, [1 / 3, 1 / 3, 0, 1 / 3], [1, 0, 0, 0], [1 / 3, 0, 1 / 3, 1 / 3]]

    assert np.allclose(random_policy(arbitrated()), expected)


def test_priority_lifts_what_is_worth_something() -> None:
    """Three times 1 beats 2; nothing is done where all lose money."""
    assert chosen(by_priority_policy(arbitrated())) == [2, 0, 0, 2]


def test_without_levers_money_alone_ranks() -> None:
    """And where it is equal, the order of the catalogue."""
    assert chosen(without_levers_policy(arbitrated())) == [1, 0, 0, 3]


def test_response_ranking_takes_whoever_says_yes() -> None:
    """Also at a loss; what is unknown is never first, and nothing is done where all is unknown."""
    assert chosen(response_ranking_policy(arbitrated())) == [3, 1, 0, 0]


def test_rules_alone_take_the_first_of_the_catalogue() -> None:
    """Of what is eligible."""
    assert chosen(rules_only_policy(arbitrated())) == [3, 3, 0, 3]


def test_one_option_for_all_who_may_have_it() -> None:
    """Nothing for the others; the best one is that of the highest mean, which counts who may not have it as 0."""
    assert chosen(single_policy(arbitrated(), 1)) == [1, 1, 0, 0]
    assert best_single(arbitrated()) == 2


def test_no_single_option_where_none_earns() -> None:
    """Then nothing is the best thing to do to everybody, as it is without any decision."""
    assert best_single(arbitrated(net_value=np.full((4, 4), -1.0))) == 0
    assert best_single(arbitrated().of(np.zeros(4, dtype=np.bool_))) == 0


def test_shuffled_estimates_stay_with_their_option() -> None:
    """Customers trade estimates of the same option: who is eligible for what does not change, and a seed fixes it."""
    rng = np.random.default_rng(1)
    net_value = np.c_[np.zeros(500), rng.normal(size=(500, 1)), np.full((500, 2), NAN)]
    log = arbitrated(
        eligible=np.tile([True, True, False, False], (500, 1)),
        net_value=net_value,
        response=np.full((500, 4), NAN),
        lever_pct=np.zeros((500, 4)),
        context_weight_pct=np.zeros((500, 4)),
    )

    kept, drawn = by_priority_policy(log), shuffled_model_policy(log, seed=3)

    assert np.array_equal(drawn, shuffled_model_policy(log, seed=3))
    assert drawn.sum(axis=0).tolist() == kept.sum(axis=0).tolist()
    assert 0.3 < float((drawn != kept).any(axis=1).mean()) < 0.7


@pytest.mark.parametrize("name", ["random", "best_single", "response_ranking", "without_levers", "rules_only"])
def test_what_is_mandatory_goes_first(name: Any) -> None:
    """Where it is eligible, whatever it is worth; elsewhere nothing changes."""
    mandatory = np.array([False, False, True, False])

    bound = baseline_policies(arbitrated(mandatory=mandatory), seed=1)[name]
    free = baseline_policies(arbitrated(), seed=1)[name]

    assert bound[[0, 3], 2].tolist() == [1.0, 1.0]
    assert np.array_equal(bound[[1, 2]], free[[1, 2]])


def test_a_mandatory_option_of_unknown_worth_goes_first_too() -> None:
    """Its response is not known, and it is what has to be said."""
    log = arbitrated(mandatory=np.array([False, False, False, True]), response=np.full((4, 4), NAN))

    assert chosen(response_ranking_policy(log)) == [3, 3, 0, 3]


def test_every_policy_is_a_distribution_over_what_is_eligible() -> None:
    """For any log: rows sum to 1, and nothing is taken that was not there."""
    rng = np.random.default_rng(2)
    eligible = rng.random((300, 6)) < 0.5
    eligible[:, 0] = True
    net_value = np.where(eligible, rng.normal(size=(300, 6)), NAN)
    net_value[:, 0] = 0.0
    log = Arbitrated(
        eligible=eligible,
        net_value=net_value,
        response=np.where(rng.random((300, 6)) < 0.8, rng.random((300, 6)), NAN),
        context_weight_pct=rng.uniform(-50, 50, (300, 6)),
        lever_pct=rng.uniform(-50, 50, (300, 6)),
        mandatory=np.array([False, False, True, False, True, False]),
        order=rng.permutation(6),
    )

    for table in baseline_policies(log, seed=1).values():
        assert np.allclose(table.sum(axis=1), 1.0)
        assert (table[~eligible] == 0).all()
    assert np.array_equal(
        without_levers_policy(log), by_priority_policy(replace(log, lever_pct=np.zeros_like(log.lever_pct)))
    )
