"""The report of a simulated change: one JSON file for machines, one page for whoever decides on the change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from features.home import Home
from training.plots import intervals, shares_before_and_after
from training.report_page import Section, figure, page, paragraph, table, write_page
from training.reports import write_json

LISTED: Final = 20
"""Rows of the longest tables of the page; the JSON file has all."""


def report_files(home: Home, simulation_id: str) -> tuple[Path, Path]:
    """Where the JSON and the page of a simulation are."""
    folder = home.reports / "simulations"
    return folder / f"{simulation_id}.json", folder / f"{simulation_id}.html"


def write_report(home: Home, document: Mapping[str, Any]) -> None:
    """Keep a simulation, replacing an earlier one of the same question on the same decisions."""
    as_json, as_page = report_files(home, document["id"])
    write_json(as_json, document)
    write_page(as_page, simulation_page(document))


def simulation_page(document: Mapping[str, Any]) -> str:
    """A simulation as an HTML page."""
    question, sample = document["question"], document["sample"]
    sections = list(_sections(document)) if sample["compared"] else []
    return page(
        f"What would change: {_words(question)}",
        lead=list(_lead(document)),
        about=f"{sample['compared']:,} live decisions of {sample['customers']:,} customers of {question['journey_id']}"
        + (f", {sample['first'][:10]} to {sample['last'][:10]}" if sample["first"] else "")
        + f", made again from their records; {sum(sample['skipped'].values()):,} could not be. {document['id']}.",
        sections=[*sections, Section("What this cannot tell", [paragraph(one["text"]) for one in document["caveats"]])],
    )


def _words(question: Mapping[str, Any]) -> str:
    names = {"policy": "another policy", "actions": "another catalogue", "version": "model version"}
    said = [
        f"{words} {question[key]}" if key == "version" else words
        for key, words in names.items()
        if question[key] is not None
    ]
    return " and ".join(said)


def _lead(document: Mapping[str, Any]) -> Iterator[str]:
    sample, value = document["sample"], document["value"]
    if not sample["compared"]:
        yield "No recorded decision could be made again, so nothing is known about this change."
        return
    changed, contacts = document["changed"], document["contacts"]
    yield (
        f"{changed['decisions']:,} of {sample['compared']:,} decisions ({changed['share']:.1%}) would have chosen "
        f"something else. Contacts would go from {contacts['before']:.1%} to {contacts['after']:.1%} of the decisions."
    )
    currency, estimated = value["currency"], value["estimated"]["difference"]
    yield (
        f"By the models' estimates a decision would be worth {_worth(estimated, currency)}. "
        + _robust_words(value["doubly_robust"], currency)
    )
    lost, gained = document["access"]["lost_all"], document["access"]["gained_some"]
    yield (
        f"{lost['decisions']:,} decisions ({lost['customers']:,} customers) would be left without any allowed action, "
        f"{gained['decisions']:,} that had none would have one."
    )


def _robust_words(robust: Mapping[str, Any], currency: str) -> str:
    found = robust["difference"]
    if found is None:
        return (
            "What really came of the decisions cannot say: " + "; ".join(one["text"] for one in robust["refused"]) + "."
        )
    return f"What really came of {robust['decisions']:,} of them says {_worth(found, currency)}."


def _worth(found: Mapping[str, Any], currency: str) -> str:
    estimate, low, high = found["estimate"], found["low"], found["high"]
    amount = f"{abs(estimate):.3f} {currency} {'more' if estimate >= 0 else 'less'}"
    if low is None or high is None:
        return f"{amount}, of too few customers to say what chance explains"
    amount += f" ({low:+.3f} to {high:+.3f})"
    is_clear = low > 0 or high < 0
    return f"{amount}, {'more than chance explains' if is_clear else 'which chance alone may explain'}"


def _sections(document: Mapping[str, Any]) -> Iterator[Section]:
    yield _mix(document)
    yield _value(document)
    yield _funnel(document["funnel"])
    yield _access(document)
    yield _stages(document["stages"], document["value"]["currency"])
    if document["fairness"]["groups"]:
        yield _fairness(document["fairness"], document["value"]["currency"])


def _mix(document: Mapping[str, Any]) -> Section:
    actions = document["actions"]
    drawing = shares_before_and_after(
        [one["action_id"] for one in actions],
        [one["before"] for one in actions],
        [one["after"] for one in actions],
        unit="share of the decisions",
    )
    moves = [[one["before"], one["after"], f"{one['decisions']:,}"] for one in document["moves"][:LISTED]]
    channels = [
        [one["channel"], _percent(one["before"]), _percent(one["after"]), _points(one["difference"])]
        for one in document["channels"]
    ]
    return Section(
        "What would be chosen",
        [
            figure(
                drawing,
                "Each action's share of the probability of the first slot, over all arms of the experiment and with "
                "what is tried at random: what the service would do on average.",
            ),
            table(["channel", "before", "after", "difference"], channels, numeric=(1, 2, 3)),
            paragraph("Decisions that would have gone from one action to another, most frequent first:"),
            table(["from", "to", "decisions"], moves, numeric=(2,)),
        ],
    )


def _value(document: Mapping[str, Any]) -> Section:
    value, spend = document["value"], document["spend"]
    currency = value["currency"]
    named = {
        "contacts": document["contacts"],
        f"contact cost, {currency}": spend["contact_cost"],
        f"incentives, {currency}": spend["incentive"],
        f"estimated value, {currency}": value["estimated"],
    }
    rows = [
        [name, f"{one['before']:.4f}", f"{one['after']:.4f}", _interval(one["difference"])]
        for name, one in named.items()
    ]
    robust = value["doubly_robust"]
    if robust["difference"] is not None:
        rows.append(
            [
                f"value by what came of them, {currency}",
                f"{robust['before']['estimate']:.4f}",
                f"{robust['after']['estimate']:.4f}",
                _interval(robust["difference"]),
            ]
        )
    parts = [
        table(
            ["a decision", "before", "after", f"difference ({value['level']:.0%} interval)"], rows, numeric=(1, 2, 3)
        ),
        paragraph(
            "The estimated value is what the models believe, each side by its own estimates. The value by what came of "
            "them weighs what really happened by how likely each side was to do it, over doing nothing; it needs "
            "decisions whose outcomes are known."
        ),
    ]
    parts += [paragraph(f"No answer from outcomes: {one['text']}.", tone="bad") for one in robust["refused"]]
    return Section("What it would cost and bring", parts)


def _funnel(funnel: Mapping[str, Any]) -> Section:
    def rows(key: str, names: Sequence[str]) -> Iterator[list[str]]:
        for one in funnel[key][:LISTED]:
            counts = [one[side][what] for what in ("candidates", "decisions") for side in ("before", "after")]
            yield [*(one[name] for name in names), *(f"{count:,}" for count in counts)]

    head = ["candidates before", "after", "decisions before", "after"]
    allowed, total = funnel["allowed"], funnel["candidates"]
    return Section(
        "What rules keep out",
        [
            paragraph(
                f"{allowed['before']:,} of {total['before']:,} candidates were allowed before, {allowed['after']:,} of "
                f"{total['after']:,} after."
            ),
            table(["stage", *head], rows("stages", ["stage"]), numeric=(1, 2, 3, 4)),
            paragraph("Rules, those that the change moves most first; several may stand against one candidate:"),
            table(["stage", "rule", *head], rows("rules", ["stage", "rule_id"]), numeric=(2, 3, 4, 5)),
        ],
    )


def _access(document: Mapping[str, Any]) -> Section:
    access = document["access"]
    parts = []
    for name, words in (
        ("lost_all", "left without any allowed action"),
        ("gained_some", "with a first allowed action"),
    ):
        found = access[name]
        parts.append(paragraph(f"{found['decisions']:,} decisions of {found['customers']:,} customers {words}."))
        if found["examples"]:
            parts.append(paragraph("For looking them up: " + ", ".join(found["examples"])))
    return Section("Who loses every action, and who gains one", parts)


def _stages(stages: Sequence[Mapping[str, Any]], currency: str) -> Section:
    rows = [
        [
            one["stage"],
            f"{one['decisions']:,}",
            *(_percent(one[side]["contact_rate"]) for side in ("before", "after")),
            *(f"{one[side]['value']:.3f}" for side in ("before", "after")),
            f"{one['lost_all']['decisions']:,}",
            f"{one['gained_some']['decisions']:,}",
        ]
        for one in stages
    ]
    head = ["stage", "decisions", "contacts before", "after", f"value before, {currency}", "after", "lose all", "gain"]
    return Section("By stage of the journey", [table(head, rows, numeric=range(1, 8))])


def _fairness(found: Mapping[str, Any], currency: str) -> Section:
    told = [one for one in found["groups"] if not one["suppressed"]]
    rows = []
    for one in told:
        gap = one["after"]["difference_to_rest"]["contact_rate"]
        rows.append(
            [
                f"{one['attribute']}: {one['group']}",
                f"{one['customers']:,}",
                *(_percent(one[side]["contact_rate"]) for side in ("before", "after")),
                "" if gap is None else _interval(gap, percent=True),
                *(_percent(one[side]["no_action_rate"]) for side in ("before", "after")),
                *(f"{one[side]['value']:.3f}" for side in ("before", "after")),
                f"{one['lost_all']:,}",
                "below 4/5" if one["after"]["below_four_fifths"] else "",
            ]
        )
    parts = [
        paragraph(
            f"Each group beside everybody else. Intervals hold for all {found['comparisons']:,} groups at once "
            f'({found["level"]:.0%}), so one that lies off zero is hardly an accident of many looks. "Below 4/5" marks '
            f"a group whose rate of contacts, or of any action, is under four fifths of the highest of its attribute: "
            f"a reason to look, no verdict; in small groups chance alone does that. Groups of fewer than "
            f"{found['smallest_group']} customers are left out: {found['suppressed']:,} here."
        )
    ]
    gaps = {f"{one['attribute']}: {one['group']}": one["after"]["difference_to_rest"]["contact_rate"] for one in told}
    drawn = {name: gap for name, gap in gaps.items() if gap is not None and gap["low"] is not None}
    if drawn:
        parts.append(
            figure(
                intervals(
                    list(drawn),
                    [100 * one["estimate"] for one in drawn.values()],
                    [(100 * one["low"], 100 * one["high"]) for one in drawn.values()],
                    unit="contacts after the change, percentage points more or less than everybody else",
                ),
                "A group whose line does not touch zero is contacted more, or less, than the rest.",
            )
        )
    head = [
        *("group", "customers", "contacts before", "after", "after, points to the rest", "no action before", "after"),
        *(f"value before, {currency}", "after", "lose all", "flag"),
    ]
    return Section("How groups fare", [*parts, table(head, rows, numeric=range(1, 10))])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{100 * difference:+.1f} points"


def _interval(found: Mapping[str, float | None], *, percent: bool = False) -> str:
    scale, digits = (100, 1) if percent else (1, 4)
    estimate, low, high = (None if one is None else scale * one for one in found.values())
    said = f"{estimate:+.{digits}f}"
    return said if low is None or high is None else f"{said} [{low:+.{digits}f}, {high:+.{digits}f}]"
