"""Many seeds one after another: what is told of those that fail, and how to see them again."""

from __future__ import annotations

import time
from collections.abc import Callable

from features.database_location import DatabaseLocation
from tests.simulation.drawing import plan_of
from tests.simulation.installation import StoreKind
from tests.simulation.simulation import Run, simulated


def failing_seeds(
    seeds: range,
    *,
    kind: StoreKind,
    steps: int,
    tell: Callable[[str], None],
    database: DatabaseLocation | None = None,
    every: int = 50,
) -> list[str]:
    """What is told of each seed that fails, in order.

    Args:
        seeds: those that are run.
        kind: where the installation keeps its data.
        steps: of a run.
        tell: takes what is told of a seed that fails, at once, and how far the run is.
        database: for stores of the kind ``postgres``.
        every: so many seeds it is told how far the run is.
    """
    failed: list[str] = []
    begun = time.monotonic()
    for done, seed in enumerate(seeds, start=1):
        run = simulated(plan_of(seed, steps=steps), kind=kind, database=database)
        if run.failure is not None:
            failed.append(failure_text(seed, run, kind=kind, steps=steps))
            tell(failed[-1])
        if done % every == 0:
            tell(f"{done} of {len(seeds)} seeds from {seeds.start} in {time.monotonic() - begun:.0f} s: {kind}")
    return failed


def failure_text(seed: int, run: Run, *, kind: StoreKind, steps: int) -> str:
    """How a seed fails, and the command that shows it again.

    Raises:
        ValueError: it does not fail.
    """
    if run.failure is None:
        raise ValueError(f"seed {seed} keeps every promise; expected one that fails")
    return (
        f"seed {seed} fails at step {run.failure.step}: {run.failure.detail}\n"
        f"  again: python -m tests.simulation --seeds 1 --first-seed {seed} --steps {steps} --store {kind} --trace"
    )
