"""Who gets what when there is not enough for all: one action a customer, under capacities and budgets, for most value.

The dual prices of the capacities are found first: at them everybody simply takes what is worth most to them, and nearly
as much is taken as there is. Few choices then have to be mended so that nothing is exceeded. The dual value bounds what
any allocation can be worth, so the gap is known without knowing the optimum.

References:
    Geoffrion (1974), Lagrangean relaxation for integer programming; Kelley (1960), The cutting-plane method for solving
    convex programs. The optimum of small problems is HiGHS's, through scipy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, vstack

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Method = Literal["auto", "exact", "dual"]

NOTHING: Final = -1
"""The choice of who gets no action."""

LARGEST_EXACT: Final = 2_000
"""So many pairs of customer and candidate are solved exactly where nobody says how."""

_ROWS_PER_BLOCK: Final = 65_536
_SAMPLES: Final = (4_096, 65_536)
_MOST_CUTS: Final = 200
_TOLERANCE: Final = 1e-9
_LARGE: Final = 100_000
_TOLERANCE_OF_LARGE: Final = 1e-7
_MOST_NODES: Final = 20_000
_MOST_ROUNDS: Final = 50
_HAIR: Final = 1e-9
_SMALLEST_SPEND: Final = 1e-6
"""Of less, in the mean, a budget is no matter of money, and its price none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constraints:
    """What there is, in units or in money.

    Attributes:
        ids: of the capacities and budgets, in order.
        most: ``(n,)`` units or money that may be taken.
        takes: ``(n, n_candidates)`` which candidates take from it.
        is_money: ``(n,)`` a candidate takes what is spent on it, rather than one unit.
    """

    ids: tuple[str, ...]
    most: FloatArray
    takes: BoolArray
    is_money: BoolArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: an array is not as long as there are ids, or less than nothing may be taken.
        """
        n = len(self.ids)
        for name in ("most", "takes", "is_money"):
            if (length := len(getattr(self, name))) != n:
                raise ValueError(f"{length} of {name} for {n} ids, expected as many")
        if not (self.most >= 0).all():
            raise ValueError(f"a constraint of {self.most.min()}, expected at least 0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """What everybody gets.

    Attributes:
        choice: ``(n_customers,)`` a candidate, or ``NOTHING``.
        value: of all choices together.
        bound: no allocation is worth more.
        prices: ``(n_constraints,)`` what one more unit, or one more unit of money, would be worth.
        used: ``(n_constraints,)`` units or money that the choices take.
        is_exact: the choices were proven to be the best there are.
    """

    choice: IntArray
    value: float
    bound: float
    prices: FloatArray
    used: FloatArray
    is_exact: bool

    @property
    def gap(self) -> float:
        """How much more at most a better allocation could be worth."""
        return max(0.0, self.bound - self.value)

    @property
    def relative_gap(self) -> float:
        """The gap as a share of the bound; 0 where there is nothing to gain."""
        return self.gap / self.bound if self.bound > 0 else 0.0


def allocate(
    values: FloatArray, constraints: Constraints, *, spend: FloatArray | None = None, method: Method = "auto"
) -> Allocation:
    """At most one candidate for each customer, for the most value that the constraints allow.

    Of two customers with otherwise equal options the one with the higher value comes first; of equal ones the first.

    Args:
        values: ``(n_customers, n_candidates)``; NaN where it is not allowed. What is worth nothing or less is not
            chosen.
        constraints: capacities and budgets.
        spend: ``(n_customers, n_candidates)`` money; needed where there is a budget.
        method: ``exact`` proves the optimum, ``dual`` mends the choices that the prices lead to; ``auto`` is exact for
            small problems.

    Raises:
        ValueError: the arrays do not fit together, or a spend is less than nothing.
    """
    problem = _problem(values, constraints, spend)
    prices = _best_prices(problem)
    response = problem.response(prices)
    bound = response.dual
    choice = _mended(problem, prices, response)
    is_exact = False
    if method == "exact" or (method == "auto" and np.isfinite(problem.values).sum() <= LARGEST_EXACT):
        proven = _exact(problem)
        is_exact = proven is not None
        if proven is not None and problem.worth(proven) > problem.worth(choice):
            choice = proven
    choice = _in_order(problem, choice)
    full = np.full(len(values), NOTHING, dtype=np.int64)
    full[problem.rows] = choice
    value = problem.worth(choice)
    return Allocation(
        choice=full,
        value=value,
        # Where nothing binds the two are one sum, and rounding must not put the bound below.
        bound=max(bound, value),
        prices=_charged(prices, constraints),
        used=problem.used(choice),
        is_exact=is_exact,
    )


def _charged(prices: FloatArray, constraints: Constraints) -> FloatArray:
    """Prices a hair lower where anything is left.

    Customers who are alike all stand at the price itself: then they take what there is, until there is no more, rather
    than nobody takes any of it.
    """
    has_any = constraints.is_money | (constraints.most >= 1)
    return np.where(has_any, prices * (1 - _HAIR), prices)


class _Response(NamedTuple):
    """What everybody takes at some prices.

    Attributes:
        choice: of each customer.
        reduced: what it is worth to them beyond its prices; 0 where it is nothing.
        used: of each constraint.
        dual: value of the dual problem at these prices.
    """

    choice: IntArray
    reduced: FloatArray
    used: FloatArray
    dual: float


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """The customers that anything is worth something for.

    Attributes:
        rows: which customers they are.
        values: minus infinity where nothing is to be gained.
        spend: None where there is no budget.
    """

    rows: IntArray
    values: FloatArray
    spend: FloatArray | None
    constraints: Constraints

    def sample(self, size: int) -> _Problem:
        """Every so many customers, with as much less to take from."""
        rows = np.arange(0, len(self.values), len(self.values) / size)[:size].astype(np.int64)
        share = len(rows) / len(self.values)
        given = self.constraints
        fewer = Constraints(ids=given.ids, most=given.most * share, takes=given.takes, is_money=given.is_money)
        return replace(self.of(rows), constraints=fewer)

    def of(self, rows: slice | IntArray) -> _Problem:
        """Some of the customers, with all there is to take from."""
        spend = None if self.spend is None else self.spend[rows]
        return _Problem(self.rows[rows], self.values[rows], spend, self.constraints)

    def reduced(self, prices: FloatArray, rows: slice) -> FloatArray:
        """What each candidate is worth to some customers beyond its prices."""
        given = self.constraints
        per_unit = np.where(given.is_money, 0.0, prices) @ given.takes
        found: FloatArray = self.values[rows] - per_unit
        if self.spend is not None:
            per_money = np.where(given.is_money, prices, 0.0) @ given.takes
            if per_money.any():
                found -= per_money * self.spend[rows]
        return found

    def response(self, prices: FloatArray) -> _Response:
        """What everybody takes at some prices: the first of what is worth most, where it is worth its prices."""
        n = len(self.values)
        choice, reduced = np.full(n, NOTHING, dtype=np.int64), np.zeros(n)
        for rows in _blocks(n):
            found = self.reduced(prices, rows)
            best = found.argmax(axis=1)
            worth = found[np.arange(len(best)), best]
            choice[rows] = np.where(worth > 0, best, NOTHING)
            reduced[rows] = np.maximum(worth, 0.0)
        used = self.used(choice)
        return _Response(choice, reduced, used, float(reduced.sum() + prices @ self.constraints.most))

    def uses(self, choice: IntArray) -> FloatArray:
        """``(n_customers, n_constraints)`` what each choice takes."""
        taken = self.constraints.takes[:, choice].T & (choice >= 0)[:, None]
        found = taken.astype(np.float64)
        if self.spend is not None:
            money = self.spend[np.arange(len(choice)), choice]
            found[:, self.constraints.is_money] *= money[:, None]
        return found

    def used(self, choice: IntArray) -> FloatArray:
        """What all choices take together."""
        total = np.zeros(len(self.constraints.ids))
        for rows in _blocks(len(choice)):
            total += self.of(rows).uses(choice[rows]).sum(axis=0)
        return total

    def worth(self, choice: IntArray) -> float:
        """Value of all choices together."""
        taken = np.flatnonzero(choice >= 0)
        return float(self.values[taken, choice[taken]].sum())


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _ROWS_PER_BLOCK):
        yield slice(start, min(start + _ROWS_PER_BLOCK, n))


def _problem(values: FloatArray, constraints: Constraints, spend: FloatArray | None) -> _Problem:
    if constraints.takes.shape != (len(constraints.ids), values.shape[1]):
        raise ValueError(f"takes of {constraints.takes.shape}, expected {(len(constraints.ids), values.shape[1])}")
    has_budget = bool(constraints.is_money.any())
    if has_budget and (spend is None or spend.shape != values.shape):
        raise ValueError(f"budgets need what is spent, of the values' shape {values.shape}")
    rows = np.flatnonzero(_any_positive(values))
    kept = values[rows]
    np.copyto(kept, -np.inf, where=~(kept > 0))
    money = None
    if has_budget and spend is not None:
        money = spend[rows]
        np.copyto(money, 0.0, where=np.isneginf(kept))
        if not (money >= 0).all():
            raise ValueError(f"a spend of {money.min()}, expected at least 0")
    return _Problem(rows, kept, money, constraints)


def _any_positive(values: FloatArray) -> BoolArray:
    found = np.zeros(len(values), dtype=np.bool_)
    for rows in _blocks(len(values)):
        found[rows] = (values[rows] > 0).any(axis=1)
    return found


def _best_prices(problem: _Problem) -> FloatArray:
    """Prices at which the dual value is least; of samples first, which lead close and cost little."""
    prices = np.zeros(len(problem.constraints.ids))
    if not len(problem.rows) or _fits(problem, problem.response(prices).used):
        return prices
    only_units = len(prices) == 1 and not problem.constraints.is_money[0]
    if not only_units:
        radius = 1.0
        for size in _SAMPLES:
            if size < len(problem.rows):
                prices, radius = _descended(problem.sample(size), prices, radius), 0.05
        prices = _descended(problem, prices, radius)
    return _settled(problem, prices)


def _fits(problem: _Problem, used: FloatArray) -> bool:
    return bool((used <= problem.constraints.most).all())


def _descended(problem: _Problem, prices: FloatArray, radius: float) -> FloatArray:
    """Cutting planes inside a box around the best prices so far, which grows where they are right and shrinks else."""
    scale = _price_scale(problem)
    tolerance = _TOLERANCE if len(problem.rows) < _LARGE else _TOLERANCE_OF_LARGE
    best, answer = prices, problem.response(prices)
    cuts = [(answer.dual, problem.constraints.most - answer.used, prices)]
    least = answer.dual
    for _ in range(_MOST_CUTS):
        tried, model, is_free = _model_minimum(cuts, best, radius, scale)
        promised = least - model
        if promised <= tolerance * max(1.0, abs(least)):
            if is_free:
                break
            radius *= 4.0
            continue
        answer = problem.response(tried)
        cuts.append((answer.dual, problem.constraints.most - answer.used, tried))
        if answer.dual <= least - 0.1 * promised:
            radius *= 2.0
        elif answer.dual > least:
            radius *= 0.5
        if answer.dual < least:
            best, least = tried, answer.dual
    return best


def _price_scale(problem: _Problem) -> FloatArray:
    """What prices are about as large as: the mean of the best values, and of it by the money that is spent on it."""
    best = problem.values.argmax(axis=1)
    worth = float(problem.values[np.arange(len(best)), best].mean())
    if problem.spend is None:
        return np.full(len(problem.constraints.ids), worth)
    spent = max(float(problem.spend[np.arange(len(best)), best].mean()), _SMALLEST_SPEND)
    return np.where(problem.constraints.is_money, worth / spent, worth)


def _model_minimum(
    cuts: list[tuple[float, FloatArray, FloatArray]], center: FloatArray, radius: float, scale: FloatArray
) -> tuple[FloatArray, float, bool]:
    """Where the largest of the planes is least, its height, and whether the box was in the way nowhere."""
    size = max(1.0, abs(cuts[0][0]))
    slopes = np.array([slope * scale / size for _, slope, _ in cuts])
    heights = np.array([(height - slope @ at) / size for height, slope, at in cuts])
    around = center / scale
    low, high = np.maximum(0.0, around - radius), around + radius
    found = linprog(
        np.append(np.zeros(len(scale)), 1.0),
        A_ub=np.column_stack([slopes, -np.ones(len(slopes))]),
        b_ub=-heights,
        bounds=[*zip(low, high, strict=True), (None, None)],
        method="highs",
    )
    if found.x is None:
        return center, cuts[0][0], True
    at = np.clip(found.x[:-1], low, high)
    touches = ((at <= low) & (low > 0)) | (at >= high)
    return at * scale, float((heights + slopes @ at).max() * size), not touches.any()


def _settled(problem: _Problem, prices: FloatArray) -> FloatArray:
    """The same dual value or less, with each price put where it is clear of the customers on both sides of it.

    Between the last customer who gets a unit and the first who does not every price is as good; in the middle no
    rounding turns either. What is not scarce costs nothing.
    """
    settled = prices.copy()
    for number, is_money in enumerate(problem.constraints.is_money):
        without = settled.copy()
        without[number] = 0.0
        if is_money:
            if problem.response(without).used[number] <= problem.constraints.most[number]:
                settled = without
            continue
        settled[number] = _clear_price(_benefits(problem, without, number), problem.constraints.most[number])
    return settled if problem.response(settled).dual <= problem.response(prices).dual * (1 + 1e-12) else prices


def _benefits(problem: _Problem, prices: FloatArray, number: int) -> FloatArray:
    """What a unit of one capacity is worth to each customer, beside what they would take else."""
    takes = problem.constraints.takes[number]
    found = np.full(len(problem.values), -np.inf)
    if not takes.any():
        return found
    for rows in _blocks(len(problem.values)):
        reduced = problem.reduced(prices, rows)
        other = np.where(takes, -np.inf, reduced).max(axis=1)
        found[rows] = np.where(takes, reduced, -np.inf).max(axis=1) - np.maximum(other, 0.0)
    return found


def _clear_price(benefits: FloatArray, most: float) -> float:
    units = int(most)
    if units >= len(benefits):
        return 0.0
    first_out = -np.partition(-benefits, units)[units]
    if not first_out > 0:
        return 0.0
    if units == 0:
        return float(first_out * (1 + _HAIR))
    last_in = -np.partition(-benefits, units - 1)[units - 1]
    return float(first_out + (last_in - first_out) / 2)


def _mended(problem: _Problem, prices: FloatArray, response: _Response) -> IntArray:
    """Choices under all constraints: those of the response, less what is too much, and more where something is left."""
    choice = response.choice.copy()
    given = problem.constraints
    for number, most in enumerate(given.most):
        if problem.used(choice)[number] <= most:
            continue
        takers = np.flatnonzero((choice >= 0) & given.takes[number, choice])
        takers = takers[np.argsort(-response.reduced[takers], kind="stable")]
        amounts = np.ones(len(takers))
        if given.is_money[number] and problem.spend is not None:
            amounts = problem.spend[takers, choice[takers]]
        choice[takers[np.cumsum(amounts) > most]] = NOTHING
    for _ in range(_MOST_ROUNDS):
        if not _moved(problem, prices, choice):
            break
    return choice


def _moved(problem: _Problem, prices: FloatArray, choice: IntArray) -> bool:
    """Give customers something worth more to them where it fits, who is nearest to getting it first; whether any moved.

    All that fit beside each other move at once; what they leave is free the next time only.
    """
    left = problem.constraints.most - problem.used(choice)
    who, wish, near = _wishes(problem, prices, choice, left)
    if not len(who):
        return False
    order = np.argsort(-near, kind="stable")
    who, wish = who[order], wish[order]
    movers = problem.of(who)
    more = np.maximum(movers.uses(wish) - movers.uses(choice[who]), 0.0)
    fits = ((np.cumsum(more, axis=0) <= left) | (more == 0)).all(axis=1)
    choice[who[fits]] = wish[fits]
    return bool(fits.any())


def _wishes(
    problem: _Problem, prices: FloatArray, choice: IntArray, left: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Who would gain by another candidate that fits, which one, and how near they are to taking it at these prices."""
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    given = problem.constraints
    for rows in _blocks(len(choice)):
        values, now = problem.values[rows], choice[rows]
        spend = None if problem.spend is None else problem.spend[rows]
        uses = problem.of(rows).uses(now)
        each, has = np.arange(len(now)), now >= 0
        may = values > np.where(has, values[each, now], 0.0)[:, None]
        for number, takes in enumerate(given.takes):
            amount = spend if given.is_money[number] and spend is not None else 1.0
            may &= np.where(takes, amount, 0.0) - uses[:, [number]] <= left[number]
        reduced = problem.reduced(prices, rows)
        near = np.where(may, reduced - np.where(has, reduced[each, now], 0.0)[:, None], -np.inf)
        best = near.argmax(axis=1)
        wishing = np.flatnonzero(may.any(axis=1))
        found.append((wishing + rows.start, best[wishing], near[wishing, best[wishing]]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    who, wish, near_of = (np.concatenate(part) for part in zip(*found, strict=True))
    return who, wish, near_of


def _exact(problem: _Problem) -> IntArray | None:
    """The best choices there are; None where that could not be proven in reasonable time, which no clock decides."""
    customer, candidate = np.nonzero(np.isfinite(problem.values))
    n = len(customer)
    choice = np.full(len(problem.values), NOTHING, dtype=np.int64)
    if not n:
        return choice
    pairs = np.arange(n)
    amounts = [
        np.ones(n),
        *(_amounts(problem, number, customer, candidate) for number in range(len(problem.constraints.ids))),
    ]
    one_each = csr_array((amounts[0], (customer, pairs)), shape=(len(choice), n))
    rows = vstack([one_each, csr_array(np.array(amounts[1:]).reshape(-1, n))])
    most = np.concatenate([np.ones(len(choice)), problem.constraints.most])
    worth = problem.values[customer, candidate]
    found = milp(
        # The solver's gap is an amount of its own: of values much smaller than 1 it would leave some on the table.
        -worth / worth.max(),
        constraints=LinearConstraint(rows, ub=most),
        bounds=Bounds(0, 1),
        integrality=np.ones(n),
        options={"mip_rel_gap": 0.0, "node_limit": _MOST_NODES},
    )
    if found.status != 0:
        return None
    taken = found.x > 0.5
    choice[customer[taken]] = candidate[taken]
    # The solver keeps to limits of money only as closely as it computes.
    return choice if _fits(problem, problem.used(choice)) else None


def _amounts(problem: _Problem, number: int, customer: IntArray, candidate: IntArray) -> FloatArray:
    given = problem.constraints
    takes: FloatArray = given.takes[number, candidate].astype(np.float64)
    if given.is_money[number] and problem.spend is not None:
        return takes * problem.spend[customer, candidate]
    return takes


def _in_order(problem: _Problem, choice: IntArray) -> IntArray:
    """The same choices, dealt so that of customers who are alike in everything the first has the best."""
    group = _alike(problem)
    worth = np.where(choice >= 0, problem.values[np.arange(len(choice)), choice], 0.0)
    dealt = np.empty_like(choice)
    dealt[np.lexsort((np.arange(len(choice)), group))] = choice[np.lexsort((choice, -worth, group))]
    return dealt


def _alike(problem: _Problem) -> IntArray:
    """``(n_customers,)`` a number that customers share who are alike in every value and spend."""
    tables = [problem.values] if problem.spend is None else [problem.values, problem.spend]
    key = np.zeros(len(problem.values))
    for rows in _blocks(len(key)):
        for table in tables:
            finite = np.where(np.isneginf(table[rows]), -1.0, table[rows])
            key[rows] += (finite * np.sqrt(np.arange(2, table.shape[1] + 2))).sum(axis=1)
    order = np.argsort(key, kind="stable")
    differs = np.ones(len(key), dtype=np.bool_)
    differs[1:] = np.diff(key[order]) != 0
    # Customers who are alike have one key; those of one key are compared, each with the one before.
    again = np.flatnonzero(~differs)
    for part in (again[rows] for rows in _blocks(len(again))):
        differs[part] = np.any([(table[order[part]] != table[order[part - 1]]).any(axis=1) for table in tables], axis=0)
    group = np.empty(len(key), dtype=np.int64)
    group[order] = np.cumsum(differs)
    return group
