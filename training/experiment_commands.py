"""Command ``headway report experiment``: reads the home, also while a service runs, and writes only ``reports/``."""

from __future__ import annotations

from typing import Annotated

import typer

from training.commands import AsJson, Journey, opened_home, print_result


def experiment(
    experiment_id: Annotated[
        str | None, typer.Argument(help="The experiment, as the policy names it; that of the policy if not given.")
    ] = None,
    journey: Journey = None,
    since: Annotated[
        str | None, typer.Option(help="Only customers who came in from here on, ISO 8601 with an offset.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only customers who came in before, likewise.")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="The outcome that matters most; the first declared one if not given.")
    ] = None,
    follow_up: Annotated[
        str | None,
        typer.Option(
            "--follow-up",
            help="How long everybody is followed from the first decision on, such as 30d; the window of that outcome "
            "if not given.",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", help="Also by this attribute: a category or boolean that is not personal."),
    ] = None,
    planned: Annotated[
        int | None,
        typer.Option(
            help="Customers at whom intervals for looking often are narrowest; decide on it before looking.", min=100
        ),
    ] = None,
    policies: Annotated[
        bool,
        typer.Option(
            "--policies/--no-policies",
            help="Also value other ways to decide on the log: each decision is made again, which takes time.",
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Report what each arm of an experiment changes: sample-ratio check, take-up, outcomes, value, NPS and ROI.

    Customers are compared by the arm of their first decision, with intervals for one look and for as many as one likes.
    The same report is written to reports/experiments/, as JSON and as a page.
    """
    home, configuration = opened_home()
    from training.experiment_findings import document_of
    from training.experiment_page import write_report
    from training.experiment_question import asked_report
    from training.experiment_report import experiment_report
    from training.experiment_text import report_text
    from training.params import load_params

    asked = asked_report(
        configuration,
        experiment_id,
        journey_id=journey,
        since=since,
        until=until,
        outcome_id=outcome,
        follow_up=follow_up,
        group_by=group_by,
        planned=planned,
        with_policies=policies,
    )
    found = experiment_report(home, configuration, load_params(), asked)
    write_report(home, found)
    print_result(document_of(found), as_json, report_text(found).splitlines())
