"""B8: customers ranked in blocks, from model vectors to the best of 20 actions, against a loop over customers.

The bundle is of a realistic size whatever a fit on simulated customers would choose: boosters are grown on noise to a
fixed number of trees. Reading the customers is not part of it (see B4), nor are the rules of the funnel.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from models.arbitration import Factors, Scored, ranked
from models.boosting import Boosting, TrainingTable, boosted, lightgbm_raw_scores
from models.bundle import Bundle, write_bundle
from models.forest import raw_scores_block, score_name
from models.forest_blocks import BlockForest
from models.hazards import Periods
from models.heads import (
    ABANDON,
    PROGRESS,
    FittedHeads,
    Head,
    control_head,
    effect_head,
    hazard_head,
    incidence_head,
)
from models.manifest import Lineage
from models.ranking import NOTHING, CandidateTerms, ranked_block
from models.scoring import EffectBlock, Scorer
from tests.benchmarks.report import Measure, absolute, faster
from tests.benchmarks.timing import interleaved
from tests.benchmarks.world import SEED, Worlds

N_ACTIONS = 20
N_MEMBERS = 3
N_FEATURES = 423
OUTCOME = "progress"
STALL_TREES, RESPONSE_TREES, EFFECT_TREES = 150, 100, 40
"""Of each member; their leaves are 31, 8 and 4."""
DAY_US = 86_400_000_000
PERIODS = Periods(tuple(int(days * DAY_US) for days in (0.25, 0.5, 1, 2, 3, 5, 7, 14, 28)), 6)
"""As the built-in parameters cut them for a horizon of a week."""
BLOCK = 4_096
"""Customers of a block: its tables stay in the cache."""
TARGET = 20_000


def measures(worlds: Worlds) -> list[Measure]:
    """Customers for each second of one core, whole and in parts, and the same by a loop over customers."""
    scorer = Scorer(_bundle(worlds.folder / "ranking", quick=worlds.quick))
    terms = _terms()
    n_block, n_loop = (2_000, 50) if worlds.quick else (20_000, 500)
    x = _vectors(n_block, seed=SEED + 1)
    _same(scorer, terms, x[:n_loop])
    effects, blocks = scorer.effect_block(x, terms.pairs), BlockForest(scorer.bundle.forest)
    times = interleaved(
        {
            "block": lambda _: _best(scorer, terms, x),
            "loop": lambda _: _looped(scorer, terms, x[:n_loop]),
            "scoring": lambda _: _scores(scorer, terms, x),
            "plain_walk": lambda _: raw_scores_block(scorer.bundle.forest, x),
            "block_walk": lambda _: blocks.raw_scores(x),
            "ranking": lambda _: [ranked_block(part, terms) for part in _parts(effects)],
        },
        rounds=2 if worlds.quick else 7,
        calls=1,
        clock=time.process_time,
    )
    per_customer = {
        name: 1000 * found.median_ms / (n_loop if name == "loop" else n_block) for name, found in times.items()
    }
    least, _, most = times["block"].spread_ms
    spread = (1000 * least / n_block, per_customer["block"], 1000 * most / n_block)
    return [
        absolute(
            "customers_per_cpu_second", 1e6 / per_customer["block"], unit="customers/s", target=TARGET, at_most=False
        ),
        faster("vs_loop", per_customer["block"], per_customer["loop"], target=None, spread=spread, unit="us/customer"),
        absolute("scoring_alone", 1e6 / per_customer["scoring"], unit="customers/s", target=None, at_most=False),
        absolute("ranking_alone", 1e6 / per_customer["ranking"], unit="customers/s", target=None, at_most=False),
        faster(
            "forest_vs_plain_walk",
            per_customer["block_walk"],
            per_customer["plain_walk"],
            target=None,
            unit="us/customer",
        ),
        absolute("trees", scorer.bundle.forest.n_trees, unit="trees", target=None, at_most=False),
    ]


def _best(scorer: Scorer, terms: CandidateTerms, x: np.ndarray) -> np.ndarray:
    return np.concatenate([ranked_block(effects, terms).best for effects in _scores(scorer, terms, x)])


def _scores(scorer: Scorer, terms: CandidateTerms, x: np.ndarray) -> list[EffectBlock]:
    """Stall, which rules may ask for, and effects."""
    found = []
    for first in range(0, len(x), BLOCK):
        scores = scorer.customers(x[first : first + BLOCK])
        scores.stall_block()
        found.append(scores.effect_block(terms.pairs))
    return found


def _parts(effects: EffectBlock) -> list[EffectBlock]:
    control, uplift, sigma, source = effects
    return [
        EffectBlock(*(each[first : first + BLOCK] for each in (control, uplift, sigma)), source)
        for first in range(0, len(uplift), BLOCK)
    ]


def _looped(scorer: Scorer, terms: CandidateTerms, x: np.ndarray) -> np.ndarray:
    """The scoring loop over rows: what a single decision does with its candidates, without its rules and its record."""
    best = np.full(len(x), NOTHING)
    money = [
        {
            "is_binary": bool(terms.is_binary[place]),
            "value": float(terms.value[place]),
            "contact_cost": float(terms.contact_cost[place]),
            "incentive_cost": float(terms.incentive_cost[place]),
            "fatigue_cost": float(terms.fatigue_cost[place]),
            "channel_price": float(terms.channel_price[place]),
        }
        for place in range(len(terms.treatment_ids))
    ]
    places = {treatment_id: place for place, treatment_id in enumerate(terms.treatment_ids)}
    for row, vector in enumerate(x):
        scored = []
        scores = scorer.customer(vector)
        scores.stall()
        for treatment_id, pair, costs, effect in zip(
            terms.treatment_ids, terms.pairs, money, scores.effects(terms.pairs), strict=True
        ):
            factors = Factors(
                control_response=effect.control_response, uplift=effect.uplift, sigma=effect.sigma, **costs
            )
            value = factors.net_value
            scored.append(Scored(pair[1], treatment_id, factors.priority, value, factors.net_value_sigma))
        first = ranked(scored)[0]
        best[row] = places[first.treatment_id] if first.priority > 0 else NOTHING
    return best


def _same(scorer: Scorer, terms: CandidateTerms, x: np.ndarray) -> None:
    """Refuse to time two ways that do not agree."""
    if not np.array_equal(_best(scorer, terms, x), _looped(scorer, terms, x)):
        raise RuntimeError("customers ranked in a block and one by one differ")


def _terms() -> CandidateTerms:
    rng = np.random.default_rng(SEED)
    free = np.zeros(N_ACTIONS)
    return CandidateTerms(
        treatment_ids=tuple(f"treatment_{place}" for place in range(N_ACTIONS)),
        pairs=tuple((OUTCOME, f"action_{place}") for place in range(N_ACTIONS)),
        pair=np.arange(N_ACTIONS),
        is_binary=np.ones(N_ACTIONS, dtype=np.bool_),
        value=np.full(N_ACTIONS, 85.0),
        contact_cost=rng.uniform(0.05, 3.0, N_ACTIONS),
        incentive_cost=np.where(np.arange(N_ACTIONS) % 3 == 0, 10.0, 0.0),
        fatigue_cost=np.full(N_ACTIONS, 0.4),
        channel_price=rng.uniform(0.0, 1.0, N_ACTIONS),
        money_price=free,
        context_weight_pct=free,
        lever_pct=free,
    )


def _vectors(n: int, *, seed: int) -> np.ndarray:
    """Numbers of which a fifth is unknown."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, N_FEATURES))
    x[rng.random(x.shape) < 0.2] = math.nan
    return x


