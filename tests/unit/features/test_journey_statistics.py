"""Counts, shares and times of the journey report, against worked examples and plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from features.journey_statistics import (
    N_BINS,
    Shares,
    ShareSums,
    Tally,
    add_replicates,
    benjamini_hochberg,
    bin_hours,
    bins,
    difference,
    kaplan_meier_hours,
    p_value,
    poisson_steps,
    quantile_hours,
    wilson,
)

HOUR_US = 3_600_000_000.0


def whole(*numbers: int) -> np.ndarray:
    """Whole numbers as the counts take them."""
    return np.array(numbers, dtype=np.int64)


def histogram(*hours: float) -> np.ndarray:
    """Durations in bins."""
    return np.bincount(bins(np.array(hours) * HOUR_US), minlength=N_BINS)


def plain(hits: int, n: int) -> ShareSums:
    """A share of rows that each have a customer of their own."""
    return ShareSums(n, hits, hits, hits, n)


def test_a_tally_counts_rows_over_calls() -> None:
    """The same combinations in two calls are added, and come out ascending."""
    tally = Tally(2, 3)
    tally.add(whole(1, 0, 1), whole(2, 0, 2))
    tally.add(whole(1, 1), whole(2, 1))

    assert list(tally.rows()) == [((0, 0), 1), ((1, 1), 1), ((1, 2), 3)]
    assert tally.dense().tolist() == [[1, 0, 0], [0, 1, 3]]
    assert tally.histogram(1).tolist() == [0, 1, 3]


def test_a_tally_counts_an_owner_once() -> None:
    """However often the owner's rows say the same."""
    tally = Tally(2)
    tally.add_distinct(whole(7, 7, 8, 8), whole(0, 0, 0, 1))

    assert tally.dense().tolist() == [2, 1]


def test_an_empty_tally_is_all_zeros() -> None:
    """Nothing was seen."""
    tally = Tally(2)
    tally.add(whole())
    tally.add_distinct(whole(), whole())

    assert tally.dense().tolist() == [0, 0]


@pytest.mark.parametrize(("hits", "n"), [(1, 10), (5, 10), (9, 10), (100, 1_000), (1, 3)])
def test_wilsons_bounds_are_where_the_score_test_just_rejects(hits: int, n: int) -> None:
    """At each bound the share is 1.96 standard errors away, the error being the bound's own: what defines them."""
    p = hits / n

    for bound in wilson(p, n):
        assert abs(p - bound) == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / n))
    low, high = wilson(p, n)
    assert 0 < low < p < high < 1


@pytest.mark.parametrize(("share", "expected"), [(0.0, (0.0, 0.277533)), (1.0, (0.722467, 1.0))])
def test_nobody_and_everybody_of_ten_leave_room(share: float, expected: tuple[float, float]) -> None:
    """z^2 / (n + z^2) of it, and the outer bound is exact."""
    assert wilson(share, 10) == pytest.approx(expected, abs=1e-6)


def test_repeated_rows_of_a_customer_count_as_fewer() -> None:
    """A hundred customers who each came twice and did the same both times are a hundred, not two hundred."""
    shares = Shares(1)
    owners = np.repeat(np.arange(100), 2)
    shares.add(owners, owners < 30, np.zeros(200, dtype=np.int64))
    sums = shares.of(0)

    assert (sums.n, sums.hits) == (200, 60)
    assert sums.effective_n == pytest.approx(100)
    assert sums.interval == pytest.approx(wilson(0.3, 100))


def test_one_customer_is_one_however_many_rows() -> None:
    """Nobody is there to differ from, so the spread over customers is not known to be small: it is not known."""
    shares = Shares(1)
    shares.add(np.zeros(100, dtype=np.int64), np.arange(100) < 50, np.zeros(100, dtype=np.int64))
    sums = shares.of(0)

    assert (sums.share, sums.effective_n) == (0.5, 1.0)
    assert sums.interval == pytest.approx(wilson(0.5, 1))


def test_rows_of_different_customers_count_in_full() -> None:
    """Without repeats the design effect is exactly one."""
    shares = Shares(1)
    shares.add(np.arange(50), np.arange(50) < 10, np.zeros(50, dtype=np.int64))

    assert shares.of(0) == plain(10, 50)
    assert shares.of(0).effective_n == pytest.approx(50, rel=1e-12)


def test_customers_who_are_all_alike_claim_no_more_than_their_number() -> None:
    """Two hundred hits of a hundred customers are no better than a hundred."""
    shares = Shares(1)
    owners = np.repeat(np.arange(100), 2)
    shares.add(owners, np.ones(200, dtype=np.bool_), np.zeros(200, dtype=np.int64))

    assert shares.of(0).effective_n == pytest.approx(100)


