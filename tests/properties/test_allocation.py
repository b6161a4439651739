"""Allocation under capacities and budgets: always feasible, within its reported gap of the optimum, value-ordered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import linprog

from models.allocation import NOTHING, Allocation, Constraints, Method, allocate

Floats = NDArray[np.float64]
MONEY = st.floats(0, 15)
SPEND = st.one_of(st.just(0.0), st.floats(0.01, 5))
VALUE = st.one_of(st.floats(-5, -0.01), st.floats(0.01, 20), st.integers(-2, 6).map(float), st.just(math.nan))
METHODS: tuple[Method, ...] = ("exact", "dual")


class Problem(NamedTuple):
    """What is to be allocated."""

    values: Floats
    constraints: Constraints
    spend: Floats


@st.composite
def problems(draw: st.DrawFn, max_customers: int = 8, max_candidates: int = 4, max_constraints: int = 3) -> Problem:
    """Small problems with ties, with what is not allowed, with nothing to take from, and with overlapping limits."""
    n, m, k = draw(st.integers(0, max_customers)), draw(st.integers(1, max_candidates)), draw(st.integers(0, 3))
    k = min(k, max_constraints)
    is_money = draw(arrays(np.bool_, k))
    units, money = draw(arrays(np.int64, k, elements=st.integers(0, 6))), draw(arrays(np.float64, k, elements=MONEY))
    return Problem(
        draw(arrays(np.float64, (n, m), elements=VALUE)),
        Constraints(
            ids=tuple(f"limit_{number}" for number in range(k)),
            most=np.where(is_money, money, units.astype(np.float64)),
            takes=draw(arrays(np.bool_, (k, m))),
            is_money=is_money,
        ),
        draw(arrays(np.float64, (n, m), elements=SPEND)),
    )


def solved(problem: Problem, method: Method = "dual") -> Allocation:
    """The allocation of a problem."""
    return allocate(problem.values, problem.constraints, spend=problem.spend, method=method)


def used(problem: Problem, choice: Iterator[int] | NDArray[np.int64] | tuple[int, ...]) -> Floats:
    """What choices take of each constraint, one after the other."""
    total = np.zeros(len(problem.constraints.ids))
    for customer, candidate in enumerate(choice):
        if candidate != NOTHING:
            amounts = np.where(problem.constraints.is_money, problem.spend[customer, candidate], 1.0)
            total += problem.constraints.takes[:, candidate] * amounts
    return total


def worth(problem: Problem, choice: tuple[int, ...]) -> float:
    """Value of choices."""
    return sum(float(problem.values[customer, one]) for customer, one in enumerate(choice) if one != NOTHING)


def optimum(problem: Problem) -> float:
    """The largest value of all feasible choices, every one of them tried."""
    options = [[NOTHING, *np.flatnonzero(row > 0).tolist()] for row in problem.values]
    most = problem.constraints.most + 1e-12
    return max(
        (worth(problem, choice) for choice in itertools.product(*options) if (used(problem, choice) <= most).all()),
        default=0.0,
    )


def linear_optimum(problem: Problem) -> float:
    """Value of the relaxed problem, by HiGHS: what the best dual prices give."""
    customer, candidate = np.nonzero(problem.values > 0)
    n = len(customer)
    if not n:
        return 0.0
    amounts = np.where(problem.constraints.is_money[:, None], problem.spend[customer, candidate], 1.0)
    rows = [
        np.eye(len(problem.values))[:, customer],
        problem.constraints.takes[:, candidate] * amounts,
    ]
    most = np.concatenate([np.ones(len(problem.values)), problem.constraints.most])
    found = linprog(-problem.values[customer, candidate], A_ub=np.vstack(rows), b_ub=most, bounds=(0, 1))
    return float(-found.fun)


@given(problems(), st.sampled_from(METHODS))
@settings(deadline=None, max_examples=300)
def test_an_allocation_is_feasible_and_says_what_it_takes(problem: Problem, method: Method) -> None:
    """At most one allowed candidate each, of positive value, under every limit; the same again is the same."""
    found = solved(problem, method)

    assert np.allclose(found.used, used(problem, found.choice))
    assert (found.used <= problem.constraints.most + 1e-9).all()
    for customer, candidate in enumerate(found.choice.tolist()):
        assert candidate == NOTHING or problem.values[customer, candidate] > 0
    assert found.value == pytest.approx(worth(problem, tuple(found.choice.tolist())))
    assert (found.prices >= 0).all()
    again = solved(problem, method)
    assert np.array_equal(found.choice, again.choice)
    assert np.array_equal(found.prices, again.prices)


@given(problems(max_customers=5, max_candidates=3))
@settings(deadline=None, max_examples=200)
def test_the_optimum_lies_between_the_value_and_the_bound(problem: Problem) -> None:
    """So the value is the optimum within the reported gap; solved exactly it is the optimum."""
    best = optimum(problem)
    for method in METHODS:
        found = solved(problem, method)
        assert found.value <= best + 1e-9
        assert best <= found.bound + 1e-9 * max(1.0, best)
        assert best - found.value <= found.gap + 1e-9
        if found.is_exact:
            assert found.value == pytest.approx(best)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e9])
def test_the_unit_of_money_changes_no_proof(unit: float) -> None:
    """What is proven best is so in any unit: a solver's own tolerance is an amount, not a share."""
    values = np.array([[3.0, 3.0], [3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [3.0, 1.0]]) * unit
    spend = np.array([[0.5, 0.3], [0.3, 0.8], [0.2, 0.3], [0.2, 0.2], [0.3, 0.7]])
    given_away = Constraints(
        ids=("money", "units"),
        most=np.array([1.0, 2.0]),
        takes=np.array([[False, True], [True, False]]),
        is_money=np.array([True, False]),
    )
    problem = Problem(values, given_away, spend)

    found = solved(problem, "exact")

    best = max(
        worth(problem, choice)
        for choice in itertools.product((NOTHING, 0, 1), repeat=5)
        if (used(problem, choice) <= given_away.most).all()
    )
    assert found.is_exact
    assert found.value == pytest.approx(best)


@given(problems(max_customers=30, max_candidates=5))
@settings(deadline=None, max_examples=200)
def test_the_bound_is_that_of_the_relaxed_problem(problem: Problem) -> None:
    """The prices are the best there are: no bound of this kind is lower."""
    best = linear_optimum(problem)

    assert solved(problem).bound == pytest.approx(best, rel=1e-6, abs=1e-6)


@given(problems(max_customers=12), st.data())
@settings(deadline=None, max_examples=200)
def test_more_to_take_from_never_lowers_the_bound(problem: Problem, data: st.DataObject) -> None:
    """Of any one constraint."""
    given_ = problem.constraints
    if not given_.ids:
        return
    more = given_.most.copy()
    more[data.draw(st.integers(0, len(given_.ids) - 1))] += data.draw(st.integers(1, 5))
    wider = Constraints(ids=given_.ids, most=more, takes=given_.takes, is_money=given_.is_money)
    before, after = solved(problem), solved(problem._replace(constraints=wider))

    assert after.bound >= before.bound - 1e-6 * max(1.0, before.bound)


@given(problems(max_customers=12))
@settings(deadline=None, max_examples=200)
def test_what_is_not_scarce_costs_nothing(problem: Problem) -> None:
    """A constraint that could not be exceeded has the price 0; with none at all everybody gets what is best."""
    given_ = problem.constraints
    plenty = Constraints(
        ids=given_.ids,
        most=np.where(given_.is_money, problem.spend.sum() + 1, float(len(problem.values))),
        takes=given_.takes,
        is_money=given_.is_money,
    )
    found = solved(problem._replace(constraints=plenty))

    assert (found.prices == 0).all()
    assert found.gap == pytest.approx(0.0, abs=1e-9)
    best = np.where(problem.values > 0, problem.values, 0.0).max(axis=1, initial=0.0)
    assert found.value == pytest.approx(best.sum())


@given(problems(max_customers=10), st.data(), st.floats(0.01, 5))
@settings(deadline=None, max_examples=300)
def test_a_higher_value_never_loses_its_unit_to_a_lower(problem: Problem, data: st.DataObject, more: float) -> None:
    """Of two customers alike but for one candidate, who values it more has it if the other has, or better."""
    n, m = problem.values.shape
    if n < 2:
        return
    first, second = data.draw(st.permutations(range(n)))[:2]
    candidate = data.draw(st.integers(0, m - 1))
    values, spend = problem.values.copy(), problem.spend.copy()
    values[second], spend[second] = values[first], spend[first]
    values[first, candidate] += more
    alike = problem._replace(values=values, spend=spend)
    for method in METHODS:
        found = solved(alike, method)
        if found.choice[second] == candidate:
            assert found.choice[first] != NOTHING
            assert values[first, found.choice[first]] >= values[second, candidate] - 1e-9


@given(problems(max_customers=8), st.sampled_from(METHODS))
@settings(deadline=None, max_examples=200)
@example(
    Problem(
        np.full((4, 1), 2.0),
        Constraints(ids=("c",), most=np.array([2.0]), takes=np.ones((1, 1), bool), is_money=np.zeros(1, bool)),
        np.zeros((4, 1)),
    ),
    "dual",
)
def test_of_customers_alike_the_first_come_first(problem: Problem, method: Method) -> None:
    """Every customer twice: the first of the two never has less."""
    twice = problem._replace(values=np.repeat(problem.values, 2, axis=0), spend=np.repeat(problem.spend, 2, axis=0))
    choice = solved(twice, method).choice
    gains = [0.0 if one == NOTHING else float(twice.values[row, one]) for row, one in enumerate(choice.tolist())]

    assert all(first >= second for first, second in zip(gains[::2], gains[1::2], strict=True))


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0.1, 50)), st.integers(0, 45))
@settings(deadline=None)
def test_one_capacity_goes_to_the_highest_values(values: Floats, units: int) -> None:
    """The price lies between the last who gets a unit and the first who does not."""
    capacity = Constraints(
        ids=("calls",), most=np.array([float(units)]), takes=np.ones((1, 1), bool), is_money=np.zeros(1, bool)
    )
    found = allocate(values[:, None], capacity, method="dual")

    ordered = np.sort(values)[::-1]
    assert found.value == pytest.approx(ordered[:units].sum())
    assert found.gap == pytest.approx(0.0, abs=1e-9)
    if 0 < units < len(values):
        assert ordered[units] * (1 - 1e-8) <= found.prices[0] <= ordered[units - 1]
    if units >= len(values):
        assert found.prices[0] == 0.0


