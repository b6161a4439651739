"""The experiment report: the sample-ratio check first, then what each arm changes for a customer, with intervals.

Customers were drawn, so customers are compared: everybody counts once, by the arm of the first decision, whatever was
done later. What came is what came in the same time from there on (``training.follow_up``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace

from features.events import MICROSECONDS_PER_DAY, dump_timestamp
from features.home import Home
from features.journeys import Journey, Outcome
from features.kernel import Floats
from models.configuration import Configuration
from models.experiment_statistics import (
    ArmMean,
    Looks,
    PairedArms,
    Spread,
    arm_mean,
    difference,
    ratio_of_differences,
    sample_size,
    spread_of,
)
from models.sample_ratio import RatioCheck, ratio_check, ratio_p_value, uneven_groups
from training.experiment_findings import (
    REPORT_FORMAT,
    ArmCount,
    ArmFindings,
    Comparison,
    Estimate,
    ExperimentReport,
    GroupDifference,
    Measure,
    PolicyComparison,
    Sample,
    SampleRatio,
    SampleSizes,
    UnevenGroup,
)
from training.experiment_log import ARMS, NUMBERS, AskedExperiment, ExperimentLog, People, experiment_log
from training.experiment_policies import drawn_comparison, policy_comparisons
from training.experiment_words import caveats, headlines, not_known
from training.follow_up import Booleans, Words, counted_outcomes
from training.params import ExperimentParams, Params

COMPARED: Final = (
    ("champion", "no_contact_holdout"),
    ("champion", "random_eligible"),
    ("random_eligible", "no_contact_holdout"),
    ("challenger", "no_contact_holdout"),
    ("challenger", "random_eligible"),
    ("challenger", "champion"),
)
"""An arm, and what it is compared with."""

LATELY_DAYS: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedReport:
    """What is asked for.

    Attributes:
        experiment_id: the experiment.
        journey: as declared.
        primary: the outcome that matters most.
        follow_up: how long everybody is followed, microseconds.
        since: only people who came in from here on, microseconds since the epoch.
        until: and before; None for no bound.
        group_by: an attribute of the profile; None for none.
        planned: people at whom intervals for looking often are narrowest; that of the parameters if None.
        with_policies: whether other ways to decide are valued on the log, which makes each decision again.
    """

    experiment_id: str
    journey: Journey
    primary: Outcome
    follow_up: int
    since: int | None = None
    until: int | None = None
    group_by: str | None = None
    planned: int | None = None
    with_policies: bool = True


def experiment_report(home: Home, configuration: Configuration, params: Params, asked: AskedReport) -> ExperimentReport:
    """The report on an experiment, out of the stores of a home, which are only read.

    Raises:
        UnknownObject: neither the policy nor any record knows the experiment.
        StoreError: a store cannot be read.
    """
    counted = counted_outcomes(asked.journey, asked.primary)
    experiment = AskedExperiment(
        experiment_id=asked.experiment_id,
        follow_up=asked.follow_up,
        counted=counted,
        since=asked.since or 0,
        until=asked.until,
        group_by=asked.group_by,
    )
    log = experiment_log(home, configuration, asked.journey, experiment)
    valued: tuple[PolicyComparison, ...] = ()
    if asked.with_policies and len(log.people):
        looks = looks_of(params.experiment, asked)
        valued = policy_comparisons(home, configuration, params, asked.journey.id, experiment, looks=looks)
    return report_of(log, configuration, params.experiment, asked, valued)


def looks_of(params: ExperimentParams, asked: AskedReport) -> Looks:
    """How intervals are made."""
    planned = params.planned_people if asked.planned is None else asked.planned
    return Looks(level=params.level, planned=planned, smallest_arm=params.smallest_arm)


def report_of(
    log: ExperimentLog,
    configuration: Configuration,
    params: ExperimentParams,
    asked: AskedReport,
    valued: Sequence[PolicyComparison] = (),
) -> ExperimentReport:
    """The report on a log that has been read, with what policies were valued at."""
    counted = counted_outcomes(asked.journey, asked.primary)
    columns = _columns(asked, counted)
    looks = looks_of(params, asked)
    ratio = _sample_ratio(log.people, params, asked)
    sample = _sample(log)
    people = log.people.of(log.people.came.settled)
    arms = tuple(
        _arm(log.people, people, number, columns, looks)
        for number in range(len(ARMS))
        if (log.people.assignment.arm == number).any()
    )
    comparing = _Comparing(people, columns, looks, params, sample, asked)
    comparisons = tuple(
        comparing.comparison(arm, against)
        for arm, against in COMPARED
        if all((people.assignment.arm == NUMBERS[one]).any() for one in (arm, against))
    )
    report = ExperimentReport(
        format=REPORT_FORMAT,
        experiment_id=asked.experiment_id,
        journey_id=asked.journey.id,
        currency=configuration.taxonomy.currency,
        configuration=configuration.version,
        since=_moment(asked.since),
        until=_moment(asked.until),
        group_by=asked.group_by,
        observed_until=_moment(log.observed_until or None),
        primary_outcome=asked.primary.id,
        follow_up_days=asked.follow_up / MICROSECONDS_PER_DAY,
        counted=tuple(one.id for one in counted),
        level=params.level,
        planned_people=looks.planned,
        sample_ratio=ratio,
        warnings=(),
        headlines=(),
        unknown=(),
        sample=sample,
        measures=tuple(one.measure for one in columns),
        arms=arms,
        comparisons=comparisons,
        policies=_policies(comparisons, valued),
    )
    report = replace(report, warnings=caveats(report, challenger_missing=log.challenger_missing))
    return replace(report, headlines=headlines(report), unknown=not_known(report, params.smallest_arm))


def _policies(comparisons: Sequence[Comparison], valued: Sequence[PolicyComparison]) -> tuple[PolicyComparison, ...]:
    """What customers were drawn for comes from them, the rest from the log."""
    drawn = drawn_comparison(comparisons)
    if drawn is None:
        return tuple(valued)
    return (drawn, *(one for one in valued if one.id != drawn.id))


@dataclass(frozen=True, slots=True)
class _Column:
    """A measure, and where it stands."""

    measure: Measure
    of: Callable[[People], Floats]
    is_binary: bool = False


def _columns(asked: AskedReport, counted: Sequence[Outcome]) -> tuple[_Column, ...]:
    """What is compared, the primary outcome first."""
    followed = [_outcome_column(one, asked, followed=True) for one in counted]
    own = [
        _outcome_column(one, asked, followed=False) for one in asked.journey.outcomes if one.window != asked.follow_up
    ]
    fixed = (
        _Column(Measure(id="value", title="Value less costs", unit="money"), lambda people: people.came.value),
        _Column(Measure(id="gain", title="Value of what came", unit="money"), lambda people: people.came.gain),
        _Column(Measure(id="spend", title="Money spent", unit="money"), lambda people: people.came.spend),
        _Column(
            Measure(id="offered", title="Was offered something", unit="share"),
            lambda people: np.where(people.came.settled, (people.came.contacts > 0).astype(float), np.nan),
            True,
        ),
        _Column(Measure(id="contacts", title="Actions chosen", unit="number"), lambda people: people.came.contacts),
        _Column(
            Measure(id="exposed", title="Was shown or sent something", unit="share"),
            lambda people: people.came.exposed,
            True,
        ),
        _Column(
            Measure(id="answered", title="Responded to a contact", unit="share"),
            lambda people: people.came.answered,
            True,
        ),
        _Column(Measure(id="nps", title="Net promoter score", unit="score"), lambda people: people.came.nps),
        _Column(
            Measure(id="nps_answered", title="Gave a score", unit="share"),
            lambda people: (~np.isnan(people.came.nps)).astype(float),
            True,
        ),
    )
    return (followed[0], *fixed[:3], *followed[1:], *fixed[3:], *own)


def _outcome_column(outcome: Outcome, asked: AskedReport, *, followed: bool) -> _Column:
    is_binary = outcome.type == "binary"
    name, days = outcome.id, asked.follow_up / MICROSECONDS_PER_DAY
    is_own_window = not followed or outcome.window == asked.follow_up
    title = outcome.title if is_own_window else f"{outcome.title}, counted for {days:g} days"
    measure = Measure(
        id=f"outcome:{name}" if followed else f"declared:{name}", title=title, unit="share" if is_binary else "number"
    )
    if followed:
        return _Column(measure, lambda people: people.came.outcomes[name], is_binary)
    return _Column(measure, lambda people: people.came.declared[name], is_binary)


def _sample(log: ExperimentLog) -> Sample:
    people = log.people
    n, at = len(people), people.entered_at
    lately = None
    if n:
        days = min(max((int(at[-1]) - int(at[0])) / MICROSECONDS_PER_DAY, 1.0), LATELY_DAYS)
        lately = float((at > at[-1] - days * MICROSECONDS_PER_DAY).sum()) / days
    settled = int(people.came.settled.sum())
    return Sample(
        people=n,
        settled=settled,
        not_yet=n - settled,
        decisions=int(people.decisions.sum()),
        excluded=dict(sorted(log.excluded.items())),
        in_two_arms=dict(sorted(log.in_two_arms.items())),
        first_at=_moment(int(at[0])) if n else None,
        last_at=_moment(int(at[-1])) if n else None,
        people_per_day=lately,
    )


def _sample_ratio(people: People, params: ExperimentParams, asked: AskedReport) -> SampleRatio:
    """Of everybody who came in: whether their follow-up is over says nothing of their arm, but may of lost records."""
    checked = ratio_check(people.assignment, alpha=params.ratio_alpha)
    alarm = checked.first_alarm
    decisions = ratio_p_value(people.assignment, people.decisions.astype(np.float64))
    is_wrong = checked.status in ("mismatch", "suspected") or decisions < params.ratio_alpha
    return SampleRatio(
        status=checked.status,
        alpha=params.ratio_alpha,
        p_value=_known(checked.p_value),
        always_valid_p=_known(checked.always_valid_p),
        first_alarm_at=None if alarm is None else _moment(int(people.entered_at[alarm - 1])),
        decisions_p_value=_known(decisions),
        arms=_counts(checked),
        where=_where(people, params.ratio_alpha, asked) if is_wrong else (),
    )


def _where(people: People, alpha: float, asked: AskedReport) -> tuple[UnevenGroup, ...]:
    days = np.array([dump_timestamp(at)[:10] for at in people.entered_at.tolist()])
    groupings: dict[str, Words] = {
        "day": days,
        "stage": people.stage,
        "policy version": people.policy,
        "degraded": people.degraded,
    }
    if asked.group_by is not None:
        groupings[asked.group_by] = people.group
    return tuple(
        UnevenGroup(
            dimension=one.dimension,
            group=one.group,
            arms=tuple(
                ArmCount(arm=arm, people=int(observed), expected=float(expected))
                for arm, observed, expected in zip(ARMS, one.observed, one.expected, strict=True)
                if observed or expected
            ),
            p_value=one.p_value,
        )
        for one in uneven_groups(people.assignment, groupings, alpha=alpha)
    )


def _counts(checked: RatioCheck) -> tuple[ArmCount, ...]:
    return tuple(
        ArmCount(arm=arm, people=int(observed), expected=float(expected))
        for arm, observed, expected in zip(ARMS, checked.observed, checked.expected, strict=True)
        if observed or expected
    )


def _arm(everybody: People, people: People, number: int, columns: Sequence[_Column], looks: Looks) -> ArmFindings:
    rows = people.assignment.arm == number
    chance = people.assignment.probability[:, number]
    decisions = _mean(people.came.decisions, rows, chance, is_binary=False)
    return ArmFindings(
        arm=ARMS[number],
        people=int((everybody.assignment.arm == number).sum()),
        settled=int(rows.sum()),
        decisions_per_person=_known(decisions.mean),
        measures={
            one.measure.id: _estimate(
                spread_of(_mean(one.of(people), rows, chance, is_binary=one.is_binary), looks, n=len(people))
            )
            for one in columns
        },
    )


def _mean(y: Floats, rows: Booleans, chance: Floats, *, is_binary: bool) -> ArmMean:
    known = rows & ~np.isnan(y)
    return arm_mean(y[known], chance[known], is_binary=is_binary)


@dataclass(frozen=True, slots=True, eq=False)
class _Comparing:
    """Compares arms of people whose follow-up is over."""

    people: People
    columns: Sequence[_Column]
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
        decisions = _mean(
            people.came.decisions, sides[0], people.assignment.probability[:, numbers[0]], is_binary=False
        )
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
            groups=self._groups(people, numbers) if against == "no_contact_holdout" else (),
        )

    def _sides(self, people: People, numbers: Sequence[int], column: _Column) -> tuple[ArmMean, ArmMean]:
        y, assignment = column.of(people), people.assignment
        one, other = (
            _mean(y, assignment.arm == number, assignment.probability[:, number], is_binary=column.is_binary)
            for number in numbers
        )
        return one, other

    def _measures(
        self, people: People, numbers: Sequence[int], columns: Sequence[_Column], *, n: int
    ) -> dict[str, Estimate]:
        return {
            one.measure.id: _estimate(difference(*self._sides(people, numbers, one), self.looks, n=n))
            for one in columns
        }

    def _roi(self, people: People, numbers: Sequence[int]) -> Estimate:
        rows = np.isin(people.assignment.arm, numbers)
        pair = people.of(rows)
        own = pair.assignment.probability[np.arange(len(pair)), pair.assignment.arm]
        paired = PairedArms(pair.came.value, pair.came.spend, own, pair.assignment.arm == numbers[0])
        return _estimate(ratio_of_differences(paired, self.looks, n=len(people)))

    def _sample_size(self, people: People, numbers: Sequence[int], column: _Column) -> SampleSizes | None:
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


def _estimate(found: Spread) -> Estimate:
    return Estimate(**{name: _known(value) for name, value in found._asdict().items()})


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _moment(at: int | None) -> str | None:
    return None if at is None else dump_timestamp(at)