def _bundle(directory: Path, *, quick: bool) -> Bundle:
    """Hazards of progress and abandonment, one control response and 20 effects of three members each."""
    x = _vectors(2_000, seed=SEED)
    rng = np.random.default_rng(SEED)
    table = TrainingTable(x, max_bin=63)
    period = rng.integers(0, len(PERIODS), (len(x), 1))
    # As a stall model: its strongest 60 features, and hazards that differ by the period.
    strongest = np.sort(rng.choice(N_FEATURES, 60, replace=False))
    timed = TrainingTable(
        np.concatenate([x[:, strongest], period], axis=1), max_bin=63, columns=strongest.tolist(), is_timed=True
    )

    def text(table: TrainingTable, *, trees: int, leaves: int) -> str:
        shape = Boosting(
            rounds=trees // 10 if quick else trees,
            num_leaves=leaves,
            max_bin=63,
            feature_fraction=0.6 if table is timed else 0.1,
        )
        noise = rng.normal(scale=0.1, size=len(x))
        label = noise + 0.05 * np.sin(period[:, 0]) if table is timed else noise
        rows = np.arange(len(x))
        return boosted(table, label, objective="regression", boosting=shape, seed=SEED, rows=rows).text()

    def members(name: str, *, trees: int, leaves: int) -> dict[str, str]:
        return {f"{name}#{member}": text(table, trees=trees, leaves=leaves) for member in range(N_MEMBERS)}

    causes = (PROGRESS, ABANDON)
    places = [(cause, place) for cause in causes for place in range(len(PERIODS))]
    stall = FittedHeads(
        heads=tuple(
            Head(name=hazard_head(*place), members=(score_name(*place),), link="logistic", mean=-2.0, weight=0.5)
            for place in places
        ),
        boosters={cause: text(timed, trees=STALL_TREES, leaves=31) for cause in causes},
        periods=PERIODS,
        n_timed=len(causes),
        incidence=tuple(Head(name=incidence_head(*place), members=(score_name(*place),)) for place in places),
    )
    name = control_head(OUTCOME)
    control = members(name, trees=RESPONSE_TREES, leaves=8)
    effects = {
        effect_head(OUTCOME, f"action_{place}"): members(f"effect{place}", trees=EFFECT_TREES, leaves=4)
        for place in range(N_ACTIONS)
    }
    responses = FittedHeads(
        heads=(
            Head(name=name, members=tuple(control), link="logistic"),
            *(Head(name=name, members=tuple(found), spread="jackknife") for name, found in effects.items()),
        ),
        boosters=control | {name: text for found in effects.values() for name, text in found.items()},
    )
    golden = x[:8]
    texts = [*stall.boosters.values(), *responses.boosters.values()]
    return write_bundle(
        directory,
        lineage=Lineage(
            name="nba-benchmark",
            journey_id="benchmark",
            created_at=1_700_000_000_000_000,
            feature_names=tuple(f"feature_{place}" for place in range(N_FEATURES)),
            features_version="benchmark",
            configuration=dict.fromkeys(("taxonomy", "journeys", "actions", "policy"), "benchmark"),
        ),
        fitted=[stall, responses],
        golden_rows=golden,
        golden_raw=lightgbm_raw_scores(texts, golden, n_timed=len(causes), n_periods=len(PERIODS)),
    )