def test_at_its_prices_almost_everybody_would_choose_what_they_get() -> None:
    """All but at most two customers for each constraint: so decisions one by one share out what the batch does."""
    draws = np.random.default_rng(11)
    n, m = 3_000, 6
    takes = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=np.bool_)
    constraints = Constraints(
        ids=("calls", "cases", "money"),
        most=np.array([120.0, 200.0, 900.0]),
        takes=takes,
        is_money=np.array([False, False, True]),
    )
    values, spend = draws.normal(1.0, 3.0, (n, m)), draws.uniform(0.1, 2.0, (n, m))
    found = allocate(values, constraints, spend=spend)

    per_unit = np.where(constraints.is_money, 0.0, found.prices) @ takes
    per_money = np.where(constraints.is_money, found.prices, 0.0) @ takes
    reduced = values - per_unit - per_money * spend
    alone = np.where(reduced.max(axis=1) > 0, reduced.argmax(axis=1), NOTHING)
    assert (found.prices > 0).all()
    assert (alone != found.choice).sum() <= 2 * len(constraints.ids)


def test_customers_alike_take_what_there_is_at_the_price() -> None:
    """The price stands a hair below what it is worth to all of them, so that none of it is left over."""
    capacity = Constraints(
        ids=("calls",), most=np.array([3.0]), takes=np.ones((1, 1), bool), is_money=np.zeros(1, bool)
    )
    found = allocate(np.full((10, 1), 2.5), capacity, method="dual")

    assert found.choice.tolist() == [0, 0, 0, *([NOTHING] * 7)]
    assert found.bound == found.value == 7.5
    assert 2.5 * (1 - 1e-8) < found.prices[0] < 2.5


