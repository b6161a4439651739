"""What is compared between arms: outcomes, money, take-up and scores, each as a column over people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from features.events import MICROSECONDS_PER_DAY
from features.journeys import Outcome
from features.kernel import Floats
from models.experiment_statistics import ArmMean, Spread, arm_mean
from training.experiment_findings import Estimate, Measure
from training.experiment_log import People
from training.experiment_question import AskedReport
from training.follow_up import Booleans


@dataclass(frozen=True, slots=True)
class Column:
    """A measure, and its values: ``(n,)`` of people, NaN where not known."""

    measure: Measure
    of: Callable[[People], Floats]
    is_binary: bool = False


def columns_of(asked: AskedReport, counted: Sequence[Outcome]) -> tuple[Column, ...]:
    """What is compared: the primary outcome first, money, the other counted outcomes, take-up, scores, other windows.

    Args:
        asked: what the report is on.
        counted: outcomes whose values add up, the primary one first.
    """
    followed = [_outcome_column(one, asked, followed=True) for one in counted]
    others = [one for one in asked.journey.outcomes if one not in counted or one.window != asked.follow_up]
    own = [_outcome_column(one, asked, followed=False) for one in others]
    fixed = (
        Column(Measure(id="value", title="Value less costs", unit="money"), lambda people: people.came.value),
        Column(Measure(id="gain", title="Value of what came", unit="money"), lambda people: people.came.gain),
        Column(Measure(id="spend", title="Money spent", unit="money"), lambda people: people.came.spend),
        Column(
            Measure(id="offered", title="Was offered something", unit="share"),
            lambda people: np.where(people.came.settled, (people.came.contacts > 0).astype(float), np.nan),
            True,
        ),
        Column(Measure(id="contacts", title="Actions chosen", unit="number"), lambda people: people.came.contacts),
        Column(
            Measure(id="exposed", title="Was shown or sent something", unit="share"),
            lambda people: people.came.exposed,
            True,
        ),
        Column(
            Measure(id="answered", title="Responded to a contact", unit="share"),
            lambda people: people.came.answered,
            True,
        ),
        Column(Measure(id="nps", title="Net promoter score", unit="score"), lambda people: people.came.nps),
        Column(
            Measure(id="nps_answered", title="Gave a score", unit="share"),
            lambda people: (~np.isnan(people.came.nps)).astype(float),
            True,
        ),
    )
    return (followed[0], *fixed[:3], *followed[1:], *fixed[3:], *own)


def _outcome_column(outcome: Outcome, asked: AskedReport, *, followed: bool) -> Column:
    is_binary = outcome.type == "binary"
    name, days = outcome.id, asked.follow_up / MICROSECONDS_PER_DAY
    is_own_window = not followed or outcome.window == asked.follow_up
    title = outcome.title if is_own_window else f"{outcome.title}, counted for {days:g} days"
    measure = Measure(
        id=f"outcome:{name}" if followed else f"declared:{name}", title=title, unit="share" if is_binary else "number"
    )
    if followed:
        return Column(measure, lambda people: people.came.outcomes[name], is_binary)
    return Column(measure, lambda people: people.came.declared[name], is_binary)


def side_of(column: Column, people: People, number: int) -> ArmMean:
    """The mean of one arm of whom it is known, as if everybody were in it."""
    return mean_of(column.of(people), people, number, is_binary=column.is_binary)


def mean_of(y: Floats, people: People, number: int, *, is_binary: bool = False) -> ArmMean:
    """The mean of ``y`` in one arm, of whom it is known, as if everybody were in it."""
    known: Booleans = (people.assignment.arm == number) & ~np.isnan(y)
    return arm_mean(y[known], people.assignment.probability[known, number], is_binary=is_binary)


def estimate_of(found: Spread) -> Estimate:
    """As the report says it: what is NaN is not known."""
    return Estimate(**{name: known(value) for name, value in found._asdict().items()})


def known(value: float) -> float | None:
    """None where it is NaN."""
    return None if math.isnan(value) else float(value)
