"""The experiment report: the sample-ratio check first, then what each arm changes for a customer, with intervals.

Customers were drawn, so customers are compared: everybody counts once, by the arm of the first decision, whatever was
done later. What came is what came in the same time from there on (``training.follow_up``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from features.events import MICROSECONDS_PER_DAY, dump_timestamp, dump_timestamp_or_none
from features.home import Home
from models.configuration import Configuration
from models.experiment_statistics import (
    Looks,
    spread_of,
)
from models.sample_ratio import RatioCheck, ratio_check, ratio_p_value, uneven_groups
from training.experiment_comparing import Comparing
from training.experiment_findings import (
    REPORT_FORMAT,
    ArmCount,
    ArmFindings,
    Comparison,
    ExperimentReport,
    PolicyComparison,
    Sample,
    SampleRatio,
    UnevenGroup,
)
from training.experiment_log import ARMS, NUMBERS, AskedExperiment, ExperimentLog, People, experiment_log
from training.experiment_measures import Column, columns_of, estimate_of, known, mean_of, side_of
from training.experiment_policies import drawn_comparison, policy_comparisons
from training.experiment_question import AskedReport
from training.experiment_words import caveats, headlines, not_known
from training.follow_up import Words, counted_outcomes
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
    columns = columns_of(asked, counted)
    looks = looks_of(params, asked)
    ratio = _sample_ratio(log.people, params, asked)
    sample = _sample(log)
    people = log.people.of(log.people.came.settled)
    arms = tuple(
        _arm(log.people, people, number, columns, looks)
        for number in range(len(ARMS))
        if (log.people.assignment.arm == number).any()
    )
    comparing = Comparing(people, columns, looks, params, sample, asked)
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
        since=dump_timestamp_or_none(asked.since),
        until=dump_timestamp_or_none(asked.until),
        group_by=asked.group_by,
        observed_until=dump_timestamp_or_none(log.observed_until or None),
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
        first_at=dump_timestamp_or_none(int(at[0])) if n else None,
        last_at=dump_timestamp_or_none(int(at[-1])) if n else None,
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
        p_value=known(checked.p_value),
        always_valid_p=known(checked.always_valid_p),
        first_alarm_at=None if alarm is None else dump_timestamp_or_none(int(people.entered_at[alarm - 1])),
        decisions_p_value=known(decisions),
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


def _arm(everybody: People, people: People, number: int, columns: Sequence[Column], looks: Looks) -> ArmFindings:
    return ArmFindings(
        arm=ARMS[number],
        people=int((everybody.assignment.arm == number).sum()),
        settled=int((people.assignment.arm == number).sum()),
        decisions_per_person=known(mean_of(people.came.decisions, people, number).mean),
        measures={
            one.measure.id: estimate_of(spread_of(side_of(one, people, number), looks, n=len(people)))
            for one in columns
        },
    )
