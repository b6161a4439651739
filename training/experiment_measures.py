"""What is compared between arms: outcomes, money, take-up and scores, each as a column over people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from features.events import MICROSECONDS_PER_DAY
from features.journeys import Outcome
from features.kernel import Floats
from models.experiment_statistics import ArmMean, Spread, arm_mean, event_size
from training.experiment_findings import Estimate, Measure
from training.experiment_log import People
from training.experiment_question import AskedReport
from training.follow_up import Booleans


@dataclass(frozen=True, slots=True)
class Column:
    """A measure, its values ``(n,)`` of people, NaN where not known, and the rare events that make them, if any do."""

    measure: Measure
    of: Callable[[People], Floats]
    events: Callable[[People], Floats] | None = None


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
        Column(Measure(id="value", title="Value less costs", unit="money"), lambda people: people.came.value, _gain),
        Column(Measure(id="gain", title="Value of what came", unit="money"), _gain, _gain),
        Column(Measure(id="spend", title="Money spent", unit="money"), lambda people: people.came.spend),
        Column(Measure(id="offered", title="Was offered something", unit="share"), _offered, _offered),
        Column(Measure(id="contacts", title="Actions chosen", unit="number"), lambda people: people.came.contacts),
        Column(Measure(id="exposed", title="Was shown or sent something", unit="share"), _exposed, _exposed),
        Column(Measure(id="answered", title="Responded to a contact", unit="share"), _answered, _answered),
        Column(Measure(id="nps", title="Net promoter score", unit="score"), lambda people: people.came.nps),
        Column(Measure(id="nps_answered", title="Gave a score", unit="share"), _gave_score, _gave_score),
    )
    return (followed[0], *fixed[:3], *followed[1:], *fixed[3:], *own)


def _gain(people: People) -> Floats:
    return people.came.gain


def _offered(people: People) -> Floats:
    return np.where(people.came.settled, (people.came.contacts > 0).astype(np.float64), np.nan)


def _exposed(people: People) -> Floats:
    return people.came.exposed


def _answered(people: People) -> Floats:
    return people.came.answered


def _gave_score(people: People) -> Floats:
    return (~np.isnan(people.came.nps)).astype(np.float64)


def _outcome_column(outcome: Outcome, asked: AskedReport, *, followed: bool) -> Column:
    name, days = outcome.id, asked.follow_up / MICROSECONDS_PER_DAY
    is_own_window = not followed or outcome.window == asked.follow_up
    measure = Measure(
        id=f"outcome:{name}" if followed else f"declared:{name}",
        title=outcome.title if is_own_window else f"{outcome.title}, counted for {days:g} days",
        unit="share" if outcome.type == "binary" else "number",
    )

    def came(people: People) -> Floats:
        return (people.came.outcomes if followed else people.came.declared)[name]

    return Column(measure, came, came)


def side_of(column: Column, people: People, number: int) -> ArmMean:
    """The mean of one arm of whom it is known, as if everybody were in it."""
    events = None if column.events is None else column.events(people)
    return mean_of(column.of(people), people, number, events=events)


def mean_of(y: Floats, people: People, number: int, *, events: Floats | None = None) -> ArmMean:
    """The mean of ``y`` in one arm, of whom it is known, as if everybody were in it.

    Args:
        y: ``(n,)`` of people, NaN where not known.
        people: of all arms.
        number: of the arm.
        events: ``(n,)`` the rare events that make ``y``; one counts as much as those of all arms do.
    """
    known: Booleans = (people.assignment.arm == number) & ~np.isnan(y)
    chance = people.assignment.probability[known, number]
    if events is None:
        return arm_mean(y[known], chance)
    return arm_mean(y[known], chance, events=events[known], size=event_size(events))


def estimate_of(found: Spread) -> Estimate:
    """As the report says it: what is NaN is not known."""
    return Estimate(**{name: known(value) for name, value in found._asdict().items()})


def known(value: float) -> float | None:
    """None where it is NaN."""
    return None if math.isnan(value) else float(value)