def test_no_rows_are_no_share() -> None:
    """Never a zero made of nothing."""
    none = ShareSums(0, 0, 0, 0, 0)

    assert (none.share, none.interval, difference(none, plain(1, 2)), p_value(plain(1, 2), none)) == (None,) * 4


def test_the_difference_equals_newcombes_example() -> None:
    """56 of 70 against 48 of 80: 0.2 (0.0524 to 0.3339), as method 10 of the paper gives."""
    found = difference(plain(56, 70), plain(48, 80))

    assert found is not None
    assert found[0] == pytest.approx(0.2)
    assert found[1] == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_p_value_equals_the_pooled_z_test() -> None:
    """56 of 70 against 48 of 80: z = 0.2 / sqrt(pq (1/70 + 1/80)) with p = 104/150."""
    p = 104 / 150
    z = 0.2 / math.sqrt(p * (1 - p) * (1 / 70 + 1 / 80))

    assert p_value(plain(56, 70), plain(48, 80)) == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert p_value(plain(0, 5), plain(0, 9)) == 1.0


def test_adjusted_p_values_never_fall_below_their_own() -> None:
    """And keep their order; the example of the paper's procedure by hand."""
    assert benjamini_hochberg([0.02, 0.8, 0.01, 0.03]) == pytest.approx([0.04, 0.8, 0.04, 0.04])
    assert benjamini_hochberg([]) == []


def test_bins_keep_durations_within_a_percent() -> None:
    """From a microsecond to decades; none stays none."""
    durations = np.array([1.0, 37.0, 1e3, 59e6, HOUR_US, 30 * 24 * HOUR_US, 30 * 365 * 24 * HOUR_US])

    kept = [bin_hours(int(place)) * HOUR_US for place in bins(durations)]

    assert kept == pytest.approx(durations.tolist(), rel=0.0100001)
    assert bin_hours(int(bins(np.zeros(1))[0])) == 0.0


def test_quantiles_are_by_nearest_rank() -> None:
    """Of four durations half took no longer than the second."""
    hours = histogram(1, 2, 3, 4)

    assert quantile_hours(hours, 0.5) == pytest.approx(2, rel=0.011)
    assert quantile_hours(hours, 0.9) == pytest.approx(4, rel=0.011)
    assert quantile_hours(histogram(), 0.5) is None


def test_kaplan_meier_equals_the_textbook() -> None:
    """Kaplan and Meier's example: ends at 0.8, 3.1, 5.4, 9.2 months, lost at 1.0, 2.7, 7.0, 12.1."""
    ended, lost = histogram(0.8, 3.1, 5.4, 9.2), histogram(1.0, 2.7, 7.0, 12.1)

    # S falls to 7/8, then 7/10, 21/40 and 21/80.
    assert kaplan_meier_hours(ended, lost, 0.12) == pytest.approx(0.8, rel=0.011)
    assert kaplan_meier_hours(ended, lost, 0.3) == pytest.approx(3.1, rel=0.011)
    assert kaplan_meier_hours(ended, lost, 0.5) == pytest.approx(9.2, rel=0.011)
    assert kaplan_meier_hours(ended, lost, 0.9) is None


def test_waiting_ones_are_not_taken_for_done() -> None:
    """Where most are still waiting there is no median, though all who are done were quick."""
    assert kaplan_meier_hours(histogram(1, 1), histogram(50, 60, 70), 0.5) is None
    assert kaplan_meier_hours(histogram(1, 1, 1), histogram(50, 60, 70), 0.5) == pytest.approx(1, rel=0.011)


def test_replicates_weigh_customers_like_a_poisson_bootstrap() -> None:
    """Mean and variance of the weights are near 1, all rows of a customer weigh the same, and seeds decide."""
    n = 4_000
    owners = np.repeat(np.arange(n), 2)
    seeds = (np.arange(n, dtype=np.uint64) * np.uint64(0x2545F4914F6CDD1D))[owners]
    cells = np.tile(whole(0, 1), n)
    measures = np.ones((2 * n, 1), dtype=np.bool_)
    sums = np.zeros((2, 1, 201), dtype=np.int64)

    add_replicates(sums, owners, seeds, cells, measures, poisson_steps())

    assert sums[:, 0, 0].tolist() == [n, n]
    assert (sums[0] == sums[1]).all()
    # The sum of 4,000 Poisson(1) has mean 4,000 and standard deviation 63; of 200 of them the mean is within 5 errors.
    assert sums[0, 0, 1:].mean() == pytest.approx(n, abs=5 * math.sqrt(n / 200))
    assert sums[0, 0, 1:].std() == pytest.approx(math.sqrt(n), rel=0.25)
