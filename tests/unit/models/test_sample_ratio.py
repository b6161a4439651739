"""The sample-ratio check, against numbers computed by hand and scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare
from scipy.stats import dirichlet_multinomial as dm_law
from scipy.stats import multinomial as m_law

from features.errors import NotEnoughData
from models.sample_ratio import (
    CONCENTRATION,
    Assignment,
    ratio_check,
    ratio_p_value,
    sequential_evidence,
    uneven_groups,
    usable_rows,
)

SHARES = np.array([0.1, 0.25, 0.65])
ALPHA = 0.001


def drawn(n: int, seed: int, shares: np.ndarray = SHARES) -> Assignment:
    """People drawn by the shares."""
    arm = np.random.default_rng(seed).choice(len(shares), size=n, p=shares)
    return Assignment(arm.astype(np.int64), np.tile(shares, (n, 1)))


def test_of_equal_shares_it_is_pearsons() -> None:
    """One table of probabilities for all gives scipy's chi-square test."""
    people = drawn(4_000, 1)

    found = ratio_check(people, alpha=ALPHA)

    reference = chisquare(np.bincount(people.arm), 4_000 * SHARES)
    assert found.p_value == pytest.approx(reference.pvalue, rel=1e-9)
    assert found.expected == pytest.approx([400, 1_000, 2_600])
    assert found.observed.sum() == 4_000


def test_shares_that_changed_are_those_of_each_person() -> None:
    """Two halves with shares turned round are no mismatch, though half and half would be."""
    first, second = drawn(3_000, 2, np.array([0.9, 0.1])), drawn(1_000, 3, np.array([0.1, 0.9]))
    both = Assignment(np.r_[first.arm, second.arm], np.vstack([first.probability, second.probability]))

    found = ratio_check(both, alpha=ALPHA)

    assert found.status == "matches"
    assert found.expected == pytest.approx([2_800, 1_200])
    # n0 - E0 over its standard deviation: the variance of each person is .09.
    z = (found.observed[0] - 2_800) / math.sqrt(4_000 * 0.09)
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), rel=1e-9)


def test_a_few_are_counted_exactly() -> None:
    """Of 12 people at 1 in 10 the p-value is the binomial one, within what simulating may err."""
    people = Assignment(np.array([0] * 5 + [1] * 7), np.tile([0.1, 0.9], (12, 1)))

    found = ratio_p_value(people)

    assert found == pytest.approx(binomtest(5, 12, 0.1).pvalue, abs=0.0006)
    assert found == ratio_p_value(people)


def test_the_evidence_is_a_bayes_factor() -> None:
    """Of equal shares: Dirichlet-multinomial over multinomial probability of the counts."""
    people = drawn(500, 4)
    counts = np.bincount(people.arm)

    found = sequential_evidence(people)[-1]

    prior = dm_law.logpmf(counts, CONCENTRATION * SHARES, 500)
    assert found == pytest.approx(prior - m_law.logpmf(counts, 500, SHARES), rel=1e-6)


def test_records_lost_in_one_arm_are_caught() -> None:
    """A tenth of one arm's people is missing: both p-values tell, and when it could first be told."""
    people = drawn(20_000, 5)
    lost = (people.arm == 1) & (np.random.default_rng(6).random(20_000) < 0.1)

    found = ratio_check(people.of(~lost), alpha=ALPHA)

    assert found.status == "mismatch"
    assert found.p_value < found.always_valid_p < ALPHA
    assert found.first_alarm is not None
    assert found.first_alarm < 20_000


def test_nobody_can_differ_where_there_is_one_arm() -> None:
    """A share of 1 is met whoever comes; so says an empty log."""
    one = Assignment(np.zeros(30, dtype=np.int64), np.tile([1.0, 0.0], (30, 1)))

    assert ratio_check(one, alpha=ALPHA).status == "unknown"
    assert ratio_check(one.of(np.zeros(30, dtype=np.bool_)), alpha=ALPHA).status == "unknown"


def test_one_person_of_very_many_decisions_is_no_alarm() -> None:
    """That they are in an arm of a twentieth happens to one in twenty of them, not to one in ten thousand."""
    shares = np.array([0.05, 0.95])
    arm = np.r_[0, np.random.default_rng(1).choice(2, size=300, p=shares)]
    weight = np.r_[1_000.0, np.ones(300)]

    p_value = ratio_p_value(Assignment(arm, np.tile(shares, (301, 1))), weight)

    assert 0.01 < p_value < 0.05


def test_weights_count_decisions() -> None:
    """Someone who decides five times stands for five, with the variance of one person."""
    people = drawn(2_000, 7, np.array([0.5, 0.5]))

    assert ratio_p_value(people, np.full(2_000, 5.0)) == pytest.approx(ratio_p_value(people), rel=1e-9)
    assert ratio_p_value(people, np.where(people.arm == 0, 2.0, 1.0)) < 1e-4


def test_probabilities_that_are_none_are_refused() -> None:
    """Missing, no distribution, or of an arm that could not be."""
    table = np.array([[0.5, 0.5], [math.nan, 0.5], [0.5, 0.6], [0.0, 1.0]])
    people = Assignment(np.zeros(4, dtype=np.int64), table)

    assert usable_rows(people).tolist() == [True, False, False, False]
    with pytest.raises(NotEnoughData, match="no distribution"):
        ratio_check(people, alpha=ALPHA)


def test_the_group_that_lost_records_is_named() -> None:
    """The day on which an arm's records were lost stands first, with how many are missing."""
    people = drawn(6_000, 8)
    day = np.array(["monday", "tuesday", "wednesday"])[np.random.default_rng(9).integers(0, 3, 6_000)]
    stage = np.where(np.random.default_rng(10).random(6_000) < 0.5, "applied", "verified")
    kept = ~((people.arm == 2) & (day == "tuesday") & (np.random.default_rng(11).random(6_000) < 0.5))

    found = uneven_groups(people.of(kept), {"day": day[kept], "stage": stage[kept]}, alpha=0.01)

    assert (found[0].dimension, found[0].group) == ("day", "tuesday")
    assert found[0].observed[2] < 0.8 * found[0].expected[2]
    assert {one.group for one in found if one.dimension == "day"} == {"tuesday"}
