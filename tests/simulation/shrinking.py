"""A failing run made short: the fewest steps that were found to break the same promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.drawing import Plan
from tests.simulation.simulation import Run


def shrunk(plan: Plan, run: Run, made: Callable[[Plan], Run], *, runs: int = 200) -> tuple[Plan, Run]:
    """A shorter plan that breaks the same promise, with its run: nothing after the failure, then less and less before.

    Args:
        plan: that failed.
        run: how.
        made: makes the run of a plan.
        runs: at most so many are made.

    Returns:
        Plan and run; of a run that did not fail they are as they were.
    """
    if run.failure is None:
        return plan, run
    promise, left = run.failure.promise, runs

    def shorter(steps: tuple[object, ...]) -> bool:
        nonlocal plan, run, left
        left -= 1
        tried = replace(plan, steps=steps)
        again = made(tried)
        if again.failure is None or again.failure.promise != promise:
            return False
        plan, run = tried, again
        return True

    shorter(plan.steps[: run.failure.step + 1])
    size = max(1, len(plan.steps) // 2)
    while left > 0:
        place, found = 0, False
        while place < len(plan.steps) and left > 0:
            if shorter(plan.steps[:place] + plan.steps[place + size :]):
                found = True
            else:
                place += size
        if size == 1 and not found:
            break
        size = max(1, size // 2)
    return plan, run
