"""An experiment report as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from training.experiment_findings import Comparison, Estimate, ExperimentReport, Measure
from training.experiment_words import SHORT, arm_counts, bounds, came_to_pass, sentence, shown


def report_text(report: ExperimentReport) -> str:
    """The report, the check of the sample first."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: ExperimentReport) -> Iterator[str]:
    yield f"Experiment {report.experiment_id} on {report.journey_id}"
    yield ""
    for line in report.headlines:
        yield line
    for caveat in report.warnings:
        if caveat.text not in report.headlines:
            yield f"Warning: {caveat.text}"
    for group in report.sample_ratio.where:
        yield f"  uneven: {group.dimension} {group.group}: {arm_counts(group.arms)} (p = {group.p_value:.2g})"
    yield ""
    sample = report.sample
    yield (
        f"{sample.people:,} customers, {sample.settled:,} of them followed for {report.follow_up_days:g} days, "
        f"{sample.decisions:,} decisions"
    )
    left_out = {**sample.excluded, **{f"in two arms, {cause}": n for cause, n in sample.in_two_arms.items()}}
    if left_out:
        yield "  " + ", ".join(f"{n:,} {name}" for name, n in left_out.items())
    for one in report.comparisons:
        yield ""
        yield from _comparison(report, one)
    if report.policies:
        yield ""
        yield "Policies compared, in money:"
        for policy in report.policies:
            value = policy.value
            told = policy.refused[0] if policy.refused else _money(value)
            yield f"  {policy.title}, per {policy.per}, {policy.how.replace('_', '-')}: {told}"
    if report.unknown:
        yield ""
        yield "Not known yet:"
        for line in report.unknown:
            yield f"  {line}"


def _comparison(report: ExperimentReport, one: Comparison) -> Iterator[str]:
    yield (
        f"{sentence(SHORT[one.arm])} ({one.people:,}) against {SHORT[one.against]} ({one.people_against:,}); the "
        f"second interval holds however often one looks:"
    )
    came, empty = came_to_pass(report, one)
    for measure in came:
        yield f"  {measure.title}: {estimate_text(measure, one.measures[measure.id], report.currency)}"
    if empty:
        yield f"  Nothing came in either of: {', '.join(measure.title for measure in empty)}"
    if one.roi.estimate is not None:
        yield f"  More value for each {report.currency} spent: {_money(one.roi)}"
    for group in one.groups:
        found = group.measures[report.measures[0].id]
        if found.estimate is not None:
            told = estimate_text(report.measures[0], found, report.currency)
            yield f"  {group.dimension} {group.group} ({group.people:,} and {group.people_against:,}): {told}"


def estimate_text(measure: Measure, found: Estimate, currency: str) -> str:
    """A difference with both of its intervals."""
    scale, form = (100, "+.1f") if measure.unit == "share" else (1, "+.2f")
    ends = [
        None if end is None else scale * end for end in (found.low, found.high, found.always_low, found.always_high)
    ]
    told = shown(measure, found.estimate, currency, signed=True, is_difference=True)
    return f"{told} {bounds(ends[0], ends[1], form)} {bounds(ends[2], ends[3], form)}"


def _money(found: Estimate) -> str:
    if found.estimate is None:
        return "unknown"
    always = "" if found.always_low is None else f" {bounds(found.always_low, found.always_high, '+.2f')}"
    return f"{found.estimate:+.2f} {bounds(found.low, found.high, '+.2f')}{always}"
