"""Everybody at once: the funnel of a single decision for each customer, scores in blocks, and one allocation over all.

A batch decides as a champion's decision without chance would, at the prices of what is scarce. It counts no contact and
draws nothing: what is done about it goes through decisions, which are charged the same prices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from features.event_export import EVENTS_SCHEMA
from features.event_log import EventLog
from features.events import MICROSECONDS_PER_DAY
from features.history import event_tables, profiles_at, reads_at, whole_table
from features.identity import Person
from features.profile import time_zone_of
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from models.actions import Catalogue
from models.allocation import NOTHING, Allocation, Constraints, Method, allocate
from models.capacity import takes_money, takes_unit
from models.contact_policy import fatigue_factor
from models.decision import DropStage
from models.deliberation import UNKNOWN_STALL, Inputs, Rulebook, consider
from models.experiment import arm_of
from models.funnel import Question
from models.policy import Arm, Budget, CapacityLimit
from models.prices import PriceList, capacity_version, window_end
from models.ranking import CandidateTerms, candidate_terms, ranked_block
from models.records import CustomerRecords, RecordStore, as_known
from models.scoring import EffectBlock, Pair, Scorer, StallScore

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

HOLDOUT: Final = "holdout"
NOT_WORTH_IT: Final = "not_worth_it"
NO_CAPACITY: Final = "capacity"
_NO_ESTIMATE: Final[DropStage] = "scoring"
_OPEN: Final = 1.0
_EVENTS_PER_TABLE: Final = 100_000
_CUSTOMERS_PER_BLOCK: Final = 4_096
_STAGES: Final[tuple[DropStage, ...]] = get_args(DropStage)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What everybody is ranked by.

    Attributes:
        scorer: None where there is no champion: then catalogue priors alone value the actions.
        at: the moment, microseconds since the epoch; what arrived strictly before it counts.
        is_past: the moment was asked for; consents are then as the profile knew them.
    """

    rulebook: Rulebook
    scorer: Scorer | None
    at: int
    is_past: bool = False

    @property
    def taxonomy(self) -> Taxonomy:
        """The vocabulary."""
        return self.rulebook.taxonomy

    def terms(self, prices: Mapping[str, float] | None = None) -> CandidateTerms:
        """What the journey's candidates are worth and cost, at some prices of what is scarce."""
        return candidate_terms(
            self.rulebook.catalogue,
            self.rulebook.journey.outcome_by_id,
            self.rulebook.policy,
            journey_id=self.rulebook.journey.id,
            prices=prices or {},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Some customers as of a moment: vectors ``(n, n_features)``, and what is known of each, None of strangers."""

    customer_ids: list[str]
    vectors: FloatArray
    profiles: list[ProfileRow | None]


def observed_customers(
    events: Path, scene: Scene, *, wanted: frozenset[str] | None, progress: Callable[[int], None] = lambda events: None
) -> Iterator[Observed]:
    """Customers in blocks: those whose journey is open, or all that are wanted, in the order of their ids.

    Args:
        events: the event log as Parquet.
        scene: journey and moment.
        wanted: canonical ids; None for everybody whose journey is open.
        progress: called with the number of events read.
    """
    feature_set, at = scene.rulebook.feature_set, scene.at
    status = feature_set.names.index("journey_status")
    seen: set[str] = set()
    for table in event_tables(events, scene.taxonomy, events_per_table=_EVENTS_PER_TABLE):
        known = profiles_at(table, scene.taxonomy, at)
        ids = [one for one in table.customers.to_pylist() if one in known and (wanted is None or one in wanted)]
        for block in _blocks(ids):
            vectors = reads_at(table, feature_set, block, np.full(len(block), at))
            if wanted is None:
                chosen = np.flatnonzero(vectors[:, status] == _OPEN)
                block, vectors = [block[row] for row in chosen.tolist()], vectors[chosen]
            seen.update(block if wanted is not None else ())
            if block:
                yield Observed(block, vectors, [known[one] for one in block])
        progress(table.n_events)
    nobody = whole_table(EVENTS_SCHEMA.empty_table(), scene.taxonomy)
    for block in _blocks(sorted((wanted or frozenset()) - seen)):
        vectors = reads_at(nobody, feature_set, block, np.full(len(block), at))
        yield Observed(block, vectors, [None] * len(block))


def _blocks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _CUSTOMERS_PER_BLOCK):
        yield ids[start : start + _CUSTOMERS_PER_BLOCK]


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Everybody after the funnel.

    Attributes:
        customer_ids: all of them.
        arms: of each.
        reasons: why nothing may be done, None of those for whom something may.
        rows: ``(n_ranked,)`` who they are, in the columns above.
        allowed: ``(n_ranked, n_candidates)`` what the funnel left.
        effects: of those, on the pairs of the terms.
        fatigue: ``(n_ranked,)`` what their fatigue costs are multiplied by.
    """

    customer_ids: list[str]
    arms: list[Arm]
    reasons: list[str | None]
    rows: IntArray
    allowed: BoolArray
    effects: EffectBlock
    fatigue: FloatArray


def considered_population(
    blocks: Iterable[Observed], scene: Scene, *, log: EventLog, records: RecordStore
) -> Population:
    """Everybody through the funnel of a single decision, and the effects of what it leaves.

    Args:
        blocks: the customers.
        scene: what they are ranked by.
        log: says who is who.
        records: contacts and consents; only read.
    """
    terms = scene.terms()
    ids: list[str] = []
    arms: list[Arm] = []
    reasons: list[str | None] = []
    rows: list[int] = []
    allowed: list[BoolArray] = []
    fatigue: list[float] = []
    effects = [_no_effects(terms.pairs)]
    for block in blocks:
        scored = None if scene.scorer is None else scene.scorer.customers(block.vectors)
        stalls = None if scored is None else zip(*(one.tolist() for one in scored.stall_block()), strict=True)
        graph = log.identities(block.customer_ids).known_before(scene.at)
        left = np.zeros((len(block.customer_ids), len(terms.treatment_ids)), dtype=np.bool_)
        for row, customer_id in enumerate(block.customer_ids):
            stall = UNKNOWN_STALL if stalls is None else StallScore(*next(stalls))
            person, profile = graph.person(customer_id), block.profiles[row]
            arm = arm_of(customer_id, scene.rulebook.policy.experiment, linked_ids=person.linked_ids)
            reason: str | None = HOLDOUT
            tired = 1.0
            if arm != "no_contact_holdout":
                inputs = _inputs(scene, block.vectors[row], person, profile, arm, records)
                reason = _passed(inputs, scene.rulebook, stall, left[row])
                declared = scene.rulebook.policy.contact_policy.fatigue
                tired = fatigue_factor(declared, inputs.records.contacts, at=scene.at)
            arms.append(arm)
            reasons.append(reason)
            if reason is None:
                rows.append(len(ids) + row)
                fatigue.append(tired)
        ids += block.customer_ids
        chosen = np.flatnonzero(left.any(axis=1))
        allowed.append(left[chosen])
        found = (
            _prior_effects(scene.rulebook.catalogue, terms.pairs, len(left))
            if scored is None
            else scored.effect_block(terms.pairs)
        )
        effects.append(_part(found, chosen))
    control, uplift, sigma = (np.concatenate([part[place] for part in effects]) for place in range(3))
    return Population(
        ids,
        arms,
        reasons,
        np.array(rows, dtype=np.int64),
        np.concatenate([np.zeros((0, len(terms.treatment_ids)), dtype=np.bool_), *allowed]),
        EffectBlock(control, uplift, sigma, effects[-1].source),
        np.array(fatigue, dtype=np.float64),
    )


def _inputs(
    scene: Scene, vector: FloatArray, person: Person, profile: ProfileRow | None, arm: Arm, records: RecordStore
) -> Inputs:
    """As a decision that reaches out would be made from."""
    known = profile or ProfileRow(person.customer_id)
    return Inputs(
        decision_id="",
        vector=vector,
        attributes=scene.taxonomy.without_personal(known.attributes),
        holdings=None if profile is None else known.holdings,
        context={},
        channel=None,
        records=_customer_records(scene, person, known, records),
        question=Question(at=scene.at, outbound=True),
        time_zone=time_zone_of(known, scene.taxonomy.time_zone),
        arm=arm,
        n_linked=len(person.linked_ids),
    )


def _customer_records(scene: Scene, person: Person, profile: ProfileRow, records: RecordStore) -> CustomerRecords:
    since = scene.at - scene.rulebook.plan.looks_back
    found = records.customer(person.customer_id, since=since, now=scene.at, spans=person.spans)
    if not scene.is_past:
        return found
    return CustomerRecords(
        tuple(as_known(one, scene.at) for one in found.contacts if one.at < scene.at), profile.consents
    )


def _passed(inputs: Inputs, rulebook: Rulebook, stall: StallScore, left: BoolArray) -> str | None:
    """Mark what the funnel leaves; where that is nothing, the stage at which the last candidates fell."""
    _, _, considered = consider(inputs, rulebook, lambda is_stalled: stall)
    furthest = -1
    for place, one in enumerate(considered):
        if one.dropped is None:
            left[place] = True
        else:
            furthest = max(furthest, _STAGES.index(one.dropped))
    if left.any():
        return None
    return "no_candidates" if furthest < 0 else _STAGES[furthest]


def _no_effects(pairs: Sequence[Pair]) -> EffectBlock:
    empty = np.empty((0, len(pairs)))
    return EffectBlock(empty, empty, empty, tuple("none" for _ in pairs))


def _prior_effects(catalogue: Catalogue, pairs: Sequence[Pair], n: int) -> EffectBlock:
    """What a decision without a model believes: the catalogue's priors."""
    believed = [catalogue.priors.get(pair, (math.nan, math.nan)) for pair in pairs]
    tables = np.array(believed, dtype=np.float64).reshape(len(pairs), 2)
    return EffectBlock(
        np.full((n, len(pairs)), np.nan),
        np.tile(tables[:, 0], (n, 1)),
        np.tile(tables[:, 1], (n, 1)),
        tuple("prior" for _ in pairs),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """What everybody gets, and what it costs.

    Attributes:
        allocation: over the ranked ones of the population.
        treatment_ids: of the candidates, in order.
        prices: of each capacity and budget, by id.
        uplift: and the following, each ``(n_ranked,)``: of the chosen candidate, NaN where there is none.
        net_value: less all prices, as a decision at these prices answers.
        priority: likewise.
        paid: the dual prices in it.
        money: all net values together, dual prices not subtracted.
        is_worth: ``(n_ranked,)`` something would be worth doing if there were enough of everything.
        is_estimated: ``(n_ranked,)`` of something it is known what it is worth.
    """

    allocation: Allocation
    treatment_ids: tuple[str, ...]
    prices: Mapping[str, float]
    uplift: FloatArray
    net_value: FloatArray
    priority: FloatArray
    paid: FloatArray
    money: float
    is_worth: BoolArray
    is_estimated: BoolArray


def ranking_of(population: Population, scene: Scene, *, taken: Mapping[str, float], method: Method = "auto") -> Ranking:
    """The allocation of what is left of every capacity and budget.

    Actions are worth their priorities: levers count, as they do in a single decision.

    Args:
        population: everybody.
        scene: what they are ranked by.
        taken: what of each capacity and budget is taken already, by id.
        method: as ``allocate``.
    """
    free = scene.terms()
    shape = population.allowed.shape
    values, spend = np.full(shape, np.nan), np.zeros(shape)
    for rows in _row_blocks(shape[0]):
        block = ranked_block(_part(population.effects, rows), free, fatigue=population.fatigue[rows])
        values[rows] = np.where(population.allowed[rows], block.priority, np.nan)
        spend[rows] = np.where(population.allowed[rows] & (block.spend > 0), block.spend, 0.0)
    constraints = constraints_of(scene.rulebook, taken)
    first = _mandatory_choices(values, spend, constraints, _mandatory(scene.rulebook))
    allocation = _joined(first, values, spend, constraints, method)
    prices = dict(zip(constraints.ids, allocation.prices.tolist(), strict=True))
    return _valued(population, scene, allocation, prices, values)


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
    population: Population, scene: Scene, allocation: Allocation, prices: Mapping[str, float], values: FloatArray
) -> Ranking:
    free, priced = scene.terms(), scene.terms(prices)
    choice = allocation.choice
    columns = {name: np.full(len(choice), np.nan) for name in ("uplift", "net_value", "priority", "paid")}
    money = 0.0
    for rows in _row_blocks(len(choice)):
        part, effects = choice[rows], _part(population.effects, rows)
        who = np.flatnonzero(part != NOTHING)
        chosen = (who, part[who])
        tired = population.fatigue[rows]
        before, after = (ranked_block(effects, terms, fatigue=tired) for terms in (free, priced))
        at = who + rows.start
        columns["uplift"][at] = effects.uplift[who, free.pair[part[who]]]
        columns["net_value"][at] = after.net_value[chosen]
        columns["priority"][at] = after.priority[chosen]
        columns["paid"][at] = before.net_value[chosen] - after.net_value[chosen]
        money += float(before.net_value[chosen].sum())
    return Ranking(
        allocation=allocation,
        treatment_ids=free.treatment_ids,
        prices=prices,
        money=money,
        is_worth=np.any(values > 0, axis=1),
        is_estimated=np.any(~np.isnan(values), axis=1),
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
    reasons = list(population.reasons)
    free = ranking.allocation.choice == NOTHING
    for row, place in enumerate(population.rows.tolist()):
        if free[row] and ranking.is_worth[row]:
            reasons[place] = NO_CAPACITY
        elif free[row]:
            reasons[place] = NOT_WORTH_IT if ranking.is_estimated[row] else _NO_ESTIMATE
    return reasons


def _row_blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, 65_536):
        yield slice(start, min(start + 65_536, n))


def _part(effects: EffectBlock, rows: slice | IntArray) -> EffectBlock:
    return EffectBlock(effects.control_response[rows], effects.uplift[rows], effects.sigma[rows], effects.source)
