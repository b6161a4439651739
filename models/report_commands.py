"""Commands ``headway report journey`` and ``decision``. They need the whole, checked configuration."""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from features.errors import UnknownObject
from features.home import Home, use_numba_cache
from features.journey_findings import JourneyReport
from features.journey_question import DEFAULT_TOP, LARGEST_TOP, question_of
from models.configuration import load_configuration
from models.journey_reports import KeptReports, ReportRequest, made_report

report = typer.Typer(help="Report on journeys, and on single decisions.", no_args_is_help=True)


@report.command()
def journey(
    journey_id: Annotated[str, typer.Argument(help="The journey, as journeys.yaml names it.")],
    since: Annotated[
        str | None, typer.Option(help="Only instances entered from here on, ISO 8601 with an offset.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="End of the observation, if before the newest event, likewise.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Compare groups: by channel (used last when the journey was entered), nps_band, or a category or "
            "boolean attribute that is not personal."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Longest that a ranked list gets.", min=1, max=LARGEST_TOP)] = DEFAULT_TOP,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report how customers really go through a journey: flow, stalls, hot spots, leaks, loops and deviations.

    The event log is only read, also while a server runs. The same question again, before new events come in, is
    answered from the report that was kept.
    """
    from features.event_store import open_event_log
    from features.journey_report_text import report_text

    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    known = configuration.journeys.by_id
    if journey_id not in known:
        raise UnknownObject(f"no journey {journey_id!r:.80}; expected one of {', '.join(known)}")
    question = question_of(configuration.taxonomy, since=since, until=until, group_by=group_by, top=top)
    with closing(open_event_log(home, readonly=True)) as log:
        head = log.head()
    use_numba_cache(home)
    asked = ReportRequest(
        journey_id=journey_id, question=question, configuration=configuration.version, until_position=head
    )
    found = KeptReports(home.journey_reports).given(asked, lambda request: made_report(home, configuration, request))
    if as_json:
        typer.echo(found.decode())
        return
    typer.echo(report_text(msgspec.json.decode(found, type=JourneyReport)), nl=False)


@report.command()
def decision(
    decision_id: Annotated[str, typer.Argument(help="The decision, as its answer names it.")],
    action: Annotated[
        str | None, typer.Option(help="Also what would have had to be different for this action to stand first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
) -> None:
    """Explain a recorded decision: what its features contributed to the stall and to each effect, and the reasons.

    It is scored again from its own record with the bundle that made it. Nothing is written; a server may run.
    """
    home = Home.from_environment(os.environ)
    use_numba_cache(home)
    from features.schema import feature_set
    from models.configuration_history import deciding_configuration
    from models.deciding_bundle import deciding_bundle
    from models.explanation import explain, explanation_document
    from models.explanation_text import explanation_text
    from models.record_store import open_record_store
    from models.registry import LocalRegistry

    with closing(open_record_store(home, readonly=True)) as records:
        stored = records.decision(decision_id)
    if stored is None:
        raise UnknownObject(f"no decision {decision_id!r:.80} in {home.records_place}; expected the id of an answer")
    record = stored.record
    configuration = deciding_configuration(record, home, os.environ)
    known = configuration.journeys.by_id
    if record.journey_id not in known:
        raise UnknownObject(f"decision {decision_id} is of {record.journey_id}, expected one of {', '.join(known)}")
    journey_of_it = known[record.journey_id]
    found = explain(
        record,
        deciding_bundle(record, LocalRegistry(home.bundles)),
        journey=journey_of_it,
        catalogue=configuration.catalogue,
        feature_set=feature_set(configuration.taxonomy, journey_of_it),
    )
    if as_json:
        typer.echo(json.dumps(explanation_document(found, action_id=action), allow_nan=False))
        return
    typer.echo(explanation_text(found, action), nl=False)
