"""A ranking as rows of a file: one a customer, those who get an action first and by rank. Nothing in it is personal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from features.events import dump_timestamp
from features.log_files import log_writer
from models.actions import NO_ACTION
from models.allocation import NOTHING
from models.arbitration import Factors, interval
from models.audience_columns import COLUMNS
from models.batch_observation import Scene
from models.batch_population import Population, Standing
from models.batch_ranking import Ranking
from models.ranking import CandidateTerms
from models.reasons import reason_codes
from models.sharing import RankBy
from models.situation import Situation

FileFormat = Literal["csv", "parquet"]
SEPARATOR: Final = " "
"""Between the codes and ids in one cell; none of them has one inside."""

_OWNER_ONLY: Final = 0o600
"""What a customer is worth is nobody else's business."""

_ROWS_PER_WRITE: Final = 50_000


_TYPES: Final = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedCustomers:
    """A ranking, and what has to be known to tell of it.

    Attributes:
        reasons: why nothing is done for each customer, None of those for whom something is.
        bundle: label of the bundle that valued the customers.
        by: what those who get an action are put in order by.
        asked_as: the id that a customer was asked for by, by the canonical one, where these differ.
        more: further cells that are the same in every row.
    """

    scene: Scene
    population: Population
    ranking: Ranking
    reasons: Sequence[str | None]
    bundle: str | None
    by: RankBy = "priority"
    asked_as: Mapping[str, str]
    more: Mapping[str, str]


def schema_of(columns: Sequence[str], more: Sequence[str] = ()) -> pa.Schema:
    """The schema of some columns, in their order, and of further texts that every row has."""
    by_name = {column.name: column for column in COLUMNS}
    known = [pa.field(one, _TYPES[by_name[one].type], nullable=not by_name[one].is_always) for one in columns]
    return pa.schema([*known, *(pa.field(one, pa.string(), nullable=False) for one in more)])


def write_rows(found: RankedCustomers, output: Path, form: FileFormat, schema: pa.Schema) -> None:
    """Write a ranking to a file, which is seen only once it is whole.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    with log_writer(output, form, schema, mode=_OWNER_ONLY) as writer:
        for rows in ranked_rows(found):
            writer.write(pa.Table.from_pylist(rows, schema=schema))


def ranked_rows(found: RankedCustomers) -> Iterator[list[Row]]:
    """Rows with all columns, in pages: those with an action by rank, then the others as the population has them."""
    population, ranking, rulebook = found.population, found.ranking, found.scene.rulebook
    terms = found.scene.terms(ranking.prices)
    reasons = found.reasons
    choice = ranking.allocation.choice
    chosen = np.flatnonzero(choice != NOTHING)
    worth = ranking.priority if found.by == "priority" else ranking.net_value
    chosen = chosen[np.argsort(-worth[chosen], kind="stable")]
    same: Row = {
        "journey_id": rulebook.journey.id,
        "as_of": dump_timestamp(found.scene.at),
        "bundle": found.bundle,
        "policy_version": rulebook.policy_version,
        "actions_version": rulebook.versions.get("actions", ""),
        "features_version": rulebook.feature_set.version,
        **found.more,
    }
    treatments = {
        treatment.id: (action.id, treatment.id, treatment.channel)
        for action in rulebook.catalogue.actions
        for treatment in action.treatments
    }

    def about(place: int) -> Row:
        customer_id, standing = population.customer_ids[place], population.standings[place]
        return {
            **same,
            "customer_id": found.asked_as.get(customer_id, customer_id),
            "stage": standing.stage,
            "state": standing.state,
            "stall_state": standing.stall_state,
            "stall_propensity": _known(standing.stall_propensity),
            "arm": standing.arm,
        }

    def with_action(rank: int, row: int) -> Row:
        place, candidate = int(population.rows[row]), int(choice[row])
        action_id, treatment_id, channel = treatments[ranking.treatment_ids[candidate]]
        factors = _factors(terms, ranking, population, row, candidate)
        net_value, sigma = float(ranking.net_value[row]), float(ranking.net_value_sigma[row])
        low, high = interval(net_value, sigma)
        uplift_low, uplift_high = interval(factors.uplift, factors.sigma)
        is_probability = factors.is_binary and not math.isnan(factors.control_response)
        source = population.effects.source[int(terms.pair[candidate])]
        return {
            **about(place),
            "rank": rank,
            "action_id": action_id,
            "treatment_id": treatment_id,
            "channel": channel,
            "priority": float(ranking.priority[row]),
            "net_value": net_value,
            "net_value_low": _known(low),
            "net_value_high": _known(high),
            "prices_paid": float(ranking.paid[row]),
            "uplift": factors.uplift,
            "uplift_low": _known(uplift_low),
            "uplift_high": _known(uplift_high),
            "response_probability": factors.control_response + factors.uplift if is_probability else None,
            "reasons": SEPARATOR.join(_codes(population.standings[place], factors, source, channel)),
        }

    def without(place: int) -> Row:
        return {
            **about(place),
            "action_id": NO_ACTION,
            "treatment_id": NO_ACTION,
            "reason": reasons[place],
            "rule_ids": SEPARATOR.join(population.standings[place].rule_ids),
        }

    yield from _in_pages(chosen.tolist(), lambda number, row: with_action(number + 1, row))
    left = [place for place, reason in enumerate(reasons) if reason is not None]
    yield from _in_pages(left, lambda _, place: without(place))


def _factors(terms: CandidateTerms, ranking: Ranking, population: Population, row: int, candidate: int) -> Factors:
    return Factors(
        control_response=float(ranking.control_response[row]),
        uplift=float(ranking.uplift[row]),
        sigma=float(ranking.sigma[row]),
        is_binary=bool(terms.is_binary[candidate]),
        value=float(terms.value[candidate]),
        contact_cost=float(terms.contact_cost[candidate]),
        incentive_cost=float(terms.incentive_cost[candidate]),
        fatigue_cost=float(terms.fatigue_cost[candidate] * population.fatigue[row]),
        channel_price=float(terms.channel_price[candidate]),
    )


def _codes(standing: Standing, factors: Factors, source: str, channel: str) -> tuple[str, ...]:
    """The reason codes that a decision would give for the action, from what is left of the situation."""
    preferred = standing.preferred_channel
    situation = Situation(
        features={},
        status="open",
        stage=standing.stage,
        stall_state=standing.stall_state,
        state=standing.state,
        stall_propensity=standing.stall_propensity,
        attributes={} if preferred is None else {"preferred_channel": preferred},
    )
    return reason_codes(situation, factors, effect_source=source, channel=channel, choice=None)


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _in_pages(items: list[int], row_of: Callable[[int, int], Row]) -> Iterator[list[Row]]:
    for start in range(0, len(items), _ROWS_PER_WRITE):
        page = items[start : start + _ROWS_PER_WRITE]
        yield [row_of(start + number, item) for number, item in enumerate(page)]
