"""Command ``headway simulate-policy``: what a change would do, before it is made. It writes only its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from training.commands import AsJson, Journey, opened_home, print_result

DEFAULT_LAST = 5_000


def simulate_policy(
    policy: Annotated[Path | None, typer.Option(help="The policy.yaml to try.", exists=True, dir_okay=False)] = None,
    actions: Annotated[Path | None, typer.Option(help="The actions.yaml to try.", exists=True, dir_okay=False)] = None,
    version: Annotated[
        int | None, typer.Option("--version", help="The version of the journey's registered model to try.", min=1)
    ] = None,
    journey: Journey = None,
    last: Annotated[int, typer.Option(help="So many of the newest live decisions, at the most.", min=1)] = DEFAULT_LAST,
    since: Annotated[str | None, typer.Option(help="Decisions from this moment on: ISO 8601 with an offset.")] = None,
    until: Annotated[str | None, typer.Option(help="Decisions before this moment.")] = None,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="An attribute to compare groups by, once for each; every category and boolean that is not personal if "
            "not given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a change of policy, catalogue or model on recorded live decisions, before it is made.

    Action mix, moves, funnel, spend, value, who loses every action, and how groups fare, before and after. Nothing but
    the report is written, and a server may run. Exit code 2 with every problem where a file is not valid.
    """
    home, configuration = opened_home()
    from models.command_options import moment_option, what_if_options
    from training.change_report import report_files, write_report
    from training.change_simulation import ChangeQuestion, declared_groups, simulated_change
    from training.params import load_params
    from training.promote import named_journey

    asked = ChangeQuestion(
        journey=named_journey(configuration, journey),
        what_if=what_if_options(configuration, policy, actions, version, as_champion=False),
        most=last,
        since=moment_option("--since", since),
        until=moment_option("--until", until),
        group_by=declared_groups(configuration.taxonomy, group_by or []),
    )
    document = simulated_change(home, configuration, load_params(), asked)
    write_report(home, document)
    print_result(document, as_json, [*summary_lines(document), f"Report: {report_files(home, document['id'])[1]}"])


def summary_lines(document: dict[str, Any]) -> list[str]:
    """A simulation in a few lines for people."""
    sample, value = document["sample"], document["value"]
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in sample["skipped"].items())
    lines = [
        f"{sample['compared']:,} decisions of {sample['customers']:,} customers made again"
        + (f"; skipped: {skipped}" if skipped else "")
    ]
    if not sample["compared"]:
        return lines
    changed = document["changed"]
    lines.append(f"{changed['decisions']:,} ({changed['share']:.1%}) would have chosen something else")
    lines += [f"  {one['before']} -> {one['after']}: {one['decisions']:,}" for one in document["moves"][:10]]
    lines += [
        f"{one['action_id']}: {one['before']:.1%} -> {one['after']:.1%} of the probability"
        for one in document["actions"]
    ]
    money = {"contacts": document["contacts"], "spend": document["spend"]["total"], "value": value["estimated"]}
    for name, one in money.items():
        lines.append(
            f"{name} a decision: {one['before']:.4f} -> {one['after']:.4f}, {_interval(one['difference'])}"
            + (" (estimated by the models)" if name == "value" else "")
        )
    robust = value["doubly_robust"]
    if robust["difference"] is None:
        lines.append("by what really came of them: no answer, " + "; ".join(one["text"] for one in robust["refused"]))
    else:
        said = _interval(robust["difference"])
        lines.append(f"value a decision by what really came of {robust['decisions']:,} of them: {said}")
    access = document["access"]
    lines.append(
        f"{access['lost_all']['decisions']:,} decisions lose every allowed action, "
        f"{access['gained_some']['decisions']:,} gain a first one"
    )
    return [*lines, *(f"note: {one['text']}" for one in document["caveats"])]


def _interval(found: dict[str, Any]) -> str:
    estimate, low, high = found["estimate"], found["low"], found["high"]
    said = f"{estimate:+.4f}"
    return said if low is None or high is None else f"{said} [{low:+.4f}, {high:+.4f}]"
