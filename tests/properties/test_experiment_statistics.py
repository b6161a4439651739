"""What holds of experiments at random: looking often finds nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.experiment_statistics import Looks, arm_mean, difference
from models.sample_ratio import Assignment, ratio_check, ratio_p_value

EXPERIMENTS = 1_500
SEEDS = st.integers(0, 10**6)


def first_alarms(
    rng: np.random.Generator, *, share: float, rates: tuple[float, float], people: int, every: int, looks: Looks
) -> tuple[int, int]:
    """Of one experiment looked at after each batch: whether the interval for many looks, or for one, ever left 0."""
    is_first = rng.random(people) < share
    y = (rng.random(people) < np.where(is_first, *rates)).astype(np.float64)
    always, once = False, False
    for n in range(every, people + 1, every):
        side, told = is_first[:n], y[:n]
        found = difference(
            arm_mean(told[side], np.full(int(side.sum()), share), is_binary=True),
            arm_mean(told[~side], np.full(n - int(side.sum()), 1 - share), is_binary=True),
            looks,
        )
        always |= found.always_low > 0 or found.always_high < 0
        once |= found.low > 0 or found.high < 0
    return int(always), int(once)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "rate"), [(0.5, 0.2), (0.1, 0.2), (0.1, 0.03)])
def test_looking_after_every_batch_does_not_raise_false_alarms(share: float, rate: float) -> None:
    """Of 1,500 experiments without an effect, looked at 30 times, at most 5 % alarm; plain intervals in over 10 %."""
    rng = np.random.default_rng(11)
    looks = Looks(planned=3_000, smallest_arm=50)

    found = np.array(
        [
            first_alarms(rng, share=share, rates=(rate, rate), people=3_000, every=100, looks=looks)
            for _ in range(EXPERIMENTS)
        ]
    )

    always, once = found.mean(axis=0)
    assert always <= 0.05
    assert once > 0.10


def test_what_is_there_is_found_while_looking() -> None:
    """A rise from 20 to 26 points is found in nearly all experiments before the planned number is reached."""
    rng = np.random.default_rng(12)
    looks = Looks(planned=3_000)

    found = [
        first_alarms(rng, share=0.5, rates=(0.26, 0.20), people=3_000, every=300, looks=looks)[0] for _ in range(200)
    ]

    assert np.mean(found) > 0.75


@pytest.mark.slow
def test_sample_ratios_that_are_met_alarm_no_more_often_than_alpha() -> None:
    """Of 4,000 experiments one look alarms in a share alpha, and looking after each person in no more."""
    rng = np.random.default_rng(13)
    shares, alpha = np.array([0.1, 0.25, 0.65]), 0.05
    table = np.tile(shares, (1_000, 1))

    found = [
        ratio_check(Assignment(rng.choice(3, size=1_000, p=shares).astype(np.int64), table), alpha=alpha)
        for _ in range(4_000)
    ]

    # Three standard errors of 4,000 draws are one point.
    assert np.mean([one.p_value < alpha for one in found]) == pytest.approx(alpha, abs=0.0105)
    assert np.mean([one.first_alarm is not None for one in found]) <= alpha


@given(SEEDS, st.integers(2, 4), st.integers(1, 60))
def test_the_order_of_arms_and_people_says_nothing(seed: int, n_arms: int, n: int) -> None:
    """The p-value of one look is the same whoever comes first, and whatever the arms are called."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(n_arms), n)
    arm = np.array([rng.choice(n_arms, p=row) for row in table], dtype=np.int64)
    people, names = rng.permutation(n), rng.permutation(n_arms)
    weight = rng.uniform(1.0, 3.0, n)

    shuffled = Assignment(np.argsort(names)[arm][people], table[:, names][people])

    assert ratio_p_value(shuffled, weight[people]) == pytest.approx(
        ratio_p_value(Assignment(arm, table), weight), abs=1e-6
    )


@given(SEEDS)
def test_a_difference_turned_round_is_its_opposite(seed: int) -> None:
    """Estimate and both intervals change their sign."""
    rng = np.random.default_rng(seed)
    one, other = (arm_mean(rng.normal(size=60), rng.uniform(0.1, 0.9, 60)) for _ in range(2))

    there, back = difference(one, other, Looks()), difference(other, one, Looks())

    assert (-there.estimate, -there.high, -there.low) == pytest.approx((back.estimate, back.low, back.high))
    assert (-there.always_high, -there.always_low) == pytest.approx((back.always_low, back.always_high))
