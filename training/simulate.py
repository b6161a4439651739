"""The simulator: a population in the built-in journey, past decisions with exact probabilities, and the truth apart.

Blocks of customers are made one after the other, so memory stays bounded; the result does not depend on the block size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import Refused
from features.events import dump_timestamp, parse_timestamp
from features.journeys import Journey
from models.actions import Catalogue
from models.configuration import built_in_configuration
from training.simulated_decisions import DECISION_SCHEMA, EFFECT_SCHEMA
from training.simulated_events import EVENT_SCHEMA
from training.simulated_journeys import IDENTITY_SCHEMA, Block, simulate_block
from training.simulated_policy import options_of
from training.simulated_world import EFFECTS, WORLD_VERSION

JOURNEY_ID: Final = "credit_card_application"
DEFAULT_UNTIL: Final = "2025-12-31T12:00:00Z"
"""The end of simulated time if none is given: fixed, so that nothing depends on the clock."""

SUMMARY_FILE: Final = "simulation.json"
IMPORTED: Final = ("identities.parquet", "events.parquet", "decisions.parquet")
"""The files that the mapping ``simulated`` takes; the truth is nobody's to learn from."""

SCHEMAS: Final = {
    "events.parquet": EVENT_SCHEMA,
    "decisions.parquet": DECISION_SCHEMA,
    "identities.parquet": IDENTITY_SCHEMA,
    "truth/effects.parquet": EFFECT_SCHEMA,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What is simulated.

    Attributes:
        customers: how many.
        seed: of all draws.
        until: the end of simulated time, microseconds since the epoch.
        span_days: applications are spread evenly over so many days before it.
    """

    customers: int
    seed: int = 7
    until: int = parse_timestamp(DEFAULT_UNTIL)
    span_days: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it: rows per file."""

    customers: int
    events: int
    decisions: int
    effects: int
    identities: int


def simulate(
    simulation: Simulation,
    out: Path,
    *,
    block_size: int = 5_000,
    progress: Callable[[int], None] = lambda customers: None,
) -> Simulated:
    """Simulate a population into a folder: events, decisions, identities, the truth, and a summary, written last.

    Args:
        simulation: what to simulate.
        out: the folder; an earlier simulation in it is replaced.
        block_size: customers in memory at a time.
        progress: called with the customers done in each step.

    Raises:
        Refused: ``out`` holds something else than a simulation, or a number makes no sense.
    """
    _check(simulation, out)
    catalogue, journey = _configuration()
    options = options_of(catalogue)
    (out / "truth").mkdir(parents=True, exist_ok=True)
    (out / SUMMARY_FILE).unlink(missing_ok=True)
    counts = dict.fromkeys(SCHEMAS, 0)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(pq.ParquetWriter(out / name, schema, compression="zstd"))
            for name, schema in SCHEMAS.items()
        }
        for start in range(0, simulation.customers, block_size):
            numbers = np.arange(start, min(start + block_size, simulation.customers), dtype=np.int64)
            block = simulate_block(
                seed=simulation.seed,
                numbers=numbers,
                until=simulation.until,
                span_days=simulation.span_days,
                options=options,
                journey=journey,
            )
            for name, table in _tables(block).items():
                writers[name].write_table(table)
                counts[name] += table.num_rows
            progress(numbers.size)
    result = Simulated(
        customers=simulation.customers,
        events=counts["events.parquet"],
        decisions=counts["decisions.parquet"],
        effects=counts["truth/effects.parquet"],
        identities=counts["identities.parquet"],
    )
    (out / SUMMARY_FILE).write_text(json.dumps(summary(simulation, result), indent=2) + "\n", encoding="utf-8")
    return result


def summary(simulation: Simulation, result: Simulated) -> dict[str, Any]:
    """What ``simulation.json`` says."""
    return {
        "format": 1,
        "world_version": WORLD_VERSION,
        "journey_id": JOURNEY_ID,
        "seed": simulation.seed,
        "until": dump_timestamp(simulation.until),
        "span_days": simulation.span_days,
        "counts": asdict(result),
    }


def _tables(block: Block) -> dict[str, pa.Table]:
    return {
        "events.parquet": block.events,
        "decisions.parquet": block.decisions,
        "identities.parquet": block.identities,
        "truth/effects.parquet": block.effects,
    }


def _configuration() -> tuple[Catalogue, Journey]:
    """The built-in catalogue and journey: the world knows no other."""
    built_in = built_in_configuration()
    catalogue, journey = built_in.catalogue, built_in.journeys.by_id[JOURNEY_ID]
    unknown = [action.id for action in catalogue.actions if action.id not in EFFECTS]
    if unknown:
        raise Refused(f"the simulated world has no effect for {', '.join(unknown)}; expected one in EFFECTS")
    return catalogue, journey


def _check(simulation: Simulation, out: Path) -> None:
    if simulation.customers < 1:
        raise Refused(f"cannot simulate {simulation.customers} customers; expected at least 1")
    if not 1 <= simulation.span_days <= 3650:
        raise Refused(f"cannot spread applications over {simulation.span_days} days; expected 1 to 3650")
    if out.is_file():
        raise Refused(f"{out} is a file; expected a folder")
    if out.is_dir() and any(out.iterdir()) and not _is_simulation(out):
        raise Refused(f"{out} holds other files; expected an empty folder or an earlier simulation")


def _is_simulation(out: Path) -> bool:
    return (out / SUMMARY_FILE).exists() or {path.name for path in out.iterdir()} <= {
        *(Path(name).name for name in SCHEMAS),
        "truth",
    }
