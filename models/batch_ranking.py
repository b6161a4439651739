"""Scarce things shared out over everybody at once: one allocation, the prices that it found, and who gets nothing why.

A batch decides as a champion's decision without chance would, at the prices of what is scarce. It counts no contact and
draws nothing: what is done about it goes through decisions, which are charged the same prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.events import MICROSECONDS_PER_DAY
from models.allocation import NOTHING, Allocation, Constraints, Method, allocate
from models.batch_observation import Scene
from models.batch_population import Population, part_of
from models.capacity import takes_money, takes_unit
from models.decision import DropStage
from models.deliberation import Rulebook
from models.policy import Budget, CapacityLimit
from models.prices import PriceList, capacity_version, window_end
from models.ranking import RankedBlock, ranked_block
from models.removals import Removal
from models.sharing import Sharing

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

NOT_WORTH_IT: Final = "not_worth_it"
NO_CAPACITY: Final = "capacity"
BEYOND_MOST: Final = "max_customers"
_NO_ESTIMATE: Final[DropStage] = "scoring"
_REMOVALS: Final[Mapping[str, Removal]] = {
    NOT_WORTH_IT: "not_worth_it",
    NO_CAPACITY: "no_capacity",
    BEYOND_MOST: "max_customers",
    _NO_ESTIMATE: "no_estimate",
}
_ALL: Final = Sharing()
_MOST_ID: Final = "request.max_customers"
_OF_CHOICE: Final = ("uplift", "sigma", "control_response", "net_value", "net_value_sigma", "priority", "paid")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """What everybody gets, and what it costs.

    Attributes:
        allocation: over the ranked ones of the population.
        treatment_ids: of the candidates, in order.
        prices: of each capacity and budget, by id.
        used: what is taken of each.
        uplift: and the following, each ``(n_ranked,)``: of the chosen candidate, NaN where there is none.
        sigma: one standard deviation of the uplift.
        control_response: expected outcome without it.
        net_value: less all prices, as a decision at these prices answers.
        net_value_sigma: one standard deviation of it.
        priority: likewise.
        paid: the dual prices in it.
        money: all net values together, dual prices not subtracted.
        is_worth: ``(n_ranked,)`` something would be worth doing if there were enough of everything.
        is_estimated: ``(n_ranked,)`` of something it is known what it is worth.
        is_beyond: ``(n_ranked,)`` something would be worth its prices too, if more customers might get an action.
    """

    allocation: Allocation
    treatment_ids: tuple[str, ...]
    prices: Mapping[str, float]
    used: Mapping[str, float]
    uplift: FloatArray
    sigma: FloatArray
    control_response: FloatArray
    net_value: FloatArray
    net_value_sigma: FloatArray
    priority: FloatArray
    paid: FloatArray
    money: float
    is_worth: BoolArray
    is_estimated: BoolArray
    is_beyond: BoolArray


def ranking_of(
    population: Population,
    scene: Scene,
    *,
    taken: Mapping[str, float],
    method: Method = "auto",
    sharing: Sharing = _ALL,
) -> Ranking:
    """The allocation of what is left of every capacity and budget.

    Args:
        population: everybody.
        scene: what they are ranked by.
        taken: what of each capacity and budget is taken already, by id.
        method: as ``allocate``.
        sharing: how it is shared out.
    """
    free = scene.terms()
    shape = population.allowed.shape
    values, spend = np.full(shape, np.nan), np.zeros(shape)
    for rows in _row_blocks(shape[0]):
        block = ranked_block(part_of(population.effects, rows), free, fatigue=population.fatigue[rows])
        values[rows] = np.where(population.allowed[rows], _worth(block, sharing), np.nan)
        spend[rows] = np.where(population.allowed[rows] & (block.spend > 0), block.spend, 0.0)
    constraints = _constraints(scene.rulebook, taken, sharing)
    first = _mandatory_choices(values, spend, constraints, _mandatory(scene.rulebook))
    allocation = _joined(first, values, spend, constraints, method)
    return _valued(population, scene, allocation, constraints, values, sharing)


def _worth(block: RankedBlock, sharing: Sharing) -> FloatArray:
    """What candidates are worth to the allocation, which never chooses what is worth 0 or less."""
    worth = block.priority if sharing.by == "priority" else block.net_value
    if sharing.least_net_value <= 0:
        return worth
    return np.where(block.net_value < sharing.least_net_value, np.minimum(worth, 0.0), worth)


def _constraints(rulebook: Rulebook, taken: Mapping[str, float], sharing: Sharing) -> Constraints:
    given = constraints_of(rulebook, taken)
    n_candidates = given.takes.shape[1]
    if not sharing.within_capacity:
        given = Constraints(
            ids=(),
            most=np.empty(0),
            takes=np.zeros((0, n_candidates), dtype=np.bool_),
            is_money=np.empty(0, dtype=np.bool_),
        )
    if sharing.most_customers is not None:
        given = Constraints(
            ids=(*given.ids, _MOST_ID),
            most=np.append(given.most, float(sharing.most_customers)),
            takes=np.vstack([given.takes, np.ones((1, n_candidates), dtype=np.bool_)]),
            is_money=np.append(given.is_money, False),
        )
    most = given.most * sharing.part
    # Of a few units a small part is less than one: nobody of the part would get what somebody of all gets.
    return replace(given, most=np.where(given.is_money, most, np.maximum(most, np.minimum(given.most, 1.0))))


def _mandatory(rulebook: Rulebook) -> BoolArray:
    """Which candidates go before all others."""
    actions = [action for action in rulebook.catalogue.actions if action.journey == rulebook.journey.id]
    return np.array([action.mandatory for action in actions for _ in action.treatments], dtype=np.bool_)


def _mandatory_choices(
    values: FloatArray, spend: FloatArray, constraints: Constraints, mandatory: BoolArray
) -> IntArray:
    """Mandatory candidates, whatever they are worth, as far as there is capacity; those worth most first."""
    choice = np.full(len(values), NOTHING, dtype=np.int64)
    if not mandatory.any():
        return choice
    known = np.where(mandatory & np.isfinite(values), values, -np.inf)
    left = constraints.most.copy()
    due = np.flatnonzero(np.isfinite(known).any(axis=1))
    for row in due[np.argsort(-known[due].max(axis=1), kind="stable")].tolist():
        for place in np.argsort(-known[row], kind="stable").tolist():
            if np.isneginf(known[row, place]):
                break
            amounts = np.where(constraints.is_money, spend[row, place], 1.0) * constraints.takes[:, place]
            if (amounts <= left).all():
                choice[row] = place
                left -= amounts
                break
    return choice


def _joined(
    first: IntArray, values: FloatArray, spend: FloatArray, constraints: Constraints, method: Method
) -> Allocation:
    """The allocation of what the first choices leave, with them."""
    who = np.flatnonzero(first != NOTHING)
    if not len(who):
        return allocate(values, constraints, spend=spend, method=method)
    places = first[who]
    amounts = np.where(constraints.is_money, spend[who, places][:, None], 1.0) * constraints.takes[:, places].T
    taken, worth = amounts.sum(axis=0), float(values[who, places].sum())
    others = values.copy()
    others[who] = np.nan
    left = replace(constraints, most=np.maximum(constraints.most - taken, 0.0))
    found = allocate(others, left, spend=spend, method=method)
    choice = found.choice.copy()
    choice[who] = places
    return replace(found, choice=choice, value=found.value + worth, bound=found.bound + worth, used=found.used + taken)


def _valued(
    population: Population,
    scene: Scene,
    allocation: Allocation,
    constraints: Constraints,
    values: FloatArray,
    sharing: Sharing,
) -> Ranking:
    prices, used = (
        {one: number for one, number in zip(constraints.ids, numbers.tolist(), strict=True) if one != _MOST_ID}
        for numbers in (allocation.prices, allocation.used)
    )
    free, priced = scene.terms(), scene.terms(prices)
    choice = allocation.choice
    columns = {name: np.full(len(choice), np.nan) for name in _OF_CHOICE}
    is_beyond = np.zeros(len(choice), dtype=np.bool_)
    money = 0.0
    for rows in _row_blocks(len(choice)):
        part, effects = choice[rows], part_of(population.effects, rows)
        who = np.flatnonzero(part != NOTHING)
        chosen, pair = (who, part[who]), free.pair[part[who]]
        tired = population.fatigue[rows]
        before, after = (ranked_block(effects, terms, fatigue=tired) for terms in (free, priced))
        at = who + rows.start
        for name in ("uplift", "sigma", "control_response"):
            columns[name][at] = getattr(effects, name)[who, pair]
        for name in ("net_value", "net_value_sigma", "priority"):
            columns[name][at] = getattr(after, name)[chosen]
        columns["paid"][at] = before.net_value[chosen] - after.net_value[chosen]
        money += float(before.net_value[chosen].sum())
        worth = np.where(values[rows] > 0, _worth(after, replace(sharing, least_net_value=0.0)), -np.inf)
        is_beyond[rows] = np.any(worth > 0, axis=1)
    return Ranking(
        allocation=allocation,
        treatment_ids=free.treatment_ids,
        prices=prices,
        used=used,
        money=money,
        is_worth=np.any(values > 0, axis=1),
        is_estimated=np.any(~np.isnan(values), axis=1),
        is_beyond=is_beyond & (sharing.most_customers is not None),
        **columns,
    )


def constraints_of(rulebook: Rulebook, taken: Mapping[str, float]) -> Constraints:
    """What is left of every capacity and budget for the candidates of a journey."""
    capacity = rulebook.policy.capacity
    candidates = [
        (action, treatment)
        for action in rulebook.catalogue.actions
        if action.journey == rulebook.journey.id
        for treatment in action.treatments
    ]
    limits, budgets = capacity.limits, capacity.budgets
    units = [
        [takes_unit(limit, channel=treatment.channel, queue=action.assigned_to) for action, treatment in candidates]
        for limit in limits
    ]
    money = [[takes_money(budget, issue=action.issue) for action, _ in candidates] for budget in budgets]
    declared = [*((limit.id, float(limit.units)) for limit in limits), *((one.id, one.amount) for one in budgets)]
    return Constraints(
        ids=tuple(one for one, _ in declared),
        most=np.array([max(0.0, most - taken.get(one, 0.0)) for one, most in declared], dtype=np.float64),
        takes=np.array([*units, *money], dtype=np.bool_).reshape(len(declared), len(candidates)),
        is_money=np.array([False] * len(limits) + [True] * len(budgets), dtype=np.bool_),
    )


def price_list(ranking: Ranking, scene: Scene, *, bundle: str | None, created_at: int) -> PriceList:
    """The prices of a ranking, valid until the first period of what is scarce ends, or of anything where nothing is."""
    rulebook = scene.rulebook
    declared: tuple[CapacityLimit | Budget, ...] = (
        *rulebook.policy.capacity.limits,
        *rulebook.policy.capacity.budgets,
    )
    scarce = [one.period for one in declared if ranking.prices.get(one.id, 0.0) > 0]
    periods = scarce or [one.period for one in declared] or [MICROSECONDS_PER_DAY]
    return PriceList(
        journey_id=rulebook.journey.id,
        created_at=created_at,
        valid_until=min(window_end(period, scene.at, scene.taxonomy.time_zone) for period in periods),
        policy_version=rulebook.policy_version,
        capacity_version=capacity_version(rulebook.policy.capacity),
        bundle=bundle,
        prices=dict(ranking.prices),
        value=ranking.allocation.value,
        gap=ranking.allocation.gap,
    )


def reasons_of(population: Population, ranking: Ranking) -> list[str | None]:
    """Of everybody why nothing is done: None of those for whom something is."""
    reasons = [one.reason for one in population.standings]
    free = ranking.allocation.choice == NOTHING
    for row, place in enumerate(population.rows.tolist()):
        if free[row] and ranking.is_worth[row]:
            reasons[place] = BEYOND_MOST if ranking.is_beyond[row] else NO_CAPACITY
        elif free[row]:
            reasons[place] = NOT_WORTH_IT if ranking.is_estimated[row] else _NO_ESTIMATE
    return reasons


def removals_of(population: Population, ranking: Ranking) -> list[Removal | None]:
    """``reasons_of`` in a marketer's words."""
    return [
        None if reason is None else standing.removal or _REMOVALS[reason]
        for standing, reason in zip(population.standings, reasons_of(population, ranking), strict=True)
    ]


def _row_blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, 65_536):
        yield slice(start, min(start + 65_536, n))
