"""The journey report as people read it in a terminal: plain columns, the most telling figures of each part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from features.journey_findings import Comparison, HotSpot, Hours, Interval, JourneyReport, Share

Row = Sequence[str]
UNKNOWN = "-"


def report_text(report: JourneyReport, *, rows: int = 10) -> str:
    """The report in columns; of each ranked list the first ``rows``."""
    return "\n".join([*_head(report), *_parts(report, rows)]) + "\n"


def _head(report: JourneyReport) -> Iterator[str]:
    ways = report.instances
    yield f"{report.title} ({report.journey_id}), observed until {report.observed_until or UNKNOWN}"
    if report.observed_from:
        yield f"instances entered since {report.observed_from}"
    yield (
        f"{report.events:,} events of {report.customers:,} customers; {ways.entered:,} instances of "
        f"{report.travellers:,}: {ways.reached_goal:,} reached the goal, {ways.exited:,} left, "
        f"{ways.abandoned:,} were abandoned, {ways.open:,} are open"
    )
    value = report.goal_value
    if value.value is not None:
        yield f"one more reached goal is taken to be worth {_money(value.value)} {report.currency} ({value.outcome_id})"
    yield f"conforming to the declared journey: {_share(report.conformance.conforming)}"


def _parts(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _stages(report)
    yield from _steps(report)
    for title, spots in (
        ("Hot spots by stage", report.hot_spots.by_stage),
        ("Hot spots by channel used last", report.hot_spots.by_channel),
        ("Hot spots by state", report.hot_spots.by_state),
    ):
        yield from _hot_spots(f"{title}, value at risk in {report.currency}", spots[:rows])
    yield from _leaks(report, rows)
    yield from _loops(report, rows)
    yield from _unexpected(report, rows)
    if report.groups is not None:
        yield from _groups(report.groups)
    yield from _stuck(report, rows)
    yield from _channels(report)
    yield from _kinds(report, rows)


def _stages(report: JourneyReport) -> Iterator[str]:
    header = ("Stage", "Entered", "Progressed", "Exited", "Abandoned", "Open", "Looped", "Stalled", "Stall rate")
    yield from _table(
        "Stages",
        (*header, "Median", "90 %"),
        (
            (
                one.stage,
                *(f"{n:,}" for n in (one.entered, one.progressed, one.exited, one.abandoned, one.open, one.looped)),
                f"{one.stalled:,}",
                _share(one.stall),
                *_hours(one.dwell_hours),
            )
            for one in report.stages
        ),
    )


def _steps(report: JourneyReport) -> Iterator[str]:
    yield from _table(
        "Transitions",
        ("From", "To", "Count", "Customers", "Median", "90 %"),
        (
            (one.from_step, one.to_step, f"{one.count:,}", f"{one.customers:,}", *_hours(one.dwell_hours))
            for one in report.steps
        ),
    )


def _hot_spots(title: str, spots: Iterable[HotSpot]) -> Iterator[str]:
    yield from _table(
        title,
        ("Rank", "Stage", "Channel", "State", "Visits", "Stalled", "Rate", "At risk", "95 %"),
        (
            (
                str(one.rank),
                one.stage,
                one.channel or UNKNOWN,
                one.state or UNKNOWN,
                f"{one.visits:,}",
                f"{one.stalled:,}",
                f"{one.stall_rate:.1%}",
                UNKNOWN if one.value_at_risk is None else _money(one.value_at_risk),
                _money_interval(one.interval),
            )
            for one in spots
        ),
    )


def _leaks(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _table(
        f"Leaks to offline channels, cost in {report.currency}",
        ("Stage", "From", "To", "Moves", "Customers", "Share of visits", "Cost"),
        (
            (
                one.stage,
                one.from_channel,
                one.to_channel,
                f"{one.count:,}",
                f"{one.customers:,}",
                _share(one.visits),
                UNKNOWN if one.cost is None else _money(one.cost),
            )
            for one in report.leaks.channels[:rows]
        ),
    )


def _loops(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _table(
        "Loops",
        ("Stage", "Event", "Count", "Customers"),
        ((one.stage, one.kind, f"{one.count:,}", f"{one.customers:,}") for one in report.loops.steps[:rows]),
    )
    yield from _table(
        "There and back",
        ("Events", "Count", "Customers", "Median", "90 %"),
        (
            (" <> ".join(one.kinds), f"{one.count:,}", f"{one.customers:,}", *_hours(one.hours))
            for one in report.loops.ping_pongs[:rows]
        ),
    )


def _unexpected(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _table(
        "Against the declared journey",
        ("Deviation", "From", "To", "Count", "Instances", "Share"),
        (
            (
                one.deviation,
                one.from_step,
                one.to_step,
                f"{one.count:,}",
                f"{one.instances:,}",
                UNKNOWN if one.share is None else f"{one.share:.1%}",
            )
            for one in report.conformance.deviations[:rows]
        ),
    )
    yield from _table(
        "Events of the journey while none was open",
        ("Status", "Event", "Count", "Customers"),
        ((one.status, one.kind, f"{one.count:,}", f"{one.customers:,}") for one in report.conformance.outside[:rows]),
    )


def _groups(found: Comparison) -> Iterator[str]:
    yield from _table(
        f"Groups by {found.by}, each against all others ({found.comparisons} comparisons, q by Benjamini-Hochberg)",
        ("Group", "Instances", "Measure", "Share", "Difference", "95 %", "q"),
        (
            (
                group.group or "unknown",
                f"{group.instances:,}",
                measure,
                _share(one.share),
                UNKNOWN if one.difference is None else f"{one.difference:+.1%}",
                UNKNOWN if one.interval is None else f"{one.interval[0]:+.1%} .. {one.interval[1]:+.1%}",
                UNKNOWN if one.q_value is None else f"{one.q_value:.3f}",
            )
            for group in found.groups
            for measure, one in (("progress", group.progress), ("stall", group.stall), ("goal", group.goal))
        ),
    )


def _stuck(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _table(
        f"Stuck now, value at risk in {report.currency}",
        ("Stage", "State", "Count", "Median age", "90 %", "At risk"),
        (
            (
                one.stage,
                one.state,
                f"{one.count:,}",
                *_hours(one.age_hours),
                UNKNOWN if one.value_at_risk is None else _money(one.value_at_risk),
            )
            for one in report.stuck[:rows]
        ),
    )


def _channels(report: JourneyReport) -> Iterator[str]:
    yield from _table(
        "Channels",
        ("Channel", "Events", "Customers", "Share of instances", "Progress within 24 h"),
        (
            (one.channel, f"{one.events:,}", f"{one.customers:,}", _share(one.instances), _share(one.progress_24h))
            for one in report.channels
            if one.events
        ),
    )


def _kinds(report: JourneyReport, rows: int) -> Iterator[str]:
    yield from _table(
        "Events that follow each other",
        ("From", "To", "Count", "Customers", "Median", "90 %"),
        (
            (one.from_kind, one.to_kind, f"{one.count:,}", f"{one.customers:,}", *_hours(one.gap_hours))
            for one in report.kinds.shown[:rows]
        ),
    )


def _table(title: str, header: Row, rows: Iterable[Row]) -> Iterator[str]:
    """A titled table in columns; nothing where it has no rows."""
    whole = [header, *rows]
    if len(whole) == 1:
        return
    widths = [max(len(row[i]) for row in whole) for i in range(len(header))]
    yield ""
    yield title
    for row in whole:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _share(share: Share) -> str:
    if share.share is None or share.interval is None:
        return UNKNOWN
    return f"{share.share:.1%} ({share.interval[0]:.1%} .. {share.interval[1]:.1%})"


def _hours(hours: Hours) -> tuple[str, str]:
    return _duration(hours.median), _duration(hours.p90)


def _duration(hours: float | None) -> str:
    """Hours in a unit that people read at once.

    >>> _duration(0.5), _duration(30.0), _duration(100.0), _duration(None)
    ('30 min', '30.0 h', '4.2 d', '-')
    """
    if hours is None:
        return UNKNOWN
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:,.2f}"


def _money_interval(interval: Interval | None) -> str:
    return UNKNOWN if interval is None else f"{_money(interval[0])} .. {_money(interval[1])}"
