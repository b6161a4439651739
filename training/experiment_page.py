"""An experiment report as a page for people who run a business, and where both of its files stand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from features.home import Home
from features.whole_files import whole_file
from training.experiment_findings import Comparison, Estimate, ExperimentReport, Measure, document_of
from training.experiment_words import SHORT, WHO, bounds, came_to_pass, sentence, shown, size_in_words
from training.plots import converging, intervals
from training.report_page import Section, figure, page, paragraph, table, write_page

_NOT_DRAWN = ("offered", "exposed", "nps_answered")
"""What an arm does rather than changes, or that only tells whether scores can be compared."""


def write_report(home: Home, report: ExperimentReport) -> None:
    """Write the report to ``reports/experiments/<experiment_id>.json`` and ``.html``."""
    folder = home.reports / "experiments"
    with whole_file(folder / f"{report.experiment_id}.json") as partial:
        partial.write_text(json.dumps(document_of(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write_page(folder / f"{report.experiment_id}.html", report_page(report))


def report_page(report: ExperimentReport) -> str:
    """The page."""
    sample = report.sample
    entered = (
        "" if sample.first_at is None else f" who came in from {sample.first_at[:10]} to {str(sample.last_at)[:10]}"
    )
    about = (
        f"Journey {report.journey_id}. {sample.people:,} customers{entered}; each is followed for "
        f"{report.follow_up_days:g} days from the first decision on. Events until {report.observed_until or 'none'}. "
        f"Configuration {report.configuration}."
    )
    sections = [_sample_section(report)]
    sections += [_comparison_section(report, one) for one in report.comparisons]
    if report.policies:
        sections.append(_policy_section(report))
    sections += [_arms_section(report), _unknown_section(report), _reading_section(report)]
    lead = [*report.headlines, *(one.text for one in report.warnings if one.text not in report.headlines)]
    return page(f"Experiment {report.experiment_id}", lead=lead, about=about, sections=sections)


def _sample_section(report: ExperimentReport) -> Section:
    ratio = report.sample_ratio
    verdict, tone = {
        "matches": ("The customers are spread over the arms as the shares say.", "good"),
        "mismatch": (
            "The customers are NOT spread over the arms as the shares say. Nothing below can be trusted.",
            "bad",
        ),
        "suspected": ("The customers may not be spread over the arms as the shares say.", "bad"),
        "unknown": ("There is nothing to check.", ""),
    }[ratio.status]
    parts = [
        paragraph(verdict, tone=tone),
        paragraph(
            f"Chance alone would spread them so unevenly with a probability of {_p(ratio.p_value)}; however often one "
            f"looked, with at most {_p(ratio.always_valid_p)}. Below {ratio.alpha:g} it is an alarm."
        ),
        table(
            ["Arm", "Customers", "Expected", "Difference"],
            [
                [
                    _arm(one.arm),
                    f"{one.people:,}",
                    f"{one.expected:,.1f}",
                    f"{one.people - one.expected:+,.1f}",
                ]
                for one in ratio.arms
            ],
            numeric=(1, 2, 3),
        ),
    ]
    if ratio.where:
        parts.append(paragraph("Where they are uneven, the surest first:"))
        parts.append(
            table(
                ["What", "Group", *(_arm(one.arm) for one in ratio.arms)],
                [
                    [one.dimension, one.group, *(f"{arm.people:,} of {arm.expected:,.1f}" for arm in one.arms)]
                    for one in ratio.where
                ],
            )
        )
    left_out = {**report.sample.excluded}
    if left_out:
        told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in left_out.items())
        parts.append(paragraph(f"Decisions that do not count: {told}."))
    moved = report.sample.in_two_arms
    if moved:
        told = ", ".join(f"{n:,} because of {name.replace('_', ' ')}" for name, n in moved.items())
        parts.append(paragraph(f"Customers met in more than one arm, who count by their first: {told}."))
    return Section("Can the figures be trusted?", parts)


def _comparison_section(report: ExperimentReport, one: Comparison) -> Section:
    title = f"{_arm(one.arm)} against {SHORT[one.against]}"
    known, empty = came_to_pass(report, one)
    parts: list[Markup] = [paragraph(f"{one.people:,} {WHO[one.arm]}, {one.people_against:,} {WHO[one.against]}.")]
    if not known:
        return Section(title, [*parts, paragraph("Too few to say anything yet.")])
    primary, value = report.measures[0], one.measures["value"]
    shares = [measure for measure in known if measure.unit == "share" and measure.id not in _NOT_DRAWN]
    parts += _drawing(
        shares,
        [one.measures[measure.id] for measure in shares],
        unit="points more (right) or less (left)",
        scale=100.0,
        caption="Points by which more customers did it. The line is the range that the truth lies in, however often "
        "one looks; where it does not touch 0 there is a difference.",
    )
    parts.append(
        table(
            [
                "",
                _arm(one.arm),
                _arm(one.against),
                "Difference",
                "One look",
                "Any number of looks",
            ],
            list(_rows(report, one, known)),
            numeric=(1, 2, 3, 4, 5),
        )
    )
    if empty:
        parts.append(paragraph(f"Nothing came in either of: {', '.join(measure.title for measure in empty)}."))
    if value.estimate is not None:
        per = one.value_per_decision
        told = "" if per.estimate is None else f", {report.currency} {per.estimate:+.2f} for each decision"
        parts.append(
            paragraph(f"{report.currency} {value.estimate:+.2f} for each customer{told}, all costs taken off.")
        )
    if one.roi.estimate is not None:
        parts.append(
            paragraph(
                f"For each {report.currency} more that was spent: {report.currency} {one.roi.estimate:+.2f} more value "
                f"{bounds(one.roi.always_low, one.roi.always_high, '+.2f')}, the money spent taken off."
            )
        )
    if one.sample_size is not None:
        parts.append(paragraph(size_in_words(one.sample_size, primary, report.currency)))
    parts += _looks(report, one)
    parts += _groups(report, one)
    return Section(title, parts)


def _rows(report: ExperimentReport, one: Comparison, known: Sequence[Measure]) -> Iterator[list[str]]:
    arms = {arm.arm: arm for arm in report.arms}
    for measure in known:
        found = one.measures[measure.id]
        scale, form = (100.0, "+.1f") if measure.unit == "share" else (1.0, "+.2f")
        ends = [
            None if end is None else scale * end for end in (found.low, found.high, found.always_low, found.always_high)
        ]
        yield [
            measure.title,
            shown(measure, arms[one.arm].measures[measure.id].estimate, report.currency),
            shown(measure, arms[one.against].measures[measure.id].estimate, report.currency),
            shown(measure, found.estimate, report.currency, signed=True, is_difference=True),
            bounds(ends[0], ends[1], form),
            bounds(ends[2], ends[3], form),
        ]


def _looks(report: ExperimentReport, one: Comparison) -> list[Markup]:
    """How the difference came about; nothing where it was hardly looked at."""
    primary = report.measures[0]
    scale = 100.0 if primary.unit == "share" else 1.0
    told = [(look, _ends(look.difference, scale)) for look in one.looks]
    if len(told) < 3:
        return []
    svg = converging(
        [look.people for look, _ in told],
        [ends[0] for _, ends in told],
        [(ends[1], ends[2]) for _, ends in told],
        [(ends[3], ends[4]) for _, ends in told],
        unit=f"{'points ' if primary.unit == 'share' else ''}more or less",
    )
    caption = (
        f"{primary.title}: how the difference settled as customers came in. Whoever may stop at any look goes by the "
        f"wide band: {_since_when(one)}"
    )
    return [figure(svg, caption)]


def _since_when(one: Comparison) -> str:
    open_looks = [number for number, look in enumerate(one.looks) if not look.difference.is_certain]
    sure_from = open_looks[-1] + 1 if open_looks else 0
    if sure_from == len(one.looks):
        return "it still holds 0."
    look = one.looks[sure_from]
    return f"it leaves 0 out from {look.people:,} customers on, who had come in by {look.at[:10]}."


def _ends(found: Estimate, scale: float) -> list[float]:
    ends = (found.estimate, found.low, found.high, found.always_low, found.always_high)
    return [math.nan if end is None else scale * end for end in ends]


def _groups(report: ExperimentReport, one: Comparison) -> list[Markup]:
    primary = report.measures[0]
    parts: list[Markup] = []
    for dimension in dict.fromkeys(group.dimension for group in one.groups):
        groups = [group for group in one.groups if group.dimension == dimension]
        known = [group for group in groups if group.measures[primary.id].estimate is not None]
        if len(groups) < 2 or not known:
            continue
        scale = 100.0 if primary.unit == "share" else 1.0
        parts += _drawn(
            [f"{group.group} ({group.people + group.people_against:,})" for group in known],
            [group.measures[primary.id] for group in known],
            unit=f"{primary.title}: {'points ' if primary.unit == 'share' else ''}more or less",
            scale=scale,
            caption=f"The same by {dimension} at the first decision, with how many customers. Among many groups some "
            f"differ by chance.",
        )
        few = [group.group for group in groups if group not in known]
        if few:
            parts.append(paragraph(f"Too few to say anything: {', '.join(few)}."))
    return parts


def _drawing(
    measures: Sequence[Measure], found: Sequence[Estimate], *, unit: str, scale: float, caption: str
) -> list[Markup]:
    return _drawn([measure.title for measure in measures], found, unit=unit, scale=scale, caption=caption)


def _drawn(labels: Sequence[str], found: Sequence[Estimate], *, unit: str, scale: float, caption: str) -> list[Markup]:
    drawn = [
        (label, one)
        for label, one in zip(labels, found, strict=True)
        if one.estimate is not None and one.always_low is not None and one.always_high is not None
    ]
    if not drawn:
        return []
    svg = intervals(
        [label for label, _ in drawn],
        [scale * (one.estimate or 0.0) for _, one in drawn],
        [(scale * (one.always_low or 0.0), scale * (one.always_high or 0.0)) for _, one in drawn],
        unit=unit,
    )
    return [figure(svg, caption)]


def _policy_section(report: ExperimentReport) -> Section:
    rows = []
    for one in report.policies:
        value = one.value
        told = "not known" if value.estimate is None else f"{report.currency} {value.estimate:+.2f}"
        how = "customers were drawn into both" if one.how == "arms" else "valued on the log"
        rows.append([one.title, told, bounds(value.low, value.high, "+.2f"), one.per, how, "; ".join(one.refused)])
    return Section(
        "What deciding is worth",
        [
            paragraph(
                "What the policy earns more than another way to decide. Where no customers were drawn for that other "
                "way, it is valued on the recorded decisions, by how likely it would have done the same."
            ),
            table(["", "Difference", "Interval", "For each", "How", "Why not known"], rows, numeric=(1, 2)),
        ],
    )


def _arms_section(report: ExperimentReport) -> Section:
    head = ["", *(_arm(one.arm) for one in report.arms)]
    rows = [
        ["Customers", *(f"{one.people:,}" for one in report.arms)],
        ["Followed to the end", *(f"{one.settled:,}" for one in report.arms)],
        [
            "Decisions for each",
            *(
                "unknown" if one.decisions_per_person is None else f"{one.decisions_per_person:.2f}"
                for one in report.arms
            ),
        ],
    ]
    rows += [
        [measure.title, *(shown(measure, one.measures[measure.id].estimate, report.currency) for one in report.arms)]
        for measure in report.measures
    ]
    return Section("Every arm", [table(head, rows, numeric=range(1, len(head)))])


def _unknown_section(report: ExperimentReport) -> Section:
    said = report.unknown or ("Nothing is open.",)
    return Section("What is not known yet", [paragraph(line) for line in said])


def _reading_section(report: ExperimentReport) -> Section:
    return Section(
        "How to read this",
        [
            paragraph(
                "Customers are drawn into arms by chance, so whatever differs between arms later was caused by what "
                "the arms did. Everybody counts, contacted or not, by the arm of the first decision."
            ),
            paragraph(
                f"With {report.level:.0%} the truth lies in the range for one look, if there was only that one look. "
                f"Whoever looks every day and stops at the first good news needs the wider one: it holds at every look."
            ),
            paragraph(
                f"Value counts {', '.join(report.counted)}: no event is counted twice. Costs are contacts, channels "
                f"and incentives that were paid, and what a contact costs in patience."
            ),
        ],
    )


def _arm(arm: str) -> str:
    return sentence(SHORT[arm])


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    return "unknown" if value is None else "less than 0.0001" if value < 0.0001 else f"{value:.4f}"