def test_a_large_problem_is_solved_within_a_thousandth() -> None:
    """20,000 customers, 12 candidates, overlapping capacities and a budget: the gap is reported and small."""
    draws = np.random.default_rng(5)
    n, m = 20_000, 12
    values = draws.normal(0.5, 3.0, (n, m))
    values[draws.random((n, m)) < 0.3] = np.nan
    takes = np.zeros((3, m), dtype=np.bool_)
    takes[0, :5], takes[1, 3:8], takes[2] = True, True, True
    constraints = Constraints(
        ids=("calls", "cases", "money"),
        most=np.array([1_000.0, 700.0, 4_000.0]),
        takes=takes,
        is_money=np.array([False, False, True]),
    )
    found = allocate(values, constraints, spend=np.abs(draws.normal(1.0, 0.5, (n, m))) + 0.05)

    assert not found.is_exact
    assert 0 <= found.relative_gap < 1e-3
    assert (found.used <= constraints.most + 1e-6).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"most": np.array([1.0, 2.0])}, "2 of most for 1 ids"),
        ({"most": np.array([-1.0])}, "expected at least 0"),
    ],
)
def test_constraints_that_do_not_fit_are_refused(changes: dict[str, Floats], message: str) -> None:
    """With what was expected."""
    fields = {"ids": ("c",), "most": np.ones(1), "takes": np.ones((1, 1), bool), "is_money": np.zeros(1, bool)}
    with pytest.raises(ValueError, match=message):
        Constraints(**(fields | changes))


def test_a_budget_needs_what_is_spent() -> None:
    """Of the values' shape."""
    budget = Constraints(ids=("b",), most=np.ones(1), takes=np.ones((1, 2), bool), is_money=np.ones(1, bool))
    with pytest.raises(ValueError, match="budgets need what is spent"):
        allocate(np.ones((3, 2)), budget)
