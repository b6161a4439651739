"""``python -m tests.simulation``: runs of many seeds; of each that fails a short trace, and how to see it again."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from contextlib import nullcontext
from functools import partial

from features.database_location import DatabaseLocation
from tests.postgres_servers import postgres_database
from tests.simulation.drawing import plan_of
from tests.simulation.installation import STORE_KINDS
from tests.simulation.seeds import failure_text
from tests.simulation.shrinking import shrunk
from tests.simulation.simulation import simulated, warmed_up


def main() -> int:
    """How many seeds failed, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="so many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="from this one on")
    parser.add_argument("--steps", type=int, default=120, help="steps of a run")
    parser.add_argument("--store", choices=STORE_KINDS, default="sqlite", help="where the installation keeps its data")
    parser.add_argument("--trace", action="store_true", help="print every step and its answer")
    parser.add_argument("--whole", action="store_true", help="do not look for a shorter run that fails")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with postgres_database() if asked.store == "postgres" else nullcontext() as database:
        return _ran(asked, database)


def _ran(asked: argparse.Namespace, database: DatabaseLocation | None) -> int:
    warmed_up()
    made = partial(simulated, kind=asked.store, database=database)
    failed = []
    begun = time.monotonic()
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        plan = plan_of(seed, steps=asked.steps)
        run = made(plan)
        if asked.trace:
            print("\n".join([f"seed {seed}, digest {run.digest}", *run.trace]))
        if run.failure is None:
            continue
        failed.append(seed)
        print(failure_text(seed, run, kind=asked.store, steps=asked.steps))
        if not asked.whole:
            plan, run = shrunk(plan, run, made)
            print(f"  shortest, policy {plan.variant}, {len(plan.steps)} steps:")
            print("\n".join(f"    {line}" for line in run.trace))
            for step in plan.steps[len(run.trace) :]:
                print(f"    {step} -> {run.failure.detail if run.failure is not None else ''}")
        sys.stdout.flush()
    seconds = time.monotonic() - begun
    print(f"{asked.seeds} seeds of {asked.steps} steps in {seconds:.0f} s, {len(failed)} failed: {failed}")
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
