"""One arm of an experiment against another: what differs, what it is worth, and how many people it takes to tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.events import MICROSECONDS_PER_DAY, dump_timestamp
from models.experiment_statistics import ArmMean, Looks, PairedArms, difference, ratio_of_differences, sample_size
from training.experiment_findings import Comparison, Estimate, GroupDifference, Look, Sample, SampleSizes
from training.experiment_log import NUMBERS, People
from training.experiment_measures import Column, estimate_of, mean_of, side_of
from training.experiment_question import AskedReport
from training.experiment_words import HOLDOUT
from training.params import ExperimentParams

N_LOOKS: Final = 24
"""How often a difference is told while it came about, evenly over the customers."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparing:
    """Compares arms.

    Attributes:
        people: whose follow-up is over.
        columns: what is compared, the primary outcome first.
        looks: how intervals are made.
        params: what sample sizes are asked for.
        sample: everybody, and how fast they come in.
        asked: what makes groups, and how long everybody is followed.
    """

    people: People
    columns: Sequence[Column]
    looks: Looks
    params: ExperimentParams
    sample: Sample
    asked: AskedReport

    def comparison(self, arm: str, against: str) -> Comparison:
        """One arm against another, over people who could have been in both."""
        numbers = [NUMBERS[one] for one in (arm, against)]
        possible = (self.people.assignment.probability[:, numbers] > 0).all(axis=1)
        people = self.people.of(np.flatnonzero(possible))
        sides = [people.assignment.arm == number for number in numbers]
        primary = self.columns[0]
        decisions = mean_of(people.came.decisions, people, numbers[0])
        measures = self._measures(people, numbers, self.columns, n=len(people))
        return Comparison(
            arm=arm,
            against=against,
            people=int(sides[0].sum()),
            people_against=int(sides[1].sum()),
            left_out=int((~possible).sum()),
            measures=measures,
            value_per_decision=_divided(measures["value"], decisions.mean),
            roi=self._roi(people, numbers) if (measures["spend"].estimate or 0.0) > 0 else Estimate(),
            sample_size=self._sample_size(people, numbers, primary),
            groups=self._groups(people, numbers) if against == HOLDOUT else (),
            looks=self._looks(people, numbers),
        )

    def _sides(self, people: People, numbers: Sequence[int], column: Column) -> tuple[ArmMean, ArmMean]:
        return side_of(column, people, numbers[0]), side_of(column, people, numbers[1])

    def _measures(
        self, people: People, numbers: Sequence[int], columns: Sequence[Column], *, n: int
    ) -> dict[str, Estimate]:
        return {
            one.measure.id: estimate_of(difference(*self._sides(people, numbers, one), self.looks, n=n))
            for one in columns
        }

    def _looks(self, people: People, numbers: Sequence[int]) -> tuple[Look, ...]:
        found = []
        for n in np.unique(np.linspace(0, len(people), N_LOOKS + 1).astype(np.int64))[1:].tolist():
            told = self._measures(people.of(np.arange(n)), numbers, self.columns[:1], n=n)
            at = dump_timestamp(int(people.entered_at[n - 1]))
            found.append(Look(at=at, people=n, difference=told[self.columns[0].measure.id]))
        return tuple(one for one in found if one.difference.estimate is not None)

    def _roi(self, people: People, numbers: Sequence[int]) -> Estimate:
        rows = np.isin(people.assignment.arm, numbers)
        pair = people.of(rows)
        own = pair.assignment.probability[np.arange(len(pair)), pair.assignment.arm]
        paired = PairedArms(pair.came.value, pair.came.spend, own, pair.assignment.arm == numbers[0])
        return estimate_of(ratio_of_differences(paired, self.looks, n=len(people)))

    def _sample_size(self, people: People, numbers: Sequence[int], column: Column) -> SampleSizes | None:
        one, other = self._sides(people, numbers, column)
        variance = one.variance + other.variance
        effect = abs(other.mean) * self.params.smallest_effect
        if min(one.n, other.n) < self.looks.smallest_arm or not variance > 0 or not effect > 0:
            return None
        found = sample_size(variance, len(people), effect, self.looks, power=self.params.power)
        return SampleSizes(
            effect=effect,
            power=self.params.power,
            people=math.ceil(found.people),
            people_if_looking=math.ceil(found.people_if_looking),
            days=self._days(found.people),
            days_if_looking=self._days(found.people_if_looking),
            smallest_now=found.smallest_now,
        )

    def _days(self, people: float) -> float | None:
        """Until so many are settled."""
        if self.sample.settled >= people:
            return 0.0
        if not self.sample.people_per_day:
            return None
        missing = max(people - self.sample.people, 0.0)
        return missing / self.sample.people_per_day + self.asked.follow_up / MICROSECONDS_PER_DAY

    def _groups(self, people: People, numbers: Sequence[int]) -> tuple[GroupDifference, ...]:
        named = {"stage": people.stage}
        if self.asked.group_by is not None:
            named[self.asked.group_by] = people.group
        columns = [one for one in self.columns if one is self.columns[0] or one.measure.id == "value"]
        found = []
        for dimension, names in named.items():
            for group in np.unique(names).tolist():
                members = people.of(names == group)
                counts = [int((members.assignment.arm == number).sum()) for number in numbers]
                found.append(
                    GroupDifference(
                        dimension=dimension,
                        group=str(group),
                        people=counts[0],
                        people_against=counts[1],
                        measures=self._measures(members, numbers, columns, n=len(people)),
                    )
                )
        return tuple(found)


def _divided(one: Estimate, by: float) -> Estimate:
    if not by > 0:
        return Estimate()
    parts = [one.estimate, one.low, one.high, one.always_low, one.always_high]
    names = ("estimate", "low", "high", "always_low", "always_high")
    return Estimate(**{name: None if part is None else part / by for name, part in zip(names, parts, strict=True)})
